//! The files of an image, without the image.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::ExportError;
use crate::context::{Node, NodeKind, Tree};
use crate::layer::{Entry, EntryKind, LayerError, Writer, WriterOptions, order};

/// Writes the files of `tree` below `dest`, which is made where it is missing; what else it holds is kept.
///
/// Modes and times are kept; owners are whoever runs this. Devices and sockets are left out. Paths are opened below
/// `dest` without following symlinks, so that neither a link in the image nor one in `dest` leads out.
///
/// # Errors
/// The first path that cannot be written.
pub fn local_directory(
    tree: Option<&dyn Tree>,
    dest: &Path,
    clamp_mtime: Option<i64>,
) -> Result<(), ExportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| ExportError::Write { path, source }
    };
    fs::create_dir_all(dest).map_err(failed(dest))?;
    let Some(tree) = tree else {
        return Ok(());
    };
    let root: OwnedFd = File::open(dest).map_err(failed(dest))?.into();
    let nodes = tree.walk(b"").map_err(ExportError::Read)?;
    let local = Local {
        root,
        tree,
        clamp_mtime,
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
    Ok(())
}

struct Local<'a> {
    root: OwnedFd,
    tree: &'a dyn Tree,
    clamp_mtime: Option<i64>,
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
                rustix::fs::fchmod(&file, Mode::from_raw_mode(node.mode))?;
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
        rustix::fs::fchmod(dir.as_fd(), Mode::from_raw_mode(node.mode))?;
        rustix::fs::futimens(dir.as_fd(), &self.times(node))?;
        Ok(())
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

/// Writes the files of `tree` as one tar, owners and attributes included.
///
/// # Errors
/// Where a file cannot be read, or `dest` cannot be written; `dest` is then as it was.
pub fn tree_archive(
    tree: Option<&dyn Tree>,
    dest: &Path,
    clamp_mtime: Option<i64>,
) -> Result<(), ExportError> {
    let failed = |source: io::Error| ExportError::Write {
        path: dest.to_owned(),
        source,
    };
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
    // Apart, as the errors of a named one speak of its passing name.
    let (file, place) = file.into_parts();
    let unwritten = |error| match error {
        LayerError::Stream { source, .. } => failed(source),
        other => ExportError::Layer(other),
    };
    let out = BufWriter::new(file);
    let mut writer = Writer::new(out, WriterOptions { clamp_mtime });
    if let Some(tree) = tree {
        let mut pairs = Vec::new();
        let mut links = std::collections::HashMap::new();
        for node in tree.walk(b"").map_err(ExportError::Read)? {
            if let Some(entry) = entry(tree, &node, &mut links)? {
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
    let (out, _) = writer.finish().map_err(unwritten)?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(|error| failed(error.into()))?;
    place.persist(dest).map_err(|error| failed(error.error))?;
    Ok(())
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
