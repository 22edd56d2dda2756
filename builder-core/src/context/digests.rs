//! What files hold, remembered.
//!
//! A [`DigestCache`] is one file a context: for each path its [`Stamp`](super::Stamp), its content digest and its extended attributes
//! (which change the ctime with them). An entry counts only while the stamp is the same, and only where the
//! file was older than the clock's grain when it was looked at: a write within the same tick would leave the same stamp.
//! The file is in the order of a walk (`remembered`), so that to ask for a whole tree is to go through both once.

use std::cell::LazyCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::learned::Learned;
use super::remembered::Remembered;
use super::{ContextError, Node, NodeKind, Tree, Xattrs, pieces};
use crate::digest::ContentDigest;
use crate::layer::readers;

/// What is known of a file beyond its node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of a regular file's bytes.
    pub content: Option<ContentDigest>,
    pub xattrs: Xattrs,
    /// A file's bytes, where they were read just now and there was room: whoever wants them need not read them again.
    pub bytes: Option<Arc<[u8]>>,
}

/// Files younger than this when looked at are not trusted: coarser than any kernel's tick.
const GRAIN_NS: i64 = 50_000_000;
/// So many files are looked for by one thread at a time.
const CHUNK: usize = 2048;
/// Larger files are not kept in memory, and of smaller ones no more than so many bytes.
const KEPT_FILE_BYTES: u64 = 64 << 10;
const KEPT_BYTES: u64 = 64 << 20;
const READ_BYTES: usize = 128 << 10;
/// So many files are looked for and read before the next.
const BATCH: usize = 32 << 10;
/// What a file's bytes take besides.
const BESIDE_BYTES: u64 = 32;
/// From so many files on, more threads than there are cores read them.
const MANY_FILES: usize = 256;

/// Facts of the files of one context.
#[derive(Debug)]
pub struct DigestCache {
    path: Option<PathBuf>,
    /// What the file holds; `None`: it is to be read when somebody asks.
    before: Mutex<Option<Arc<Remembered>>>,
    /// What was remembered before does not count.
    is_anew: bool,
    /// What this build learned.
    learned: Mutex<Learned>,
    /// Bytes of files that may still be kept.
    room: AtomicU64,
    /// What was remembered has proved wrong.
    is_wrong: AtomicBool,
}

impl DigestCache {
    /// Reads the cache at `path`; what is not there or not whole is empty.
    pub fn load(path: &Path) -> Self {
        Self::with(Some(path), read_file(path), false)
    }

    /// Takes nothing for known, and remembers at `path`.
    pub fn anew(path: &Path) -> Self {
        Self::with(Some(path), Remembered::default(), true)
    }

    /// Remembers nothing beyond itself.
    pub fn in_memory() -> Self {
        Self::with(None, Remembered::default(), true)
    }

    fn with(path: Option<&Path>, before: Remembered, is_anew: bool) -> Self {
        DigestCache {
            path: path.map(Path::to_owned),
            before: Mutex::new(Some(Arc::new(before))),
            is_anew,
            learned: Mutex::default(),
            room: AtomicU64::new(KEPT_BYTES),
            is_wrong: AtomicBool::new(false),
        }
    }

    fn before(&self) -> Arc<Remembered> {
        let read = || Arc::new(self.path.as_deref().map(read_file).unwrap_or_default());
        lock(&self.before).get_or_insert_with(read).clone()
    }

    /// Forgets all: a file holds other bytes than its stamp told. A page that is mapped and dirty changes without a word.
    pub fn forget(&self) {
        self.is_wrong.store(true, Ordering::Relaxed);
        if let Some(path) = &self.path {
            // Where it stays, the next build fails once more, and no image is wrong.
            let _ = fs::remove_file(path);
        }
    }

    /// Returns the facts of each of `nodes`, in order and in batches, reading (on all cores) only what is not known.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn facts(&self, tree: &dyn Tree, nodes: &[&Node]) -> Result<Vec<Vec<Facts>>, ContextError> {
        let before = self.before();
        let mut out = Vec::new();
        let mut rows = Remembered::default();
        let readers = LazyCell::new(readers);
        // What one batch needs on the way is given back before the next.
        for batch in nodes.chunks(BATCH) {
            let mut facts = self.known(&before, batch);
            let missing: Vec<usize> = (0..batch.len()).filter(|&at| facts[at].is_none()).collect();
            let looked_at = now_ns();
            // Where there are more, each has a core to itself.
            let is_large = |at: &&usize| batch[**at].stamp.size >= pieces::LEAST;
            let few_large = missing.iter().filter(is_large).count() <= rayon::current_num_threads();
            let read = || {
                missing
                    .par_iter()
                    .map_init(
                        || vec![0; READ_BYTES],
                        |buffer, &at| self.read_facts(tree, batch[at], buffer, few_large),
                    )
                    .collect::<Result<Vec<Facts>, ContextError>>()
            };
            let fresh = match missing.len() < MANY_FILES {
                true => read(),
                false => match &*readers {
                    Some(readers) => readers.install(read),
                    None => read(),
                },
            }?;
            for (&at, fresh) in missing.iter().zip(fresh) {
                let Node { path, stamp, .. } = batch[at];
                let youngest = stamp.mtime_ns.max(stamp.ctime_ns);
                let is_trusted = youngest.saturating_add(GRAIN_NS) < looked_at;
                let is_row = nodes.len() >= MANY_FILES;
                if is_trusted && !(is_row && rows.push(path, stamp, &fresh)) {
                    lock(&self.learned).add(path, stamp, &fresh);
                }
                facts[at] = Some(fresh);
            }
            out.push(facts.into_iter().flatten().collect());
        }
        lock(&self.learned).add_many(rows);
        Ok(out)
    }

    fn known(&self, before: &Remembered, nodes: &[&Node]) -> Vec<Option<Facts>> {
        let learned = lock(&self.learned);
        let known = |chunk: &[&Node]| {
            let (mut learned, mut before) = (learned.reader(), before.reader());
            let known = chunk.iter().map(|Node { path, stamp, .. }| {
                let known = learned.facts(path, stamp);
                known.or_else(|| before.facts(path, stamp))
            });
            known.collect::<Vec<_>>()
        };
        nodes.par_chunks(CHUNK).flat_map_iter(known).collect()
    }

    fn read_facts(
        &self,
        tree: &dyn Tree,
        node: &Node,
        buffer: &mut [u8],
        few_large: bool,
    ) -> Result<Facts, ContextError> {
        if node.kind != NodeKind::File {
            let xattrs = tree.xattrs(node)?;
            return Ok(Facts {
                xattrs,
                ..Facts::default()
            });
        }
        let (mut file, xattrs) = tree.open_with_xattrs(node)?;
        let size = node.stamp.size;
        let content = match few_large && size >= pieces::LEAST {
            true => pieces::hash_pieces(&file, size)
                .map_err(|error| ContextError::io(&node.path, error))?
                .ok_or_else(|| changed(node))?,
            false => hash_file(&mut file, node, buffer)?,
        };
        let content = Some(content);
        let taken = (size < KEPT_FILE_BYTES).then(|| {
            let take = |room: u64| room.checked_sub(size + BESIDE_BYTES);
            let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
            self.room.fetch_update(set, get, take)
        });
        let bytes = match taken {
            Some(Ok(_)) => Some(Arc::from(&buffer[..size as usize])),
            _ => None,
        };
        Ok(Facts {
            content,
            xattrs,
            bytes,
        })
    }

    /// Writes the cache back, if it has anything new, and lets go of what it holds: who asks for more reads it again.
    /// `present` says whether a path is still there.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, tmp_dir: &Path, present: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let mut learned = lock(&self.learned);
        let Some(path) = &self.path else {
            return Ok(());
        };
        if self.is_wrong.load(Ordering::Relaxed) {
            return Ok(());
        }
        if learned.is_new {
            let before = self.before();
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = tempfile::NamedTempFile::new_in(tmp_dir)?;
            learned.write(&before, present, &mut file)?;
            file.persist(path).map_err(|error| error.error)?;
            learned.is_new = false;
        }
        // By then another build may have written what this one is not to believe.
        if !self.is_anew {
            *learned = Learned::default();
            *lock(&self.before) = None;
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Remembered {
    let before = fs::read(path).ok().and_then(Remembered::from_bytes);
    before.unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0))
}

/// Reads a file whose size is known, in as few calls as that takes, into `buffer` where it fits.
fn hash_file(
    file: &mut File,
    node: &Node,
    buffer: &mut [u8],
) -> Result<ContentDigest, ContextError> {
    let size = node.stamp.size;
    if size < buffer.len() as u64 {
        // One byte too many is asked for: it tells a file that has grown.
        let wanted = size as usize + 1;
        let mut filled = 0;
        loop {
            match file.read(&mut buffer[filled..wanted]) {
                Ok(0) if size > 0 => return Err(changed(node)),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ContextError::io(&node.path, error)),
            }
            // All but that byte: of a file, no more is there.
            if filled as u64 == size {
                return Ok(ContentDigest::of(&buffer[..filled]));
            }
            if filled == wanted {
                return Err(changed(node));
            }
        }
    }
    let mut hasher = blake3::Hasher::new();
    let mut left = size;
    loop {
        let n = match file.read(buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ContextError::io(&node.path, error)),
        };
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        left = match left.checked_sub(n as u64) {
            Some(left) => left,
            None => return Err(changed(node)),
        };
    }
    if left != 0 {
        return Err(changed(node));
    }
    Ok(ContentDigest(*hasher.finalize().as_bytes()))
}

/// Reads a file into memory, with its digest.
///
/// # Errors
/// Where it cannot be read, or is no longer as large as `node` says.
pub fn read_whole(tree: &dyn Tree, node: &Node) -> Result<(Vec<u8>, ContentDigest), ContextError> {
    let mut bytes = vec![0; node.stamp.size as usize + 1];
    let content = hash_file(&mut tree.open(node)?, node, &mut bytes)?;
    bytes.pop();
    Ok((bytes, content))
}

fn changed(node: &Node) -> ContextError {
    ContextError::Changed {
        path: String::from_utf8_lossy(&node.path).into_owned(),
    }
}
