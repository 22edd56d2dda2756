//! A root file system that nothing mounts, looked up layer by layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::context::{
    ContextError, Lookup, Node, NodeKind, Tree, is_carried, join_path, node_of, parent_path,
};
use crate::owner;
use crate::snapshot::{Child, MergedDir, Stack};

/// The merged tree of a stack of layers.
#[derive(Debug)]
pub(super) struct LayeredTree {
    stack: Stack,
    place: &'static str,
}

impl LayeredTree {
    pub(super) fn new(stack: Stack, place: &'static str) -> Self {
        LayeredTree { stack, place }
    }

    /// Does `found` with the directory `path`; `None` where it is not one.
    fn with_dir<T>(
        &self,
        path: &[u8],
        found: impl FnOnce(&MergedDir) -> Result<T, ContextError>,
    ) -> Result<Option<T>, ContextError> {
        if path.is_empty() {
            return found(self.stack.root()).map(Some);
        }
        let failed = |error| ContextError::io(path, error);
        match self.stack.lookup(path).map_err(failed)? {
            Some((Child::Directory { dir, .. }, _)) => found(&dir).map(Some),
            _ => Ok(None),
        }
    }

    /// Finds a file again that is known to be there.
    fn file(&self, node: &Node) -> Result<(MergedDir, usize, Stat), ContextError> {
        let failed = |error| ContextError::io(&node.path, error);
        match self.stack.lookup(&node.path).map_err(failed)? {
            Some((Child::Other { stat, part }, parent)) => Ok((parent, part, stat)),
            _ => Err(ContextError::Changed {
                path: String::from_utf8_lossy(&node.path).into_owned(),
            }),
        }
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    let parent = parent_path(path).len();
    if parent == 0 {
        path
    } else {
        &path[parent + 1..]
    }
}

fn node(child: &Child, parent: &MergedDir, path: Vec<u8>) -> Result<Option<Node>, Errno> {
    match child {
        Child::Directory { stat, .. } => node_of(path, stat, || Err(Errno::INVAL)),
        Child::Other { stat, part } => {
            let name = name_of(&path).to_vec();
            let read = || rustix::fs::readlinkat(parent.part(*part), &name[..], Vec::new());
            node_of(path, stat, read)
        }
    }
}

impl Lookup for LayeredTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        let failed = |error: Errno| ContextError::io(path, error);
        if path.is_empty() {
            if self.stack.root().is_empty() {
                return Ok(None);
            }
            let root = self.stack.root().part(0);
            let stat = owner::stat(root, b"").map_err(failed)?;
            return node_of(Vec::new(), &stat, || Err(Errno::INVAL)).map_err(failed);
        }
        let found = self.stack.lookup(path);
        match found.map_err(|error| ContextError::io(path, error))? {
            Some((child, parent)) => node(&child, &parent, path.to_vec()).map_err(failed),
            None => Ok(None),
        }
    }
}

impl Tree for LayeredTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        let found = self.with_dir(path, |dir| {
            let failed = |error| ContextError::io(path, error);
            let mut out = Vec::new();
            for name in dir.names().map_err(failed)? {
                if let Some(child) = dir.lookup(&name).map_err(failed)? {
                    let full = join_path(path, &name);
                    out.extend(node(&child, dir, full).map_err(|e| ContextError::io(path, e))?);
                }
            }
            Ok(out)
        })?;
        found
            .map(Arc::from)
            .ok_or_else(|| ContextError::io(path, Errno::NOTDIR))
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        let (parent, part, _) = self.file(node)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent.part(part), name_of(&node.path), flags, Mode::empty())
            .map(File::from)
            .map_err(|error| ContextError::io(&node.path, error))
    }

    fn xattrs(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ContextError> {
        let failed = |error| ContextError::io(&node.path, error);
        let all = match node.kind {
            NodeKind::File => {
                let (parent, part, _) = self.file(node)?;
                parent.xattrs(part, name_of(&node.path)).map_err(failed)?
            }
            NodeKind::Directory => self
                .with_dir(&node.path, |dir| match dir.is_empty() {
                    true => Ok(BTreeMap::new()),
                    false => dir.xattrs(0, b"").map_err(failed),
                })?
                .unwrap_or_default(),
            _ => BTreeMap::new(),
        };
        Ok(all
            .into_iter()
            .filter(|(name, _)| is_carried(name))
            .collect())
    }

    fn place(&self) -> &'static str {
        self.place
    }

    fn has_owners(&self) -> bool {
        true
    }
}
