//! Blobs whose writers hash them, and readers that keep up with such a writer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::blobs::persist;
use super::error::at;
use super::{Blobs, StoreError};
use crate::digest::Digest;

/// A blob being written by somebody who hashes it as well. Dropped without a commit, it leaves nothing.
///
/// The first bytes stay in memory: a small blob that is there already, or is not wanted after all, makes no file.
#[derive(Debug)]
pub struct RawBlobWriter {
    start: Vec<u8>,
    rest: Option<NamedTempFile>,
    followed: Option<Arc<Followed>>,
    blobs: Blobs,
}

const IN_MEMORY_BYTES: usize = 64 << 10;

impl RawBlobWriter {
    pub(super) fn new(blobs: Blobs) -> Self {
        RawBlobWriter {
            start: Vec::new(),
            rest: None,
            followed: None,
            blobs,
        }
    }

    /// Puts the blob in its place under `digest`, which the caller vouches for; returns its size.
    ///
    /// # Errors
    /// What the system says.
    pub fn commit_hashed(mut self, digest: Digest) -> Result<u64, StoreError> {
        let size = self.start.len() as u64;
        if self.rest.is_none() && self.blobs.has_sized(&digest, size) {
            return Ok(size);
        }
        let path = self.blobs.own(&digest);
        self.spill().map_err(at("write", &path))?;
        let Some(file) = self.rest.take() else {
            return Ok(size);
        };
        if let Some(followed) = &self.followed {
            followed.whole();
        }
        let metadata = file.as_file().metadata();
        let size = metadata.map_err(at("read", file.path()))?.len();
        persist(file, &self.blobs.directory, &digest)?;
        Ok(size)
    }

    /// Returns a reader of what is written from now on; called before anything is written.
    pub fn follow(&mut self) -> Follower {
        let followed = self.followed.get_or_insert_default().clone();
        Follower::new(followed)
    }

    /// Writes what is in memory to the file, which is made if there is none.
    fn spill(&mut self) -> io::Result<&mut NamedTempFile> {
        if self.rest.is_none() {
            let file = self.blobs.tmp.file().map_err(io::Error::other)?;
            if let Some(followed) = &self.followed {
                let reader = file.as_file().try_clone()?;
                followed.change(|state| state.file = Some(Arc::new(reader)));
            }
            self.rest = Some(file);
        }
        let Some(file) = &mut self.rest else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all(&self.start)?;
        if let Some(followed) = &self.followed {
            followed.has(self.start.len() as u64);
        }
        self.start.clear();
        Ok(file)
    }
}

impl Drop for RawBlobWriter {
    fn drop(&mut self) {
        if let Some(followed) = &self.followed {
            followed.end();
        }
    }
}

/// How far a writer has come.
#[derive(Debug, Default)]
pub(super) struct Followed {
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    file: Option<Arc<File>>,
    written: u64,
    /// The blob was committed.
    is_whole: bool,
    /// The writer is gone.
    is_over: bool,
}

impl Followed {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// From now on it is read from `file`, of which so much is written.
    pub(super) fn start(&self, file: File, written: u64) {
        self.change(|state| (state.file, state.written) = (Some(Arc::new(file)), written));
    }

    /// So much more is written.
    pub(super) fn has(&self, more: u64) {
        self.change(|state| state.written += more);
    }

    pub(super) fn whole(&self) {
        self.change(|state| state.is_whole = true);
    }

    /// Nothing more is written.
    pub(super) fn end(&self) {
        self.change(|state| state.is_over = true);
    }
}

/// Reads a blob while it is written, and ends where it ends: what lies between the two is in the file, not in memory. A blob
/// that is given up, or that was there already, is an error of kind `BrokenPipe`.
#[derive(Debug)]
pub struct Follower {
    followed: Arc<Followed>,
    at: u64,
}

impl Follower {
    pub(super) fn new(followed: Arc<Followed>) -> Self {
        Follower { followed, at: 0 }
    }

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// `BrokenPipe`, as reading has it.
    pub fn wait(&self) -> io::Result<()> {
        let state = self.followed.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let nothing = |it: &mut Progress| it.written <= self.at && !it.is_whole && !it.is_over;
        let waited = self.followed.changed.wait_while(state, nothing);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        match state.written > self.at || state.is_whole {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Passes over bytes, written or still to come.
    pub fn skip(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

impl Read for Follower {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.followed.state.lock();
        loop {
            let known = state.unwrap_or_else(PoisonError::into_inner);
            let left = known.written.saturating_sub(self.at);
            if let (Some(file), true) = (&known.file, left > 0) {
                let file = file.clone();
                drop(known);
                let most = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
                let n = file.read_at(&mut buf[..most], self.at)?;
                self.at += n as u64;
                return Ok(n);
            }
            if known.is_whole {
                return Ok(0);
            }
            if known.is_over {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state = self.followed.changed.wait(known);
        }
    }
}

impl Write for RawBlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.start.len() + buf.len() <= IN_MEMORY_BYTES {
            self.start.extend_from_slice(buf);
            return Ok(buf.len());
        }
        let file = self.spill()?;
        if buf.len() < IN_MEMORY_BYTES {
            self.start.extend_from_slice(buf);
            return Ok(buf.len());
        }
        let n = file.write(buf)?;
        if let Some(followed) = &self.followed {
            followed.has(n as u64);
        }
        Ok(n)
    }

    /// What is in memory stays there: a commit writes it.
    fn flush(&mut self) -> io::Result<()> {
        match &self.rest {
            Some(_) => self.spill()?.flush(),
            None => Ok(()),
        }
    }
}
