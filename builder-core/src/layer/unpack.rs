//! Writes entries into a directory.
//!
//! With [`UnpackOptions::overlay`] the directory becomes an overlay's upper or lower directory: a removal is a
//! character device 0:0, a directory that hides what is below it has the opaque attribute. The layers below are not
//! looked at, so what only they can answer is handed back as [`Deferred`]:
//! - *implicit parents*: directories on the way to an entry that no entry of this layer describes. They are made with mode
//!   0755; the layers below may know them, or have a symbolic link in that place;
//! - *hard links* to files that this layer does not have.
//!
//! | in the layer, in this order      | in the directory                                            |
//! |----------------------------------|-------------------------------------------------------------|
//! | removal of `x`, then file `x`    | the file (it hides what is below anyway)                     |
//! | removal of `x`, then directory   | an opaque directory                                          |
//! | file `x`, then directory `x`     | an opaque directory                                          |
//! | directory `x`, then removal      | the directory, opaque: removals speak of lower layers only   |
//! | directory `x`, then file `x`     | the file                                                     |
//!
//! Safety: names with `..`, NUL or nothing in them are refused; parents are opened by openat2 with RESOLVE_IN_ROOT, so
//! a symbolic link leads to where it would lead with the directory as `/`; the last component is never followed. An
//! archive cannot bring overlayfs' own attributes or a device 0:0: either could show or hide files of other layers.
//!
//! A file costs six calls: openat, write, fchown, fchmod, futimens, close. Directories' times are set at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::error::shown;
use super::{Entry, EntryKind, LayerError, Reader, xattr};
use crate::owner::{self, Owner};

const BUFFER: usize = 256 * 1024;
const OPEN_DIRS: usize = 64;
const MAX_LINKS: usize = 40;

/// How overlayfs marks its directories here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayFormat {
    /// `user.overlay.*` (mounts made in a user namespace) rather than `trusted.overlay.*`.
    pub userxattr: bool,
}

/// How entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Write an overlay's directory; `None`: plain files, where a removal removes what is there.
    pub overlay: Option<OverlayFormat>,
    /// Owner of everything, in place of what the archive says.
    pub chown: Option<(u32, u32)>,
    /// Owners and devices are not made but remembered, see `crate::owner`.
    pub remember: bool,
}

/// Something that could not be had here and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: Vec<u8>,
    /// What was left out and why, for people.
    pub what: String,
}

/// What the layers below have to answer; see `snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deferred {
    /// Directories that no entry described; the empty path is the root.
    pub(crate) implicit: BTreeSet<Vec<u8>>,
    /// (path, target), in order.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The root hides all below it. Overlayfs does not look for that mark on a root.
    pub(crate) opaque_root: bool,
}

impl Deferred {
    /// Is there nothing to ask?
    pub fn is_empty(&self) -> bool {
        self.implicit.is_empty() && self.links.is_empty() && !self.opaque_root
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    pub skipped: Vec<Skipped>,
    pub deferred: Deferred,
}

/// Writes entries into one directory. Nobody else may write to it meanwhile.
#[derive(Debug)]
pub struct Unpacker {
    root: Arc<OwnedFd>,
    options: UnpackOptions,
    open: HashMap<Vec<u8>, Arc<OwnedFd>>,
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
    times: BTreeMap<Vec<u8>, i64>,
    buffer: Vec<u8>,
    done: Unpacked,
}

impl Unpacker {
    /// Returns an unpacker into `dir`.
    pub fn new(dir: BorrowedFd<'_>, options: UnpackOptions) -> Result<Self, LayerError> {
        let root = rustix::fs::openat(dir, ".", DIR, Mode::empty())
            .map_err(LayerError::io("open", b""))?;
        let mut done = Unpacked::default();
        if options.overlay.is_some() {
            done.deferred.implicit.insert(Vec::new());
        }
        Ok(Unpacker {
            root: Arc::new(root),
            options,
            open: HashMap::new(),
            last: None,
            times: BTreeMap::new(),
            buffer: Vec::new(),
            done,
        })
    }

    /// Writes all entries that `reader` has left.
    pub fn unpack<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<(), LayerError> {
        while let Some(entry) = reader.next()? {
            self.put(&entry, reader)?;
        }
        Ok(())
    }

    /// Writes one entry; for a file, `data` is read to its end.
    pub fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), LayerError> {
        let path = &entry.path[..];
        check(path, path)?;
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Err(refused(path, "its owner is not an id"));
        }
        self.done.entries += 1;
        if path.is_empty() {
            return self.put_root(entry);
        }
        if let EntryKind::OpaqueWhiteout = entry.kind {
            let dir = self.dir(path)?;
            return match self.options.overlay {
                Some(format) => mark_opaque(dir.as_fd(), b"", format)
                    .map_err(LayerError::io("mark as opaque", path)),
                None => Ok(()),
            };
        }
        let cut = path.iter().rposition(|b| *b == b'/');
        let parent = self.dir(&path[..cut.unwrap_or(0)])?;
        let name = &path[cut.map_or(0, |i| i + 1)..];
        let at = parent.as_fd();
        if !self.done.deferred.links.is_empty() && entry.kind != EntryKind::Whiteout {
            self.done.deferred.links.retain(|(link, _)| link != path);
        }
        match &entry.kind {
            EntryKind::File { .. } => return self.put_file(at, name, entry, data),
            EntryKind::Directory => return self.put_dir(at, name, entry),
            EntryKind::Whiteout => return self.put_removal(at, name, path),
            EntryKind::OpaqueWhiteout => return Ok(()),
            EntryKind::Hardlink { target } => return self.put_link(at, name, path, target),
            EntryKind::Symlink { target } => {
                if target.is_empty() || target.contains(&0) {
                    return Err(refused(path, "its link target is not a path"));
                }
                self.anew(at, name, path, || {
                    rustix::fs::symlinkat(&target[..], at, name)
                })?;
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                self.skip(path, "a character device 0:0 would be a removal".to_owned());
                return Ok(());
            }
            EntryKind::CharDevice { major, minor } => {
                if !self.put_node(at, name, path, FileType::CharacterDevice, (*major, *minor))? {
                    return Ok(());
                }
            }
            EntryKind::BlockDevice { major, minor } => {
                if !self.put_node(at, name, path, FileType::BlockDevice, (*major, *minor))? {
                    return Ok(());
                }
            }
            EntryKind::Fifo => _ = self.put_node(at, name, path, FileType::Fifo, (0, 0))?,
        }
        // A link, a device or a pipe.
        if !self.options.remember {
            let (uid, gid) = self.owner(entry);
            rustix::fs::chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(self.owner_failed(entry))?;
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            rustix::fs::chmodat(at, name, mode(entry), AtFlags::empty())
                .map_err(LayerError::io("change the mode of", path))?;
        }
        self.put_xattrs(entry, |key, value| xattr::set(at, name, key, value))?;
        rustix::fs::utimensat(at, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::io("set the time of", path))?;
        // last: a link is known by its time
        self.remember_owner(at, name, entry)
    }

    /// Sets the times of directories and returns what came of it.
    pub fn finish(mut self) -> Result<Unpacked, LayerError> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            // A directory may have been replaced by a later entry.
            let Ok(dir) = open_in_root(&self.root, &path, OFlags::NOFOLLOW) else {
                continue;
            };
            rustix::fs::utimensat(&dir, ".", &times(mtime), AtFlags::empty())
                .map_err(LayerError::io("set the time of", &path))?;
        }
        Ok(self.done)
    }

    fn put_root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        match entry.kind {
            EntryKind::OpaqueWhiteout => self.done.deferred.opaque_root = true,
            EntryKind::Directory if self.options.overlay.is_some() => {
                self.done.deferred.implicit.remove(&entry.path);
                let root = Arc::clone(&self.root);
                self.dress_dir(root.as_fd(), entry)?;
            }
            // A user's archive says nothing about the directory that it goes into.
            EntryKind::Directory => {}
            _ => return Err(refused(b"", "it has no name")),
        }
        Ok(())
    }

    fn put_file(
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

    fn put_dir(
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

    fn dress_dir(&mut self, dir: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
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

    fn put_removal(
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

    fn put_link(
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
    fn put_node(
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

    fn put_xattrs(
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

    /// Makes something where nothing may be yet; what is there goes.
    fn anew<T>(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(at, name, path)?;
                make().map_err(LayerError::io("make", path))
            }
            other => other.map_err(LayerError::io("make", path)),
        }
    }

    fn clear(&mut self, at: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), LayerError> {
        self.open.clear();
        self.last = None;
        let below = |other: &[u8]| {
            other
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.done.deferred.implicit.retain(|dir| !below(dir));
        self.done.deferred.links.retain(|(link, _)| !below(link));
        self.times.retain(|dir, _| !below(dir));
        clear_path(at, name).map_err(LayerError::io("remove", path))
    }

    fn skip(&mut self, path: &[u8], what: String) {
        self.done.skipped.push(Skipped {
            path: path.to_vec(),
            what,
        });
    }

    /// Remembers the entry's owner, and what it is where an empty file stands for it.
    fn remember_owner(
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

    fn owner_failed(&self, entry: &Entry) -> impl FnOnce(Errno) -> LayerError + use<> {
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        let path = entry.path.clone();
        move |errno| LayerError::owner(&path, uid, gid)(errno)
    }

    fn owner(&self, entry: &Entry) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// Returns the directory `path`, made where it is missing.
    fn dir(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, LayerError> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(Arc::clone(dir));
        }
        let dir = match self.open.get(path) {
            Some(dir) => Arc::clone(dir),
            None => match open_in_root(&self.root, path, OFlags::empty()) {
                Ok(dir) => Arc::new(dir),
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_dirs(path)?,
                Err(e) => return Err(LayerError::io("open", path)(e)),
            },
        };
        self.remember(path, Arc::clone(&dir));
        Ok(dir)
    }

    fn remember(&mut self, path: &[u8], dir: Arc<OwnedFd>) {
        if self.open.len() >= OPEN_DIRS {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Arc::clone(&dir));
        self.last = Some((path.to_vec(), dir));
    }

    /// Walks to `path` one component at a time, as the kernel would with our root as `/`, and makes what is missing.
    fn make_dirs(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, LayerError> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|b| *b == b'/')
                .rev()
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut ahead = split(path);
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut dirs = vec![Arc::clone(&self.root)];
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    if dirs.len() > 1 {
                        dirs.pop();
                        real.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let at = Arc::clone(&dirs[dirs.len() - 1]);
            let open = || rustix::fs::openat(&at, &part[..], DIR | OFlags::NOFOLLOW, Mode::empty());
            let make = || {
                rustix::fs::mkdirat(&at, &part[..], Mode::RWXU)?;
                rustix::fs::chmodat(&at, &part[..], Mode::from_raw_mode(0o755), AtFlags::empty())?;
                if let Some((uid, gid)) = self.options.chown.filter(|_| !self.options.remember) {
                    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    rustix::fs::chownat(
                        &at,
                        &part[..],
                        owner.0,
                        owner.1,
                        AtFlags::SYMLINK_NOFOLLOW,
                    )?;
                }
                open()
            };
            let found = match open() {
                Err(Errno::NOENT) => {
                    let dir = make().map_err(LayerError::io("make a parent of", path))?;
                    if self.options.overlay.is_some() {
                        let made = real.iter().chain([&part]).map(|p| &p[..]);
                        let made = made.collect::<Vec<_>>().join(&b'/');
                        self.done.deferred.implicit.insert(made);
                    }
                    dir
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = stat(at.as_fd(), &part).map_err(LayerError::io("stat", path))?;
                    match (FileType::from_raw_mode(stat.st_mode), self.options.overlay) {
                        (FileType::Symlink, _) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(LayerError::io("open", path)(Errno::LOOP));
                            }
                            let target = rustix::fs::readlinkat(&at, &part[..], Vec::new())
                                .map_err(LayerError::io("read the link", path))?
                                .into_bytes();
                            if target.starts_with(b"/") {
                                dirs.truncate(1);
                                real.clear();
                            }
                            ahead.extend(split(&target));
                            continue;
                        }
                        (FileType::CharacterDevice, Some(format)) if stat.st_rdev == 0 => {
                            rustix::fs::unlinkat(&at, &part[..], AtFlags::empty())
                                .map_err(LayerError::io("replace", path))?;
                            let dir = make().map_err(LayerError::io("make a parent of", path))?;
                            mark_opaque(dir.as_fd(), b"", format)
                                .map_err(LayerError::io("mark as opaque", path))?;
                            dir
                        }
                        _ => return Err(refused(path, "one of its parents is not a directory")),
                    }
                }
                other => other.map_err(LayerError::io("open a parent of", path))?,
            };
            dirs.push(Arc::new(found));
            real.push(part);
        }
        Ok(dirs.pop().unwrap_or_else(|| Arc::clone(&self.root)))
    }
}

const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory below `root`, as if `root` were `/`.
fn open_in_root(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    loop {
        let opened = rustix::fs::openat2(
            root,
            path,
            DIR | flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            return opened;
        }
    }
}

fn stat(at: BorrowedFd<'_>, name: &[u8]) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn refused(path: &[u8], why: &'static str) -> LayerError {
    LayerError::Unsafe {
        path: shown(path),
        why,
    }
}

/// Refuses names that no honest archive has. The empty path is the root.
fn check(path: &[u8], of: &[u8]) -> Result<(), LayerError> {
    if path.contains(&0) {
        return Err(refused(of, "a name in it holds a NUL"));
    }
    if path.is_empty() {
        return Ok(());
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b".." => return Err(refused(of, "`..` in a path")),
            b"" | b"." => return Err(refused(of, "an empty name in a path")),
            _ => {}
        }
    }
    Ok(())
}

/// Marks the directory as one that hides what is below it.
pub(crate) fn mark_opaque(
    at: BorrowedFd<'_>,
    name: &[u8],
    format: OverlayFormat,
) -> Result<(), Errno> {
    let key: &[u8] = match format.userxattr {
        true => b"user.overlay.opaque",
        false => b"trusted.overlay.opaque",
    };
    xattr::set(at, name, key, b"y")
}

/// Puts overlayfs' mark of a removal: the device 0:0, or, on a file system that is itself an overlay and refuses that one,
/// an empty file with an attribute.
pub(crate) fn put_whiteout(
    at: BorrowedFd<'_>,
    name: &[u8],
    format: OverlayFormat,
) -> Result<(), Errno> {
    match rustix::fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(at, name, FileType::RegularFile, mode, 0)?;
    let key: &[u8] = match format.userxattr {
        true => b"user.overlay.whiteout",
        false => b"trusted.overlay.whiteout",
    };
    xattr::set(at, name, key, b"y")
}

/// Removes `name`, with all that is in it; nothing there is no error. Directories that cannot be entered (overlayfs
/// leaves its work directory with mode 000) are opened up first.
pub(crate) fn clear_path(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let open = || {
        rustix::fs::openat(
            at,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let dir = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    let mut opened_up = false;
    let mut items = rustix::fs::Dir::read_from(&dir)?;
    while let Some(item) = items.read() {
        let item = item?;
        let inside = item.file_name().to_bytes();
        if matches!(inside, b"." | b"..") {
            continue;
        }
        match clear_path(dir.as_fd(), inside) {
            Err(Errno::ACCESS) if !opened_up => {
                opened_up = true;
                rustix::fs::fchmod(&dir, Mode::RWXU)?;
                clear_path(dir.as_fd(), inside)?;
            }
            other => other?,
        }
    }
    rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}
