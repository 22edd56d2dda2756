//! The files of an image, without the image.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::target::Target;
use super::{Destination, ExportError};
use crate::context::{Node, NodeKind, Tree, join_path};
use crate::layer::{Entry, EntryKind, LayerError, Writer, WriterOptions, order};

/// Writes the files of `tree` below `dest`, which is made where it is missing; what else it holds is kept.
///
/// Modes, times and extended attributes are kept; owners are whoever runs this. What of the attributes the system refuses is
/// returned. Devices and sockets are left out. Paths are opened below
/// `dest` without following symlinks, so that neither a link in the image nor one in `dest` leads out.
///
/// # Errors
/// The first path that cannot be written.
pub fn local_directory(
    tree: Option<&dyn Tree>,
    dest: &Path,
    clamp_mtime: Option<i64>,
) -> Result<Option<Unset>, ExportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| ExportError::Write { path, source }
    };
    fs::create_dir_all(dest).map_err(failed(dest))?;
    let Some(tree) = tree else {
        return Ok(None);
    };
    let root: OwnedFd = File::open(dest).map_err(failed(dest))?.into();
    let nodes = tree.walk(b"").map_err(ExportError::Read)?;
    let local = Local {
        root,
        tree,
        clamp_mtime,
        unset: RefCell::default(),
    };
    let shown = |node: &Node| {
        use std::os::unix::ffi::OsStrExt;
        dest.join(std::ffi::OsStr::from_bytes(&node.path))
    };
    let mut links = std::collections::HashMap::new();
    for node in &nodes {
        local
            .put(node, &mut links)
            .map_err(|error| failed(&shown(node))(error))?;
    }
    // Modes and times of directories last: a read-only one could not be filled.
    for node in nodes.iter().rev().filter(|node| node.kind.is_dir()) {
        local
            .dress(node)
            .map_err(|error| failed(&shown(node))(error))?;
    }
    Ok(local.unset.into_inner())
}

/// Extended attributes that could not be set where the files of an image went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    pub count: usize,
    /// The first one: its path in the image, its name, and the system's answer.
    pub path: String,
    pub name: String,
    pub errno: Errno,
}

/// Kept in an attribute, but part of the mode: to set that would change it.
const ACLS: &[u8] = b"system.posix_acl_";

struct Local<'a> {
    root: OwnedFd,
    tree: &'a dyn Tree,
    clamp_mtime: Option<i64>,
    unset: RefCell<Option<Unset>>,
}

impl Local<'_> {
    fn open(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            mode,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn put(
        &self,
        node: &Node,
        links: &mut std::collections::HashMap<(u64, u64), Vec<u8>>,
    ) -> io::Result<()> {
        let (parent, name) = match node.path.iter().rposition(|&b| b == b'/') {
            Some(at) => (&node.path[..at], &node.path[at + 1..]),
            None => (&b""[..], &node.path[..]),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let parent = self.open(parent, flags, Mode::empty())?;
        let replace = || match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        };
        match &node.kind {
            NodeKind::Directory => match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => match self.open(&node.path, flags, Mode::empty()) {
                    Ok(_) => {}
                    // A link or a file is in the way: it is replaced, never followed.
                    Err(Errno::LOOP | Errno::NOTDIR) => {
                        replace()?;
                        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                    }
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            },
            NodeKind::File => {
                replace()?;
                let inode = (node.stamp.device, node.stamp.inode);
                if node.links > 1 {
                    if let Some(first) = links.get(&inode) {
                        let first = first.as_slice();
                        let none = AtFlags::empty();
                        rustix::fs::linkat(&self.root, first, &parent, name, none)?;
                        return Ok(());
                    }
                    links.insert(inode, node.path.clone());
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file = self.open(&node.path, flags, Mode::RUSR | Mode::WUSR)?;
                let mut file = File::from(file);
                let mut data = self.tree.open(node).map_err(io::Error::other)?;
                io::copy(&mut data, &mut file)?;
                self.set_mode_and_xattrs(file.as_fd(), node)?;
                rustix::fs::futimens(&file, &self.times(node))?;
            }
            NodeKind::Symlink(target) => {
                replace()?;
                rustix::fs::symlinkat(target.as_slice(), &parent, name)?;
                let times = self.times(node);
                rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            NodeKind::Fifo => {
                replace()?;
                let kind = rustix::fs::FileType::Fifo;
                let mode = Mode::from_raw_mode(node.mode);
                rustix::fs::mknodat(&parent, name, kind, mode, 0)?;
                // The mode of a new node is less the process's mask.
                rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
                let times = self.times(node);
                rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            NodeKind::Socket | NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. } => {}
        }
        Ok(())
    }

    fn dress(&self, node: &Node) -> io::Result<()> {
        let dir = self.open(
            &node.path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        self.set_mode_and_xattrs(dir.as_fd(), node)?;
        rustix::fs::futimens(dir.as_fd(), &self.times(node))?;
        Ok(())
    }

    /// An attribute is set while the file is writable, but for access lists: they say what the mode says, and more.
    fn set_mode_and_xattrs(&self, file: BorrowedFd<'_>, node: &Node) -> io::Result<()> {
        let xattrs = self.tree.xattrs(node).map_err(io::Error::other)?;
        let (lists, others): (Vec<_>, Vec<_>) =
            xattrs.iter().partition(|(name, _)| name.starts_with(ACLS));
        for (name, value) in others {
            self.set_xattr(file, node, name, value);
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(node.mode))?;
        for (name, value) in lists {
            self.set_xattr(file, node, name, value);
        }
        Ok(())
    }

    /// One that cannot be set, as this user may not, or on this file system, is counted.
    fn set_xattr(&self, file: BorrowedFd<'_>, node: &Node, name: &[u8], value: &[u8]) {
        let flags = rustix::fs::XattrFlags::empty();
        let Err(errno) = rustix::fs::fsetxattr(file, name, value, flags) else {
            return;
        };
        let first = || Unset {
            count: 0,
            path: String::from_utf8_lossy(&node.path).into_owned(),
            name: String::from_utf8_lossy(name).into_owned(),
            errno,
        };
        self.unset.borrow_mut().get_or_insert_with(first).count += 1;
    }

    fn times(&self, node: &Node) -> Timestamps {
        let seconds = match self.clamp_mtime {
            Some(clamp) => node.mtime.min(clamp),
            None => node.mtime,
        };
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }
}

/// A tree (`None`: an empty one) and the directory that it goes into; empty for the root.
pub type Placed = (String, Option<Arc<dyn Tree>>);

/// Writes the files of `trees` as one tar, owners and attributes included, each below its directory.
///
/// # Errors
/// Where a file cannot be read, or the destination cannot be written; a file there is then as it was.
pub fn tree_archive(
    trees: &[Placed],
    destination: Destination<'_>,
    clamp_mtime: Option<i64>,
) -> Result<(), ExportError> {
    let path = match destination {
        Destination::Writer(out) => {
            return write(trees, out, clamp_mtime, &ExportError::Stream);
        }
        Destination::File(path) => path,
    };
    let failed = |source: io::Error| ExportError::Write {
        path: path.to_owned(),
        source,
    };
    let mut target = Target::open(path).map_err(failed)?;
    write(trees, target.file(), clamp_mtime, &failed)?;
    target.finish().map_err(failed)
}

fn write(
    trees: &[Placed],
    out: impl io::Write,
    clamp_mtime: Option<i64>,
    failed: &dyn Fn(io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let unwritten = |error| match error {
        LayerError::Stream { source, .. } => failed(source),
        other => ExportError::Layer(other),
    };
    let mut writer = Writer::new(BufWriter::new(out), WriterOptions { clamp_mtime });
    for (directory, tree) in trees {
        if !directory.is_empty() {
            let entry = Entry {
                path: directory.clone().into_bytes(),
                kind: EntryKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: clamp_mtime.unwrap_or(0),
                xattrs: Default::default(),
            };
            let written = writer.append(&entry, &mut io::empty());
            written.map_err(unwritten)?;
        }
        let Some(tree) = tree.as_deref() else {
            continue;
        };
        let mut pairs = Vec::new();
        let mut links = std::collections::HashMap::new();
        for node in tree.walk(b"").map_err(ExportError::Read)? {
            if let Some(mut entry) = entry(tree, &node, &mut links)? {
                entry.path = join_path(directory.as_bytes(), &entry.path);
                if let EntryKind::Hardlink { target } = &mut entry.kind {
                    *target = join_path(directory.as_bytes(), target);
                }
                pairs.push((entry, node));
            }
        }
        pairs.sort_by(|(a, _), (b, _)| order(a, b));
        for (entry, node) in &pairs {
            let written = match entry.kind {
                EntryKind::File { .. } => {
                    let mut data = tree.open(node).map_err(ExportError::Read)?;
                    writer.append(entry, &mut data)
                }
                _ => writer.append(entry, &mut io::empty()),
            };
            written.map_err(unwritten)?;
        }
    }
    let (mut out, _) = writer.finish().map_err(unwritten)?;
    io::Write::flush(&mut out).map_err(failed)
}

fn entry(
    tree: &dyn Tree,
    node: &Node,
    links: &mut std::collections::HashMap<(u64, u64), Vec<u8>>,
) -> Result<Option<Entry>, ExportError> {
    let inode = (node.stamp.device, node.stamp.inode);
    let kind = match &node.kind {
        NodeKind::Directory => EntryKind::Directory,
        NodeKind::File => match links.get(&inode) {
            Some(first) if node.links > 1 => EntryKind::Hardlink {
                target: first.clone(),
            },
            _ => {
                links.insert(inode, node.path.clone());
                EntryKind::File {
                    size: node.stamp.size,
                }
            }
        },
        NodeKind::Symlink(target) => EntryKind::Symlink {
            target: target.clone(),
        },
        NodeKind::Fifo => EntryKind::Fifo,
        &NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
        &NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        NodeKind::Socket => return Ok(None),
    };
    Ok(Some(Entry {
        path: node.path.clone(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: tree.xattrs(node).map_err(ExportError::Read)?,
    }))
}
