//! How a copied tree was before a step ran in it: what tells a file that was not touched without reading it.
//!
//! Whatever writes to a file, or changes its mode, owner, attributes or names, sets its ctime, which nobody can set at
//! will. So a file with the same inode and ctime at the same path is as it was. The clock that ctime is taken from may be
//! as coarse as a tick of the kernel: [`Baseline::take`] waits until it has moved on.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::merged;
use super::{At as _, SnapshotError};

type Stamp = (u64, i64, i64);

/// The stamps of all that is not a directory, by path.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    stamps: HashMap<Vec<u8>, Stamp>,
    newest: (i64, i64),
}

fn stamp(stat: &Stat) -> Stamp {
    let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or_default();
    (stat.st_ino, stat.st_ctime, nanos)
}

impl Baseline {
    /// Looks at `tree`; `clock` is an open file of the same file system, whose times are nobody's business.
    pub(super) fn take(tree: BorrowedFd<'_>, clock: &File) -> Result<Self, SnapshotError> {
        let mut baseline = Baseline::default();
        baseline.walk(tree, b"")?;
        for _ in 0..100 {
            rustix::fs::fchmod(clock, Mode::RUSR | Mode::WUSR).at("touch a file beside", b"")?;
            let (_, seconds, nanos) = stamp(&rustix::fs::fstat(clock).at("stat", b"")?);
            if (seconds, nanos) > baseline.newest {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(baseline)
    }

    fn walk(&mut self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<(), SnapshotError> {
        for (name, kind) in merged::list(dir).at("list", path)? {
            let full = match path {
                b"" => name.clone(),
                _ => [path, b"/", &name].concat(),
            };
            if kind != FileType::Directory {
                let stat = rustix::fs::statat(dir, &name[..], AtFlags::SYMLINK_NOFOLLOW)
                    .at("stat", &full)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    let stamp = stamp(&stat);
                    self.newest = self.newest.max((stamp.1, stamp.2));
                    self.stamps.insert(full, stamp);
                    continue;
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below: OwnedFd =
                rustix::fs::openat(dir, &name[..], flags, Mode::empty()).at("open", &full)?;
            self.walk(below.as_fd(), &full)?;
        }
        Ok(())
    }

    /// Was this file at `path` before, whatever has been done to it since?
    pub(super) fn had(&self, path: &[u8], now: &Stat) -> bool {
        self.stamps
            .get(path)
            .is_some_and(|stamp| stamp.0 == now.st_ino)
    }

    /// Is what is at `path` now what was there before?
    pub(super) fn is_untouched(&self, path: &[u8], now: &Stat) -> bool {
        self.stamps.get(path) == Some(&stamp(now))
    }
}
