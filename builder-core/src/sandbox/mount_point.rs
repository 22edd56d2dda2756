//! Finds paths inside a root, makes the mount points that are missing there, and takes them away again.
//!
//! Every look goes through openat2 with RESOLVE_IN_ROOT: a symbolic link of the image, absolute or with any number
//! of `..`, ends inside. A dangling link is followed to where it points, and the mount point made there.
//!
//! Making an entry in a directory of the image copies that directory, and those above it, into the upper directory.
//! The times are put back, and each such directory's ctime is noted: if it is still the same when the step is over,
//! nothing but us has touched it, and the empty copy can be removed from the upper directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mount_plan::Kind;
use super::protocol::{During, Failure};

const MOST_LINKS: usize = 40;

/// A root directory and what was made in it.
#[derive(Debug)]
pub(super) struct Interior {
    root: OwnedFd,
    made: Vec<Made>,
    /// Directories in which something was made, and those above them: their ctime after that.
    touched: BTreeMap<PathBuf, (i128, i128)>,
    /// Mounts in the order in which they were made, as their mount point's parent and name.
    mounted: Vec<(OwnedFd, OsString)>,
}

#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    path: PathBuf,
    kind: Kind,
}

/// A path found inside a root: the object, its parent and its name there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) object: OwnedFd,
    parent: OwnedFd,
    name: OsString,
}

impl Found {
    /// The directory that it is in, and its name there.
    pub(super) fn place(self) -> (OwnedFd, OsString) {
        (self.parent, self.name)
    }
}

impl Interior {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root,
            made: Vec::new(),
            touched: BTreeMap::new(),
            mounted: Vec::new(),
        }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Opens a path as it is, following links inside the root.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        open_in(&self.root, path, flags)
    }

    /// The mount point at `path`, made for the time of the step where it is missing.
    pub(super) fn mount_point(&mut self, path: &Path, kind: Kind) -> Result<Found, Failure> {
        self.walk(path, kind, true)
    }

    /// The directory at `path`, made for good where it is missing.
    pub(super) fn directory(&mut self, path: &Path) -> Result<OwnedFd, Failure> {
        if let Ok(found) = self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            return Ok(found);
        }
        self.walk(path, Kind::Directory, false)
            .map(|found| found.object)
    }

    /// Notes that something was mounted there.
    pub(super) fn mounted(&mut self, found: Found) {
        self.mounted.push((found.parent, found.name));
    }

    /// Follows `path` component by component; `passing` says that what is made is taken away after the step.
    fn walk(&mut self, path: &Path, kind: Kind, passing: bool) -> Result<Found, Failure> {
        let mut rest: Vec<OsString> = names(path).rev().collect();
        let mut here = PathBuf::new();
        let mut links = 0;
        let mut last = None;
        while let Some(name) = rest.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let parent = self
                .open(&here, OFlags::PATH | OFlags::DIRECTORY)
                .during_at("open the directory", inside(&here))?;
            let next = here.join(&name);
            let wanted = if rest.is_empty() {
                kind
            } else {
                Kind::Directory
            };
            let object = match open_at(&parent, &name) {
                Ok(object) => object,
                Err(Errno::NOENT) => {
                    self.make(&parent, &here, &name, wanted, passing)
                        .during_at("make the mount point", inside(&next))?;
                    open_at(&parent, &name).during_at("open the mount point", inside(&next))?
                }
                Err(errno) => {
                    return Err(errno).during_at("look for the mount point", inside(&next));
                }
            };
            let stat = rustix::fs::fstat(&object).during_at("stat", inside(&next))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP).during_at("follow the links of", path);
                }
                let link = rustix::fs::readlinkat(&parent, &name, Vec::new())
                    .during_at("read the link", inside(&next))?;
                let link = PathBuf::from(OsString::from_vec(link.into_bytes()));
                if link.is_absolute() {
                    here = PathBuf::new();
                }
                rest.extend(names(&link).rev());
                continue;
            }
            here = next;
            last = Some(Found {
                object,
                parent,
                name,
            });
        }
        // a path that ends in the root itself, or in `..` of a link
        let found = match last {
            Some(found) if rustix::fs::fstat(&found.object).is_ok() => found,
            _ => return Err(Errno::INVAL).during_at("use as a mount point", path),
        };
        Ok(found)
    }

    fn make(
        &mut self,
        parent: &OwnedFd,
        parent_path: &Path,
        name: &OsStr,
        kind: Kind,
        passing: bool,
    ) -> Result<(), Errno> {
        let before = rustix::fs::fstat(parent)?;
        match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => drop(rustix::fs::openat(
                parent,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o644),
            )?),
        }
        if !passing {
            return Ok(());
        }
        restore_modified(parent, &before)?;
        self.made.push(Made {
            parent: parent.try_clone().map_err(|_| Errno::MFILE)?,
            path: parent_path.join(name),
            kind,
        });
        for directory in parent_path.ancestors() {
            let stat = rustix::fs::fstat(self.open(directory, OFlags::PATH)?)?;
            self.touched.insert(directory.to_owned(), changed(&stat));
        }
        Ok(())
    }

    /// Whether there is anything to take away after the step.
    pub(super) fn is_untouched(&self) -> bool {
        self.made.is_empty()
    }

    /// Takes the mounts off and removes what was made for them.
    ///
    /// Returns the directories, relative to the root and deepest first, whose copy in an upper directory exists for
    /// the mount points' sake only. No other process may be left in the root.
    pub(super) fn clear(mut self) -> Vec<PathBuf> {
        while let Some((parent, name)) = self.mounted.pop() {
            // a name relative to the working directory: the mount's own path may be hidden by now
            if rustix::process::fchdir(&parent).is_ok() {
                let _ = rustix::mount::unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            }
        }
        let untouched: Vec<PathBuf> = self
            .touched
            .iter()
            .filter(|(path, noted)| {
                self.open(path, OFlags::PATH)
                    .and_then(rustix::fs::fstat)
                    .is_ok_and(|stat| changed(&stat) == **noted)
            })
            .map(|(path, _)| path.clone())
            .collect();
        while let Some(Made { parent, path, kind }) = self.made.pop() {
            let Some(name) = path.file_name() else {
                continue;
            };
            let Ok(before) = rustix::fs::fstat(&parent) else {
                continue;
            };
            let flags = match kind {
                Kind::Directory => AtFlags::REMOVEDIR,
                Kind::File => AtFlags::empty(),
            };
            // a directory that the step put something into stays, and is part of the result
            if rustix::fs::unlinkat(&parent, name, flags).is_ok() {
                let _ = restore_modified(&parent, &before);
            }
        }
        let mut untouched: Vec<PathBuf> = untouched
            .into_iter()
            .filter(|path| path != Path::new("") && self.open(path, OFlags::PATH).is_ok())
            .collect();
        untouched.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        untouched
    }
}

/// Opens a path inside a root.
pub(super) fn open_in(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path == Path::new("") {
        Path::new(".")
    } else {
        path
    };
    loop {
        // EAGAIN: a rename elsewhere raced with a `..` of this walk
        match rustix::fs::openat2(
            &root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn open_at(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    open_in(parent, Path::new(name), OFlags::PATH | OFlags::NOFOLLOW)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn inside(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn changed(stat: &Stat) -> (i128, i128) {
    (i128::from(stat.st_ctime), i128::from(stat.st_ctime_nsec))
}

pub(super) fn restore_modified(directory: &OwnedFd, before: &Stat) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: before.st_mtime as _,
            tv_nsec: before.st_mtime_nsec as _,
        },
    };
    rustix::fs::utimensat(directory, ".", &times, AtFlags::empty())
}
