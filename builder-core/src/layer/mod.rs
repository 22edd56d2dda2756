//! A tree to a tar and back, byte for byte.
//!
//! ```text
//! entries ──Writer──▶ tar ──compress──▶ blob        blob ──decompressor──▶ tar ──Reader──▶ entries ──Unpacker──▶ directory
//! ```
//!
//! - [`Writer`]: the same entries give the same bytes on every machine: ustar with PAX records only where a value
//!   does not fit, headers without names or clocks. SHA-256 ([`DiffId`](crate::digest::DiffId)) and the content
//!   digest (times left out) come from the same pass.
//! - [`Reader`]: reads what GNU tar, BSD tar, Go and Python write. It is our own because the `tar` crate splits PAX
//!   records at line feeds, which loses binary attributes. It checks the form and trusts no name: names are handed on
//!   as they are, and the unpacker is what keeps them inside.
//! - [`compression`]: a gzip layer is a row of members cut at file boundaries by fixed rules, so that members are
//!   compressed in parallel and can be remembered, while the bytes depend on the tar and the level alone. A writer's
//!   [`Outline`] names them by what files are known to hold, so that those that are remembered are not read.
//! - [`Unpacker`]: writes entries into a directory in the form that overlayfs wants of an upper directory, without
//!   looking at the layers below, so that all layers of an image unpack at the same time. What only the layers below
//!   can answer is returned as [`Deferred`] and settled by `snapshot`.
//! - [`listing`]: what a layer holds, without its files' data: the text that tests compare, the form that is kept, and the tree
//!   that a stack of them comes to.
//!
//! Paths inside a root are resolved by the kernel (openat2, RESOLVE_IN_ROOT), never by joining texts.
//!
//! Not here: what changed in a tree (see `snapshot`), which files go into a layer (`context`, `solve`).

mod ahead;
pub mod compression;
mod cutter;
mod entry;
mod error;
mod gzip_member;
mod hashed;
mod header;
mod headers;
pub mod listing;
mod members;
mod outline;
pub mod parts;
mod pax;
mod reader;
#[cfg(test)]
mod tests;
mod unpack;
mod writer;
pub(crate) mod xattr;

pub(crate) use ahead::{read_ahead, readers};
pub use entry::{Entry, EntryKind, order};
pub use error::LayerError;
pub(crate) use error::shown;
pub use gzip_member::GzipEncoder;
pub use hashed::hashed;
pub use outline::{Outline, Outlined};
pub use reader::{Limits, Reader, ReaderOptions};
pub use unpack::{Deferred, OverlayFormat, Skipped, UnpackOptions, Unpacked, Unpacker};
pub use writer::{Writer, WriterOptions, Written};

pub(crate) use unpack::{clear_path, mark_opaque, put_whiteout};
