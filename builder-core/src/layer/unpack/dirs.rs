//! Directories on the way to an entry: found, kept open, made where they are missing; never out of the root.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::marks::mark_opaque;
use super::{Unpacker, refused, stat};
use crate::layer::LayerError;

const OPEN_DIRS: usize = 64;
const MAX_LINKS: usize = 40;

pub(super) const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Unpacker {
    /// Returns the directory `path`, made where it is missing.
    pub(super) fn dir(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, LayerError> {
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

    pub(super) fn remember(&mut self, path: &[u8], dir: Arc<OwnedFd>) {
        if self.open.len() >= OPEN_DIRS {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), Arc::clone(&dir));
        self.last = Some((path.to_vec(), dir));
    }

    /// Walks to `path` one component at a time, as the kernel would with our root as `/`, and makes what is missing.
    pub(super) fn make_dirs(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, LayerError> {
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

/// Opens a directory below `root`, as if `root` were `/`.
pub(super) fn open_in_root(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
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
