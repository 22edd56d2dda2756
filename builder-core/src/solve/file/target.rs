//! What a step puts on top of its parent's tree, kept in memory until it is written as a layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::FileError;
use super::error::shown;
use crate::context::digests::read_whole;
use crate::context::{ContextError, Lookup, Node, NodeKind, Stamp, Tree, join_path, parent_path};
use crate::digest::ContentDigest;
use crate::layer::{
    Entry, EntryKind, LayerError, Outline, Writer, WriterOptions, Written, order, read_ahead,
};

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
    /// `content`: what the file is known to hold.
    Tree {
        tree: Arc<dyn Tree>,
        node: Node,
        content: Option<ContentDigest>,
    },
    /// A piece of a temporary file.
    Spool {
        file: Arc<File>,
        offset: u64,
    },
}

impl Data {
    /// What a file of a tree is known to hold.
    fn content(&self) -> Option<&ContentDigest> {
        match self {
            Data::Tree { content, .. } => content.as_ref(),
            _ => None,
        }
    }
}

struct Put {
    entry: Entry,
    data: Data,
    /// The parent's tree has something else than a directory here: what is below there does not count.
    hides: bool,
}

/// The parent's tree with the step's changes.
pub(in crate::solve) struct Target {
    below: Option<Arc<dyn Tree>>,
    puts: BTreeMap<Vec<u8>, Put>,
    hiding: bool,
    /// Times of directories that are made, in seconds.
    now: i64,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.puts.keys().map(|it| shown(it)))
            .finish()
    }
}

/// As the kernel's limit.
const MAX_LINKS: usize = 40;

impl Target {
    pub(in crate::solve) fn new(below: Option<Arc<dyn Tree>>, now: i64) -> Self {
        Target {
            below,
            puts: BTreeMap::new(),
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
                .range(prefix.clone()..)
                .take_while(|(path, _)| path.starts_with(&prefix))
                .map(|(path, _)| path.clone())
                .collect();
            for path in inside {
                self.puts.remove(&path);
            }
        }
        self.hiding |= hides;
        self.puts
            .insert(entry.path.clone(), Put { entry, data, hides });
        Ok(())
    }

    /// Gives the file `there` another name. One of the parent's tree is copied: both names are then in the layer.
    pub(super) fn link(&mut self, path: Vec<u8>, there: &Node) -> Result<(), FileError> {
        if !self.puts.contains_key(&there.path)
            && let Some(below) = &self.below
        {
            let xattrs = below.xattrs(there)?;
            let tree = below.clone();
            let (entry, data) = carried(tree, there, xattrs);
            self.put(entry, data)?;
        }
        let Some(first) = self.puts.get(&there.path) else {
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

    /// Writes all that was put, with the directories that lead there, as one layer.
    pub(in crate::solve) fn write<W: Write>(
        self,
        out: W,
        outline: Outline,
        clamp_mtime: Option<i64>,
    ) -> Result<(W, Written), FileError> {
        let mut parents: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in self.puts.keys() {
            let mut parent = parent_path(path);
            while !parent.is_empty()
                && !self.puts.contains_key(parent)
                && parents.insert(parent.to_vec())
            {
                parent = parent_path(parent);
            }
        }
        let mut all: Vec<(Entry, Data)> = Vec::with_capacity(self.puts.len() + parents.len());
        for path in parents {
            if let Some(below) = &self.below
                && let Some(node) = below.lookup(&path)?
            {
                let xattrs = below.xattrs(&node)?;
                all.push((directory(&node, xattrs), Data::None));
            }
        }
        all.extend(self.puts.into_values().map(|put| (put.entry, put.data)));
        all.sort_by(|(a, _), (b, _)| order(a, b));
        first_name_has_the_data(&mut all);
        let mut writer = Writer::outlined(out, WriterOptions { clamp_mtime }, outline);
        let size = |(entry, data): &(Entry, Data)| match data {
            Data::Tree { .. } => entry.size(),
            _ => 0,
        };
        let read = |(_, data): &(Entry, Data)| match data {
            Data::Tree { tree, node, .. } => read_whole(tree.as_ref(), node),
            _ => Ok((Vec::new(), ContentDigest::of(b""))),
        };
        read_ahead(&all, size, read, |(entry, data), ahead| match ahead {
            Some(read) => {
                let (bytes, found) = read?;
                if data.content().is_some_and(|known| *known != found) {
                    let path = shown(&entry.path);
                    return Err(LayerError::Rewritten { path }.into());
                }
                Ok::<_, FileError>(writer.append_hashed(entry, &bytes, &found)?)
            }
            None => append(&mut writer, entry, data),
        })?;
        Ok(writer.finish()?)
    }
}

/// Writes one entry, reading its data now.
fn append<W: Write>(writer: &mut Writer<W>, entry: &Entry, data: &Data) -> Result<(), FileError> {
    match data {
        Data::None => writer.append(entry, &mut io::empty())?,
        Data::Bytes(bytes) => writer.append(entry, &mut &bytes[..])?,
        Data::Hashed { bytes, content } => writer.append_hashed(entry, bytes, content)?,
        Data::Tree {
            tree,
            node,
            content,
        } => {
            let mut file = tree.open(node)?;
            match content {
                Some(content) => writer.append_expected(entry, &mut file, content)?,
                None => writer.append(entry, &mut file)?,
            }
        }
        Data::Spool { file, offset } => {
            let mut piece = Piece {
                file,
                at: *offset,
                left: entry.size(),
            };
            writer.append(entry, &mut piece)?;
        }
    }
    Ok(())
}

/// In a layer a link comes after what it links to: of the names of a file, the first in order gets the data.
fn first_name_has_the_data(all: &mut [(Entry, Data)]) {
    let places: BTreeMap<Vec<u8>, usize> = all
        .iter()
        .enumerate()
        .map(|(at, (entry, _))| (entry.path.clone(), at))
        .collect();
    for at in 0..all.len() {
        let EntryKind::Hardlink { target } = &all[at].0.kind else {
            continue;
        };
        let Some(&holder) = places.get(target) else {
            continue;
        };
        if holder < at {
            // The data may have moved to an earlier name since.
            if let EntryKind::Hardlink { target } = all[holder].0.kind.clone() {
                all[at].0.kind = EntryKind::Hardlink { target };
            }
            continue;
        }
        let here = all[at].0.path.clone();
        let kind = std::mem::replace(
            &mut all[holder].0.kind,
            EntryKind::Hardlink { target: here },
        );
        all[at].0.kind = kind;
        let data = std::mem::replace(&mut all[holder].1, Data::None);
        all[at].1 = data;
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
        EntryKind::File { .. } => Data::Tree {
            tree,
            node: node.clone(),
            content: None,
        },
        _ => Data::None,
    };
    let mut entry = directory(node, xattrs);
    entry.kind = kind;
    (entry, data)
}

struct Piece<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let max = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.file.read_at(&mut buf[..max], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Returns the parts of a path, last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

fn directory(node: &Node, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
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
        if let Some(put) = self.puts.get(path) {
            return Ok(Some(node(&put.entry)));
        }
        if self.hiding {
            let mut parent = parent_path(path);
            while !parent.is_empty() {
                if self.puts.get(parent).is_some_and(|put| put.hides) {
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
