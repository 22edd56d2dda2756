//! COPY, ADD and WORKDIR: a layer written straight from its sources.
//!
//! No snapshot is made: a [`Target`] keeps, in memory, what the step puts on top of the parent's tree, asks the parent only
//! for what is at the paths it touches, and is then written out as a layer, each source file being read once.
//!
//! Rules of sources and destinations are those of BuildKit's file operations: the contents of a directory are
//! copied, not the directory; missing parents are made, 0755, with the owner of `--chown`; a directory that is
//! there keeps its mode and owner at the top, but takes those of the source below it; a file never replaces a
//! directory, nor a directory a file.

mod archive;
mod copy;
mod error;
mod mode;
mod owner;
mod target;
mod write;

pub(super) use archive::Archives;
pub(super) use copy::{Found, Source, SourceData, copy, make_directory};
pub use error::FileError;
pub(super) use owner::{Account, Accounts};
pub(super) use target::Target;
