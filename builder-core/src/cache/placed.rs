//! What a step put on a tree, and what it had looked at there: on any tree where the same is at those places, the layer is the
//! same.

use super::Cache;
use super::record::Layer;
use crate::digest::Digest;
use crate::store::StoreError;

/// A layer, with all that it depends on of the tree below it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    pub layer: Layer,
    #[serde(default)]
    pub looks: Vec<Look>,
}

/// One question that was asked of the tree below, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Look {
    pub at: Place,
    /// Words of the asker's own; empty for nothing.
    pub found: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// What is at a path, without its content.
    Path(String),
    /// The extended attributes of what is there.
    Xattrs(String),
    /// The ids that `USER[:GROUP]` means.
    Owner(String),
}

/// Trees of which a step is remembered.
const KEPT: usize = 8;

pub(super) const PLACED: &str = "placed";

impl Cache {
    /// Returns what a step has put on trees, the latest first. `key` covers all of the step but what it stands on.
    pub fn find_placed(&self, key: &Digest) -> Vec<Placed> {
        let placed: Option<Vec<Placed>> = self.store.records().claim(PLACED, key);
        let mut placed = placed.unwrap_or_default();
        placed.retain(|it| self.is_there(&it.layer));
        placed
    }

    /// Remembers what a step has put, and what it had looked at.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_placed(&self, key: &Digest, placed: Placed) -> Result<(), StoreError> {
        let mut all = self.find_placed(key);
        all.retain(|it| it.looks != placed.looks);
        all.insert(0, placed);
        all.truncate(KEPT);
        self.store.records().put(PLACED, key, &all)
    }
}
