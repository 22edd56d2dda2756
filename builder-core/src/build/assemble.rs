//! From layers to an image: config, history, manifest; layers compressed where an output wants it.

use crate::cache::{KeyHasher, Layer};
use crate::digest::Digest;
use crate::export::Finished;
use crate::image::time::{parse_rfc3339, rfc3339};
use crate::image::{Descriptor, ImageConfig, Manifest, Reference, media_type};
use crate::layer::compression::{Compression, compress};
use crate::plan::Plan;
use crate::store::Store;

use super::BuildError;

/// Completes the config: `rootfs`, and times that depend on layers alone, so that a cached build gives the same image.
pub(super) fn config(plan: &Plan, layers: &[Layer], base_created: Option<String>) -> ImageConfig {
    let mut config = plan.config.clone();
    config.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let clamp = |seconds: i64| match plan.source_date_epoch {
        Some(epoch) => seconds.min(epoch),
        None => seconds,
    };
    let mut own = layers[layers.len() - plan.layers.len()..].iter();
    let base_time = base_created.as_deref().and_then(parse_rfc3339);
    // A step without a layer has the time of the layer above it, the first ones that of the first layer.
    let first = own.clone().find_map(|layer| layer.created);
    let mut last = plan
        .source_date_epoch
        .or(first)
        .or(base_time)
        .unwrap_or_default();
    for entry in config.history.iter_mut().skip(plan.base_history) {
        if !entry.empty_layer
            && let Some(created) = own.next().and_then(|layer| layer.created)
        {
            last = clamp(created);
        }
        entry.created = Some(rfc3339(last));
    }
    config.created = Some(rfc3339(plan.source_date_epoch.unwrap_or(last)));
    config
}

/// Writes config and manifest into the store, the layers compressed as `how` says.
pub(super) fn finish(
    store: &Store,
    config: &ImageConfig,
    layers: &[Layer],
    how: Compression,
    names: &[Reference],
) -> Result<Finished, BuildError> {
    let blobs = store.blobs();
    let bytes = config.to_bytes();
    blobs.put(&bytes)?;
    let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
    let mut descriptors = Vec::new();
    for layer in layers {
        descriptors.push(layer_blob(store, layer, how)?);
    }
    let manifest = Manifest::new(config.clone(), descriptors.clone(), Default::default());
    let bytes = manifest.to_bytes();
    blobs.put(&bytes)?;
    Ok(Finished {
        manifest: manifest.descriptor(),
        config,
        layers: descriptors,
        names: names.to_vec(),
    })
}

/// What a layer was once compressed to.
const COMPRESSED: &str = "compressed";

fn layer_blob(store: &Store, layer: &Layer, how: Compression) -> Result<Descriptor, BuildError> {
    let blob = &layer.blob;
    // A base's layers stay as they came, under OCI's names.
    let oci = |blob: &Descriptor| {
        let media_type = match blob.media_type.as_str() {
            media_type::DOCKER_LAYER => media_type::OCI_LAYER,
            media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
            media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
            other => other,
        };
        Descriptor::new(media_type, blob.digest, blob.size)
    };
    if blob.digest != layer.diff_id.0 || how == Compression::None {
        return Ok(oci(blob));
    }
    let key = compressed_key(layer, how);
    let blobs = store.blobs();
    if let Some(known) = store.records().get::<Descriptor>(COMPRESSED, &key)
        && blobs.has_sized(&known.digest, known.size)
    {
        return Ok(known);
    }
    let mut tar = blobs.open(&blob.digest)?;
    let mut out = blobs.raw_writer()?;
    let made = compress(&mut tar, how, &mut out).map_err(BuildError::Compress)?;
    if made.diff_id != layer.diff_id {
        // Out of the way, so that the next build makes it again.
        blobs.remove(&blob.digest)?;
        let digest = blob.digest;
        return Err(BuildError::Damaged { digest });
    }
    out.commit_hashed(made.digest)?;
    let descriptor = Descriptor::new(made.media_type, made.digest, made.size);
    store.records().put(COMPRESSED, &key, &descriptor)?;
    Ok(descriptor)
}

fn compressed_key(layer: &Layer, how: Compression) -> Digest {
    let mut key = KeyHasher::new("compressed/1");
    key.field("diff_id", layer.diff_id.0.as_bytes());
    key.field("how", format!("{how:?}"));
    key.finish().digest
}
