//! What a build gives to shared caches, when all else is done.
//!
//! A cache that cannot be written is told of, and fails the build only where the user asked for that: the image is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::deliver::Solution;
use super::error::BuildError;
use super::push::Shown;
use super::request::Build;
use crate::cache::Layer;
use crate::digest::DiffId;
use crate::image::{Descriptor, ImageConfig};
use crate::layer::compression::Compression;
use crate::progress::{Event, EventSink, VertexId};
use crate::registry::{Client, ClientOptions, Progress};
use crate::share::{self, CacheTo, Exported, Mode, Mount, Place, ShareError, Step};
use crate::solve::{Solved, cache_mounts, fetch_shared, pack_mount, shared_steps};
use crate::store::Store;

const INLINE_ARG: &str = "BUILDKIT_INLINE_CACHE";

impl Build {
    /// Returns a client that gives up sooner than that of images: a build can do without a cache.
    pub(super) fn cache_client(&self) -> Client {
        let ClientOptions {
            no_progress_timeout,
            give_up_after,
            attempts,
            ..
        } = self.client;
        Client::new(ClientOptions {
            no_progress_timeout: no_progress_timeout.min(Duration::from_secs(10)),
            give_up_after: give_up_after.min(Duration::from_secs(20)),
            attempts: attempts.min(3),
            ..self.client.clone()
        })
    }

    /// Returns how layers for caches are compressed.
    pub(super) fn cache_compressions(&self) -> impl Iterator<Item = Compression> + '_ {
        let written = self.cache_to.iter().filter(|to| to.place != Place::Inline);
        written.map(|to| to.compression)
    }

    /// Whether the image is to carry its cache: an output asks, or the build arg that asked before there were such outputs.
    pub(super) fn carries_cache(&self) -> bool {
        let by_arg = self.plan.build_args.get(INLINE_ARG);
        by_arg.is_some_and(|it| matches!(it.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
            || self.cache_to.iter().any(|to| to.place == Place::Inline)
    }

    /// Puts into the image's config what it carries as a cache; that of a base is left out, as it is not about this image.
    pub(super) fn with_inline(
        &self,
        config: &mut ImageConfig,
        inputs: &crate::solve::Inputs,
        solved: &Solved,
    ) {
        for key in [share::INLINE, share::OWN_INLINE] {
            config.extra.remove(key);
        }
        if self.carries_cache() {
            let (steps, _) = shared_steps(inputs, solved, Mode::Min);
            share::embed(config, &steps, &solved.layers);
        }
    }
}

/// All that caches are written from.
pub(super) struct Sharing<'a> {
    pub(super) solutions: &'a [Solution],
    pub(super) client: Client,
    pub(super) store: &'a Store,
    pub(super) events: &'a dyn EventSink,
    /// The number of the first step that this shows.
    pub(super) first: u32,
}

impl Sharing<'_> {
    /// Writes every cache, one after the other.
    pub(super) async fn write_all(&self, all: &[CacheTo]) -> Result<(), BuildError> {
        let outside = all.iter().filter(|to| to.place != Place::Inline);
        for (nth, to) in outside.enumerate() {
            let nth = u32::try_from(nth).unwrap_or(u32::MAX);
            let vertex = VertexId(self.first.saturating_add(nth));
            let name = format!("exporting cache to {}", to.place);
            let shown = Shown::start(vertex, name, self.events);
            let written = self.write(to, vertex).await;
            shown.end(written.as_ref().err().map(ToString::to_string));
            match written {
                Ok(exported) => self.told(to, exported),
                Err(source) if !to.ignore_error => {
                    return Err(BuildError::CacheTo {
                        place: to.place.to_string(),
                        source: Box::new(source),
                    });
                }
                Err(error) => self.events.emit(Event::CacheFailed {
                    to: to.place.to_string(),
                    error: error.to_string(),
                }),
            }
        }
        Ok(())
    }

    fn told(&self, to: &CacheTo, exported: Exported) {
        let Exported {
            steps,
            sent,
            mounted,
            there,
            sent_bytes,
        } = exported;
        self.events.emit(Event::CacheWritten {
            to: to.place.to_string(),
            steps,
            sent,
            mounted,
            there,
            sent_bytes,
        });
    }

    fn warn(&self, message: String) {
        self.events.emit(Event::Warning {
            vertex: None,
            line: None,
            message,
        });
    }

    async fn write(&self, to: &CacheTo, vertex: VertexId) -> Result<Exported, ShareError> {
        let mut steps: Vec<Step> = Vec::new();
        let mut blobs: BTreeMap<DiffId, Descriptor> = BTreeMap::new();
        let mut missing = 0;
        for solution in self.solutions {
            let (mut found, lacking) = shared_steps(&solution.inputs, &solution.solved, to.mode);
            solution.inputs.shared.complete(&mut found).await;
            missing += lacking;
            let layers = share::own_layers(&found);
            blobs.extend(self.blobs(to, solution, layers).await?);
            for step in found {
                if !steps.iter().any(|known| known.keys == step.keys) {
                    steps.push(step);
                }
            }
        }
        if missing > 0 {
            let why = "the store no longer has their results, and they were not needed";
            self.warn(format!(
                "the cache {} lacks {missing} of the steps: {why}",
                to.place
            ));
        }
        let mounts = match to.mounts {
            true => self.mounts().await?,
            false => Vec::new(),
        };
        let progress = Progress {
            events: self.events,
            vertex,
        };
        let (client, store) = (&self.client, self.store);
        share::write(to, &steps, &blobs, mounts, client, store, progress).await
    }

    /// Has layers compressed, and, where the destination cannot fetch them by itself, in the store.
    async fn blobs(
        &self,
        to: &CacheTo,
        solution: &Solution,
        layers: Vec<Layer>,
    ) -> Result<Vec<(DiffId, Descriptor)>, ShareError> {
        let inputs = solution.inputs.clone();
        let store = self.store.blobs();
        let is_lacking =
            |it: &&Layer| !store.has_sized(&it.blob.digest, it.blob.size) && it.origin.is_some();
        let lacking: Vec<Layer> = layers.iter().filter(is_lacking).cloned().collect();
        let can_fetch = matches!(to.place, Place::Registry(_)) && !to.force_compression;
        let from_registry = |it: &Layer| share::is_at_registry(it);
        let is_left_there = can_fetch && lacking.iter().all(from_registry);
        if !lacking.is_empty() && !is_left_there {
            fetch_shared(&inputs, &lacking)
                .await
                .map_err(|error| ShareError::Worker(error.to_string()))?;
        }
        let (how, force) = (to.compression, to.force_compression);
        let compressed = tokio::task::spawn_blocking(move || {
            let get = |layer: &Layer| {
                let blob = inputs
                    .compressor
                    .get(layer.diff_id, &layer.blob, how, force)?;
                Ok((layer.diff_id, blob))
            };
            layers
                .iter()
                .map(get)
                .collect::<Result<Vec<_>, ShareError>>()
        });
        compressed
            .await
            .map_err(|error| ShareError::Worker(error.to_string()))?
    }

    /// Packs the files of the cache mounts that steps of this build name.
    async fn mounts(&self) -> Result<Vec<Mount>, ShareError> {
        let mut packed = Vec::new();
        let mut seen = BTreeSet::new();
        for solution in self.solutions {
            for (name, id) in cache_mounts(&solution.inputs) {
                if !seen.insert(name.clone()) {
                    continue;
                }
                let inputs = solution.inputs.clone();
                let packing = {
                    let (name, id) = (name.clone(), id.clone());
                    tokio::task::spawn_blocking(move || pack_mount(&inputs, &name, &id))
                };
                match packing.await {
                    Ok(Ok(Some(mount))) => packed.push(mount),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => {
                        self.warn(format!("the cache mount `{id}` is not exported: {error}"));
                    }
                    Err(error) => return Err(ShareError::Worker(error.to_string())),
                }
            }
        }
        Ok(packed)
    }
}

/// Starts to read the caches that a build is given.
pub(super) fn read(
    build: &Build,
    store: &Store,
    events: &Arc<dyn EventSink>,
) -> Arc<share::Imports> {
    // What shall run again in any case need not be found.
    let from = match build.no_cache.all {
        true => &[][..],
        false => &build.cache_from[..],
    };
    Arc::new(share::Imports::start(
        from,
        &build.cache_client(),
        store,
        events,
    ))
}
