//! Have we this result already?
//!
//! Two keys lead to a [`Record`]: the *definition key* (what is done, and the keys of its inputs) and the
//! *content key* (the same, with inputs replaced by what the step can see of them). A third index leads from
//! "this parent, this change" to the layer that first made the change: a step that ran again and came to
//! the same tree keeps the earlier layer, times included (early cutoff).
//!
//! A record stores the named [`Part`]s of its key, so that a miss can be explained by comparison with the
//! record that the same place of the same project last used.
//!
//! Records are small files, written under a temporary name and renamed; a torn or foreign one is a miss.
//! What a record refers to is in the store before the record is; on reading, that is checked again.
//!
//! Not here: what an operation means. This room sees digests and names.

mod key;
mod reason;
mod record;

pub use key::{Key, KeyHasher, Part};
pub use reason::explain;
pub use record::{Cache, Layer, Record};
