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
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{Lock, StoreError};

/// The claims of a process.
#[derive(Debug)]
pub(super) struct Claims {
    lock: PathBuf,
    since: SystemTime,
    claimed: Mutex<HashSet<PathBuf>>,
}

impl Claims {
    /// `since` is the process's start, as its directory in `tmp/` has it.
    pub(super) fn new(root: &Path, since: SystemTime) -> Claims {
        Claims {
            lock: root.join("locks/sweep"),
            since,
            claimed: Mutex::default(),
        }
    }

    /// Says that the files or directories at `paths` are relied on from now on; what is not there is left out of the answer.
    pub(super) fn claim(&self, paths: &[PathBuf]) -> Result<Vec<Option<Metadata>>, StoreError> {
        let fresh = {
            let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
            paths.iter().any(|path| !claimed.contains(path))
        };
        // What was claimed stays: there is no need to keep a sweep away.
        let _held = match fresh {
            true => Some(Lock::shared(&self.lock)?),
            false => None,
        };
        let found = paths.iter().map(|path| self.one(path)).collect();
        Ok(found)
    }

    fn one(&self, path: &Path) -> Option<Metadata> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let known = |set: &mut HashSet<PathBuf>| !set.insert(path.to_owned());
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if known(&mut claimed) {
            return Some(metadata);
        }
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if used < self.since && touch(path).is_err() {
            // It cannot be kept, so it is not there.
            claimed.remove(path);
            return None;
        }
        Some(metadata)
    }
}

/// Gives a file or a directory the time of now.
fn touch(path: &Path) -> std::io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}
