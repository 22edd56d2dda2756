//! A process's own directory for unfinished work, and the removal of dead processes' ones.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::NamedTempFile;

use super::error::at;
use super::{Lock, StoreError};

/// `tmp/<start>-<random>/`, locked; removed when dropped. The start is in nanoseconds since the epoch. What the process makes is in
/// a directory in it, which is made when it is first asked for: many processes make nothing.
#[derive(Debug)]
pub(super) struct ProcessDir {
    own: PathBuf,
    inside: PathBuf,
    is_made: OnceLock<bool>,
    since: SystemTime,
    _lock: Lock,
}

/// Files have times of the kernel's last tick, which may be a little before that of the clock.
const GRAIN: Duration = Duration::from_secs(1);

impl ProcessDir {
    /// Makes the directory, and removes those whose lock is free.
    pub(super) fn new(root: &Path) -> Result<Self, StoreError> {
        let parent = root.join("tmp");
        let guard = Lock::exclusive(&root.join("locks/tmp"))?;
        let dead = dead(&parent);
        let since = SystemTime::now() - GRAIN;
        let start = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = tempfile::Builder::new()
            .prefix(&format!("{}-", start.as_nanos()))
            .rand_bytes(10)
            .tempdir_in(&parent)
            .map_err(at("create a directory in", &parent))?
            .keep();
        let lock = Lock::try_directory(&path)?.ok_or_else(|| {
            let error = std::io::Error::other("another process has locked it");
            at("lock", &path)(error)
        })?;
        // Others may come in now: the dead ones' locks are ours, so nobody else removes them.
        drop(guard);
        for (path, _lock) in dead {
            remove_tree(&path);
        }
        Ok(ProcessDir {
            inside: path.join("w"),
            own: path,
            is_made: OnceLock::new(),
            since,
            _lock: lock,
        })
    }

    /// Returns the time from which on all that the process makes is.
    pub(super) fn since(&self) -> SystemTime {
        self.since
    }

    /// Returns the process's directory in `tmp`.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Returns where to make things.
    pub(super) fn path(&self) -> &Path {
        let is_made = self.is_made.get_or_init(|| {
            spread(&self.own);
            DirBuilder::new().mode(0o700).create(&self.inside).is_ok()
        });
        match is_made {
            true => &self.inside,
            // What is to be made there will say why.
            false => &self.own,
        }
    }

    /// Makes an empty file that becomes readable for all once it is renamed.
    pub(super) fn file(&self) -> Result<NamedTempFile, StoreError> {
        tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(self.path())
            .map_err(at("create a file in", self.path()))
    }

    /// Puts a file with `bytes` in the place of `path`, in one step.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace_parts(path, &[bytes])
    }

    /// The same, of bytes that lie in several places.
    pub(super) fn replace_parts(&self, path: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut file = self.file()?;
        for bytes in parts {
            file.write_all(bytes).map_err(at("write", file.path()))?;
        }
        file.persist(path)
            .map_err(|error| at("write", path)(error.error))?;
        Ok(())
    }
}

impl Drop for ProcessDir {
    fn drop(&mut self) {
        remove_tree(&self.own);
    }
}

/// Has ext4 lay out what is in each directory in `directory` in a part of the disk of its own (`chattr +T`: each is the top of a
/// hierarchy). Where somebody has just removed many files, as other builders do all the time, it makes new ones slowly: it
/// passes over each inode that was freed within the last seconds. Where the flag is not known, nothing is lost.
pub(super) fn spread(directory: &Path) {
    if let Ok(open) = File::open(directory)
        && let Ok(flags) = ioctl_getflags(&open)
    {
        let _ = ioctl_setflags(&open, flags | IFlags::TOPDIR);
    }
}

/// Returns the start of the oldest process that has the store open, `own` apart; `None` where there is no other.
///
/// One whose name does not tell is as old as can be.
pub(super) fn oldest_living(root: &Path, own: &Path) -> Result<Option<SystemTime>, StoreError> {
    // No directory is between being made and being locked.
    let _guard = Lock::exclusive(&root.join("locks/tmp"))?;
    let parent = root.join("tmp");
    let entries = fs::read_dir(&parent).map_err(at("list", &parent))?;
    let mut oldest = None;
    for entry in entries.flatten() {
        let path = entry.path();
        if path == own || !entry.file_type().is_ok_and(|it| it.is_dir()) {
            continue;
        }
        if let Ok(Some(_)) = Lock::try_directory(&path) {
            continue;
        }
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.split_once('-'));
        let start = start.and_then(|(nanos, _)| nanos.parse().ok());
        let start = start.map_or(UNIX_EPOCH, |nanos| UNIX_EPOCH + Duration::from_nanos(nanos));
        oldest = Some(oldest.map_or(start, |known: SystemTime| known.min(start)));
    }
    Ok(oldest)
}

/// Lists what nobody has locked, and locks it.
fn dead(parent: &Path) -> Vec<(PathBuf, Option<Lock>)> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|it| it.is_dir()) {
                return Some((path, None));
            }
            // A directory that cannot be opened is left alone.
            Some((path.clone(), Some(Lock::try_directory(&path).ok()??)))
        })
        .collect()
}

/// Removes a file or a tree; errors are ignored: a later sweep tries again.
pub(super) fn remove_tree(path: &Path) {
    if fs::remove_dir_all(path).is_ok() || fs::remove_file(path).is_ok() {
        return;
    }
    // An overlay leaves `work/work` without any permission bit.
    make_accessible(path);
    let _ = fs::remove_dir_all(path);
}

fn make_accessible(path: &Path) {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    if !is_directory {
        return;
    }
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        make_accessible(&entry.path());
    }
}
