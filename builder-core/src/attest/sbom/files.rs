//! Files of an image, by path.

use std::io::Read;

use crate::context::{ContextError, Follow, Node, NodeKind, NodeRef, Tree, resolve};

/// What a database may take: far more than any real one.
pub(super) const MAX_DATABASE_BYTES: u64 = 256 << 20;
/// The same of one package's own file.
pub(super) const MAX_METADATA_BYTES: u64 = 4 << 20;

/// A tree, and what could not be read of it.
pub(super) struct Files<'a> {
    pub(super) tree: &'a dyn Tree,
    pub(super) warnings: Vec<String>,
}

impl Files<'_> {
    /// Reads the file at `path`, links followed inside the tree; `None` where there is none, or, with a warning, where
    /// it cannot be read or is larger than `max_bytes`.
    pub(super) fn read(&mut self, path: &str, max_bytes: u64) -> Option<Vec<u8>> {
        let node = self.place(path)?;
        self.read_node(&node, max_bytes)
    }

    /// Returns where `path` leads; `None` where there is no file, or, with a warning, where that cannot be known.
    pub(super) fn place(&mut self, path: &str) -> Option<Node> {
        match resolve(self.tree, path.as_bytes(), Follow::Last) {
            Ok(found) => found.filter(|node| node.kind == NodeKind::File),
            Err(error) => {
                self.warn(path, &error.to_string());
                None
            }
        }
    }

    /// Reads a file that a walk has found.
    pub(super) fn read_node(&mut self, node: &Node, max_bytes: u64) -> Option<Vec<u8>> {
        let path = String::from_utf8_lossy(&node.path).into_owned();
        let size = node.stamp.size;
        if size > max_bytes {
            self.warn(
                &path,
                &format!("it has {size} bytes, more than {max_bytes}"),
            );
            return None;
        }
        let read = || -> Result<Vec<u8>, ContextError> {
            let mut bytes = Vec::new();
            let file = self.tree.open(node)?;
            file.take(max_bytes)
                .read_to_end(&mut bytes)
                .map_err(|error| ContextError::io(&node.path, error))?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.warn(&path, &error.to_string());
                None
            }
        }
    }

    /// Reads text; bytes that are not UTF-8 are replaced.
    pub(super) fn text(&mut self, path: &str, max_bytes: u64) -> Option<String> {
        self.read(path, max_bytes).map(text)
    }

    /// Returns what is in the directory at `path`; nothing where there is none.
    pub(super) fn list(&mut self, path: &str) -> Vec<Node> {
        let listed = match resolve(self.tree, path.as_bytes(), Follow::Last) {
            Ok(Some(node)) if node.kind.is_dir() => self.tree.children(&node.path),
            Ok(_) => return Vec::new(),
            Err(error) => Err(error),
        };
        match listed {
            Ok(nodes) => nodes.to_vec(),
            Err(error) => {
                self.warn(path, &error.to_string());
                Vec::new()
            }
        }
    }

    /// Returns every file of the tree.
    pub(super) fn all(&mut self) -> Vec<NodeRef> {
        match self.tree.walk(b"") {
            Ok(nodes) => nodes
                .into_iter()
                .filter(|node| node.kind == NodeKind::File)
                .collect(),
            Err(error) => {
                self.warn("/", &error.to_string());
                Vec::new()
            }
        }
    }

    /// Notes that packages may be missing because of the file at `path`.
    pub(super) fn warn(&mut self, path: &str, why: &str) {
        let path = path.trim_start_matches('/');
        self.warnings
            .push(format!("packages may be missing: /{path}: {why}"));
    }
}

/// Makes text of bytes; what is no UTF-8 is replaced.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
