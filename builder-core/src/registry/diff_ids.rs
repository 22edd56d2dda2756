//! What layers are when they are decompressed: noted when somebody has looked, so that it is done once.

use crate::digest::{DiffId, Digest};
use crate::store::{Records, StoreError};

const KIND: &str = "diff-ids";

/// Notes that `blob`, decompressed, is `diff_id`.
///
/// # Errors
/// Where the record cannot be written.
pub fn note_diff_id(records: &Records, blob: &Digest, diff_id: DiffId) -> Result<(), StoreError> {
    if known_diff_id(records, blob) == Some(diff_id) {
        return Ok(());
    }
    records.put(KIND, blob, &diff_id)
}

/// Returns what was noted of `blob`.
pub fn known_diff_id(records: &Records, blob: &Digest) -> Option<DiffId> {
    records.get(KIND, blob)
}
