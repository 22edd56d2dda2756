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

mod dirs;
mod entries;
mod marks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::shown;
use super::{Entry, EntryKind, LayerError, Reader, xattr};
use dirs::{DIR, open_in_root};

pub(crate) use marks::{clear_path, mark_opaque, put_whiteout};

const BUFFER: usize = 256 * 1024;

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
