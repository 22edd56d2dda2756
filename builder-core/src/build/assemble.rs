//! From layers to an image: config, history, manifest; layers compressed where an output wants it.

use std::collections::BTreeMap;

use crate::cache::Layer;
use crate::export::Finished;
use crate::image::time::{parse_rfc3339, rfc3339};
use crate::image::{Descriptor, History, ImageConfig, Manifest, media_type};
use crate::plan::Plan;
use crate::solve::{Inputs, Solved};

use super::BuildError;
use super::output::ImageOptions;

/// Completes the config: `rootfs`, and times that depend on layers and the base alone, so that a cached build gives the
/// same image.
pub(super) fn config(plan: &Plan, layers: &[Layer], base_created: Option<String>) -> ImageConfig {
    let mut config = plan.config.clone();
    config.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let own = &layers[layers.len() - plan.layers.len()..];
    let own: Vec<Option<i64>> = own.iter().map(|layer| layer.created).collect();
    let base_time = base_created.as_deref().and_then(parse_rfc3339);
    let (inherited, history) = config.history.split_at_mut(plan.base_history);
    let inherited = inherited
        .iter()
        .filter_map(|entry| parse_rfc3339(entry.created.as_deref()?));
    let base_time = base_time.into_iter().chain(inherited).max();
    let created = date(history, &own, base_time, plan.source_date_epoch);
    config.created = Some(rfc3339(created));
    config
}

/// Gives the steps' `history` its times, and returns that of the image: the latest of what is in it, as a layer that was
/// found, or put on a new base, may be older than one below it.
fn date(
    history: &mut [History],
    own: &[Option<i64>],
    base_time: Option<i64>,
    epoch: Option<i64>,
) -> i64 {
    let clamp = |seconds: i64| epoch.map_or(seconds, |epoch| seconds.min(epoch));
    // A step without a layer has the time of the layer above it, the first ones that of the first layer.
    let first = own.iter().find_map(|it| *it);
    let mut last = epoch.or(first).or(base_time).unwrap_or_default();
    let mut latest = base_time.unwrap_or(last).max(last);
    let mut own = own.iter();
    for entry in history {
        if !entry.empty_layer
            && let Some(created) = own.next().copied().flatten()
        {
            last = clamp(created);
            latest = latest.max(last);
        }
        entry.created = Some(rfc3339(last));
    }
    epoch.unwrap_or(latest)
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
            if layer.media_type == media_type::OCI_LAYER_ZSTD {
                let layer = layer.digest;
                return Err(BuildError::DockerTypes { layer });
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_as_old_as_the_youngest_of_it() {
        // What is there (`None`: a step without a layer), the base's time, the epoch; the image's time, the steps'.
        type Row<'a> = (&'a [Option<i64>], Option<i64>, Option<i64>, i64, &'a [i64]);
        let rows: &[Row<'_>] = &[
            (&[Some(20), Some(30)], Some(10), None, 30, &[20, 30]),
            // A COPY that was found, on a RUN that was not.
            (&[Some(40), Some(30)], Some(10), None, 40, &[40, 30]),
            (&[Some(40), Some(30), None], None, None, 40, &[40, 30, 30]),
            // A layer that was put on a younger base.
            (&[None, Some(30)], Some(50), None, 50, &[30, 30]),
            (&[None], Some(10), None, 10, &[10]),
            (&[], None, None, 0, &[]),
            (&[Some(40), Some(30)], Some(50), Some(35), 35, &[35, 30]),
            (&[Some(20), None], Some(10), Some(35), 35, &[20, 20]),
        ];
        for (steps, base, epoch, image, times) in rows {
            let mut history: Vec<History> = steps
                .iter()
                .map(|step| History {
                    empty_layer: step.is_none(),
                    ..History::default()
                })
                .collect();
            let own: Vec<_> = steps.iter().copied().filter(Option::is_some).collect();
            assert_eq!(date(&mut history, &own, *base, *epoch), *image, "{steps:?}");
            let written: Vec<_> = history.into_iter().filter_map(|it| it.created).collect();
            let expected: Vec<_> = times.iter().map(|it| rfc3339(*it)).collect();
            assert_eq!(written, expected, "{steps:?}");
        }
    }
}
