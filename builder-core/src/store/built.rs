//! Images by their ids: what a build without a name came to, or one whose name has moved on.
//!
//! No entry of the index: such an image is found by its id as long as nothing has removed what it consists of, which a
//! prune may. A name that is given to it makes it stay.

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::image::Descriptor;

const KIND: &str = "built";

impl Store {
    /// Notes that the image `id` was built, and what stands for it.
    ///
    /// # Errors
    /// Where the record cannot be written.
    pub fn note_built(&self, id: &Digest, top: &Descriptor) -> Result<(), StoreError> {
        let known: Option<Descriptor> = self.records().get(KIND, id);
        if known.as_ref() == Some(top) {
            return Ok(());
        }
        self.records().put(KIND, id, top)
    }

    /// Lists what was built and is there still, of those images whose id begins so.
    ///
    /// # Errors
    /// Where the records cannot be listed.
    pub fn built(&self, id: &str) -> Result<Vec<Descriptor>, StoreError> {
        let ids = self.records().list(KIND)?;
        let meant = ids.iter().filter(|it| it.hex().starts_with(id));
        let tops = meant.filter_map(|id| self.records().get::<Descriptor>(KIND, id));
        let there = |top: &Descriptor| self.blobs().has_sized(&top.digest, top.size);
        Ok(tops.filter(there).collect())
    }

    /// Forgets an image that was built.
    ///
    /// # Errors
    /// Where the record cannot be removed.
    pub fn forget_built(&self, id: &Digest) -> Result<(), StoreError> {
        self.records().remove(KIND, id)
    }
}
