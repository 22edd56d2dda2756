//! What every kind of tree offers.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use super::ContextError;

/// Extended attributes: names and values.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a path is. Paths are relative to the root, without leading or trailing slash; the root is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

impl NodeKind {
    pub fn is_dir(&self) -> bool {
        matches!(self, NodeKind::Directory)
    }

    /// Returns the word for people and keys.
    pub fn word(&self) -> &'static str {
        match self {
            NodeKind::File => "file",
            NodeKind::Directory => "directory",
            NodeKind::Symlink(_) => "symlink",
            NodeKind::Fifo => "fifo",
            NodeKind::Socket => "socket",
            NodeKind::CharDevice { .. } => "character device",
            NodeKind::BlockDevice { .. } => "block device",
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
    pub device: u64,
}

/// A path and its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub path: Vec<u8>,
    pub kind: NodeKind,
    /// `0o7777` at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds.
    pub mtime: i64,
    /// Names of a file that is not a directory.
    pub links: u64,
    pub stamp: Stamp,
}

/// A node of a directory's listing, which it shares.
#[derive(Debug, Clone)]
pub struct NodeRef {
    listing: Arc<[Node]>,
    at: usize,
}

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.listing[self.at]
    }
}

impl From<Node> for NodeRef {
    fn from(node: Node) -> NodeRef {
        let listing = Arc::from([node]);
        NodeRef { listing, at: 0 }
    }
}

/// Knows what is at a path.
pub trait Lookup {
    /// Returns what is at `path`, no part of which may be a symlink but the last.
    ///
    /// # Errors
    /// Where the disk cannot be read; a path that is not there is `None`.
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError>;
}

/// A read-only set of files. No method follows a symlink: see [`super::resolve`].
pub trait Tree: Lookup + Send + Sync {
    /// Returns what is directly in the directory `path`, in byte order of names.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Where it cannot be read, or is no longer what `node` says.
    fn open(&self, node: &Node) -> Result<File, ContextError>;

    /// Opens a regular file, and returns its extended attributes as well.
    ///
    /// # Errors
    /// As [`open`](Tree::open) and [`xattrs`](Tree::xattrs).
    fn open_with_xattrs(&self, node: &Node) -> Result<(File, Xattrs), ContextError> {
        Ok((self.open(node)?, self.xattrs(node)?))
    }

    /// Returns the extended attributes that a layer carries.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    fn xattrs(&self, node: &Node) -> Result<Xattrs, ContextError>;

    /// Returns the words for messages: `the build context`.
    fn place(&self) -> &'static str;

    /// Owners count: files of a context belong to root, whoever has them on the host.
    fn has_owners(&self) -> bool;

    /// Returns the ignore file that leaves `path` out, if that is why it is not there.
    fn ignored_by(&self, _path: &[u8]) -> Option<String> {
        None
    }

    /// Returns all below the directory `path`, parents before children, in byte order; the directory is not in it.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    fn walk(&self, path: &[u8]) -> Result<Vec<NodeRef>, ContextError> {
        let mut out = Vec::new();
        let mut stack = vec![(self.children(path)?, 0)];
        while let Some((listing, at)) = stack.pop() {
            if at == listing.len() {
                continue;
            }
            stack.push((listing.clone(), at + 1));
            let node = NodeRef { listing, at };
            if node.kind.is_dir() {
                stack.push((self.children(&node.path)?, 0));
            }
            out.push(node);
        }
        Ok(out)
    }
}

/// Joins two relative paths.
pub fn join_path(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// Returns the directory that holds `path`; the root's is the root.
pub fn parent_path(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => &path[..at],
        None => b"",
    }
}
