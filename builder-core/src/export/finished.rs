//! An image whose parts are all in the store.

use std::fs::File;

use serde::Serialize;

use super::ExportError;
use crate::image::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Reference, media_type,
};
use crate::store::Blobs;

/// An image whose parts are all in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub manifest: Descriptor,
    pub config: Descriptor,
    /// Base first.
    pub layers: Vec<Descriptor>,
    /// What it shall be called; none is fine.
    pub names: Vec<Reference>,
}

/// One image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Finished {
    /// Returns every blob once, by digest.
    pub(super) fn blobs(&self) -> Vec<&Descriptor> {
        let mut blobs = vec![&self.manifest, &self.config];
        blobs.extend(&self.layers);
        blobs.sort_by_key(|it| it.digest);
        blobs.dedup_by_key(|it| it.digest);
        blobs
    }

    /// Returns the entries of `index.json`: one a name.
    pub(super) fn entries(&self) -> Vec<Descriptor> {
        if self.names.is_empty() {
            return vec![self.manifest.clone()];
        }
        self.names
            .iter()
            .map(|name| {
                let entry = self.manifest.clone();
                let entry = entry.annotate(ANNOTATION_IMAGE_NAME, name.to_string());
                match name.tag() {
                    Some(tag) => entry.annotate(ANNOTATION_REF_NAME, tag),
                    None => entry,
                }
            })
            .collect()
    }

    pub(super) fn index(&self) -> Vec<u8> {
        Index::new(self.entries()).to_bytes()
    }

    /// Returns Docker's `manifest.json`.
    pub(super) fn docker_manifest(&self) -> Result<Vec<u8>, ExportError> {
        let wrong = self.layers.iter().find(|it| {
            let compression = media_type::layer_compression(&it.media_type);
            !matches!(
                compression,
                Some(media_type::LayerCompression::None | media_type::LayerCompression::Gzip)
            )
        });
        if let Some(layer) = wrong {
            return Err(ExportError::LayerType {
                media_type: layer.media_type.clone(),
            });
        }
        let tags: Vec<String> = self
            .names
            .iter()
            .filter(|it| it.tag().is_some() && it.digest().is_none())
            .map(Reference::familiar)
            .collect();
        let saved = [Saved {
            config: blob_name(&self.config),
            repo_tags: Some(tags).filter(|it| !it.is_empty()),
            layers: self.layers.iter().map(blob_name).collect(),
        }];
        // Strings only: serialising them cannot fail.
        Ok(serde_json::to_vec(&saved).unwrap_or_default())
    }
}

/// Returns a blob's path within a layout.
pub(super) fn blob_name(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

/// Opens a blob, whose size must be as the descriptor says.
pub(super) fn open(blobs: &Blobs, descriptor: &Descriptor) -> Result<File, ExportError> {
    let digest = descriptor.digest;
    let file = blobs.open(&digest)?;
    match blobs.size(&digest) {
        Some(actual) if actual != descriptor.size => Err(ExportError::Size {
            digest,
            expected: descriptor.size,
            actual,
        }),
        _ => Ok(file),
    }
}
