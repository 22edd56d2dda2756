//! A name with all that it stands for: every platform of an index, and its attestations.

use std::sync::Arc;

use futures_util::StreamExt;

use super::find::{ANNOTATION_REPO_DIGEST, document};
use super::transfer::{PARALLEL, Step, verify_now};
use super::{Images, ImagesError, Pulled};
use crate::digest::{DiffId, Digest};
use crate::image::{Descriptor, ImageConfig, Manifest, Reference, media_type};
use crate::progress::EventSink;
use crate::registry::layout::{self, Whole};
use crate::registry::{Contents, RegistryError, Source, note_origin};
use crate::store::Store;

impl Images {
    /// Pulls all that `name` stands for, and gives it that name here: a push then sends the same.
    ///
    /// # Errors
    /// As [`pull`](Self::pull), of any platform.
    pub async fn pull_all_platforms(
        &self,
        name: &Reference,
        events: &Arc<dyn EventSink>,
    ) -> Result<Pulled, ImagesError> {
        let step = Step::start(events, format!("[pull] {}", name.familiar()));
        step.end(self.pull_whole(name, &step).await)
    }

    async fn pull_whole(&self, name: &Reference, step: &Step<'_>) -> Result<Pulled, ImagesError> {
        let blobs = self.store.blobs();
        let tree = self.client.resolve_all(name, blobs).await?;
        // A short name may stand for another's.
        let name = match &tree.source {
            Source::Registry { reference, .. } => reference,
            Source::Held { .. } | Source::Local { .. } => name,
        };
        let (parts, source) = (&tree.contents.blobs, &tree.source);
        // A list, and no closure that borrows: else nobody could spawn what pulls.
        let mut fetched = Vec::with_capacity(parts.len());
        for blob in parts {
            let progress = Some(step.progress());
            fetched.push(self.client.fetch_blob(source, blob, blobs, progress));
        }
        // What can be had is had: the next pull asks for the rest.
        let fetched: Vec<Result<(), RegistryError>> = futures_util::stream::iter(fetched)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let fetched: Result<(), RegistryError> = fetched.into_iter().collect();
        fetched.map_err(|error| self.unfinished(parts, error.into()))?;
        let (store, contents) = (self.store.clone(), tree.contents.clone());
        let verified = tokio::task::spawn_blocking(move || verify_all(&store, &contents));
        let verified = verified
            .await
            .map_err(|error| ImagesError::Worker(error.to_string()))?;
        verified.map_err(|error| self.unfinished(parts, error))?;
        note_origin(
            self.store.records(),
            name,
            parts.iter().map(|it| &it.digest),
        )?;
        let id = self.read(&name.familiar(), &tree.top, &[])?.id();
        let before = self.store.resolve(name)?.map(|it| it.digest);
        let digest = tree.top.digest;
        let top = tree.top.clone();
        self.store.tag(
            name,
            top.annotate(ANNOTATION_REPO_DIGEST, digest.to_string()),
        )?;
        Ok(Pulled {
            name: name.clone(),
            digest,
            id,
            newer: before != Some(digest),
        })
    }

    /// Unpacks what a layout or an archive has under a name, all of it; `None` where that is a manifest alone, or the archive has a
    /// part of an index only, as some that are made for one platform.
    pub(super) fn load_whole(
        &self,
        place: layout::Place<'_>,
        wanted: &str,
    ) -> Result<Option<(Descriptor, Digest)>, ImagesError> {
        let blobs = self.store.blobs();
        let top = match layout::resolve_all(place, Some(wanted), blobs) {
            Err(RegistryError::Incomplete { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(Whole::Docker(found)) => {
                self.check(&found)?;
                let id = found.manifest.config.digest;
                return Ok(Some((found.manifest_descriptor, id)));
            }
            Ok(Whole::Oci(top, _)) => top,
        };
        if !media_type::is_index(&top.media_type) {
            return Ok(None);
        }
        verify_all(&self.store, &Contents::read(&top, blobs)?)?;
        let id = self.read(wanted, &top, &[])?.id();
        Ok(Some((top, id)))
    }
}

/// Holds that all layers of all images are what their configs say.
fn verify_all(store: &Store, contents: &Contents) -> Result<(), ImagesError> {
    for (layer, diff_id) in layers(store, contents)? {
        verify_now(store, layer.digest, diff_id)?;
    }
    Ok(())
}

/// Returns the layers of all images, each with what it is by the config.
pub(super) fn layers(
    store: &Store,
    contents: &Contents,
) -> Result<Vec<(Descriptor, DiffId)>, ImagesError> {
    let mut all = Vec::new();
    for (descriptor, bytes) in &contents.manifests {
        let what = descriptor.digest.to_string();
        let Ok(manifest) = Manifest::parse(bytes) else {
            // An index: what is below it stands beside it.
            continue;
        };
        let is_layer = |it: &Descriptor| media_type::layer_compression(&it.media_type).is_some();
        // An artifact, or an attestation: its layers are documents.
        if !media_type::is_config(&manifest.config.media_type)
            || !manifest.layers.iter().all(is_layer)
        {
            continue;
        }
        let config = store
            .blobs()
            .read(&manifest.config.digest, MAX_CONFIG_BYTES)?;
        let config = ImageConfig::parse(&config).map_err(document(&what))?;
        if manifest.layers.len() != config.diff_ids.len() {
            let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
            return Err(RegistryError::LayerCount {
                what,
                layers,
                diff_ids,
            }
            .into());
        }
        all.extend(manifest.layers.into_iter().zip(config.diff_ids));
    }
    Ok(all)
}

const MAX_CONFIG_BYTES: u64 = 8 << 20;
