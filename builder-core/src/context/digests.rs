//! What files hold, remembered.
//!
//! A [`DigestCache`] is one file a context: for each path its [`Stamp`], its content digest and its extended attributes
//! (which change the ctime with them). An entry counts only while the stamp is the same, and only where the
//! file was older than the clock's grain when it was looked at: a write within the same tick would leave the same stamp.
//! The file is in the order of a walk (`remembered`), so that to ask for a whole tree is to go through both once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::remembered::Remembered;
use super::{ContextError, Node, NodeKind, Stamp, Tree};
use crate::digest::ContentDigest;

/// What is known of a file beyond its node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of a regular file's bytes.
    pub content: Option<ContentDigest>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Files younger than this when looked at are not trusted: coarser than any kernel's tick.
const GRAIN_NS: i64 = 50_000_000;
/// So many files are looked for by one thread at a time.
const CHUNK: usize = 2048;

/// Facts of the files of one context.
#[derive(Debug)]
pub struct DigestCache {
    path: Option<PathBuf>,
    /// What was known before this build.
    before: Remembered,
    /// What this build learned.
    learned: Mutex<BTreeMap<Vec<u8>, (Stamp, Facts)>>,
}

impl DigestCache {
    /// Reads the cache at `path`; what is not there or not whole is empty.
    pub fn load(path: &Path) -> Self {
        let before = fs::read(path).ok().and_then(Remembered::from_bytes);
        DigestCache {
            path: Some(path.to_owned()),
            before: before.unwrap_or_default(),
            learned: Mutex::default(),
        }
    }

    /// Remembers nothing beyond itself.
    pub fn in_memory() -> Self {
        DigestCache {
            path: None,
            before: Remembered::default(),
            learned: Mutex::default(),
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
        let fresh: Vec<(usize, Facts)> = missing
            .into_par_iter()
            .map(|at| Ok((at, read_facts(tree, nodes[at])?)))
            .collect::<Result<_, ContextError>>()?;
        if !fresh.is_empty() {
            let mut learned = lock(&self.learned);
            for (at, facts) in fresh {
                let node = nodes[at];
                let youngest = node.stamp.mtime_ns.max(node.stamp.ctime_ns);
                if youngest.saturating_add(GRAIN_NS) < looked_at {
                    learned.insert(node.path.clone(), (node.stamp, facts.clone()));
                }
                out[at] = Some(facts);
            }
        }
        Ok(out.into_iter().flatten().collect())
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
        if learned.is_empty() {
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

fn read_facts(tree: &dyn Tree, node: &Node) -> Result<Facts, ContextError> {
    let xattrs = tree.xattrs(node)?;
    let content = match node.kind {
        NodeKind::File => Some(hash_file(tree, node)?),
        _ => None,
    };
    Ok(Facts { content, xattrs })
}

fn hash_file(tree: &dyn Tree, node: &Node) -> Result<ContentDigest, ContextError> {
    let mut file = tree.open(node)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 64 << 10];
    let mut left = node.stamp.size;
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|error| ContextError::io(&node.path, error))?;
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

fn changed(node: &Node) -> ContextError {
    ContextError::Changed {
        path: String::from_utf8_lossy(&node.path).into_owned(),
    }
}
