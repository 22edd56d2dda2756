//! What a layer holds, without its files' data.
//!
//! - [`text`]: the text form that tests compare.
//! - [`record`]: the form that is kept: made while a layer streams by, a few dozen bytes an entry, so that a step that only asks
//!   what is at a path (COPY) needs no layer unpacked, and not even here.
//! - [`merged`]: the tree that such lists of a stack of layers come to.

pub mod merged;
pub mod record;
pub mod text;

pub use merged::Merged;
pub use record::{Listing, Recorder};
pub use text::{of_dir, of_tar};
