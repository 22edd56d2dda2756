//! A tree that is a root file system, or any directory, by its open directory.

use std::ffi::CString;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{ContextError, Lookup, Node, NodeKind, Stamp, Tree, Xattrs, join_path};
use crate::layer::xattr;

/// Names of a directory that the kernel tells at a time.
const LISTED_BYTES: usize = 16 << 10;

/// A directory of the disk as a tree.
#[derive(Debug)]
pub struct RootTree {
    root: OwnedFd,
    place: &'static str,
    has_owners: bool,
}

impl RootTree {
    /// Wraps an open directory.
    pub fn new(root: OwnedFd, place: &'static str) -> Self {
        RootTree {
            root,
            place,
            has_owners: true,
        }
    }

    pub(super) fn without_owners(mut self) -> Self {
        self.has_owners = false;
        self
    }

    /// Opens a path of the tree. No part of it may be a symlink: the tree was resolved before, so one that is
    /// there now was put there since.
    fn open_path(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn node(&self, dir: impl AsFd, name: &[u8], path: Vec<u8>) -> Result<Option<Node>, Errno> {
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        let read_link = || rustix::fs::readlinkat(&dir, name, Vec::new());
        let mut node = node_of(path, &stat, read_link)?;
        if let (Some(node), false) = (&mut node, self.has_owners) {
            (node.uid, node.gid) = (0, 0);
        }
        Ok(node)
    }

    /// Returns what is directly in the directory `path`, in byte order of names.
    pub(super) fn list(&self, path: &[u8]) -> Result<Vec<Node>, ContextError> {
        let failed = |error: Errno| ContextError::io(path, error);
        let dir = self
            .open_path(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(failed)?;
        // One string of all names: a directory may hold very many.
        let mut text: Vec<u8> = Vec::new();
        let mut names: Vec<Range<usize>> = Vec::new();
        let mut space = Vec::with_capacity(LISTED_BYTES);
        let mut reader = RawDir::new(&dir, space.spare_capacity_mut());
        while let Some(entry) = reader.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let start = text.len();
                text.extend_from_slice(name);
                names.push(start..text.len());
            }
        }
        names.sort_unstable_by(|a, b| text[a.clone()].cmp(&text[b.clone()]));
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            let name = &text[name];
            // What vanished between the two looks is not there.
            if let Some(node) = self
                .node(&dir, name, join_path(path, name))
                .map_err(failed)?
            {
                out.push(node);
            }
        }
        Ok(out)
    }
}

/// Turns what the kernel says of a path into a node; `None` for what a tree cannot have.
pub(crate) fn node_of(
    path: Vec<u8>,
    stat: &Stat,
    read_link: impl FnOnce() -> Result<CString, Errno>,
) -> Result<Option<Node>, Errno> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => match read_link() {
            Ok(target) => NodeKind::Symlink(target.into_bytes()),
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error),
        },
        other => match plain_kind(other, stat) {
            Some(kind) => kind,
            None => return Ok(None),
        },
    };
    Ok(Some(to_node(path, kind, stat, true)))
}

fn plain_kind(file_type: FileType, stat: &Stat) -> Option<NodeKind> {
    let major = rustix::fs::major(stat.st_rdev);
    let minor = rustix::fs::minor(stat.st_rdev);
    Some(match file_type {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::CharacterDevice => NodeKind::CharDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        _ => return None,
    })
}

fn to_node(path: Vec<u8>, kind: NodeKind, stat: &Stat, has_owners: bool) -> Node {
    let nanos = |seconds: i64, nanos: u64| {
        let seconds = seconds.saturating_mul(1_000_000_000);
        seconds.saturating_add_unsigned(nanos)
    };
    Node {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: if has_owners { stat.st_uid } else { 0 },
        gid: if has_owners { stat.st_gid } else { 0 },
        mtime: stat.st_mtime,
        links: stat.st_nlink,
        stamp: Stamp {
            size: stat.st_size as u64,
            mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
        },
    }
}

/// Attributes that belong to the machine rather than to the file.
pub(crate) fn is_carried(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.")
            && !name.starts_with(b"user.overlay.")
            && !name.starts_with(b"user.builder."))
        || name.starts_with(b"system.posix_acl_")
}

/// Returns what a layer carries of an open file's attributes.
fn carried(file: impl AsFd) -> std::io::Result<Xattrs> {
    let mut all = xattr::of_open(file.as_fd())?;
    all.retain(|name, _| is_carried(name));
    Ok(all)
}

impl Lookup for RootTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        let node = if path.is_empty() {
            rustix::fs::fstat(&self.root).map(|stat| {
                Some(to_node(
                    Vec::new(),
                    NodeKind::Directory,
                    &stat,
                    self.has_owners,
                ))
            })
        } else {
            self.node(&self.root, path, path.to_vec())
        };
        node.map_err(|error| ContextError::io(path, error))
    }
}

impl Tree for RootTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        self.list(path).map(Arc::from)
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        let path = || String::from_utf8_lossy(&node.path).into_owned();
        let file = match self.open_path(&node.path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::NOENT) => {
                return Err(ContextError::Changed { path: path() });
            }
            Err(error) => return Err(ContextError::io(&node.path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| ContextError::io(&node.path, error))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(ContextError::Changed { path: path() });
        }
        Ok(file.into())
    }

    fn open_with_xattrs(&self, node: &Node) -> Result<(File, Xattrs), ContextError> {
        let file = self.open(node)?;
        let xattrs = carried(&file).map_err(|error| ContextError::io(&node.path, error))?;
        Ok((file, xattrs))
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, ContextError> {
        if !matches!(node.kind, NodeKind::File | NodeKind::Directory) {
            return Ok(Xattrs::new());
        }
        let failed = |error: Errno| ContextError::io(&node.path, error);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = self.open_path(&node.path, flags).map_err(failed)?;
        carried(&file).map_err(|error| ContextError::io(&node.path, error))
    }

    fn place(&self) -> &'static str {
        self.place
    }

    fn has_owners(&self) -> bool {
        self.has_owners
    }
}
