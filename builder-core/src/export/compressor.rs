//! Layers compressed for the outputs that want them so: each once, and while later steps run.
//!
//! ```text
//! a step writes its layer ──LayerWriter──▶ blob (uncompressed) ──▶ the step is done, the next one starts
//!                                └─Follower─▶ a thread compresses ─▶ blob (compressed), record, index of members
//! an output asks: get() ─▶ the record; else waits for the thread; else compresses now
//! ```
//!
//! The follower reads from the file, not from the writer, so a step never waits for the compression of its layer and memory
//! holds a few members whatever the layer's size. One layer is compressed at a time, on all cores.
//!
//! What was compressed is remembered by (diff_id, codec, level): the record names the blob. Within a layer, members of
//! earlier blobs are used again, see `member_index`. The bytes depend on the layer, codec and level alone.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::ExportError;
use super::member_index::MemberIndex;
use super::tar_index::{self, TarIndex};
use crate::digest::{DiffId, Digest};
use crate::image::{Descriptor, media_type};
use crate::layer::compression::{
    CompressOptions, Compression, LayerBlob, Skip, compress_outlined, compress_with, decompressor,
};
use crate::layer::parts::Marked;
use crate::layer::{LayerError, Outline, Outlined};
use crate::store::{Follower, RawBlobWriter, Store, StoreError};

/// What a layer was once compressed to.
const COMPRESSED: &str = "compressed";

/// Compresses layers of one build. Clones share what is being done; with the last of them, work that nobody waits for
/// ends and leaves nothing.
#[derive(Debug, Clone)]
pub struct Compressor {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

/// The threads at work. They hold [`Shared`], and with it the store, so they are waited for.
#[derive(Debug, Default)]
struct Threads {
    over: Arc<AtomicBool>,
    started: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Without a thread `work` is dropped, and the layer is compressed when an output asks.
    fn start(&self, work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().name("compress".to_owned());
        if let Ok(thread) = thread.spawn(work) {
            let started = self.started.lock();
            started.unwrap_or_else(PoisonError::into_inner).push(thread);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let started = self.started.get_mut();
        for thread in started.unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that panicked has told so itself; its layer is compressed when an output asks.
            let _ = thread.join();
        }
    }
}

/// A layer that is read until nobody waits for it any more.
struct Wanted<'a, T> {
    tar: T,
    over: &'a AtomicBool,
}

impl<T> Wanted<'_, T> {
    fn check(&self) -> io::Result<()> {
        match self.over.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the build is over")),
            false => Ok(()),
        }
    }
}

impl<T: Read> Read for Wanted<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.tar.read(buf)
    }
}

impl Skip for Wanted<'_, &mut Follower> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.check()?;
        self.tar.skip(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// What outputs will ask for; never [`Compression::None`].
    wanted: Vec<Compression>,
    /// 0: one a core.
    threads: usize,
    /// Set when no output will ask any more.
    over: Arc<AtomicBool>,
    /// Layers that threads are at work on, and how many.
    working: Mutex<HashMap<(DiffId, Compression), usize>>,
    done: Condvar,
    /// One layer at a time.
    turn: Mutex<()>,
}

impl Compressor {
    /// Starts with nothing at work; `wanted` is what outputs will ask for.
    pub fn new(
        store: Store,
        wanted: impl IntoIterator<Item = Compression>,
        threads: usize,
    ) -> Self {
        let mut wanted: Vec<Compression> = wanted.into_iter().collect();
        wanted.retain(|how| *how != Compression::None);
        wanted.sort_unstable();
        wanted.dedup();
        let started = Threads::default();
        Compressor {
            shared: Arc::new(Shared {
                store,
                wanted,
                threads,
                over: started.over.clone(),
                working: Mutex::default(),
                done: Condvar::new(),
                turn: Mutex::default(),
            }),
            threads: Arc::new(started),
        }
    }

    /// Starts an uncompressed layer; `leaves`: outputs will want it.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn writer(&self, leaves: bool) -> Result<LayerWriter, StoreError> {
        let mut out = self.shared.store.blobs().raw_writer()?;
        let mut followed = Vec::new();
        let mut outline = Outline::default();
        for &how in self.shared.wanted.iter().filter(|_| leaves) {
            let fate = Arc::new(Mutex::new(Fate::default()));
            followed.push((how, fate.clone()));
            let over = Over {
                shared: self.shared.clone(),
                fate,
                how,
            };
            let mut follower = out.follow();
            let outlined = outline.follow();
            self.threads
                .start(move || over.follow(&mut follower, outlined));
        }
        Ok(LayerWriter {
            out,
            compressor: self.clone(),
            followed,
            outline: Some(outline),
            parts: Vec::new(),
        })
    }

    /// Returns what the store's uncompressed layers hold, if anything is known of any.
    pub fn earlier_tars(&self) -> Option<TarIndex> {
        TarIndex::open(&self.shared.store)
    }

    /// Starts to compress a layer that the store has uncompressed, if an output will want it and it is not done yet.
    pub fn expect(&self, diff_id: DiffId, size: u64) {
        for &how in &self.shared.wanted {
            if self.shared.record(diff_id, how).is_some()
                || !self.shared.store.blobs().has_sized(&diff_id.0, size)
                || self.shared.working().contains_key(&(diff_id, how))
            {
                continue;
            }
            self.shared.begin(diff_id, how);
            let over = Over {
                shared: self.shared.clone(),
                fate: Arc::new(Mutex::new(Fate {
                    name: Some(diff_id),
                    is_over: false,
                })),
                how,
            };
            self.threads.start(move || {
                // What fails here is tried again, and told, when an output asks.
                let _ = over.shared.compress_blob(diff_id, how);
            });
        }
    }

    /// Returns the layer `diff_id`, whose blob is `blob`, as an output wants it: compressed as `how` says where it is
    /// the store's own. A blob that came compressed stays as it came, unless `force` asks for the codec of `how`.
    ///
    /// # Errors
    /// The layer cannot be read or written; [`ExportError::Damaged`] where it is not what its name says: it is then
    /// removed, so that the next build makes it again.
    pub fn get(
        &self,
        diff_id: DiffId,
        blob: &Descriptor,
        how: Compression,
        force: bool,
    ) -> Result<Descriptor, ExportError> {
        let is_own = blob.digest == diff_id.0;
        let stays = match is_own {
            true => how == Compression::None,
            false => !force || !differs(blob, how),
        };
        if stays {
            return Ok(as_oci(blob));
        }
        let shared = &self.shared;
        let mut working = shared.working();
        while working.contains_key(&(diff_id, how)) {
            working = shared
                .done
                .wait(working)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(working);
        if let Some(known) = shared.record(diff_id, how) {
            return Ok(known);
        }
        if is_own {
            return shared.compress_blob(diff_id, how);
        }
        let store = &shared.store;
        let tar = store.blobs().open(&blob.digest)?;
        let mut tar = decompressor(tar).map_err(ExportError::Stream)?;
        shared.make(&mut tar, how, |made| match made.diff_id {
            Some(found) if found == diff_id => Ok(diff_id),
            _ => Err(ExportError::Damaged {
                digest: blob.digest,
            }),
        })
    }
}

/// What a thread and the writer that it follows know of each other.
#[derive(Debug, Default)]
struct Fate {
    /// Set when the layer is kept.
    name: Option<DiffId>,
    /// The thread is gone: nobody shall wait for it.
    is_over: bool,
}

/// Says that a thread's work is over, however it ends.
struct Over {
    shared: Arc<Shared>,
    fate: Arc<Mutex<Fate>>,
    how: Compression,
}

impl Over {
    /// Keeps up with a layer that is being written; a layer that is not kept leaves nothing.
    fn follow(&self, follower: &mut Follower, outlined: Receiver<Outlined>) {
        // What fails here is tried again, and told, when an output asks.
        let name = |_: &LayerBlob| fate(&self.fate).name.ok_or(ExportError::Unnamed);
        let _ = self.shared.follow(follower, outlined, self.how, name);
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let mut fate = fate(&self.fate);
        fate.is_over = true;
        if let Some(diff_id) = fate.name {
            self.shared.end(diff_id, self.how);
        }
    }
}

fn fate(fate: &Mutex<Fate>) -> MutexGuard<'_, Fate> {
    fate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A foreign layer's codec is not that of `how`.
fn differs(blob: &Descriptor, how: Compression) -> bool {
    use media_type::LayerCompression as Found;
    !matches!(
        (media_type::layer_compression(&blob.media_type), how),
        (Some(Found::None), Compression::None)
            | (Some(Found::Gzip), Compression::Gzip(_))
            | (Some(Found::Zstd), Compression::Zstd(_))
    )
}

/// A base's layers stay as they came, under OCI's names.
fn as_oci(blob: &Descriptor) -> Descriptor {
    let media_type = match media_type::is_layer(&blob.media_type) {
        true => media_type::oci(&blob.media_type),
        false => &blob.media_type,
    };
    Descriptor::new(media_type, blob.digest, blob.size)
}

fn key(diff_id: DiffId, how: Compression) -> Digest {
    Digest::of(format!("compressed/4 {} {how:?}", diff_id.0).as_bytes())
}

impl Shared {
    fn working(&self) -> MutexGuard<'_, HashMap<(DiffId, Compression), usize>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one more thread is at work.
    fn begin(&self, diff_id: DiffId, how: Compression) {
        *self.working().entry((diff_id, how)).or_default() += 1;
    }

    fn end(&self, diff_id: DiffId, how: Compression) {
        let mut working = self.working();
        if let Some(count) = working.get_mut(&(diff_id, how)) {
            *count -= 1;
            if *count == 0 {
                working.remove(&(diff_id, how));
            }
        }
        self.done.notify_all();
    }

    fn record(&self, diff_id: DiffId, how: Compression) -> Option<Descriptor> {
        let known: Descriptor = self.store.records().get(COMPRESSED, &key(diff_id, how))?;
        let is_there = self.store.blobs().has_sized(&known.digest, known.size);
        is_there.then_some(known)
    }

    fn compress_blob(&self, diff_id: DiffId, how: Compression) -> Result<Descriptor, ExportError> {
        let mut tar = self.store.blobs().open(&diff_id.0)?;
        self.make(&mut tar, how, |made| match made.diff_id {
            Some(found) if found == diff_id => Ok(diff_id),
            _ => {
                self.store.blobs().remove(&diff_id.0)?;
                Err(ExportError::Damaged { digest: diff_id.0 })
            }
        })
    }

    /// Compresses a tar that is hashed on the way.
    fn make(
        &self,
        tar: &mut dyn Read,
        how: Compression,
        name: impl FnOnce(&LayerBlob) -> Result<DiffId, ExportError>,
    ) -> Result<Descriptor, ExportError> {
        let over = &self.over;
        let mut tar = Wanted { tar, over };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(how, name, |out, options| {
            compress_with(&mut tar, how, out, options)
        })
    }

    /// Compresses a tar while it is written, and hashed by whoever writes it.
    fn follow(
        &self,
        tar: &mut Follower,
        outlined: Receiver<Outlined>,
        how: Compression,
        name: impl FnOnce(&LayerBlob) -> Result<DiffId, ExportError>,
    ) -> Result<Descriptor, ExportError> {
        let over = &self.over;
        let mut tar = Wanted { tar, over };
        // There is something to do before it takes the turn of others.
        let first = outlined.recv().ok();
        if first.is_none() {
            tar.tar.wait().map_err(ExportError::Stream)?;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outlined = first.into_iter().chain(outlined);
        self.keep(how, name, |out, options| {
            let known = true;
            let options = CompressOptions { known, ..options };
            compress_outlined(&mut tar, outlined, how, out, options)
        })
    }

    /// Puts what `compress` makes in its place, and notes it.
    fn keep(
        &self,
        how: Compression,
        name: impl FnOnce(&LayerBlob) -> Result<DiffId, ExportError>,
        compress: impl FnOnce(&mut dyn Write, CompressOptions<'_>) -> Result<LayerBlob, LayerError>,
    ) -> Result<Descriptor, ExportError> {
        let members = MemberIndex::open(&self.store);
        let mut out = self.store.blobs().raw_writer()?;
        let options = CompressOptions {
            threads: self.threads,
            cache: Some(&members),
            known: false,
        };
        let made = compress(&mut out, options).map_err(ExportError::Layer)?;
        let diff_id = name(&made)?;
        out.commit_hashed(made.digest)?;
        members.save(&self.store, &made.digest);
        let descriptor = Descriptor::new(made.media_type, made.digest, made.size);
        let records = self.store.records();
        records.put(COMPRESSED, &key(diff_id, how), &descriptor)?;
        Ok(descriptor)
    }
}

/// An uncompressed layer being written. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct LayerWriter {
    out: RawBlobWriter,
    compressor: Compressor,
    /// Who follows, and is told before the commit what the layer is.
    followed: Vec<(Compression, Arc<Mutex<Fate>>)>,
    /// Until it is taken, or bytes come without it.
    outline: Option<Outline>,
    /// What the tar is made of.
    parts: Vec<Marked>,
}

impl LayerWriter {
    /// Returns what is to be told of the entries before their bytes come here; it spares those who follow much reading. To
    /// be asked for before the first byte.
    pub fn outline(&mut self) -> Outline {
        self.outline.take().unwrap_or_default()
    }

    /// Says what the tar is made of, for the layers that come after it.
    pub fn note_parts(&mut self, parts: Vec<Marked>) {
        self.parts = parts;
    }

    /// Puts the layer in its place under `diff_id`, which the caller vouches for; returns its size.
    ///
    /// # Errors
    /// What the system says.
    pub fn commit(mut self, diff_id: DiffId) -> Result<u64, StoreError> {
        self.outline = None;
        for (how, follower) in &self.followed {
            let mut fate = fate(follower);
            if !fate.is_over {
                self.compressor.shared.begin(diff_id, *how);
                fate.name = Some(diff_id);
            }
        }
        let size = self.out.commit_hashed(diff_id.0)?;
        if !self.parts.is_empty() {
            tar_index::save(&self.compressor.shared.store, diff_id, &self.parts);
        }
        Ok(size)
    }
}

impl Write for LayerWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outline = None;
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
#[path = "compressor_tests.rs"]
mod tests;
