//! A tree with a few files more in its root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::error::BuildError;
use crate::context::{ContextError, Lookup, Node, NodeKind, Stamp, Tree};

/// Files laid over a tree (`None`: an empty one).
pub(super) struct Beside {
    below: Option<Arc<dyn Tree>>,
    files: Vec<(Node, NamedTempFile)>,
}

impl Beside {
    /// Puts `files`, names and bytes, beside what `below` has.
    ///
    /// # Errors
    /// Where `below` has a file of such a name itself, or `directory` cannot take one.
    pub(super) fn new(
        below: Option<Arc<dyn Tree>>,
        files: Vec<(String, Vec<u8>)>,
        time: i64,
        directory: &Path,
    ) -> Result<Beside, BuildError> {
        let mut kept: Vec<(Node, NamedTempFile)> = Vec::new();
        for (name, bytes) in files {
            let path = name.clone().into_bytes();
            let taken = below.as_deref().map(|it| it.lookup(&path)).transpose()?;
            if taken.flatten().is_some() || kept.iter().any(|(node, _)| node.path == path) {
                return Err(BuildError::AttestationName { name });
            }
            let failed = |source| BuildError::Attest {
                path: name.clone(),
                source,
            };
            let mut file = NamedTempFile::new_in(directory).map_err(failed)?;
            file.write_all(&bytes).map_err(failed)?;
            let node = Node {
                path,
                kind: NodeKind::File,
                mode: 0o600,
                uid: 0,
                gid: 0,
                mtime: time,
                links: 1,
                stamp: Stamp {
                    size: bytes.len() as u64,
                    ..Stamp::default()
                },
            };
            kept.push((node, file));
        }
        Ok(Beside { below, files: kept })
    }

    fn own(&self, path: &[u8]) -> Option<&(Node, NamedTempFile)> {
        self.files.iter().find(|(node, _)| node.path == path)
    }
}

impl Lookup for Beside {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        match (self.own(path), &self.below) {
            (Some((node, _)), _) => Ok(Some(node.clone())),
            (None, Some(below)) => below.lookup(path),
            (None, None) => Ok(None),
        }
    }
}

impl Tree for Beside {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        let below = match &self.below {
            Some(below) => below.children(path)?,
            None => Arc::from([]),
        };
        if !path.is_empty() {
            return Ok(below);
        }
        let mut all = below.to_vec();
        all.extend(self.files.iter().map(|(node, _)| node.clone()));
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Arc::from(all))
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        match (self.own(&node.path), &self.below) {
            (Some((_, file)), _) => file
                .reopen()
                .map_err(|error| ContextError::io(&node.path, error)),
            (None, Some(below)) => below.open(node),
            (None, None) => Err(ContextError::Changed {
                path: String::from_utf8_lossy(&node.path).into_owned(),
            }),
        }
    }

    fn xattrs(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ContextError> {
        match (self.own(&node.path), &self.below) {
            (None, Some(below)) => below.xattrs(node),
            _ => Ok(BTreeMap::new()),
        }
    }

    fn place(&self) -> &'static str {
        "the result"
    }

    fn has_owners(&self) -> bool {
        true
    }
}
