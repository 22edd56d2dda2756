//! Taking away what nobody needs, while builds go on.
//!
//! ```text
//! list and judge (no lock) ─▶ for some at a time, with `locks/sweep` held alone:
//!                               the time of last use is still what was seen, and is before the start of every
//!                               living process?  ─▶ rename into tmp/  ─▶ (lock given back) ─▶ remove
//! ```
//!
//! What a living process has made or claimed has been used since it began, so it stays; what it has not yet found may
//! go, and then it does not find it. A cache mount has a lock of its own, which a step holds while it runs: it goes only if
//! nobody has that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::at;
use super::tmp::{self, remove_tree};
use super::{Lock, Store, StoreError};

/// One thing to take away, as it was when it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    pub path: PathBuf,
    /// When it was last used.
    pub used: SystemTime,
    /// The lock that a user of it holds: a cache mount's.
    pub lock: Option<String>,
}

/// So many are moved before others may go on.
const AT_A_TIME: usize = 128;

impl Store {
    /// Takes away what of `condemned` was not used in the meantime, and is in nobody's use. Returns, for each, whether it is
    /// gone.
    ///
    /// # Errors
    /// A lock that cannot be taken, a directory that cannot be made. What has been moved until then is removed all the same.
    pub fn sweep(&self, condemned: &[Condemned]) -> Result<Vec<bool>, StoreError> {
        let trash = tempfile::tempdir_in(self.tmp_dir()).map_err(at("write to", self.tmp_dir()))?;
        let mut gone = Vec::with_capacity(condemned.len());
        let mut moved = Vec::new();
        for some in condemned.chunks(AT_A_TIME) {
            {
                let _alone = Lock::exclusive(&self.root().join("locks/sweep"))?;
                let oldest = tmp::oldest_living(self.root(), self.inner.tmp.own())?;
                for one in some {
                    let to = trash.path().join(gone.len().to_string());
                    gone.push(self.move_away(one, oldest, &to));
                    moved.push(to);
                }
            }
            for path in moved.drain(..) {
                remove_tree(&path);
            }
        }
        Ok(gone)
    }

    fn move_away(&self, one: &Condemned, oldest: Option<SystemTime>, to: &Path) -> bool {
        let _held = match &one.lock {
            None => None,
            Some(name) => match self.try_lock_untouched(name) {
                Ok(Some(lock)) => Some(lock),
                _ => return false,
            },
        };
        // A cache mount's own time says when a file was last made directly in it, no more; its lock says enough.
        if one.lock.is_none() {
            let used = fs::symlink_metadata(&one.path).and_then(|it| it.modified());
            let Ok(used) = used else {
                return false;
            };
            if used != one.used || oldest.is_some_and(|oldest| used >= oldest) {
                return false;
            }
        }
        fs::rename(&one.path, to).is_ok()
    }
}
