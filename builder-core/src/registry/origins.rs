//! Which repositories are known to hold a blob: noted when it comes from there or is sent there, used to mount it.

use crate::digest::Digest;
use crate::image::Reference;
use crate::store::{Records, StoreError};

const KIND: &str = "origins";
/// The latest ones are the likeliest still to hold it.
const MOST: usize = 8;

/// Notes that the repository of `reference` holds the blobs.
///
/// # Errors
/// Where a record cannot be written.
pub fn note_origin<'a>(
    records: &Records,
    reference: &Reference,
    digests: impl IntoIterator<Item = &'a Digest>,
) -> Result<(), StoreError> {
    let repository = reference.repository();
    for digest in digests {
        let mut known: Vec<String> = records.get(KIND, digest).unwrap_or_default();
        if known.first() == Some(&repository) {
            continue;
        }
        known.retain(|it| *it != repository);
        known.insert(0, repository.clone());
        known.truncate(MOST);
        records.put(KIND, digest, &known)?;
    }
    Ok(())
}

/// Returns the repositories that are known to hold a blob, the latest first.
pub fn known_origins(records: &Records, digest: &Digest) -> Vec<Reference> {
    let known: Vec<String> = records.get(KIND, digest).unwrap_or_default();
    known.iter().filter_map(|it| it.parse().ok()).collect()
}
