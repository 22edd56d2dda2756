//! How blobs and manifests travel: from registries, from layouts and archives on disk, into the store; and from the
//! store to registries.
//!
//! [`Client::resolve`] turns a name and a platform into a manifest and a config, both verified and stored;
//! no layer moves before [`Client::fetch_blob`] asks for it. [`layout::resolve`] does the same for files, and [`resolve_held`] for
//! the store, which may have an image without its layers: where those can be had is noted ([`note_origin`]).
//! [`Client::push`] is the way back: what a registry has is not sent, what it has elsewhere is mounted.
//!
//! Speaks the OCI distribution spec 1.1, and what registries of before need. Where that leaves a choice:
//! - *Names* are read as Docker reads them: `python` is Docker Hub's, unless `registries.conf` says otherwise of short
//!   names. That file is followed in mirrors, rewriting, blocking and insecure registries, too (see [`Registries`]).
//! - *Plain HTTP* is spoken to a loopback registry (`localhost`, `127.0.0.0/8`, `::1`), HTTPS there only
//!   where HTTP gets no sensible answer. A registry marked `insecure` is tried with HTTPS whose certificate
//!   is not verified, then with HTTP. Any other gets HTTPS with a verified certificate, and nothing else; so does any
//!   host that [`CertificateDirs`] have an authority for.
//! - *Credentials* go to the registry that they are for, and to the token service that it names; never
//!   across a redirect to another origin, never over HTTP where the registry itself has HTTPS, and never
//!   into an error or an event.
//! - *Trouble* (429, 5xx, cut or refused connections) is retried with growing, random pauses, or as
//!   `Retry-After` says. A blob goes on where it was cut, up and down. Without progress all ends in under a minute.
//! - Nothing larger than it claims to be, or than a limit, is read into memory or to disk.
//!
//! | File                      | Its question                                                  |
//! |---------------------------|---------------------------------------------------------------|
//! | `client`                  | what is a client made from?                                   |
//! | `host`, `auth`, `token`   | how is a registry spoken to, and who are we to it?            |
//! | `credentials`, `helper`, `login`, `certs` | what proves it, and where is that kept?       |
//! | `trust`                   | which certificates of theirs are taken?                       |
//! | `transport`, `part`       | one exchange                                                  |
//! | `call`, `attempts`        | one request: scopes, retries, errors                          |
//! | `pull`, `tree`, `fetch`, `push`, `upload`, `relay`, `parts`, `manage`, `origins`, `held` | what is asked for        |
//! | `documents`               | what is held of a document before it is believed?             |
//! | `config`, `short_names`   | which hosts stand for a name; which names for a short one     |
//! | `layout`                  | images on disk                                                |

mod attempts;
mod auth;
mod call;
mod certs;
mod client;
mod config;
mod credentials;
mod diff_ids;
mod documents;
mod error;
mod fetch;
mod held;
mod helper;
mod host;
pub mod layout;
mod login;
mod manage;
mod origins;
mod part;
mod parts;
mod pieces;
mod pull;
mod push;
mod relay;
mod short_names;
mod token;
mod transport;
mod tree;
mod trust;
mod upload;
mod web;

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

pub use certs::CertificateDirs;
pub use client::{Client, ClientOptions, Proxies};
pub use config::{Endpoint, Registries};
pub use credentials::{AuthFiles, Credential, Credentials, GivenCredential, Lookup, NoCredentials};
pub use diff_ids::{known_diff_id, note_diff_id};
pub use error::RegistryError;
pub use fetch::{Begun, Progress};
pub use held::resolve_held;
pub use login::{Kept, LoginFile};
pub use origins::{known_origins, note_origin};
pub use parts::Came;
pub use pull::{Resolved, Source};
pub use push::{Contents, Push, Pushed};
pub use tree::Tree;
pub use trust::Distrust;
