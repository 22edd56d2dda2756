//! How one process runs, shut in.

mod spec;

pub use spec::{Mount, MountSource, Network, Root, Security, Spec, User};
