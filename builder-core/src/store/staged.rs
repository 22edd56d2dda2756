//! Blobs on trial: what comes in is seen by nobody before all of it is known to be right.
//!
//! A store on trial reads what the other one has, and keeps what is new beside it, on the same file system. What turns out right
//! is taken over by renames; what does not leaves nothing.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::error::at;
use super::{Inner, Store, StoreError};
use crate::digest::Digest;

/// A store whose new blobs are on trial. Dropped, it leaves the store as it was.
#[derive(Debug)]
pub struct Staged {
    /// Goes before the store's own directory, in which it is.
    directory: TempDir,
    store: Store,
    /// Who takes over what is right.
    home: Store,
}

impl Store {
    /// Starts a trial. Records and names of its store are those of this one.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn staged(&self) -> Result<Staged, StoreError> {
        let made = tempfile::tempdir_in(self.tmp_dir());
        let directory = made.map_err(at("write to", self.tmp_dir()))?;
        let Inner {
            root,
            blobs,
            records,
            claims,
            tmp,
        } = &*self.inner;
        let trial = Store {
            inner: Arc::new(Inner {
                root: root.clone(),
                blobs: blobs.staged_in(directory.path()),
                records: records.clone(),
                claims: claims.clone(),
                tmp: tmp.clone(),
            }),
        };
        Ok(Staged {
            directory,
            store: trial,
            home: self.clone(),
        })
    }
}

impl Staged {
    /// Returns the store on trial.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes over all that is new, or of that what is in `only`.
    ///
    /// # Errors
    /// What the system says; what has been taken over until then stays.
    pub fn commit(self, only: Option<&[Digest]>) -> Result<(), StoreError> {
        for digest in self.store.blobs().list()? {
            if only.is_some_and(|only| !only.contains(&digest)) {
                continue;
            }
            let from = self.directory.path().join(digest.hex());
            let to = self.home.blobs().path(&digest);
            fs::rename(&from, &to).map_err(at("write", &to))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_trial_is_seen_when_it_has_passed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let known = store.blobs().put(b"known").expect("put");
        let has = |text: &[u8]| store.blobs().has(&Digest::of(text));

        let staged = store.staged().expect("staged");
        let trial = staged.store().blobs();
        assert_eq!(trial.read(&known, 10).expect("read"), b"known");
        trial.put(b"known").expect("put what is there");
        trial.put(b"new").expect("put");
        assert_eq!(trial.list().expect("list"), [Digest::of(b"new")]);
        assert!(trial.has_sized(&Digest::of(b"new"), 3));
        assert!(!has(b"new"));
        drop(staged);
        assert!(!has(b"new"));
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("tmp").count(), 0);

        let staged = store.staged().expect("staged");
        for text in ["one", "two"] {
            staged.store().blobs().put(text.as_bytes()).expect("put");
        }
        let only = [known, Digest::of(b"two")];
        staged.commit(Some(&only)).expect("commit");
        assert!(has(b"two") && !has(b"one") && has(b"known"));
        assert_eq!(store.blobs().verify_all().expect("verify"), 2);
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("tmp").count(), 0);
    }
}
