//! Caches that a build reads: their documents at once, their layers when something must see them.
//!
//! Reading starts with the build and is waited for when the store's own records do not have everything. A cache that is
//! late, broken or not there is warned of by name, and the build goes on. One whose layer turns out to be missing or wrong
//! is [`Lost`] as a whole: what is already here and verified of it stays good.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use tokio::sync::OnceCell;

use super::ShareError;
use super::backend::{Means, of, of_origin, place_of};
use super::format::{Contents, Known, Mount, Step};
use super::parts::{MAX_PACKED_BYTES, Masked, unpack};
use super::target::{CacheFrom, Place};
use crate::cache::{Earlier, Layer, Parts, Reason, Record, nearest};
use crate::digest::{DiffId, Digest, DigestWriter};
use crate::image::Reference;
use crate::layer::Limits;
use crate::layer::compression::decompressor;
use crate::progress::{Event, EventSink};
use crate::registry::{Client, Progress, known_diff_id, note_diff_id, note_origin};
use crate::store::{Blobs, Store};

/// A key that a cache knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its layers are to be had by [`Imports::fetch`].
    pub record: Record,
    /// All its keys.
    pub keys: Vec<Digest>,
    /// The cache, for people.
    pub from: String,
}

/// A cache whose promise was not kept.
#[derive(Debug, thiserror::Error)]
#[error("the cache {cache} cannot be used: {why}")]
pub struct Lost {
    /// For people.
    pub cache: String,
    /// As layers say it.
    pub origin: String,
    pub why: ShareError,
}

/// The caches that a build reads.
pub struct Imports {
    means: Means,
    loading: Vec<Loading>,
    ready: OnceLock<Vec<Arc<Loaded>>>,
    lost: Mutex<BTreeSet<String>>,
    /// What the caches know of their steps' keys, each with its name.
    earlier: OnceCell<Vec<(String, Vec<Earlier>)>>,
}

/// To say why a step runs is not worth a longer wait.
const WORTH: Duration = Duration::from_secs(3);

type Reading = Shared<BoxFuture<'static, Option<Arc<Loaded>>>>;

struct Loading {
    reading: Reading,
    task: tokio::task::AbortHandle,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Loaded {
    name: String,
    by_key: HashMap<Digest, usize>,
    contents: Contents,
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imports")
            .field("caches", &self.loading.len())
            .finish_non_exhaustive()
    }
}

impl Imports {
    /// Starts to read caches; what is read of each, or why nothing is, goes to `events`.
    pub fn start(
        from: &[CacheFrom],
        client: &Client,
        store: &Store,
        events: &Arc<dyn EventSink>,
    ) -> Imports {
        let means = Means {
            client: client.clone(),
            store: store.clone(),
        };
        let loading = from.iter().map(|from| {
            let (from, means, events) = (from.clone(), means.clone(), events.clone());
            let reading: Reading = async move { read(&from, &means, events.as_ref()).await }
                .boxed()
                .shared();
            let task = tokio::spawn(reading.clone()).abort_handle();
            Loading { reading, task }
        });
        let loading = loading.collect();
        Imports {
            means,
            loading,
            ready: OnceLock::new(),
            lost: Mutex::default(),
            earlier: OnceCell::new(),
        }
    }

    /// Whether there are no caches to look in.
    pub fn is_empty(&self) -> bool {
        self.loading.is_empty()
    }

    /// Waits until every cache is read, or given up.
    pub async fn ready(&self) {
        if self.ready.get().is_some() {
            return;
        }
        let all = self.loading.iter().map(|it| it.reading.clone());
        let read = futures_util::future::join_all(all).await;
        let _ = self.ready.set(read.into_iter().flatten().collect());
    }

    fn caches(&self) -> &[Arc<Loaded>] {
        self.ready.get().map_or(&[], Vec::as_slice)
    }

    /// Returns what the first cache that knows `key` has for it; `base` gives the layers of the bases of this build. Knows
    /// nothing before [`ready`](Self::ready).
    pub fn find(&self, key: &Digest, base: &dyn Fn(&DiffId) -> Option<Layer>) -> Option<Hit> {
        self.caches().iter().find_map(|cache| {
            let known: &Known = &cache.contents.steps[*cache.by_key.get(key)?];
            let below = known.base.iter().map(base);
            let mut layers: Vec<Layer> = below.collect::<Option<_>>()?;
            layers.extend(known.layers.iter().cloned());
            let record = Record {
                layers,
                key: known.keys.last().copied(),
                step: known.name.clone(),
            };
            (!self.is_lost(&record.layers)).then(|| Hit {
                record,
                keys: known.keys.clone(),
                from: cache.name.clone(),
            })
        })
    }

    /// Whether one of a record's layers is of a cache that is lost.
    pub fn is_lost<'a>(&self, layers: impl IntoIterator<Item = &'a Layer>) -> bool {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        !lost.is_empty()
            && layers.into_iter().any(|layer| {
                let origin = layer.origin.as_ref();
                origin.is_some_and(|origin| lost.contains(origin)) && !self.is_here(layer)
            })
    }

    /// Counts a cache as lost from now on; false where it was before.
    pub fn lose(&self, lost: &Lost) -> bool {
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(lost.origin.clone())
    }

    /// Fetches what the steps' keys of the caches were made from, once; a cache that cannot tell is left out.
    async fn earlier(&self) -> &[(String, Vec<Earlier>)] {
        let fetch = || async {
            let all = self.caches().iter().map(|cache| async move {
                let fetched = tokio::time::timeout(WORTH, self.fetch_parts(&cache.contents)).await;
                Some((cache.name.clone(), fetched.ok()??))
            });
            let all = futures_util::future::join_all(all).await;
            all.into_iter().flatten().collect()
        };
        self.earlier.get_or_init(fetch).await
    }

    async fn fetch_parts(&self, contents: &Contents) -> Option<Vec<Earlier>> {
        let blob = contents
            .parts
            .clone()
            .filter(|it| it.size <= MAX_PACKED_BYTES)?;
        let blobs = self.means.store.blobs().clone();
        if !blobs.has_sized(&blob.digest, blob.size) {
            let backend = of_origin(&contents.origin, &self.means)?;
            backend.fetch(&blob, None).await.ok()?;
        }
        let unpacked = tokio::task::spawn_blocking(move || {
            let bytes = blobs.read(&blob.digest, MAX_PACKED_BYTES).ok()?;
            // Nothing of the store refers to it.
            (Digest::of(&bytes) == blob.digest).then(|| unpack(&bytes))?
        });
        unpacked.await.ok()?
    }

    /// Says what a step that missed has else than the nearest one that a cache knows.
    pub async fn why(
        &self,
        now: &Parts,
        stage: &str,
        ordinal: usize,
        claimed: &[&Parts],
    ) -> Option<(Reason, &str)> {
        let masked = Masked::of(now);
        self.earlier().await.iter().find_map(|(name, earlier)| {
            let nearest = nearest(earlier, &masked.0, stage, ordinal, "", claimed)?;
            Some((masked.explain(&nearest.parts)?, name.as_str()))
        })
    }

    /// Gives steps that this machine knows nothing of what the caches that they were found in know of their keys.
    pub async fn complete(&self, steps: &mut [Step]) {
        if steps.iter().all(|step| step.parts.is_some()) {
            return;
        }
        let known = self.earlier().await;
        for step in steps.iter_mut().filter(|step| step.parts.is_none()) {
            let mut all = known.iter().flat_map(|(_, earlier)| earlier);
            let found = all.find(|it| step.keys.contains(&it.place.key));
            step.parts = found.cloned();
        }
    }

    /// Whether a layer is in the store, and known to be what it should be.
    fn is_here(&self, layer: &Layer) -> bool {
        let blob = &layer.blob;
        self.means.store.blobs().has_sized(&blob.digest, blob.size)
            && is_verified(&self.means.store, layer)
    }

    /// Has a layer that a cache promised in the store, held against its digest and its diff_id; `None` where none did.
    pub async fn fetch(
        &self,
        layer: &Layer,
        progress: Option<Progress<'_>>,
    ) -> Option<Result<(), Lost>> {
        let origin = layer.origin.as_deref()?;
        let place = place_of(origin)?;
        let fetched = self.fetch_from(&place, layer, progress).await;
        Some(fetched.map_err(|why| Lost {
            cache: shown(&place),
            origin: origin.to_owned(),
            why,
        }))
    }

    async fn fetch_from(
        &self,
        place: &Place,
        layer: &Layer,
        progress: Option<Progress<'_>>,
    ) -> Result<(), ShareError> {
        if self.is_here(layer) {
            return Ok(());
        }
        let store = &self.means.store;
        if let Some(backend) = of(place, &self.means)
            && !store.blobs().has_sized(&layer.blob.digest, layer.blob.size)
        {
            backend.fetch(&layer.blob, progress).await?;
        }
        let (blobs, layer) = (store.blobs().clone(), layer.clone());
        let verified = tokio::task::spawn_blocking(move || verify(&blobs, &layer).map(|()| layer));
        let verified = verified.await;
        let layer = verified.map_err(|error| ShareError::Worker(error.to_string()))??;
        note_diff_id(store.records(), &layer.blob.digest, layer.diff_id)?;
        Ok(())
    }

    /// Has the files of a cache mount in the store, as the first cache that has some has them; `None` where none does.
    pub async fn fetch_mount(&self, name: &str) -> Option<Result<Mount, Lost>> {
        let cache = self.caches().iter().find_map(|cache| {
            let mount = cache.contents.mounts.iter().find(|it| it.name == name)?;
            let step = cache.contents.origin.as_str();
            Some((mount.clone(), step.to_owned()))
        });
        let (mount, origin) = cache?;
        let store = &self.means.store;
        if store.blobs().has_sized(&mount.blob.digest, mount.blob.size) {
            return Some(Ok(mount));
        }
        let backend = of_origin(&origin, &self.means)?;
        let fetched = backend.fetch(&mount.blob, None).await;
        Some(match fetched {
            Ok(()) => Ok(mount),
            Err(why) => Err(Lost {
                cache: place_of(&origin).map_or_else(String::new, |it| shown(&it)),
                origin,
                why,
            }),
        })
    }

    /// Remembers where layers that stay elsewhere are to be had.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn note_origins(&self, layers: &[Layer]) -> Result<(), crate::store::StoreError> {
        for layer in layers {
            if let Some(reference) = repository_of(layer) {
                note_origin(self.means.store.records(), &reference, [&layer.blob.digest])?;
            }
        }
        Ok(())
    }
}

/// Returns the name at a registry whose repository has the layer, where a cache did promise it.
fn repository_of(layer: &Layer) -> Option<Reference> {
    match place_of(layer.origin.as_deref()?)? {
        Place::Registry(reference) => Some(reference),
        _ => None,
    }
}

fn is_verified(store: &Store, layer: &Layer) -> bool {
    layer.blob.digest == layer.diff_id.0
        || known_diff_id(store.records(), &layer.blob.digest) == Some(layer.diff_id)
}

/// Names a place without the digest that pins it.
fn shown(place: &Place) -> String {
    match place {
        Place::Registry(reference) => {
            let familiar = reference.familiar();
            let name = familiar.split('@').next().unwrap_or_default();
            name.to_owned()
        }
        other => other.to_string(),
    }
}

async fn read(from: &CacheFrom, means: &Means, events: &dyn EventSink) -> Option<Arc<Loaded>> {
    let name = from.place.to_string();
    let backend = of(&from.place, means)?;
    let read = tokio::time::timeout(from.timeout, backend.read()).await;
    let warn = |message: String| {
        events.emit(Event::Warning {
            vertex: None,
            line: None,
            message,
        });
    };
    let contents = match read.unwrap_or(Err(ShareError::Late(from.timeout))) {
        Ok(contents) => contents,
        Err(error) => {
            warn(format!("the cache {name} is not read: {error}"));
            return None;
        }
    };
    if contents.is_foreign {
        warn(format!(
            "the cache {name} was written by another builder: its keys are not ours, and none of it can be used"
        ));
    }
    if contents.is_bare {
        warn(format!(
            "{name} is an image that carries no cache: write one into it with --cache-to type=inline, or beside it with \
             --cache-to type=registry,ref=NAME, and name that"
        ));
    }
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    for layer in contents.steps.iter().flat_map(|step| &step.layers) {
        sizes.insert(layer.blob.digest, layer.blob.size);
    }
    events.emit(Event::CacheRead {
        from: name.clone(),
        steps: contents.steps.len(),
        layers: sizes.len(),
        bytes: sizes.values().sum(),
    });
    let mut by_key = HashMap::new();
    for (at, step) in contents.steps.iter().enumerate() {
        for key in &step.keys {
            by_key.entry(*key).or_insert(at);
        }
    }
    Some(Arc::new(Loaded {
        name,
        by_key,
        contents,
    }))
}

/// Holds a blob against the diff_id that it should have.
fn verify(blobs: &Blobs, layer: &Layer) -> Result<(), ShareError> {
    let digest = layer.blob.digest;
    if digest == layer.diff_id.0 {
        return Ok(());
    }
    let unreadable = |source| ShareError::Stream {
        blob: digest,
        source,
    };
    let max = Limits::of_compressed(layer.blob.size, None).total_bytes;
    let tar = decompressor(blobs.open(&digest)?).map_err(unreadable)?;
    let mut hash = DigestWriter::new(std::io::sink());
    let read = std::io::copy(&mut tar.take(max.saturating_add(1)), &mut hash);
    if read.map_err(unreadable)? > max {
        let what = format!("layer {digest}, unpacked,");
        return Err(ShareError::TooLarge { what, max });
    }
    match hash.finish() {
        (_, actual, _) if actual != layer.diff_id.0 => {
            Err(ShareError::wrong(digest, layer.diff_id, actual))
        }
        _ => Ok(()),
    }
}
