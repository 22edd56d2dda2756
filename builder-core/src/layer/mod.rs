//! A tree to a tar and back, byte for byte.

mod entry;

pub use entry::{Entry, EntryKind};
