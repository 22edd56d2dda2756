//! A root file system of which only listings are had. Who wants a file's bytes has the layers unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::{Arc, OnceLock};

use rustix::fs::MemfdFlags;

use super::blocking::wait_for;
use super::job::Job;
use super::trees::{KnownTree, view};
use crate::cache::Layer;
use crate::context::digests::DigestCache;
use crate::context::{ContextError, Lookup, Node, NodeKind, Stamp, Tree, is_carried};
use crate::layer::listing::Merged;
use crate::layer::{Entry, EntryKind};

/// The merged listings of a stack of layers.
pub(super) struct ListedTree {
    merged: Merged,
    job: Job,
    layers: Vec<Layer>,
    unpacked: OnceLock<KnownTree>,
}

impl ListedTree {
    pub(super) fn known(merged: Merged, job: Job, layers: Vec<Layer>) -> KnownTree {
        KnownTree {
            tree: Arc::new(ListedTree {
                merged,
                job,
                layers,
                unpacked: OnceLock::new(),
            }),
            digests: Arc::new(DigestCache::in_memory()),
        }
    }

    /// Has the layers unpacked; on a thread that may block.
    fn unpacked(&self) -> Result<&KnownTree, ContextError> {
        if let Some(known) = self.unpacked.get() {
            return Ok(known);
        }
        let failed = |error| ContextError::io(b"", std::io::Error::other(error));
        let Job {
            inputs,
            loader,
            vertex,
            ..
        } = &self.job;
        let unpacking = loader.unpack(inputs, &self.layers, *vertex);
        let unpacked = wait_for(unpacking);
        unpacked.map_err(failed)?;
        let known = view(inputs, &self.layers).map_err(failed)?;
        Ok(self.unpacked.get_or_init(|| known))
    }
}

fn node(entry: &Entry) -> Option<Node> {
    let kind = match &entry.kind {
        EntryKind::File { .. } => NodeKind::File,
        EntryKind::Directory => NodeKind::Directory,
        EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
        EntryKind::Fifo => NodeKind::Fifo,
        &EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
        &EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
        EntryKind::Hardlink { .. } | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => {
            return None;
        }
    };
    Some(Node {
        path: entry.path.clone(),
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        links: 1,
        stamp: Stamp {
            size: entry.size(),
            ..Stamp::default()
        },
    })
}

impl Lookup for ListedTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        if path.is_empty() && self.merged.get(path).is_none() {
            // No layer speaks of the root, which is there all the same.
            return Ok(Some(Node {
                path: Vec::new(),
                kind: NodeKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: 0,
                links: 1,
                stamp: Stamp::default(),
            }));
        }
        Ok(self.merged.get(path).and_then(node))
    }
}

impl Tree for ListedTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        Ok(self.merged.children(path).filter_map(node).collect())
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        let Some(bytes) = self.merged.kept(&node.path) else {
            let tree = &self.unpacked()?.tree;
            let there = tree.lookup(&node.path)?;
            let there = there.ok_or_else(|| ContextError::Changed {
                path: String::from_utf8_lossy(&node.path).into_owned(),
            })?;
            return tree.open(&there);
        };
        let file = || -> std::io::Result<File> {
            let mut file = File::from(rustix::fs::memfd_create("file", MemfdFlags::CLOEXEC)?);
            file.write_all(bytes)?;
            file.rewind()?;
            Ok(file)
        };
        file().map_err(|error| ContextError::io(&node.path, error))
    }

    fn xattrs(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ContextError> {
        let entry = self.merged.get(&node.path);
        let all = entry.map(|entry| entry.xattrs.iter());
        let all = all.into_iter().flatten();
        let carried = all.filter(|(name, _)| is_carried(name));
        Ok(carried
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect())
    }

    fn place(&self) -> &'static str {
        "that stage or image"
    }

    fn has_owners(&self) -> bool {
        true
    }
}
