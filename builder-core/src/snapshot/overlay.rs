//! Snapshots as overlay directories: one a layer, shared by every image with that chain.
//!
//! ```text
//! snapshots/<64 hex of the ChainId>/fs     the layer, in overlay form; never changed
//! tmp/<kind>-<pid>-<n>/fs, work            being made; locked while it is
//! ```

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::baseline::Baseline;
use super::settle::{dress, settle};
use super::view::Mounted;
use super::{Change, SnapshotError, Stack, View, changes};
use crate::digest::{ChainId, DiffId};
use crate::layer::{
    Limits, OverlayFormat, Reader, ReaderOptions, UnpackOptions, Unpacked, Unpacker, clear_path,
    hashed,
};

/// Keeps trees, each on top of its parent.
pub trait Snapshotter: Send + Sync + std::fmt::Debug {
    /// Is the topmost layer of `chain` unpacked?
    fn has(&self, chain: ChainId) -> bool;

    /// Returns the directories of `chains` (base first), topmost first.
    fn lowers(&self, chains: &[ChainId]) -> Vec<PathBuf>;

    /// Unpacks an uncompressed layer on its own; verifies that it is `diff_id`. Any order, any number at a time.
    fn start_unpack(
        &self,
        diff_id: DiffId,
        tar: &mut (dyn Read + Send),
        limits: Limits,
    ) -> Result<Unpacking, SnapshotError>;

    /// Puts an unpacked layer in place as the last of `chains` (base first); the others are in place already.
    fn finish_unpack(
        &self,
        unpacking: Unpacking,
        chains: &[ChainId],
    ) -> Result<Unpacked, SnapshotError>;

    /// Unpacks the layer on top of `chains` (base first), which ends with its own.
    fn unpack(
        &self,
        chains: &[ChainId],
        diff_id: DiffId,
        tar: &mut (dyn Read + Send),
        limits: Limits,
    ) -> Result<Unpacked, SnapshotError> {
        let unpacking = self.start_unpack(diff_id, tar, limits)?;
        self.finish_unpack(unpacking, chains)
    }

    /// Returns a place to change the tree of `parents` (base first) in.
    fn prepare(&self, parents: &[ChainId]) -> Result<Active, SnapshotError>;

    /// Returns what was changed in `active`, in layer order.
    fn changes(&self, active: &Active) -> Result<Vec<Change>, SnapshotError>;

    /// Keeps what was made in `active` as the snapshot of the last of `chains` (base first); `changed` is what
    /// [`Snapshotter::changes`] said; where it is nothing, nothing is kept, and `chains` is the parents'.
    fn commit(
        &self,
        active: Active,
        changed: &[Change],
        chains: &[ChainId],
    ) -> Result<(), SnapshotError>;

    /// Returns the tree of `parents` (base first), to read.
    fn view(&self, parents: &[ChainId]) -> Result<View, SnapshotError>;
}

/// Snapshots for overlayfs in one directory.
#[derive(Debug)]
pub struct Overlay {
    dir: PathBuf,
    tmp: PathBuf,
    format: OverlayFormat,
    /// Owners are remembered, not made.
    remember: bool,
}

/// A layer unpacked, not yet in place. Dropping it removes it.
#[derive(Debug)]
pub struct Unpacking {
    tmp: TmpDir,
    unpacked: Unpacked,
}

/// A tree being changed. Dropping it removes it.
#[derive(Debug)]
pub struct Active {
    /// Layers below, topmost first.
    pub lowers: Vec<PathBuf>,
    /// What changes goes here: overlayfs' `upperdir`; or the whole tree, see [`Active::is_copy`].
    pub upper: PathBuf,
    /// Overlayfs' `workdir`.
    pub work: PathBuf,
    pub(super) tmp: TmpDir,
    /// How the copy was before anything ran in it.
    pub(super) before: Option<Baseline>,
}

impl Active {
    /// Is `upper` a copy of the whole tree, with nothing to be mounted below it?
    pub fn is_copy(&self) -> bool {
        self.before.is_some()
    }

    /// Moves everything to `to`, which must not be there but on the same file system; returns where it was.
    pub fn keep(mut self, to: &Path) -> io::Result<PathBuf> {
        let from = self.tmp.path().to_owned();
        std::fs::rename(&from, to)?;
        self.tmp.leave();
        Ok(from)
    }
}

impl Overlay {
    /// Uses `dir` for snapshots and `tmp`, on the same file system, for what is being made; both are created.
    pub fn new(dir: &Path, tmp: &Path, userxattr: bool) -> Result<Overlay, SnapshotError> {
        for dir in [dir, tmp] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed("make", dir))?;
        }
        Ok(Overlay {
            dir: dir.to_owned(),
            tmp: tmp.to_owned(),
            format: OverlayFormat { userxattr },
            remember: false,
        })
    }

    /// Remembers owners instead of making them: for one mapped id.
    #[must_use]
    pub fn remembering(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    pub(super) fn format(&self) -> OverlayFormat {
        self.format
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Removes what killed processes left in `tmp`; what is in use stays. Returns how many.
    pub fn sweep(&self) -> Result<usize, SnapshotError> {
        let mut removed = 0;
        for item in std::fs::read_dir(&self.tmp).map_err(failed("list", &self.tmp))? {
            let path = item.map_err(failed("list", &self.tmp))?.path();
            let Ok(dir) = File::open(&path) else { continue };
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            remove(&path).map_err(failed("remove", &path))?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes a snapshot; the caller knows that nothing uses it. First out of sight, so that no half is ever found.
    pub fn remove(&self, chain: ChainId) -> Result<(), SnapshotError> {
        let path = self.dir.join(chain.0.hex());
        let tmp = TmpDir::new(&self.tmp, "gone")?;
        match std::fs::rename(&path, tmp.path().join("snapshot")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", &path)),
        }
    }

    pub(super) fn existing(&self, chains: &[ChainId]) -> Result<Vec<PathBuf>, SnapshotError> {
        match chains.iter().find(|chain| !self.has(**chain)) {
            Some(chain) => Err(SnapshotError::Missing(*chain)),
            None => Ok(self.lowers(chains)),
        }
    }

    /// Gives `fs` in `tmp` its final name; one that is there already wins, and `fs` stays in `tmp`.
    /// Returns whether it has moved.
    pub(super) fn place(&self, tmp: &TmpDir, chain: ChainId) -> Result<bool, SnapshotError> {
        let to = self.dir.join(chain.0.hex());
        let ready = tmp.path().join("ready");
        DirBuilder::new()
            .mode(0o700)
            .create(&ready)
            .and_then(|()| std::fs::rename(tmp.path().join("fs"), ready.join("fs")))
            .map_err(failed("rename", &ready))?;
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &ready, cwd, &to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // File systems without NOREPLACE: a directory that is not empty is not replaced either.
            Err(Errno::INVAL) => match std::fs::rename(&ready, &to) {
                Ok(()) => Ok(true),
                Err(_) if self.has(chain) => Ok(false),
                Err(e) => Err(failed("rename", &to)(e)),
            },
            Err(e) => Err(failed("rename", &to)(e)),
        }
    }
}

impl Snapshotter for Overlay {
    fn has(&self, chain: ChainId) -> bool {
        self.dir.join(chain.0.hex()).join("fs").is_dir()
    }

    fn lowers(&self, chains: &[ChainId]) -> Vec<PathBuf> {
        let path = |chain: &ChainId| self.dir.join(chain.0.hex()).join("fs");
        chains.iter().rev().map(path).collect()
    }

    fn start_unpack(
        &self,
        diff_id: DiffId,
        tar: &mut (dyn Read + Send),
        limits: Limits,
    ) -> Result<Unpacking, SnapshotError> {
        let tmp = TmpDir::new(&self.tmp, "unpack")?;
        let root = tmp.make("fs", 0o755)?;
        let options = UnpackOptions {
            overlay: Some(self.format),
            chown: None,
            remember: self.remember,
        };
        let (unpacked, found) = hashed(tar, |tar| {
            let mut reader = Reader::new(
                tar,
                ReaderOptions {
                    whiteouts: true,
                    limits,
                },
            );
            let mut unpacker = Unpacker::new(root.as_fd(), options)?;
            unpacker.unpack(&mut reader)?;
            reader.drain()?;
            Ok::<_, SnapshotError>(unpacker.finish()?)
        })?;
        if found != diff_id {
            return Err(SnapshotError::DiffId {
                expected: diff_id,
                found,
            });
        }
        Ok(Unpacking { tmp, unpacked })
    }

    fn finish_unpack(
        &self,
        unpacking: Unpacking,
        chains: &[ChainId],
    ) -> Result<Unpacked, SnapshotError> {
        let Unpacking { tmp, unpacked } = unpacking;
        let Some((own, parents)) = chains.split_last() else {
            return Ok(unpacked);
        };
        let lowers = self.existing(parents)?;
        let path = tmp.path().join("fs");
        let root = File::open(&path).map_err(failed("open", &path))?;
        settle(root.as_fd(), &unpacked.deferred, &lowers, self.format)?;
        self.place(&tmp, *own)?;
        Ok(unpacked)
    }

    fn prepare(&self, parents: &[ChainId]) -> Result<Active, SnapshotError> {
        // The caller knows that the others are there, and the mount would tell: a look costs as much as a step's mount.
        if let Some(top) = parents.last() {
            self.existing(&[*top])?;
        }
        let lowers = self.lowers(parents);
        let tmp = TmpDir::new(&self.tmp, "active")?;
        let upper = tmp.make("fs", 0o755)?;
        tmp.make("work", 0o700)?;
        if let Some(parent) = lowers.first() {
            let from = File::open(parent).map_err(failed("open", parent))?;
            dress(from.as_fd(), b".", upper.as_fd(), b".").map_err(failed("read", parent))?;
        }
        Ok(Active {
            lowers,
            upper: tmp.path().join("fs"),
            work: tmp.path().join("work"),
            tmp,
            before: None,
        })
    }

    fn changes(&self, active: &Active) -> Result<Vec<Change>, SnapshotError> {
        let upper = File::open(&active.upper).map_err(failed("open", &active.upper))?;
        changes(upper.as_fd(), &active.lowers, self.format.userxattr)
    }

    fn commit(
        &self,
        mut active: Active,
        changed: &[Change],
        chains: &[ChainId],
    ) -> Result<(), SnapshotError> {
        let moved = match chains.last() {
            Some(chain) if !changed.is_empty() => self.place(&active.tmp, *chain)?,
            _ => true,
        };
        if moved {
            active.tmp.leave();
        }
        Ok(())
    }

    fn view(&self, parents: &[ChainId]) -> Result<View, SnapshotError> {
        let lowers = self.existing(parents)?;
        if self.remember {
            // what is remembered of links is in each layer's directories; the mount shows the topmost's
            let stack = Stack::open(&lowers, self.format.userxattr);
            return stack
                .map(View::Layers)
                .map_err(SnapshotError::io("open a layer of", b""));
        }
        let tmp = TmpDir::new(&self.tmp, "view")?;
        tmp.make("fs", 0o755)?;
        Mounted::new(&lowers, tmp, self.format.userxattr).map(View::Mounted)
    }
}

/// A directory in `tmp/`, locked while it lives and removed at its end.
#[derive(Debug)]
pub(super) struct TmpDir {
    path: PathBuf,
    left: bool,
    _lock: File,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl TmpDir {
    pub(super) fn new(tmp: &Path, kind: &str) -> Result<TmpDir, SnapshotError> {
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = tmp.join(format!("{kind}-{}-{n}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Left by a process of the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(failed("make", &path))?,
            }
            // A sweep may come between the two: then the directory is not the one that was opened and locked.
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let same = std::fs::metadata(&path).map(|m| m.ino()).ok()
                == lock.metadata().map(|m| m.ino()).ok();
            if same {
                return Ok(TmpDir {
                    path,
                    left: false,
                    _lock: lock,
                });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves what is there, a few empty directories, to the sweep at the end of the process: ext4 takes its time over
    /// new inodes while there are some that were freed within the last seconds.
    fn leave(&mut self) {
        self.left = true;
    }

    pub(super) fn make(&self, name: &str, mode: u32) -> Result<File, SnapshotError> {
        let path = self.path.join(name);
        let mode = Mode::from_raw_mode(mode);
        let made = rustix::fs::mkdir(&path, mode)
            .and_then(|()| rustix::fs::chmod(&path, mode)) // whatever the umask
            .and_then(|()| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&path, flags, Mode::empty())
            });
        made.map(File::from).map_err(failed("make", &path))
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        // What stays is swept later.
        if !self.left {
            let _ = remove(&self.path);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok(clear_path(File::open(parent)?.as_fd(), name.as_bytes())?)
}

pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> SnapshotError {
    let path = path.display().to_string();
    move |source| SnapshotError::Io {
        action,
        path,
        source: source.into(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
