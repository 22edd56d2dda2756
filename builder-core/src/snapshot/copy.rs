//! Copies of trees: a layer put onto a tree, and a step's changes taken out of one.
//!
//! Names of one file stay that, in a tree and in a layer, but no file is ever in both: a step that writes to its tree
//! must not change a layer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;

use super::merged;
use super::settle::{copy_up, dress, set_times, times_of};
use super::{At as _, Change, SnapshotError};
use crate::layer::{EntryKind, OverlayFormat, clear_path, put_whiteout, xattr};

/// Directories this deep are copied beside each other; below, one after the other.
const PARALLEL_DEPTH: usize = 3;
const FILES_A_TASK: usize = 16;

/// Does to `tree` what `layer`, in overlay form, does to what is below it.
pub(super) fn apply(
    layer: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    format: OverlayFormat,
) -> Result<(), SnapshotError> {
    let apply = Apply {
        format,
        linked: Mutex::default(),
    };
    apply.content(layer, tree, b"", 0)?;
    let linked = apply.linked.into_inner();
    link(layer, tree, linked.unwrap_or_else(PoisonError::into_inner))?;
    undress(layer, tree).at("copy the attributes of", b"")?;
    dress(layer, b".", tree, b".").at("copy the attributes of", b"")
}

struct Apply {
    format: OverlayFormat,
    /// Names of files that have several: device, inode, path. They come last, as the first must be there for the others.
    linked: Mutex<Vec<(u64, u64, Vec<u8>)>>,
}

impl Apply {
    fn content(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &[u8],
        depth: usize,
    ) -> Result<(), SnapshotError> {
        let full = |name: &[u8]| match path {
            b"" => name.to_vec(),
            _ => [path, b"/", name].concat(),
        };
        let (mut dirs, mut others) = (Vec::new(), Vec::new());
        for (name, kind) in merged::list(from).at("list", path)? {
            let is_dir = match kind {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(from, &name[..], AtFlags::SYMLINK_NOFOLLOW);
                    let stat = stat.at("stat", &full(&name))?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                kind => kind == FileType::Directory,
            };
            if is_dir { &mut dirs } else { &mut others }.push(name);
        }
        let put = |name: &Vec<u8>| self.other(from, to, name, full).at("copy", &full(name));
        let enter = |name: &Vec<u8>| self.dir(from, to, name, &full(name), depth);
        if depth < PARALLEL_DEPTH {
            others
                .par_iter()
                .with_min_len(FILES_A_TASK)
                .try_for_each(put)?;
            dirs.par_iter().try_for_each(enter)
        } else {
            others.iter().try_for_each(put)?;
            dirs.iter().try_for_each(enter)
        }
    }

    fn other(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        full: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> std::io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        clear_path(to, name)?;
        if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
            linked.push((stat.st_dev, stat.st_ino, full(name)));
            return Ok(());
        }
        if merged::is_whiteout(from, name, &stat, self.format.userxattr)? {
            return Ok(());
        }
        copy_up(from, name, to, &stat)
    }

    fn dir(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        depth: usize,
    ) -> Result<(), SnapshotError> {
        let old = match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            other => Some(other.at("stat", path)?),
        };
        let is_dir =
            old.is_some_and(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory);
        let hides = old.is_some()
            && (!is_dir
                || merged::is_opaque(from, name, self.format.userxattr).at("read", path)?);
        if hides {
            clear_path(to, name).at("remove", path)?;
        }
        if old.is_none() || hides {
            rustix::fs::mkdirat(to, name, Mode::RWXU).at("make", path)?;
        }
        let (below, into) = (
            open_dir(from, name).at("open", path)?,
            open_dir(to, name).at("open", path)?,
        );
        self.content(below.as_fd(), into.as_fd(), path, depth + 1)?;
        if is_dir && !hides {
            undress(below.as_fd(), into.as_fd()).at("copy the attributes of", path)?;
        }
        dress(from, name, to, name).at("copy the attributes of", path)
    }
}

/// Copies files with several names, each once.
fn link(
    layer: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    mut linked: Vec<(u64, u64, Vec<u8>)>,
) -> Result<(), SnapshotError> {
    linked.sort_unstable();
    let mut first: Option<&(u64, u64, Vec<u8>)> = None;
    for item in &linked {
        let path = &item.2[..];
        let (parent, name) = split(path);
        let into = open_beneath(tree, parent).at("open", parent)?;
        let times = times_of(into.as_fd()).at("stat", parent)?;
        match first {
            Some(first) if (first.0, first.1) == (item.0, item.1) => {
                let (parent, known) = split(&first.2);
                let from = open_beneath(tree, parent).at("open", parent)?;
                rustix::fs::linkat(&from, known, &into, name, AtFlags::empty()).at("link", path)?;
            }
            _ => {
                first = Some(item);
                let from = open_beneath(layer, parent).at("open", parent)?;
                let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW);
                copy_up(from.as_fd(), name, into.as_fd(), &stat.at("stat", path)?)
                    .at("copy", path)?;
            }
        }
        set_times(into.as_fd(), &times).at("set the time of", parent)?;
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (b"", path),
    }
}

/// Removes the attributes of `to` that `from` has not: the upper directory's are the ones that show.
fn undress(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    let keep = xattr::all(from, b"")?;
    for key in xattr::all(to, b"")?.into_keys() {
        if !keep.contains_key(&key) {
            xattr::remove(to, b"", &key)?;
        }
    }
    Ok(())
}

fn open_dir(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    rustix::fs::openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Moves what `changed` names out of `tree` (files of several names are copied) into the empty directory `layer`, which becomes the layer in overlay form.
pub(super) fn take_out(
    tree: BorrowedFd<'_>,
    layer: BorrowedFd<'_>,
    changed: &[Change],
    format: OverlayFormat,
) -> Result<(), SnapshotError> {
    // Moving things sets the times of directories: they are put right at the end, the deepest first.
    let mut dirs: Vec<(&[u8], Timestamps)> = vec![(b"", times_of(tree).at("stat", b"")?)];
    let is_dir = |change: &&Change| change.entry.kind == EntryKind::Directory;
    for change in changed.iter().filter(is_dir) {
        let path = &change.entry.path[..];
        if !path.is_empty() {
            let dir = open_beneath(tree, path).at("open", path)?;
            dirs.push((path, times_of(dir.as_fd()).at("stat", path)?));
        }
    }
    let mut last: Option<(&[u8], OwnedFd, OwnedFd)> = None;
    for change in changed {
        let path = &change.entry.path[..];
        if path.is_empty() {
            continue;
        }
        let (parent, name) = split(path);
        let (_, from, to) = match last.take() {
            Some(known) if known.0 == parent => last.insert(known),
            _ => {
                let to = open_beneath(layer, parent).at("open", parent)?;
                let from = open_beneath(tree, parent).at("open", parent)?;
                last.insert((parent, from, to))
            }
        };
        match &change.entry.kind {
            EntryKind::Directory => {
                rustix::fs::mkdirat(&*to, name, Mode::RWXU).at("make", path)?;
            }
            EntryKind::Whiteout | EntryKind::OpaqueWhiteout => {
                put_whiteout(to.as_fd(), name, format).at("mark as removed", path)?;
            }
            EntryKind::Hardlink { target } => {
                let (parent, known) = split(target);
                let there = open_beneath(layer, parent).at("open", parent)?;
                rustix::fs::linkat(&there, known, &*to, name, AtFlags::empty()).at("link", path)?;
            }
            _ => {
                let stat = rustix::fs::statat(&*from, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.at("stat", path)?;
                if stat.st_nlink > 1 {
                    copy_up(from.as_fd(), name, to.as_fd(), &stat).at("copy", path)?;
                } else {
                    rustix::fs::renameat(&*from, name, &*to, name).at("move", path)?;
                }
            }
        }
    }
    for (path, times) in dirs.into_iter().rev() {
        let from = open_beneath(tree, path).at("open", path)?;
        let to = open_beneath(layer, path).at("open", path)?;
        dress(from.as_fd(), b".", to.as_fd(), b".").at("copy the attributes of", path)?;
        set_times(to.as_fd(), &times).at("set the time of", path)?;
    }
    Ok(())
}
