//! What a step puts on top of its parent's tree, kept in memory until it is written as a layer.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Bound;
use std::sync::Arc;

use super::FileError;
use super::error::shown;
use crate::context::{
    ContextError, Lookup, Node, NodeKind, NodeRef, Stamp, Tree, join_path, parent_path,
};
use crate::digest::ContentDigest;
use crate::layer::{Entry, EntryKind};

/// Where a file's bytes come from.
#[derive(Clone)]
pub(super) enum Data {
    None,
    Bytes(Arc<[u8]>),
    /// Bytes with their digest.
    Hashed {
        bytes: Arc<[u8]>,
        content: ContentDigest,
    },
    Tree(Box<OfTree>),
    /// A piece of a temporary file.
    Spool {
        file: Arc<File>,
        offset: u64,
    },
}

/// A file of a tree, and what it is known to hold.
#[derive(Clone)]
pub(super) struct OfTree {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) node: NodeRef,
    pub(super) content: Option<ContentDigest>,
}

impl Data {
    pub(super) fn of_tree(
        tree: Arc<dyn Tree>,
        node: NodeRef,
        content: Option<ContentDigest>,
    ) -> Data {
        Data::Tree(Box::new(OfTree {
            tree,
            node,
            content,
        }))
    }

    /// What a file of a tree is expected to hold still.
    pub(super) fn expected(&self) -> Option<&ContentDigest> {
        match self {
            Data::Tree(file) => file.content.as_ref(),
            _ => None,
        }
    }

    /// What it is, as far as that is known without reading.
    pub(super) fn known(&self) -> Option<ContentDigest> {
        match self {
            Data::Tree(file) => file.content,
            Data::Hashed { content, .. } => Some(*content),
            Data::Bytes(bytes) => Some(ContentDigest::of(bytes)),
            Data::None | Data::Spool { .. } => None,
        }
    }
}

pub(super) struct Put {
    pub(super) entry: Entry,
    pub(super) data: Data,
    /// The parent's tree has something else than a directory here: what is below there does not count.
    pub(super) hides: bool,
}

/// Found by its path. There may be very many: each stays where it is until it is written.
pub(super) struct ByPath(pub(super) Box<Put>);

impl ByPath {
    pub(super) fn path(&self) -> &[u8] {
        &self.0.entry.path
    }
}

impl Borrow<[u8]> for ByPath {
    fn borrow(&self) -> &[u8] {
        self.path()
    }
}

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for ByPath {}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path().cmp(other.path())
    }
}

/// The parent's tree with the step's changes.
pub(in crate::solve) struct Target {
    pub(super) below: Option<Arc<dyn Tree>>,
    pub(super) puts: BTreeSet<ByPath>,
    hiding: bool,
    /// Times of directories that are made, in seconds.
    now: i64,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.puts.iter().map(|it| shown(it.path())))
            .finish()
    }
}

/// As the kernel's limit.
const MAX_LINKS: usize = 40;

impl Target {
    pub(in crate::solve) fn new(below: Option<Arc<dyn Tree>>, now: i64) -> Self {
        Target {
            below,
            puts: BTreeSet::new(),
            hiding: false,
            now,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// Puts an entry at its path, all of whose parents are directories without symlinks.
    pub(super) fn put(&mut self, entry: Entry, data: Data) -> Result<(), FileError> {
        let is_dir = entry.kind == EntryKind::Directory;
        let hides = match &self.below {
            Some(below) if is_dir => below
                .lookup(&entry.path)?
                .is_some_and(|node| !node.kind.is_dir()),
            _ => !is_dir,
        };
        if !is_dir {
            // Whatever was put below a directory that is now a file is gone.
            let mut prefix = entry.path.clone();
            prefix.push(b'/');
            let inside: Vec<Vec<u8>> = self
                .puts
                .range::<[u8], _>((Bound::Included(&prefix[..]), Bound::Unbounded))
                .map(ByPath::path)
                .take_while(|path| path.starts_with(&prefix))
                .map(<[u8]>::to_vec)
                .collect();
            for path in inside {
                self.puts.remove(&path[..]);
            }
        }
        self.hiding |= hides;
        let put = Box::new(Put { entry, data, hides });
        self.puts.replace(ByPath(put));
        Ok(())
    }

    /// Gives the file `there` another name. One of the parent's tree is copied: both names are then in the layer.
    pub(super) fn link(&mut self, path: Vec<u8>, there: &Node) -> Result<(), FileError> {
        if !self.puts.contains(&there.path[..])
            && let Some(below) = &self.below
        {
            let xattrs = below.xattrs(there)?;
            let tree = below.clone();
            let (entry, data) = carried(tree, there, xattrs);
            self.put(entry, data)?;
        }
        let Some(ByPath(first)) = self.puts.get(&there.path[..]) else {
            return Ok(());
        };
        let target = match &first.entry.kind {
            EntryKind::Hardlink { target } => target.clone(),
            _ => there.path.clone(),
        };
        let mut entry = first.entry.clone();
        entry.path = path;
        // A symlink or a fifo has no data to share: it is made twice.
        if matches!(
            entry.kind,
            EntryKind::File { .. } | EntryKind::Hardlink { .. }
        ) {
            entry.kind = EntryKind::Hardlink { target };
        }
        self.put(entry, Data::None)
    }

    /// Makes the directory `path` and its missing parents, 0755, following symlinks inside the tree, and returns
    /// where it is.
    pub(super) fn make_directories(
        &mut self,
        path: &[u8],
        owner: (u32, u32),
    ) -> Result<Vec<u8>, FileError> {
        let mut rest = parts(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == b".." {
                at = parent_path(&at).to_vec();
                continue;
            }
            let next = join_path(&at, &part);
            match self.lookup(&next)?.map(|node| node.kind) {
                None => {
                    let entry = Entry {
                        path: next.clone(),
                        kind: EntryKind::Directory,
                        mode: 0o755,
                        uid: owner.0,
                        gid: owner.1,
                        mtime: self.now,
                        xattrs: BTreeMap::new(),
                    };
                    self.put(entry, Data::None)?;
                    at = next;
                }
                Some(NodeKind::Directory) => at = next,
                Some(NodeKind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        let path = shown(path);
                        return Err(ContextError::Loop { path }.into());
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    rest.extend(parts(&target));
                }
                Some(_) => return Err(FileError::NotADirectory { path: shown(path) }),
            }
        }
        Ok(at)
    }
}

/// Takes a file of the parent's tree into the layer.
fn carried(tree: Arc<dyn Tree>, node: &Node, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> (Entry, Data) {
    let kind = match &node.kind {
        NodeKind::Symlink(target) => EntryKind::Symlink {
            target: target.clone(),
        },
        NodeKind::Fifo => EntryKind::Fifo,
        &NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
        &NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        NodeKind::File | NodeKind::Socket | NodeKind::Directory => EntryKind::File {
            size: node.stamp.size,
        },
    };
    let data = match kind {
        EntryKind::File { .. } => Data::of_tree(tree, NodeRef::from(node.clone()), None),
        _ => Data::None,
    };
    let mut entry = directory(node, xattrs);
    entry.kind = kind;
    (entry, data)
}

/// Returns the parts of a path, last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

pub(super) fn directory(node: &Node, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
    Entry {
        path: node.path.clone(),
        kind: EntryKind::Directory,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs,
    }
}

impl Lookup for Target {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        if let Some(ByPath(put)) = self.puts.get(path) {
            return Ok(Some(node(&put.entry)));
        }
        if self.hiding {
            let mut parent = parent_path(path);
            while !parent.is_empty() {
                if self.puts.get(parent).is_some_and(|it| it.0.hides) {
                    return Ok(None);
                }
                parent = parent_path(parent);
            }
        }
        match &self.below {
            Some(below) => below.lookup(path),
            None if path.is_empty() => Ok(Some(Node {
                path: Vec::new(),
                kind: NodeKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: self.now,
                links: 1,
                stamp: Stamp::default(),
            })),
            None => Ok(None),
        }
    }
}

/// Shows an entry as a node; only what lookups need is filled in.
fn node(entry: &Entry) -> Node {
    Node {
        path: entry.path.clone(),
        kind: match &entry.kind {
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
            EntryKind::Fifo => NodeKind::Fifo,
            &EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            &EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
            EntryKind::File { .. }
            | EntryKind::Hardlink { .. }
            | EntryKind::Whiteout
            | EntryKind::OpaqueWhiteout => NodeKind::File,
        },
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        links: 1,
        stamp: Stamp::default(),
    }
}
