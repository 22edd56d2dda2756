//! From layers to an image: config, history, manifest; layers compressed where an output wants it.

use std::collections::BTreeMap;

use crate::cache::Layer;
use crate::export::Finished;
use crate::image::time::{parse_rfc3339, rfc3339};
use crate::image::{Descriptor, ImageConfig, Manifest, media_type};
use crate::plan::Plan;
use crate::solve::{Inputs, Solved};

use super::BuildError;
use super::output::ImageOptions;

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
    inputs: &Inputs,
    config: &ImageConfig,
    solved: &Solved,
    how: &ImageOptions,
    annotations: BTreeMap<String, String>,
    as_it_is: bool,
) -> Result<Finished, BuildError> {
    let blobs = inputs.store.blobs();
    let bytes = config.to_bytes();
    blobs.put(&bytes)?;
    let mut config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
    let mut descriptors = Vec::new();
    for layer in &solved.layers {
        let Layer { diff_id, blob, .. } = layer;
        let compression = how.compression;
        // A step's layer is compressed as if it had run here, whatever a shared cache did.
        let is_step = layer.created.is_some() && !as_it_is;
        let force = how.force_compression || is_step;
        descriptors.push(inputs.compressor.get(*diff_id, blob, compression, force)?);
    }
    if how.docker_types {
        config.media_type = media_type::DOCKER_CONFIG.to_owned();
        for layer in &mut descriptors {
            layer.media_type = media_type::docker_layer(&layer.media_type).to_owned();
        }
    }
    let mut manifest = Manifest::new(config.clone(), descriptors.clone(), annotations);
    if how.docker_types {
        manifest.media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
    }
    let bytes = manifest.to_bytes();
    blobs.put(&bytes)?;
    Ok(Finished {
        manifest: manifest.descriptor(),
        config,
        layers: descriptors,
        names: Vec::new(),
        index: None,
        others: Vec::new(),
    })
}
