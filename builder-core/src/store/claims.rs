//! What this process relies on, so that no sweep takes it away.
//!
//! A blob, a snapshot or a record is *claimed* by giving it a time of last use (its file's mtime) that is not before the
//! start of the process; what the process makes itself has such a time anyway. A sweep takes nothing that was used
//! since the oldest living process began, see [`super::sweep`].
//!
//! Claiming happens under `locks/sweep`, shared; a sweep holds it for itself for the moment in which it looks at the times
//! again and moves things out of sight. So a thing is there and stays, or it is gone before anybody has found it.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use super::{Lock, StoreError};

/// The claims of a process.
#[derive(Debug)]
pub(super) struct Claims {
    lock: PathBuf,
    since: SystemTime,
    claimed: Mutex<HashSet<PathBuf>>,
    /// Whoever claims at the same moment holds the lock together.
    held: Mutex<Weak<Lock>>,
}

/// While it lives no sweep takes anything.
pub type Claiming = Arc<Lock>;

impl Claims {
    /// `since` is the process's start, as its directory in `tmp/` has it.
    pub(super) fn new(root: &Path, since: SystemTime) -> Claims {
        Claims {
            lock: root.join("locks/sweep"),
            since,
            claimed: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Keeps sweeps away for a moment; waits for one that is at work.
    pub(super) fn hold(&self) -> Result<Claiming, StoreError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = held.upgrade() {
            return Ok(lock);
        }
        let lock = Arc::new(Lock::shared(&self.lock)?);
        *held = Arc::downgrade(&lock);
        Ok(lock)
    }

    fn is_claimed(&self, path: &Path) -> bool {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.contains(path)
    }

    /// Claims a file, and returns what it holds.
    pub(super) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let _held = match self.is_claimed(path) {
            true => None,
            false => Some(self.hold().ok()?),
        };
        let mut file = File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        self.keep(path, &metadata, || file.set_modified(SystemTime::now()))?;
        // It is never written in place: it has the length that it was made with.
        let length = usize::try_from(metadata.len()).ok()?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Says that the files or directories at `paths` are relied on from now on; what is not there is left out of the answer.
    pub(super) fn claim(&self, paths: &[PathBuf]) -> Result<Vec<Option<Metadata>>, StoreError> {
        // What was claimed stays: there is no need to keep a sweep away.
        let _held = match paths.iter().all(|path| self.is_claimed(path)) {
            true => None,
            false => Some(self.hold()?),
        };
        let found = paths.iter().map(|path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            self.keep(path, &metadata, || touch(path))?;
            Some(metadata)
        });
        Ok(found.collect())
    }

    /// Gives what was found a time of use that keeps it; `None` where it cannot be kept, so that it is as good as not there.
    fn keep(
        &self,
        path: &Path,
        metadata: &Metadata,
        touch: impl FnOnce() -> std::io::Result<()>,
    ) -> Option<()> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if !claimed.insert(path.to_owned()) {
            return Some(());
        }
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if used < self.since && touch().is_err() {
            claimed.remove(path);
            return None;
        }
        Some(())
    }
}

/// Gives a file or a directory the time of now.
fn touch(path: &Path) -> std::io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}
