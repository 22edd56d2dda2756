//! Blobs that come from elsewhere, perhaps in several goes.
//!
//! What has come of a blob is in `downloads/<hex>`, under a lock while somebody is at it, and outlives its process: the next one
//! goes on from there. So of two processes that want the same blob one fetches it, and the other waits.
//!
//! Whole and right, the file is renamed into `blobs/`; whole and wrong, it is removed. One that nobody has touched for a day goes
//! when the store is next opened.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::error::at;
use super::raw::{Followed, Follower};
use super::{Blobs, StoreError};
use crate::digest::Digest;

const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);
const BUFFER: usize = 256 << 10;

/// A blob on its way. Dropped without a commit, what has come stays for the next one who wants it.
#[derive(Debug)]
pub struct Download {
    digest: Digest,
    /// Locked.
    file: File,
    path: PathBuf,
    hash: Sha256,
    done: u64,
    resumed: bool,
    followed: Option<Arc<Followed>>,
    blobs: Blobs,
}

impl Blobs {
    /// Starts, or goes on with, the download of a blob of `size` bytes; `None` while somebody else is at it.
    ///
    /// # Errors
    /// What the system says.
    pub fn download(&self, digest: &Digest, size: u64) -> Result<Option<Download>, StoreError> {
        let path = self.downloads.join(digest.hex());
        fs::create_dir_all(&self.downloads).map_err(at("create", &self.downloads))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(at("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
        }
        // Its last owner may have renamed or removed it before the lock was ours.
        let own = file.metadata().map_err(at("read", &path))?;
        if fs::metadata(&path).map(|it| it.ino()).ok() != Some(own.ino()) {
            return Ok(None);
        }
        let mut download = Download {
            digest: *digest,
            file,
            path,
            hash: Sha256::new(),
            done: 0,
            resumed: false,
            followed: None,
            blobs: self.clone(),
        };
        match own.len() {
            // Another has put it in its place since the caller looked.
            0 if self.has_sized(digest, size) => return Ok(None),
            0 => {}
            length if length <= size => download.take_up()?,
            _ => download.start_over()?,
        }
        Ok(Some(download))
    }
}

impl Blobs {
    /// Whether something of a blob has come that is not here yet.
    pub fn has_begun(&self, digest: &Digest) -> bool {
        let begun = fs::metadata(self.downloads.join(digest.hex()));
        begun.is_ok_and(|it| it.len() > 0)
    }
}

impl Download {
    /// Returns how many bytes are there.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Whether some of it came with an earlier download.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Forgets what has come.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_over(&mut self) -> Result<(), StoreError> {
        let failed = at("write", &self.path);
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(failed)?;
        if let Some(followed) = self.followed.take() {
            followed.end();
        }
        (self.done, self.resumed, self.hash) = (0, false, Sha256::new());
        Ok(())
    }

    /// Returns a reader of the blob from its start, which keeps up with what comes.
    ///
    /// # Errors
    /// What the system says.
    pub fn follow(&mut self) -> Result<Follower, StoreError> {
        // Not a copy of the file, which would hold the lock as well.
        let reader = File::open(&self.path).map_err(at("open", &self.path))?;
        let followed = self.followed.get_or_insert_default();
        followed.start(reader, self.done);
        Ok(Follower::new(followed.clone()))
    }

    /// Adds what comes next.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all(bytes);
        written.map_err(at("write", &self.path))?;
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        if let Some(followed) = &self.followed {
            followed.has(bytes.len() as u64);
        }
        Ok(())
    }

    /// Puts the blob in its place.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where it is not what its digest says: nothing is kept then.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let actual = Digest::from_bytes(std::mem::take(&mut self.hash).finalize().into());
        if actual != self.digest {
            fs::remove_file(&self.path).map_err(at("remove", &self.path))?;
            let expected = self.digest;
            return Err(StoreError::Mismatch { expected, actual });
        }
        // No sweep takes it for old.
        let touched = self.file.set_modified(SystemTime::now());
        touched.map_err(at("write", &self.path))?;
        let to = self.blobs.own(&self.digest);
        fs::rename(&self.path, &to).map_err(at("write", &to))?;
        if let Some(followed) = &self.followed {
            followed.whole();
        }
        Ok(())
    }

    /// Removes what has come: it is of no use to anybody.
    pub fn discard(self) {
        // What stays is taken for a start the next time, and found wrong.
        let _ = fs::remove_file(&self.path);
    }

    /// Hashes what is there.
    fn take_up(&mut self) -> Result<(), StoreError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.hash.update(&buffer[..n]);
                    self.done += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at("read", &self.path)(error)),
            }
        }
        self.resumed = true;
        let end = self.file.seek(SeekFrom::Start(self.done));
        end.map(drop).map_err(at("read", &self.path))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(followed) = &self.followed {
            followed.end();
        }
        if self.done == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what nobody has gone on with for long; errors are ignored: the next one tries again.
pub(super) fn forget_old(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        let used = file.metadata().and_then(|it| it.modified());
        let age = used.map(|used| SystemTime::now().duration_since(used).unwrap_or_default());
        if age.is_ok_and(|age| age > FORGOTTEN) && file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_download_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let digest = Digest::of(b"hello");
        {
            let store = Store::open(dir.path()).expect("open");
            let first = store.blobs().download(&digest, 5).expect("start");
            let mut first = first.expect("free");
            first.write(b"he").expect("write");
            let other = Store::open(dir.path()).expect("open");
            assert!(other.blobs().download(&digest, 5).expect("try").is_none());
            assert_eq!(store.blobs().size(&digest), None);
        }
        let store = Store::open(dir.path()).expect("open");
        let again = store.blobs().download(&digest, 5).expect("start");
        let mut again = again.expect("free");
        assert_eq!((again.done(), again.is_resumed()), (2, true));
        let mut follower = again.follow().expect("follow");
        again.write(b"llo").expect("write");
        again.commit().expect("commit");
        let mut read = Vec::new();
        follower.read_to_end(&mut read).expect("read");
        assert_eq!(read, b"hello");
        assert_eq!(store.blobs().read(&digest, 9).expect("read"), b"hello");
        let left = fs::read_dir(dir.path().join("downloads")).expect("list");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_wrong_is_not_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let digest = Digest::of(b"good");
        let start = || store.blobs().download(&digest, 4).expect("start");
        let mut download = start().expect("free");
        let mut follower = download.follow().expect("follow");
        download.write(b"evil").expect("write");
        let error = download.commit().expect_err("mismatch");
        assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
        let error = follower.read_to_end(&mut Vec::new()).expect_err("given up");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(start().expect("free").done(), 0);
        // More than there should be is no start of it.
        fs::write(dir.path().join("downloads").join(digest.hex()), b"longer").expect("write");
        let download = start().expect("free");
        assert_eq!((download.done(), download.is_resumed()), (0, false));
    }

    #[test]
    fn what_is_forgotten_goes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        for digest in [old, new] {
            let download = store.blobs().download(&digest, 3).expect("start");
            download.expect("free").write(b"x").expect("write");
        }
        let path = |digest: Digest| dir.path().join("downloads").join(digest.hex());
        let file = File::options().write(true).open(path(old)).expect("open");
        let long_ago = SystemTime::now() - FORGOTTEN * 2;
        file.set_modified(long_ago).expect("set time");
        drop((store, file));
        drop(Store::open(dir.path()).expect("open"));
        assert!(!path(old).exists());
        assert!(path(new).exists());
    }
}
