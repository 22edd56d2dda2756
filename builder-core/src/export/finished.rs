//! An image whose parts are all in the store.

use std::collections::BTreeSet;
use std::fs::File;

use serde::Serialize;

use super::ExportError;
use crate::digest::Digest;
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
    /// What stands above the manifest, where there are several platforms or attestations.
    pub index: Option<Descriptor>,
    /// All else that the index leads to.
    pub others: Vec<Descriptor>,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What is written in one go: any number of images, indexes among them.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The entries of `index.json`.
    entries: Vec<Descriptor>,
    /// Documents, configs and layers.
    blobs: Vec<Descriptor>,
    saved: Vec<Saved>,
    /// The first layer that Docker could not read.
    unreadable: Option<String>,
}

impl Selection {
    /// Adds an image.
    pub fn add(&mut self, image: &Finished) {
        self.entries.extend(image.entries());
        self.blobs.extend(image.blobs().into_iter().cloned());
        self.saved.push(image.saved());
        self.unreadable = self.unreadable.take().or(image.unreadable());
    }

    /// Adds an index (or any document) with all that is below it, which `docker load` does not know.
    pub fn add_index(&mut self, top: &Descriptor, below: Vec<Descriptor>, names: &[Reference]) {
        self.entries.extend(entries(top, names));
        self.blobs.push(top.clone());
        self.blobs.extend(below);
    }

    /// Adds a document with all that is below it, under a name as it is: a tag, or a full name.
    pub fn add_named(&mut self, top: &Descriptor, below: Vec<Descriptor>, name: Option<&str>) {
        self.entries.push(match name {
            None => top.clone(),
            Some(name) => top.clone().annotate(ANNOTATION_REF_NAME, name),
        });
        self.blobs.push(top.clone());
        self.blobs.extend(below);
    }

    /// Leaves blobs out that the reader has; documents speak of them all the same.
    pub(super) fn leave_out(&mut self, digests: BTreeSet<Digest>) {
        self.blobs.retain(|it| !digests.contains(&it.digest));
    }

    pub(super) fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// Returns every blob once, by digest.
    pub(super) fn blobs(&self) -> Vec<&Descriptor> {
        let mut blobs: Vec<&Descriptor> = self.blobs.iter().collect();
        blobs.sort_by_key(|it| it.digest);
        blobs.dedup_by_key(|it| it.digest);
        blobs
    }

    pub(super) fn index(&self) -> Vec<u8> {
        Index::new(self.entries.clone()).to_bytes()
    }

    /// Returns Docker's `manifest.json`.
    pub(super) fn docker_manifest(&self) -> Result<Vec<u8>, ExportError> {
        if let Some(media_type) = self.unreadable.clone() {
            return Err(ExportError::LayerType { media_type });
        }
        // Strings only: serialising them cannot fail.
        Ok(serde_json::to_vec(&self.saved).unwrap_or_default())
    }
}

impl From<&Finished> for Selection {
    fn from(image: &Finished) -> Self {
        let mut selection = Selection::default();
        selection.add(image);
        selection
    }
}

/// Returns the entries of `index.json` for one document: one a name.
fn entries(top: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![top.clone()];
    }
    let named = |name: &Reference| {
        let entry = top
            .clone()
            .annotate(ANNOTATION_IMAGE_NAME, name.to_string());
        match name.tag() {
            Some(tag) => entry.annotate(ANNOTATION_REF_NAME, tag),
            None => entry,
        }
    };
    names.iter().map(named).collect()
}

impl Finished {
    /// Returns what a name of the image stands for: the index, or else the manifest.
    pub fn top(&self) -> &Descriptor {
        self.index.as_ref().unwrap_or(&self.manifest)
    }

    fn blobs(&self) -> Vec<&Descriptor> {
        let mut blobs = vec![&self.manifest, &self.config];
        blobs.extend(&self.layers);
        blobs.extend(&self.index);
        blobs.extend(&self.others);
        blobs
    }

    fn entries(&self) -> Vec<Descriptor> {
        entries(self.top(), &self.names)
    }

    fn unreadable(&self) -> Option<String> {
        let wrong = self.layers.iter().find(|it| {
            let compression = media_type::layer_compression(&it.media_type);
            !matches!(
                compression,
                Some(media_type::LayerCompression::None | media_type::LayerCompression::Gzip)
            )
        });
        wrong.map(|layer| layer.media_type.clone())
    }

    fn saved(&self) -> Saved {
        let tags: Vec<String> = self
            .names
            .iter()
            .filter(|it| it.tag().is_some() && it.digest().is_none())
            .map(Reference::familiar)
            .collect();
        Saved {
            config: blob_name(&self.config),
            repo_tags: Some(tags).filter(|it| !it.is_empty()),
            layers: self.layers.iter().map(blob_name).collect(),
        }
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
