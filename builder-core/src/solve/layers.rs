//! Layers on demand: fetched and unpacked when the first step must see their files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::SolveErrorKind;
use super::inputs::Inputs;
use super::trees::stacked;
use crate::cache::Layer;
use crate::digest::{ChainId, ContentDigest, DiffId, Digest, DigestWriter};
use crate::image::{Descriptor, Reference};
use crate::layer::compression::decompressor;
use crate::layer::{LayerError, Limits};
use crate::progress::{Event, VertexId};
use crate::registry::{
    Begun, Progress, Resolved, Source, known_diff_id, known_origins, note_diff_id,
};
use crate::snapshot::SnapshotError;
use crate::store::Follower;

/// The kernel's limit is 500 lower directories; the sandbox adds one for mount points.
const MAX_LAYERS: usize = 499;

/// Returns the layers of a resolved image, base first.
///
/// # Errors
/// Where its config and its manifest do not speak of the same number of layers.
pub fn image_layers(resolved: &Resolved) -> Result<Vec<Layer>, SolveErrorKind> {
    let diff_ids = &resolved.config.diff_ids;
    if diff_ids.len() != resolved.layers.len() {
        return Err(SolveErrorKind::LayerCount {
            diff_ids: diff_ids.len(),
            layers: resolved.layers.len(),
        });
    }
    let origin = |blob: &Descriptor| match &resolved.source {
        Source::Registry { reference, .. } => {
            Some(reference.with_digest(resolved.digest).to_string())
        }
        Source::Held { origins } => Some(origins.get(&blob.digest)?.first()?.to_string()),
        Source::Local { .. } => None,
    };
    let layers = diff_ids.iter().zip(&resolved.layers);
    Ok(layers
        .map(|(diff_id, blob)| Layer {
            diff_id: *diff_id,
            blob: blob.clone(),
            content: ContentDigest(*diff_id.0.as_bytes()),
            created: None,
            clamped: None,
            origin: origin(blob),
        })
        .collect())
}

/// Fetches and unpacks, each layer once.
#[derive(Debug, Default)]
pub(super) struct LayerLoader {
    blobs: Locks<Digest>,
    snapshots: Locks<ChainId>,
    /// Chains whose snapshots are all there.
    tops: Mutex<HashSet<ChainId>>,
}

/// One lock for each thing that several vertices may want at the same time.
#[derive(Debug)]
struct Locks<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks(Mutex::new(HashMap::new()))
    }
}

impl<K: std::hash::Hash + Eq + Copy> Locks<K> {
    fn of(&self, key: K) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(key).or_default().clone()
    }
}

impl LayerLoader {
    /// Has the blobs of `layers` in the store, fetching in parallel what is not there. A base's are held against what its config
    /// says of them, while they come: no output may pass on a config that lies.
    pub(super) async fn fetch_right(
        &self,
        inputs: &Arc<Inputs>,
        layers: &[Layer],
        vertex: VertexId,
    ) -> Result<(), SolveErrorKind> {
        let all = layers.iter().map(async |layer| {
            let (blob, records) = (layer.blob.digest, inputs.store.records());
            let is_right = known_diff_id(records, &blob) == Some(layer.diff_id);
            if layer.created.is_some() || blob == layer.diff_id.0 || is_right {
                return self.fetch_one(inputs, layer, vertex, &drop).await;
            }
            let wanted = layer.clone();
            let hash = move |blob: &mut (dyn Read + Send)| {
                let buffered = BufReader::with_capacity(256 << 10, blob);
                let hashed = decompressor(buffered).and_then(|mut tar| {
                    let mut hash = DigestWriter::new(std::io::sink());
                    std::io::copy(&mut tar, &mut hash)?;
                    Ok(DiffId(hash.finish().1))
                });
                hashed.map_err(|error| unreadable(&wanted, error))
            };
            let found = self.read(inputs, layer, vertex, hash).await?;
            note_diff_id(records, &blob, found)?;
            let expected = layer.diff_id;
            match found == expected {
                true => Ok(()),
                false => Err(bad(layer, SnapshotError::DiffId { expected, found })),
            }
        });
        futures_util::future::try_join_all(all).await?;
        Ok(())
    }

    async fn fetch_one(
        &self,
        inputs: &Inputs,
        layer: &Layer,
        vertex: VertexId,
        begun: Begun<'_>,
    ) -> Result<(), SolveErrorKind> {
        let blobs = inputs.store.blobs();
        let there = || blobs.has_sized(&layer.blob.digest, layer.blob.size);
        if layer.origin.is_none() && there() {
            return Ok(());
        }
        let lock = self.blobs.of(layer.blob.digest);
        let _held = lock.lock().await;
        let progress = Progress {
            events: inputs.events.as_ref(),
            vertex,
        };
        if let Some(fetched) = inputs.shared.fetch(layer, Some(progress)).await {
            return fetched.map_err(|lost| SolveErrorKind::Lost(Box::new(lost)));
        }
        if there() {
            return Ok(());
        }
        let source = self.source(inputs, layer);
        inputs
            .client
            .fetch_blob_followed(&source, &layer.blob, blobs, Some(progress), begun)
            .await?;
        Ok(())
    }

    /// Has `work` done on the blob of a layer, while it comes where it has to be fetched. What comes of it holds only once the
    /// blob is known to be right, and so is not returned before.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        inputs: &Arc<Inputs>,
        layer: &Layer,
        vertex: VertexId,
        work: impl Fn(&mut (dyn Read + Send)) -> Result<T, SolveErrorKind>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> Result<T, SolveErrorKind> {
        let counted = |inner: Box<dyn Read + Send>| Counted {
            inner,
            inputs: inputs.clone(),
            vertex,
            what: format!("unpacking {}", layer.blob.digest),
            done: 0,
            told: 0,
            total: layer.blob.size,
        };
        let working = Mutex::new(None);
        let begun = |follower: Follower| {
            let work = work.clone();
            let mut blob = counted(Box::new(follower));
            let worker = tokio::task::spawn_blocking(move || work(&mut blob));
            // One whose download was given up ends by itself.
            *working.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
        };
        self.fetch_one(inputs, layer, vertex, &begun).await?;
        let working = working.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(working) = working
            && let Ok(done) = working.await.map_err(worker)?
        {
            return Ok(done);
        }
        // It was here already; or what is wrong with it is to be told of the whole.
        let file = inputs.store.blobs().open(&layer.blob.digest)?;
        let mut blob = counted(Box::new(file));
        let again = tokio::task::spawn_blocking(move || work(&mut blob));
        again.await.map_err(worker)?
    }

    /// Where the blob can be had: from the base that this build has resolved, else wherever it is known to be.
    fn source(&self, inputs: &Inputs, layer: &Layer) -> Source {
        let digest = layer.blob.digest;
        let has = |resolved: &&Resolved| resolved.layers.iter().any(|blob| blob.digest == digest);
        if let Some(resolved) = inputs.bases.values().find(has) {
            return resolved.source.clone();
        }
        let noted: Option<Reference> = layer.origin.as_deref().and_then(|it| it.parse().ok());
        let mut origins: Vec<Reference> = noted.into_iter().collect();
        for known in known_origins(inputs.store.records(), &digest) {
            if origins
                .iter()
                .all(|it| it.repository() != known.repository())
            {
                origins.push(known);
            }
        }
        let origins = BTreeMap::from([(digest, origins)]);
        Source::Held { origins }
    }

    /// Has `layers` (base first) unpacked: all at the same time, put in place in order.
    pub(super) async fn unpack(
        &self,
        inputs: &Arc<Inputs>,
        layers: &[Layer],
        vertex: VertexId,
    ) -> Result<(), SolveErrorKind> {
        let (chains, layers): (Vec<ChainId>, Vec<&Layer>) = stacked(layers).into_iter().unzip();
        let layers = &layers;
        let Some(&top) = chains.last() else {
            return Ok(());
        };
        if chains.len() > MAX_LAYERS {
            return Err(SolveErrorKind::TooManyLayers { max: MAX_LAYERS });
        }
        if self.is_unpacked(top) {
            return Ok(());
        }
        if chains.iter().all(|chain| inputs.snapshots.has(*chain)) {
            self.unpacked(top);
            return Ok(());
        }
        // One unpacks a chain, base first; others who want it wait.
        let first = chains[0];
        let lock = self.snapshots.of(first);
        let _held = lock.lock().await;
        let missing: Vec<usize> = (0..chains.len())
            .filter(|&at| !inputs.snapshots.has(chains[at]))
            .collect();
        let started = missing.iter().map(|&at| async move {
            let layer = layers[at].clone();
            let (inputs_there, wanted) = (inputs.clone(), layer.clone());
            let work = move |blob: &mut (dyn Read + Send)| {
                let inputs = &inputs_there;
                let buffered = BufReader::with_capacity(256 << 10, blob);
                let mut tar = decompressor(buffered).map_err(|error| unreadable(&wanted, error))?;
                let limits = limits(inputs, &wanted);
                inputs
                    .snapshots
                    .start_unpack(wanted.diff_id, &mut tar, limits)
                    .map_err(|source| bad(&wanted, source))
            };
            let unpacking = self.read(inputs, &layer, vertex, work).await?;
            Ok::<_, SolveErrorKind>((at, unpacking))
        });
        for (at, unpacking) in futures_util::future::try_join_all(started).await? {
            let inputs_there = inputs.clone();
            let stack = chains[..=at].to_vec();
            let unpacked = tokio::task::spawn_blocking(move || {
                inputs_there.snapshots.finish_unpack(unpacking, &stack)
            })
            .await
            .map_err(worker)?
            .map_err(|source| bad(layers[at], source))?;
            if layers[at].created.is_none() {
                let records = inputs.store.records();
                note_diff_id(records, &layers[at].blob.digest, layers[at].diff_id)?;
            }
            for skipped in unpacked.skipped {
                inputs.events.emit(Event::Warning {
                    vertex: Some(vertex),
                    line: None,
                    message: format!(
                        "/{}: {}",
                        String::from_utf8_lossy(&skipped.path),
                        skipped.what
                    ),
                });
            }
        }
        self.unpacked(top);
        Ok(())
    }

    /// Notes that the snapshots up to `top` are there. While the store is open nothing takes them away.
    pub(super) fn unpacked(&self, top: ChainId) {
        let mut tops = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        tops.insert(top);
    }

    fn is_unpacked(&self, top: ChainId) -> bool {
        let tops = self.tops.lock().unwrap_or_else(PoisonError::into_inner);
        tops.contains(&top)
    }
}

/// What a step of this build made is as large as it is: limits are for what comes from elsewhere.
pub(super) fn limits(inputs: &Inputs, layer: &Layer) -> Limits {
    match layer.blob.digest == layer.diff_id.0 && layer.created.is_some() {
        true => Limits::of_compressed(layer.blob.size, Some(u64::MAX)),
        false => Limits::of_compressed(layer.blob.size, inputs.options.max_layer_bytes),
    }
}

pub(super) fn bad(layer: &Layer, source: SnapshotError) -> SolveErrorKind {
    let layer = layer.blob.digest;
    SolveErrorKind::Unpack { layer, source }
}

pub(super) fn unreadable(layer: &Layer, error: std::io::Error) -> SolveErrorKind {
    bad(layer, LayerError::stream("decompress it")(error).into())
}

pub(super) fn worker(error: tokio::task::JoinError) -> SolveErrorKind {
    if error.is_cancelled() {
        return SolveErrorKind::Cancelled;
    }
    SolveErrorKind::Worker(error.to_string())
}

/// Tells how much of a layer has been read.
struct Counted<R> {
    inner: R,
    inputs: Arc<Inputs>,
    vertex: VertexId,
    what: String,
    done: u64,
    told: u64,
    total: u64,
}

const BYTES_PER_EVENT: u64 = 4 << 20;

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.done += n as u64;
        let last = n == 0 && self.told < self.done;
        // A small layer is there before anybody can read of it.
        if self.total >= BYTES_PER_EVENT && (last || self.done - self.told >= BYTES_PER_EVENT) {
            self.told = self.done;
            self.inputs.events.emit(Event::Transfer {
                vertex: self.vertex,
                what: self.what.clone(),
                done: self.done,
                total: Some(self.total),
            });
        }
        Ok(n)
    }
}
