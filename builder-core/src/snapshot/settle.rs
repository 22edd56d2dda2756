//! Answers what a layer could not know when it was unpacked on its own; see [`Deferred`].
//!
//! - A directory that no entry described looks like the one below: mode, owner, attributes, time. Where the layers
//!   below have a symbolic link to a directory in its place, its content moves to where the link leads (`var/run/x` with
//!   `/var/run -> /run`), as if it had been unpacked on top of them.
//! - A hard link to a file of a lower layer makes a copy of that file in this layer, as overlayfs itself would.
//! - A root that hides all below gets a removal of each name there: overlayfs does not look for the mark on a root.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::merged::{self, Child, Stack};
use super::{At as _, SnapshotError};
use crate::layer::{
    Deferred, LayerError, OverlayFormat, clear_path, mark_opaque, put_whiteout, shown, xattr,
};
use crate::owner;

/// Finishes the layer unpacked in `root`, which goes on top of `lowers` (topmost first).
pub fn settle(
    root: BorrowedFd<'_>,
    deferred: &Deferred,
    lowers: &[PathBuf],
    format: OverlayFormat,
) -> Result<(), SnapshotError> {
    if deferred.is_empty() {
        return Ok(());
    }
    let lower =
        Stack::open(lowers, format.userxattr).map_err(SnapshotError::io("open a layer of", b""))?;
    let settling = Settling {
        root,
        all: lower.on_top(root).map_err(SnapshotError::io("open", b""))?,
        lower,
        format,
    };
    settling.implicit(deferred)?;
    for (path, target) in &deferred.links {
        settling.link(path, target)?;
    }
    if deferred.opaque_root {
        settling.hide_all()?;
    }
    Ok(())
}

struct Settling<'a> {
    root: BorrowedFd<'a>,
    lower: Stack,
    /// The layer itself on top of the lower ones.
    all: Stack,
    format: OverlayFormat,
}

impl Settling<'_> {
    fn implicit(&self, deferred: &Deferred) -> Result<(), SnapshotError> {
        let mut open = deferred.implicit.clone();
        while let Some(path) = open.pop_first() {
            if path.is_empty() {
                if !self.lower.root().is_empty() {
                    let from = self.lower.root().part(0);
                    dress(from, b".", self.root, b".").at("settle", &path)?;
                }
                continue;
            }
            let Some((child, parent)) = self.lower.lookup(&path).at("settle", &path)? else {
                continue;
            };
            match child {
                Child::Directory { dir, .. } => {
                    let own = self.dir(&path)?;
                    dress(dir.part(0), b".", own.as_fd(), b".").at("settle", &path)?;
                }
                Child::Other { stat, part }
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink =>
                {
                    let (base, name) = split(&path);
                    let link = rustix::fs::readlinkat(parent.part(part), name, Vec::new())
                        .at("settle", &path)?
                        .into_bytes();
                    let target = self.lower.resolve(base, &link).at("settle", &path)?;
                    if inside(&target, &path) || target.is_empty() {
                        continue; // a link to itself: the directory takes its place
                    }
                    // Through this layer's own links too, now that the way there is known.
                    let target = self.all.resolve(b"", &target).at("settle", &path)?;
                    let into = self.make_dirs(&target)?;
                    let from = self.dir(base)?;
                    self.merge(from.as_fd(), name, into.as_fd(), &path)?;
                    let below: Vec<_> = open.iter().filter(|p| inside(p, &path)).cloned().collect();
                    for old in below {
                        open.remove(&old);
                        open.insert([&target[..], &old[path.len()..]].concat());
                    }
                }
                Child::Other { .. } => {}
            }
        }
        Ok(())
    }

    /// Moves what is in the directory `name` into `into` and removes it.
    fn merge(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        into: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<(), SnapshotError> {
        let from = open_dir(at, name).at("move the content of", path)?;
        let from_times = times_of(at).at("move the content of", path)?;
        let into_times = times_of(into).at("move the content of", path)?;
        for (child, _) in merged::list(from.as_fd()).at("move the content of", path)? {
            let both_dirs = [from.as_fd(), into].iter().all(|dir| {
                rustix::fs::statat(dir, &child[..], AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
            });
            if both_dirs {
                let deeper = open_dir(into, &child).at("move the content of", path)?;
                self.merge(from.as_fd(), &child, deeper.as_fd(), path)?;
                continue;
            }
            clear_path(into, &child).at("move the content of", path)?;
            rustix::fs::renameat(&from, &child[..], into, &child[..])
                .at("move the content of", path)?;
        }
        rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR).at("move the content of", path)?;
        set_times(into, &into_times).at("move the content of", path)?;
        set_times(at, &from_times).at("move the content of", path)
    }

    fn link(&self, path: &[u8], target: &[u8]) -> Result<(), SnapshotError> {
        let missing = || {
            SnapshotError::Layer(LayerError::LinkTarget {
                path: shown(path),
                target: shown(target),
            })
        };
        let real = |path: &[u8]| {
            let (base, name) = split(path);
            let base = self.all.resolve(b"", base).at("link", path)?;
            Ok::<_, SnapshotError>((base, name.to_vec()))
        };
        let (base, name) = real(target)?;
        let full = match &base[..] {
            b"" => name.clone(),
            _ => [&base, &b"/"[..], &name].concat(),
        };
        let Some((Child::Other { part, .. }, parent)) = self.all.lookup(&full).at("link", path)?
        else {
            return Err(missing());
        };
        let from = self.make_dirs(&base)?;
        let held = rustix::fs::statat(&from, &name[..], AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !held {
            let times = times_of(from.as_fd()).at("link", path)?;
            // what stands for a device is copied as it is
            let raw = rustix::fs::statat(parent.part(part), &name[..], AtFlags::SYMLINK_NOFOLLOW)
                .at("link", path)?;
            copy_up(parent.part(part), &name, from.as_fd(), &raw).at("link", path)?;
            set_times(from.as_fd(), &times).at("link", path)?;
        }
        let (base, own) = real(path)?;
        let into = self.make_dirs(&base)?;
        let times = times_of(into.as_fd()).at("link", path)?;
        clear_path(into.as_fd(), &own).at("link", path)?;
        rustix::fs::linkat(&from, &name[..], &into, &own[..], AtFlags::empty()).at("link", path)?;
        set_times(into.as_fd(), &times).at("link", path)
    }

    fn hide_all(&self) -> Result<(), SnapshotError> {
        let times = times_of(self.root).at("hide what is below", b"")?;
        for name in self.lower.root().names().at("hide what is below", b"")? {
            match rustix::fs::statat(self.root, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    put_whiteout(self.root, &name, self.format).at("hide what is below", b"")?
                }
                Err(e) => return Err(SnapshotError::io("hide what is below", b"")(e)),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    mark_opaque(self.root, &name, self.format).at("hide what is below", b"")?;
                }
                Ok(_) => {}
            }
        }
        set_times(self.root, &times).at("hide what is below", b"")
    }

    /// Opens a directory that this layer has.
    fn dir(&self, path: &[u8]) -> Result<OwnedFd, SnapshotError> {
        let mut at = open_dir(self.root, b".").map_err(SnapshotError::io("open", path))?;
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            at = open_dir(at.as_fd(), part).map_err(SnapshotError::io("open", path))?;
        }
        Ok(at)
    }

    /// Opens a directory of this layer, copied from the layers below where this one does not have it.
    fn make_dirs(&self, path: &[u8]) -> Result<OwnedFd, SnapshotError> {
        let mut at = open_dir(self.root, b".").at("make", path)?;
        let mut so_far = Vec::new();
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            so_far.extend_from_slice(part);
            at = match open_dir(at.as_fd(), part) {
                Err(Errno::NOENT) => {
                    let times = times_of(at.as_fd()).at("make", path)?;
                    rustix::fs::mkdirat(&at, part, Mode::RWXU).at("make", path)?;
                    let dir = open_dir(at.as_fd(), part).at("make", path)?;
                    match self.lower.lookup(&so_far).at("make", path)? {
                        Some((Child::Directory { dir: below, .. }, _)) => {
                            dress(below.part(0), b".", dir.as_fd(), b".").at("make", path)?;
                        }
                        _ => {
                            rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).at("make", path)?
                        }
                    }
                    set_times(at.as_fd(), &times).at("make", path)?;
                    dir
                }
                other => other.at("make", path)?,
            };
        }
        Ok(at)
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (b"", path),
    }
}

fn inside(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn open_dir(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec.cast_signed(),
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.cast_signed(),
        },
    }
}

pub(super) fn times_of(dir: BorrowedFd<'_>) -> Result<Timestamps, Errno> {
    Ok(times(&rustix::fs::statat(dir, ".", AtFlags::empty())?))
}

pub(super) fn set_times(dir: BorrowedFd<'_>, times: &Timestamps) -> Result<(), Errno> {
    rustix::fs::utimensat(dir, ".", times, AtFlags::empty())
}

/// Gives `to` what `from` has: owner, mode, attributes, times.
pub(super) fn dress(
    from: BorrowedFd<'_>,
    from_name: &[u8],
    to: BorrowedFd<'_>,
    to_name: &[u8],
) -> std::io::Result<()> {
    let stat = rustix::fs::statat(from, from_name, AtFlags::SYMLINK_NOFOLLOW)?;
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, to_name, Some(uid), Some(gid), nofollow)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(to, to_name, mode, AtFlags::empty())?;
    }
    for (key, value) in xattr::all(from, from_name)? {
        match xattr::set(to, to_name, &key, &value) {
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    rustix::fs::utimensat(to, to_name, &times(&stat), nofollow)?;
    owner::copy(from, from_name, &stat, to, to_name)?;
    Ok(())
}

/// Copies a file, link, device or pipe from a lower layer; shares its blocks where the file system can.
pub(super) fn copy_up(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    stat: &Stat,
) -> std::io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let old = rustix::fs::openat(from, name, OFlags::RDONLY | flags, Mode::empty())?;
            let new = rustix::fs::openat(
                to,
                name,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags,
                Mode::RUSR | Mode::WUSR,
            )?;
            if stat.st_size > 0 && rustix::fs::ioctl_ficlone(&new, &old).is_err() {
                std::io::copy(&mut File::from(old), &mut File::from(new))?;
            }
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target, to, name)?;
        }
        kind => rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
    }
    dress(from, name, to, name)
}
