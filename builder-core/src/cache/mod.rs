//! Have we this result already?
//!
//! Two keys lead to a [`Record`]: the *definition key* (what is done, and the keys of its inputs) and the
//! *content key* (the same, with inputs replaced by what the step can see of them). A third leads from
//! "this parent, this change" to the layer that first made the change: a step that ran again and came to
//! the same tree keeps the earlier layer, times included (early cutoff). A fourth leads from a step alone to what it once
//! put on some tree, and what it had looked at there: on another tree with the same at those places the layer stays (rebase).
//!
//! The named [`Parts`] of a key, lists of files among them, are kept beside the records, so that a miss can be explained
//! by comparison with the nearest key of the project's last build. A hit reads none of it.
//!
//! Records of long stacks share what is below their topmost layers, see `stack`.
//!
//! Records are small files, written under a temporary name and renamed; a torn or foreign one is a miss.
//! What a record refers to is in the store before the record is; on reading, that is checked again.
//!
//! What a store takes, and what of it goes: `holdings` looks and removes, `prune` decides.
//!
//! Not here: what an operation means. This room sees digests and names.

mod files;
mod holdings;
mod key;
mod last;
mod placed;
mod prune;
mod reason;
mod record;
mod stack;
mod web;

pub use files::{FileEntry, FileList};
pub use holdings::{Holdings, Pruned};
pub use key::{FROM, Key, KeyHasher, Part, Parts};
pub use last::{Came, Earlier, LastBuild, Place, StepReport, project_of};
pub use placed::{Look, Place as LookedAt, Placed};
pub use prune::{Need, Policy, Rules, Thing};
pub use reason::{Reason, explain, nearest};
pub use record::{Cache, Found, Layer, Record, Retimed};
