//! flock on a file: held by an open file, so the kernel lets go of it when the process dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::StoreError;
use super::error::at;

/// A lock, held until dropped. Two handles exclude each other within a process, too.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Notes the time, for a sweep that asks when the lock was last used.
    pub(super) fn used(self) -> Lock {
        // A sweep that knows less is no harm.
        let _ = self._file.set_modified(std::time::SystemTime::now());
        self
    }

    pub(super) fn shared(path: &Path) -> Result<Lock, StoreError> {
        let file = open(path)?;
        file.lock_shared().map_err(at("lock", path))?;
        Ok(Lock { _file: file })
    }

    pub(super) fn exclusive(path: &Path) -> Result<Lock, StoreError> {
        let file = open(path)?;
        file.lock().map_err(at("lock", path))?;
        Ok(Lock { _file: file })
    }

    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Lock>, StoreError> {
        try_lock(open(path)?, path)
    }

    pub(super) fn try_shared(path: &Path) -> Result<Option<Lock>, StoreError> {
        let file = open(path)?;
        let locked = file.try_lock_shared();
        taken(file, locked, path)
    }

    /// Locks a directory itself, if nobody has it; it must exist.
    pub(super) fn try_directory(path: &Path) -> Result<Option<Lock>, StoreError> {
        try_lock(File::open(path).map_err(at("open", path))?, path)
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(at("open", path))
}

fn try_lock(file: File, path: &Path) -> Result<Option<Lock>, StoreError> {
    let locked = file.try_lock();
    taken(file, locked, path)
}

fn taken(
    file: File,
    locked: Result<(), TryLockError>,
    path: &Path,
) -> Result<Option<Lock>, StoreError> {
    match locked {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at("lock", path)(error)),
    }
}
