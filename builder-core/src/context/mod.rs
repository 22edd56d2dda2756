//! Which input files, and in which order?
//!
//! A [`Tree`] is a read-only set of files: the build context after `.dockerignore` ([`LocalTree`]) or a root file
//! system ([`RootTree`]). [`resolve`] follows symlinks inside a tree and never out of it; [`select`] finds what a COPY
//! source means; [`digests`] says what the files hold, and remembers it.
//!
//! Promises: listings are in byte order; an unchanged context costs a walk that only looks (no file is opened); a path
//! never leaves its tree, whatever symlinks are in it, and a file that is swapped for a symlink between the
//! look and the read is an error.
//!
//! Not here: what the files are for.

pub mod digests;
mod error;
mod glob;
pub mod ignore;
mod learned;
mod local;
mod pieces;
mod remembered;
mod resolve;
mod rooted;
mod select;
mod tree;

pub use error::ContextError;
pub use local::{IgnoreFile, LocalTree, find_ignore_file, open_text};
pub use resolve::{Follow, resolve};
pub use rooted::RootTree;
pub(crate) use rooted::{is_carried, node_of};
pub use select::{Selected, select};
pub use tree::{Lookup, Node, NodeKind, NodeRef, Stamp, Tree, Xattrs, join_path, parent_path};
