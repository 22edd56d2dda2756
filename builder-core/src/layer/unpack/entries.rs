//! Each kind of entry as it comes to be on disk, with its owner, attributes and time.

use std::io::Read;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::dirs::{DIR, open_in_root};
use super::marks::{mark_opaque, put_whiteout};
use super::{BUFFER, Unpacker, check, mode, refused, stat, times};
use crate::layer::error::shown;
use crate::layer::{Entry, EntryKind, LayerError, xattr};
use crate::owner::{self, Owner};

impl Unpacker {
    pub(super) fn put_file(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let path = &entry.path[..];
        let fd = self.anew(at, name, path, || {
            rustix::fs::openat(
                at,
                name,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::RUSR | Mode::WUSR,
            )
        })?;
        let mut file = std::fs::File::from(fd);
        if entry.size() > 0 {
            self.buffer.resize(BUFFER, 0);
            loop {
                let n = match data.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(LayerError::stream("read the layer")(e)),
                };
                file.write_all(&self.buffer[..n])
                    .map_err(LayerError::io("write", path))?;
                self.done.bytes += n as u64;
            }
        }
        // The owner first: changing it takes setuid bits and capabilities away.
        if self.options.remember {
            self.remember_owner(at, name, entry)?;
        } else {
            let (uid, gid) = self.owner(entry);
            rustix::fs::fchown(&file, uid, gid).map_err(self.owner_failed(entry))?;
        }
        rustix::fs::fchmod(&file, mode(entry))
            .map_err(LayerError::io("change the mode of", path))?;
        self.put_xattrs(entry, |key, value| {
            rustix::fs::fsetxattr(&file, key, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(&file, &times(entry.mtime))
            .map_err(LayerError::io("set the time of", path))
    }

    pub(super) fn put_dir(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let path = &entry.path[..];
        let mut replaced = false;
        match rustix::fs::mkdirat(at, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = stat(at, name).map_err(LayerError::io("stat", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    self.clear(at, name, path)?;
                    rustix::fs::mkdirat(at, name, Mode::RWXU)
                        .map_err(LayerError::io("make", path))?;
                    replaced = true;
                }
            }
            Err(e) => return Err(LayerError::io("make", path)(e)),
        }
        self.done.deferred.implicit.remove(path);
        let dir = rustix::fs::openat(at, name, DIR | OFlags::NOFOLLOW, Mode::empty())
            .map_err(LayerError::io("open", path))?;
        if let Some(format) = self.options.overlay
            && replaced
        {
            mark_opaque(dir.as_fd(), b"", format)
                .map_err(LayerError::io("mark as opaque", path))?;
        }
        self.dress_dir(dir.as_fd(), entry)?;
        self.remember(path, Arc::new(dir));
        Ok(())
    }

    pub(super) fn dress_dir(
        &mut self,
        dir: BorrowedFd<'_>,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let path = &entry.path[..];
        if self.options.remember {
            self.remember_owner(dir, b"", entry)?;
        } else {
            let (uid, gid) = self.owner(entry);
            rustix::fs::chownat(dir, "", uid, gid, AtFlags::EMPTY_PATH)
                .map_err(self.owner_failed(entry))?;
        }
        rustix::fs::chmodat(dir, ".", mode(entry), AtFlags::empty())
            .map_err(LayerError::io("change the mode of", path))?;
        self.put_xattrs(entry, |key, value| xattr::set(dir, b"", key, value))?;
        self.times.insert(path.to_vec(), entry.mtime);
        Ok(())
    }

    pub(super) fn put_removal(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), LayerError> {
        let Some(format) = self.options.overlay else {
            return self.clear(at, name, path);
        };
        match stat(at, name) {
            Err(Errno::NOENT) => {
                put_whiteout(at, name, format).map_err(LayerError::io("remove", path))
            }
            Err(e) => Err(LayerError::io("stat", path)(e)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                mark_opaque(at, name, format).map_err(LayerError::io("mark as opaque", path))
            }
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn put_link(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        target: &[u8],
    ) -> Result<(), LayerError> {
        check(target, path)?;
        if target.is_empty() {
            return Err(refused(path, "its link target is not a path"));
        }
        if target == path {
            return Err(refused(path, "it is a hard link to itself"));
        }
        let cut = target.iter().rposition(|b| *b == b'/');
        let last = &target[cut.map_or(0, |i| i + 1)..];
        let from = match open_in_root(&self.root, &target[..cut.unwrap_or(0)], OFlags::empty()) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(e) => return Err(LayerError::io("open", target)(e)),
        };
        let found = match &from {
            Some(dir) => match stat(dir.as_fd(), last) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(LayerError::io("stat", target)(e)),
            },
            None => None,
        };
        let missing = || LayerError::LinkTarget {
            path: shown(path),
            target: shown(target),
        };
        match (from, found, self.options.overlay) {
            (Some(dir), Some(stat), overlay) => {
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => return Err(missing()),
                    FileType::CharacterDevice if overlay.is_some() && stat.st_rdev == 0 => {
                        return Err(missing());
                    }
                    _ => {}
                }
                self.anew(at, name, path, || {
                    rustix::fs::linkat(&dir, last, at, name, AtFlags::empty())
                })
            }
            (_, _, None) => Err(missing()),
            (_, _, Some(_)) => {
                let link = (path.to_vec(), target.to_vec());
                self.done.deferred.links.push(link);
                Ok(())
            }
        }
    }

    /// Returns whether the node was made; a user namespace may not make devices.
    pub(super) fn put_node(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<bool, LayerError> {
        let remember = self.options.remember;
        let made = self.anew(at, name, path, || {
            let dev = rustix::fs::makedev(major, minor);
            if remember {
                let mode = Mode::RUSR | Mode::WUSR;
                return rustix::fs::mknodat(at, name, FileType::RegularFile, mode, 0)
                    .map(|()| true);
            }
            match rustix::fs::mknodat(at, name, kind, Mode::RUSR | Mode::WUSR, dev) {
                Err(Errno::PERM) => Ok(false),
                other => other.map(|()| true),
            }
        })?;
        if !made {
            let what = format!("device {major}:{minor}: not permitted in a user namespace");
            self.skip(path, what);
        }
        Ok(made)
    }

    pub(super) fn put_xattrs(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        for (key, value) in &entry.xattrs {
            if key == b"security.selinux" {
                continue; // belongs to the machine that made the layer
            }
            if xattr::is_private(key) {
                self.skip(
                    &entry.path,
                    format!(
                        "attribute {}: it is overlayfs' own, or the builder's",
                        shown(key)
                    ),
                );
                continue;
            }
            match set(key, value) {
                Ok(()) => {}
                Err(e @ (Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL | Errno::ACCESS)) => {
                    self.skip(&entry.path, format!("attribute {}: {e}", shown(key)));
                }
                Err(e) => return Err(LayerError::io("set an attribute of", &entry.path)(e)),
            }
        }
        Ok(())
    }

    /// Remembers the entry's owner, and what it is where an empty file stands for it.
    pub(super) fn remember_owner(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        if !self.options.remember {
            return Ok(());
        }
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        let mut owner = Owner::of(uid, gid);
        owner.node = match entry.kind {
            EntryKind::CharDevice { major, minor } => {
                Some((FileType::CharacterDevice, major, minor))
            }
            EntryKind::BlockDevice { major, minor } => Some((FileType::BlockDevice, major, minor)),
            EntryKind::Fifo => Some((FileType::Fifo, 0, 0)),
            _ => None,
        }
        .map(|(kind, major, minor)| owner::Node { kind, major, minor });
        let remember = || {
            let stat = match name {
                b"" => rustix::fs::statat(at, ".", AtFlags::empty())?,
                name => stat(at, name)?,
            };
            owner::put(at, name, &stat, owner)
        };
        remember().map_err(LayerError::io("remember the owner of", &entry.path))
    }

    pub(super) fn owner_failed(&self, entry: &Entry) -> impl FnOnce(Errno) -> LayerError + use<> {
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        let path = entry.path.clone();
        move |errno| LayerError::owner(&path, uid, gid)(errno)
    }

    pub(super) fn owner(&self, entry: &Entry) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }
}
