//! The first content of a cache mount, or a mount's where no overlay can be had: a copy of a tree, owners, modes, times and attributes included.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, makedev,
};

use crate::context::{Follow, Node, NodeKind, resolve};
use crate::owner::{self, Owner};
use crate::sandbox::has_single_id;
use crate::solve::trees::KnownTree;
use crate::solve::{FileError, SolveErrorKind};

/// Copies what is at `path` of a tree into the empty directory `to`.
pub(super) fn fill(known: &KnownTree, path: &str, to: &Path) -> Result<(), SolveErrorKind> {
    let tree = known.tree.as_ref();
    let source = path.trim_matches('/');
    let node = resolve(tree, source.as_bytes(), Follow::Last)
        .map_err(FileError::from)?
        .ok_or_else(|| crate::context::ContextError::NotFound {
            pattern: path.to_owned(),
            place: tree.place(),
            ignored_by: None,
            leads_out: false,
            near: None,
        })?;
    if !node.kind.is_dir() {
        return Err(SolveErrorKind::CacheSource {
            path: path.to_owned(),
        });
    }
    let below = tree.walk(&node.path)?;
    let root = rustix::fs::open(
        to,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| SolveErrorKind::io("open a cache mount's directory", error))?;
    let skip = if node.path.is_empty() {
        0
    } else {
        node.path.len() + 1
    };
    for one in &below {
        copy(known, one, &root, &one.path[skip..])?;
    }
    // deepest first: a directory's time is that after its last entry
    for one in below.iter().rev().filter(|one| one.kind.is_dir()) {
        dress(known, one, &root, &one.path[skip..]).map_err(SolveErrorKind::io_of(&one.path))?;
    }
    dress(known, &node, &root, b".").map_err(SolveErrorKind::io_of(&node.path))
}

/// Copies what is no directory to `name` in the directory `to`.
pub(super) fn one(
    known: &KnownTree,
    node: &Node,
    to: &Path,
    name: &[u8],
) -> Result<(), SolveErrorKind> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(to, flags, Mode::empty())
        .map_err(|error| SolveErrorKind::io("open a mount's directory", error))?;
    copy(known, node, &root, name)
}

fn copy(
    known: &KnownTree,
    node: &Node,
    root: impl AsFd,
    name: &[u8],
) -> Result<(), SolveErrorKind> {
    let failed = SolveErrorKind::io_of(&node.path);
    let private = Mode::RWXU;
    let device = |kind, major, minor| {
        rustix::fs::mknodat(&root, name, kind, Mode::RUSR, makedev(major, minor))
    };
    match &node.kind {
        NodeKind::Directory => {
            return rustix::fs::mkdirat(&root, name, private).map_err(|error| failed(error.into()));
        }
        NodeKind::File => {
            let mut from = known.tree.open(node)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let to = rustix::fs::openat(&root, name, flags, private)
                .map_err(|error| failed(error.into()))?;
            std::io::copy(&mut from, &mut File::from(to)).map_err(&failed)?;
        }
        NodeKind::Symlink(target) => {
            rustix::fs::symlinkat(&target[..], &root, name).map_err(|error| failed(error.into()))?
        }
        NodeKind::Fifo => device(FileType::Fifo, 0, 0).map_err(|error| failed(error.into()))?,
        NodeKind::Socket => return Ok(()),
        NodeKind::CharDevice { major, minor } => device(FileType::CharacterDevice, *major, *minor)
            .map_err(|error| failed(error.into()))?,
        NodeKind::BlockDevice { major, minor } => {
            device(FileType::BlockDevice, *major, *minor).map_err(|error| failed(error.into()))?
        }
    }
    dress(known, node, &root, name).map_err(&failed)
}

fn dress(known: &KnownTree, node: &Node, root: impl AsFd, name: &[u8]) -> std::io::Result<()> {
    let link = matches!(node.kind, NodeKind::Symlink(_));
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let mut remembered = None;
    match rustix::fs::chownat(&root, name, Some(uid), Some(gid), nofollow) {
        Err(rustix::io::Errno::INVAL) if has_single_id() => {
            remembered = Some(Owner::of(node.uid, node.gid));
        }
        other => other?,
    }
    if !link {
        let mode = Mode::from_raw_mode(node.mode);
        rustix::fs::chmodat(&root, name, mode, AtFlags::empty())?;
    }
    if matches!(node.kind, NodeKind::File) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let attributes = known.tree.xattrs(node).map_err(std::io::Error::other)?;
        if !attributes.is_empty() {
            let file = rustix::fs::openat(&root, name, flags, Mode::empty())?;
            for (key, value) in attributes {
                let set =
                    rustix::fs::fsetxattr(&file, &key[..], &value, rustix::fs::XattrFlags::empty());
                match set {
                    Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(0, UTIME_OMIT),
        last_modification: time(node.mtime, 0),
    };
    rustix::fs::utimensat(&root, name, &times, nofollow)?;
    if let Some(owner) = remembered {
        let stat = rustix::fs::statat(&root, name, nofollow)?;
        match owner::put(root.as_fd(), name, &stat, owner) {
            // a pipe's owner cannot be kept in a mount, which is in no layer
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
