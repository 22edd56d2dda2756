//! Images of the store whose layers may still be elsewhere.

use std::collections::BTreeMap;

use super::documents::{check_manifest, choose, is_index};
use super::origins::known_origins;
use super::pull::{MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use super::{RegistryError, Resolved, Source};
use crate::digest::Digest;
use crate::image::{Descriptor, DocumentError, Index, Manifest, Platform, Reference};
use crate::store::{Store, StoreError};

/// Finds the image that the store has under `reference`; `None` where it has none of that name.
///
/// # Errors
/// [`RegistryError::Incomplete`] where it lacks a document, or a layer that is not known to be anywhere else;
/// [`RegistryError::NoMatchingPlatform`]; documents that cannot be read.
pub fn resolve_held(
    reference: &Reference,
    platform: &Platform,
    store: &Store,
) -> Result<Option<Resolved>, RegistryError> {
    let Some(top) = store.resolve(reference)? else {
        return Ok(None);
    };
    let what = reference.familiar();
    let document = |source: DocumentError| RegistryError::Document {
        what: what.clone(),
        source,
    };
    let read = |entry: &Descriptor, max| {
        // Claimed, and so not swept while the store is open.
        store.blobs().has_sized(&entry.digest, entry.size);
        match store.blobs().read(&entry.digest, max) {
            Err(StoreError::NotFound { digest }) => Err(incomplete(store, digest)),
            bytes => Ok(bytes?),
        }
    };
    let mut bytes = read(&top, MAX_MANIFEST_BYTES)?;
    for _ in 0..MAX_INDEX_DEPTH {
        if !is_index(&bytes).map_err(document)? {
            break;
        }
        let index = Index::parse(&bytes).map_err(document)?;
        bytes = read(choose(&index, platform, &what)?, MAX_MANIFEST_BYTES)?;
    }
    let manifest = Manifest::parse(&bytes).map_err(document)?;
    check_manifest(&manifest, &what)?;
    let config = read(&manifest.config, MAX_CONFIG_BYTES)?;
    let mut origins = BTreeMap::new();
    for layer in &manifest.layers {
        let known = known_origins(store.records(), &layer.digest);
        if known.is_empty() && !store.blobs().has_sized(&layer.digest, layer.size) {
            return Err(incomplete(store, layer.digest));
        }
        origins.insert(layer.digest, known);
    }
    let source = Source::Held { origins };
    Resolved::assemble(&what, top.digest, bytes, config, source).map(Some)
}

fn incomplete(store: &Store, digest: Digest) -> RegistryError {
    RegistryError::Incomplete {
        path: store.root().to_owned(),
        what: digest.to_string(),
    }
}
