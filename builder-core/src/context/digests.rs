//! What files hold, remembered.
//!
//! A [`DigestCache`] is one file a context: for each path its [`Stamp`], its content digest and its extended attributes
//! (which change the ctime with them). An entry counts only while the stamp is the same, and only where the
//! file was older than the clock's grain when it was looked at: a write within the same tick would leave the same stamp.
//! The file is in the order of a walk (`remembered`), so that to ask for a whole tree is to go through both once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::remembered::Remembered;
use super::{ContextError, Node, NodeKind, Stamp, Tree, Xattrs, pieces};
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
/// From so many files on, more threads than there are cores read them.
const MANY_FILES: usize = 256;

/// Facts of the files of one context.
#[derive(Debug)]
pub struct DigestCache {
    path: Option<PathBuf>,
    /// What was known before this build.
    before: Remembered,
    /// What this build learned.
    learned: Mutex<BTreeMap<Vec<u8>, (Stamp, Facts)>>,
    /// Bytes of files that may still be kept.
    room: AtomicU64,
    /// What was remembered has proved wrong.
    is_wrong: AtomicBool,
}

impl DigestCache {
    /// Reads the cache at `path`; what is not there or not whole is empty.
    pub fn load(path: &Path) -> Self {
        let before = fs::read(path).ok().and_then(Remembered::from_bytes);
        Self::with(Some(path), before.unwrap_or_default())
    }

    /// Takes nothing for known, and remembers at `path`.
    pub fn anew(path: &Path) -> Self {
        Self::with(Some(path), Remembered::default())
    }

    /// Remembers nothing beyond itself.
    pub fn in_memory() -> Self {
        Self::with(None, Remembered::default())
    }

    fn with(path: Option<&Path>, before: Remembered) -> Self {
        DigestCache {
            path: path.map(Path::to_owned),
            before,
            learned: Mutex::default(),
            room: AtomicU64::new(KEPT_BYTES),
            is_wrong: AtomicBool::new(false),
        }
    }

    /// Forgets all: a file holds other bytes than its stamp told. A page that is mapped and dirty changes without a word.
    pub fn forget(&self) {
        self.is_wrong.store(true, Ordering::Relaxed);
        if let Some(path) = &self.path {
            // Where it stays, the next build fails once more, and no image is wrong.
            let _ = fs::remove_file(path);
        }
    }

    /// Returns the facts of each of `nodes`, in order, reading (on all cores) only what is not known.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn facts(&self, tree: &dyn Tree, nodes: &[&Node]) -> Result<Vec<Facts>, ContextError> {
        let mut out: Vec<Option<Facts>> = {
            let learned = lock(&self.learned);
            let known = |chunk: &[&Node]| {
                let mut before = self.before.reader();
                let known = chunk.iter().map(|node| match learned.get(&node.path) {
                    Some((stamp, facts)) => (*stamp == node.stamp).then(|| facts.clone()),
                    None => before.facts(&node.path, &node.stamp),
                });
                known.collect::<Vec<_>>()
            };
            nodes.par_chunks(CHUNK).flat_map_iter(known).collect()
        };
        let missing: Vec<usize> = (0..nodes.len()).filter(|&at| out[at].is_none()).collect();
        let looked_at = now_ns();
        // Where there are more, each has a core to itself.
        let is_large = |at: &&usize| nodes[**at].stamp.size >= pieces::LEAST;
        let few_large = missing.iter().filter(is_large).count() <= rayon::current_num_threads();
        let readers = if missing.len() < MANY_FILES {
            None
        } else {
            readers()
        };
        let read = || {
            missing
                .into_par_iter()
                .map_init(
                    || vec![0; READ_BYTES],
                    |buffer, at| Ok((at, self.read_facts(tree, nodes[at], buffer, few_large)?)),
                )
                .collect::<Result<Vec<(usize, Facts)>, ContextError>>()
        };
        let fresh = match readers {
            Some(readers) => readers.install(read),
            None => read(),
        }?;
        if !fresh.is_empty() {
            let mut learned = lock(&self.learned);
            for (at, facts) in fresh {
                let node = nodes[at];
                let youngest = node.stamp.mtime_ns.max(node.stamp.ctime_ns);
                if youngest.saturating_add(GRAIN_NS) < looked_at {
                    let bytes = None;
                    let Facts {
                        content, xattrs, ..
                    } = facts.clone();
                    let facts = Facts {
                        content,
                        xattrs,
                        bytes,
                    };
                    learned.insert(node.path.clone(), (node.stamp, facts));
                }
                out[at] = Some(facts);
            }
        }
        Ok(out.into_iter().flatten().collect())
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
            let take = |room: u64| room.checked_sub(size);
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

    /// Writes the cache back, if it has anything new. `present` says whether a path is still there.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, tmp_dir: &Path, present: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let learned = lock(&self.learned);
        let Some(path) = &self.path else {
            return Ok(());
        };
        if learned.is_empty() || self.is_wrong.load(Ordering::Relaxed) {
            return Ok(());
        }
        let bytes = self.before.with(&learned, present);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = tempfile::NamedTempFile::new_in(tmp_dir)?;
        io::Write::write_all(&mut file, &bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
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
