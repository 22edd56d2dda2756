//! What runs now, and what can be skipped?
//!
//! ```text
//! contexts listed ─▶ definition keys, bottom up ─▶ records found? ─▶ what is left, top down from the target
//!                                                                        │ each vertex, when its inputs are there
//!                                                                        ▼
//!                             content key ─▶ record found? ─yes─▶ cached
//!                                                  └─no─▶ all that it looks at on its base as before? ─▶ keep that layer (`rebase`)
//!                                                            └─no─▶ run it ─▶ same change as before? ─▶ keep that layer
//! ```
//!
//! A vertex whose definition key has a record needs none of its inputs: nothing is fetched, unpacked or run for
//! it. One that is left waits for its inputs, then tries its content key, then runs; at most `jobs` run at a
//! time. The first failure cancels the rest. A key that the store has no record of is looked up in shared caches (`shared`).
//!
//! A root file system is a list of [`Layer`](crate::cache::Layer)s. A step that must see files gets them through `snapshot`, whose layers
//! are fetched and unpacked when the first step asks (`layers`); one that only puts files on it asks for no more than a listing
//! (`ground`).
//!
//! Not here: terminals, flags, outputs.

mod able;
mod ahead;
mod astray;
mod blocking;
mod devices;
mod entitlement;
mod error;
mod file;
mod file_step;
mod force;
mod ground;
mod history;
mod inputs;
mod job;
mod keys;
mod layered_tree;
mod layers;
mod listed_tree;
mod rebase;
mod remotes;
mod result;
mod retime;
mod run_step;
mod scheduler;
mod selection;
mod shared;
mod step;
mod tail;
mod trees;

pub use ahead::Ahead;
pub(crate) use blocking::{blocking, wait_for};
pub use devices::CDI_DIRS;
pub use entitlement::{Entitlement, EntitlementError};
pub use error::{SolveError, SolveErrorKind};
pub use file::FileError;
pub use force::{Forced, NoCache, forced};
pub use inputs::{ContextDir, HOSTNAME, Inputs, Origin, Reads, SolveOptions};
pub use layers::image_layers;
pub use remotes::Fetched;
pub use result::{fetch_above, fetch_layers, result_tree};
pub use run_step::{FailedStep, SecretUse, SshKey, SshKeyError, SshSource, SshUse, pack_mount};
pub(crate) use run_step::{
    LOCK as FAILED_STEP_LOCK, directory as failed_step_directory, forget as forget_failed_step,
};
pub(crate) use run_step::{SshSocket, open_ssh};
pub use scheduler::{Solved, solve};
pub use shared::{cache_mounts, fetch as fetch_shared, steps as shared_steps};
