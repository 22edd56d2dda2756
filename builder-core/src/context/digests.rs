//! What files hold, remembered.
//!
//! A [`DigestCache`] is one file a context: for each path its [`Stamp`], its content digest and its extended attributes
//! (which change the ctime with them). An entry counts only while the stamp is the same, and only where the
//! file was older than the clock's grain when it was looked at: a write within the same tick would leave the same stamp.
//! A torn or foreign file is an empty cache.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::{ContextError, Node, NodeKind, Stamp, Tree};
use crate::digest::ContentDigest;

/// What is known of a file beyond its node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of a regular file's bytes.
    pub content: Option<ContentDigest>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    facts: Facts,
}

/// Files younger than this when looked at are not trusted: coarser than any kernel's tick.
const GRAIN_NS: i128 = 50_000_000;
const MAGIC: &[u8; 8] = b"bldfd\x00\x001";

/// Facts of the files of one context.
#[derive(Debug)]
pub struct DigestCache {
    path: Option<PathBuf>,
    known: Mutex<HashMap<Vec<u8>, Known>>,
    changed: Mutex<bool>,
}

impl DigestCache {
    /// Reads the cache at `path`; what is not there or not whole is empty.
    pub fn load(path: &Path) -> Self {
        let known = fs::read(path)
            .ok()
            .and_then(|bytes| decode(&bytes))
            .unwrap_or_default();
        DigestCache {
            path: Some(path.to_owned()),
            known: Mutex::new(known),
            changed: Mutex::new(false),
        }
    }

    /// Remembers nothing beyond itself.
    pub fn in_memory() -> Self {
        DigestCache {
            path: None,
            known: Mutex::new(HashMap::new()),
            changed: Mutex::new(false),
        }
    }

    /// Returns the facts of each of `nodes`, in order, reading (on all cores) only what is not known.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn facts(&self, tree: &dyn Tree, nodes: &[&Node]) -> Result<Vec<Facts>, ContextError> {
        let mut out: Vec<Option<Facts>> = {
            let known = lock(&self.known);
            nodes
                .iter()
                .map(|node| {
                    let known = known.get(&node.path)?;
                    (known.stamp == node.stamp).then(|| known.facts.clone())
                })
                .collect()
        };
        let missing: Vec<usize> = (0..nodes.len()).filter(|&at| out[at].is_none()).collect();
        let looked_at = now_ns();
        let fresh: Vec<(usize, Facts)> = missing
            .into_par_iter()
            .map(|at| Ok((at, read_facts(tree, nodes[at])?)))
            .collect::<Result<_, ContextError>>()?;
        if !fresh.is_empty() {
            let mut known = lock(&self.known);
            for (at, facts) in fresh {
                let node = nodes[at];
                let youngest = node.stamp.mtime_ns.max(node.stamp.ctime_ns);
                if youngest + GRAIN_NS < looked_at {
                    let stamp = node.stamp;
                    let facts = facts.clone();
                    known.insert(node.path.clone(), Known { stamp, facts });
                    *lock(&self.changed) = true;
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
        let Some(path) = &self.path else {
            return Ok(());
        };
        if !std::mem::take(&mut *lock(&self.changed)) {
            return Ok(());
        }
        let mut known = lock(&self.known);
        known.retain(|path, _| present(path));
        let bytes = encode(&known);
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

fn now_ns() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0))
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

fn encode(known: &HashMap<Vec<u8>, Known>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut paths: Vec<&Vec<u8>> = known.keys().collect();
    paths.sort_unstable();
    let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    for path in paths {
        let Known { stamp, facts } = &known[path];
        bytes(&mut out, path);
        let Stamp {
            size,
            mtime_ns,
            ctime_ns,
            inode,
            device,
        } = stamp;
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&mtime_ns.to_le_bytes());
        out.extend_from_slice(&ctime_ns.to_le_bytes());
        out.extend_from_slice(&inode.to_le_bytes());
        out.extend_from_slice(&device.to_le_bytes());
        match &facts.content {
            Some(content) => bytes(&mut out, &content.0),
            None => bytes(&mut out, b""),
        }
        out.extend_from_slice(&(facts.xattrs.len() as u32).to_le_bytes());
        for (name, value) in &facts.xattrs {
            bytes(&mut out, name);
            bytes(&mut out, value);
        }
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Known>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut known = HashMap::new();
    while !rest.is_empty() {
        let path = take_bytes(&mut rest)?.to_vec();
        let stamp = Stamp {
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime_ns: i128::from_le_bytes(take(&mut rest)?),
            ctime_ns: i128::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            device: u64::from_le_bytes(take(&mut rest)?),
        };
        let content = match take_bytes(&mut rest)? {
            b"" => None,
            content => Some(ContentDigest(content.try_into().ok()?)),
        };
        let mut xattrs = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let name = take_bytes(&mut rest)?.to_vec();
            xattrs.insert(name, take_bytes(&mut rest)?.to_vec());
        }
        let facts = Facts { content, xattrs };
        known.insert(path, Known { stamp, facts });
    }
    Some(known)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_le_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(head)
}
