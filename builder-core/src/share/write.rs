//! What is written of some steps, and in which form.

use std::collections::BTreeMap;

use super::ShareError;
use super::backend::{Means, Written, of};
use super::format::{CONFIG_TYPE, Mount, Step, encode};
use super::parts::{PARTS_TYPE, pack};
use super::target::CacheTo;
use crate::digest::DiffId;
use crate::image::{Descriptor, Index, Manifest, media_type};
use crate::registry::{Client, Progress};
use crate::store::Store;

/// What came of writing a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    pub steps: usize,
    /// Layers, mounts and the config: written, mounted from another repository, and there already.
    pub sent: usize,
    pub mounted: usize,
    pub there: usize,
    /// Of those that were written.
    pub sent_bytes: u64,
}

/// Writes a cache of `steps`, whose layers have these blobs in the store, or elsewhere where the destination can get them.
///
/// # Errors
/// What the destination says. What was written before stays; nothing names it.
pub async fn write(
    to: &CacheTo,
    steps: &[Step],
    blobs: &BTreeMap<DiffId, Descriptor>,
    mounts: Vec<Mount>,
    client: &Client,
    store: &Store,
    progress: Progress<'_>,
) -> Result<Exported, ShareError> {
    let means = Means {
        client: client.clone(),
        store: store.clone(),
    };
    let Some(backend) = of(&to.place, &means) else {
        return Ok(Exported::default());
    };
    let known: Vec<_> = steps.iter().filter_map(|it| it.parts.as_ref()).collect();
    let parts = match known.is_empty() {
        true => None,
        false => pack(known.into_iter()),
    };
    if let Some(bytes) = &parts {
        store.blobs().put(bytes)?;
    }
    let parts = parts.map(|bytes| Descriptor::of(PARTS_TYPE, &bytes));
    let encoded = encode(steps, blobs, mounts, parts);
    let config = encoded.config.to_bytes();
    let written = Written {
        to,
        blobs: &encoded.layers,
        config: &config,
    };
    let exported = backend.write(written, progress).await?;
    Ok(Exported {
        steps: steps.len(),
        ..exported
    })
}

impl Written<'_> {
    /// Points to the config.
    pub(super) fn config_descriptor(&self) -> Descriptor {
        Descriptor::of(CONFIG_TYPE, self.config)
    }

    /// Returns the document that names all else, and its media type.
    pub(super) fn document(&self) -> (&'static str, Vec<u8>) {
        let config = self.config_descriptor();
        let layers = self.blobs.iter().cloned();
        if self.to.image_manifest {
            let manifest = Manifest::new(config, layers.collect(), BTreeMap::new());
            return (media_type::OCI_MANIFEST, manifest.to_bytes());
        }
        let kind = match self.to.oci_types {
            true => media_type::OCI_INDEX,
            false => media_type::DOCKER_INDEX,
        };
        let typed = layers.map(|mut layer| {
            if !self.to.oci_types {
                layer.media_type = match layer.media_type.as_str() {
                    media_type::OCI_LAYER => media_type::DOCKER_LAYER.to_owned(),
                    media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP.to_owned(),
                    media_type::OCI_LAYER_ZSTD => media_type::DOCKER_LAYER_ZSTD.to_owned(),
                    _ => layer.media_type,
                };
            }
            layer
        });
        let mut index = Index::new(typed.chain([config]).collect());
        index.media_type = Some(kind.to_owned());
        (kind, index.to_bytes())
    }
}
