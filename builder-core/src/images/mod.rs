//! What is done with images besides building them: got, sent, named, listed, shown, removed, packed and unpacked.
//!
//! [`Images`] is a store and a client. Each method is one command of the `builder` program, which adds words to it.
//!
//! - A name stands for a manifest or an index; where it is an index, what is shown is this machine's platform's, else
//!   the first one that is whole.
//! - A pull verifies not only each blob's digest, but also that a layer is what the config says it is (`diff_id`).
//! - A push sends what the registry lacks. Where the store lacks a layer too, it is mounted or fetched from where it is
//!   known to be (`registry::known_origins`).
//! - An image that was built and not written anywhere may be here without its base's layers. Who needs them ([`Images::complete`])
//!   has them fetched from there; what only shows or names the image does not.
//! - A removal forgets names. Content stays until nothing refers to it and the store is swept.
//!
//! | File       | Its question                                          |
//! |------------|-------------------------------------------------------|
//! | `find`     | which image is meant by a name, an id or a digest?    |
//! | `list`     | which images are there?                               |
//! | `filter`   | which of them are wanted? (pure)                      |
//! | `transfer` | how is one pulled, and pushed?                        |
//! | `complete` | how is had what is lacking of one?                     |
//! | `whole`    | how is an index kept whole?                           |
//! | `compress` | what does a registry get of what is kept uncompressed? |
//! | `archive`  | how is it packed and unpacked?                        |
//! | `location`, `copy` | from where to where without the store?        |
//! | `inspect`  | what is told of it?                                   |

mod archive;
mod complete;
mod compress;
mod copy;
mod error;
mod filter;
mod find;
mod inspect;
mod list;
mod location;
mod remove;
mod transfer;
mod whole;

#[cfg(test)]
mod tests;

pub use archive::{ArchiveFormat, Loaded};
pub use compress::PushOptions;
pub use copy::CopyOptions;
pub use error::ImagesError;
pub use filter::{Filter, FilterError};
pub use find::Image;
pub use inspect::HistoryLine;
pub use list::{Listing, Row};
pub use location::{Location, LocationError};
pub use remove::Removed;
pub use transfer::Pulled;

use crate::registry::Client;
use crate::store::Store;

/// The images of a store, and a way to registries.
#[derive(Debug, Clone)]
pub struct Images {
    store: Store,
    client: Client,
}

impl Images {
    pub fn new(store: Store, client: Client) -> Self {
        Images { store, client }
    }

    /// Speaks to registries in another way.
    #[must_use]
    pub fn with_client(self, client: Client) -> Self {
        Images { client, ..self }
    }
}
