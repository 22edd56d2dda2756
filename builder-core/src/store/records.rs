//! Small JSON documents by kind and key: `cache/<kind>/<2 hex>/<hex>`.
//!
//! A record says its own key and is written by rename. One that is torn, of another key, or no longer of
//! the shape that is asked for, is a miss and never an error: what is recorded can always be worked out
//! again.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::claims::{Claiming, Claims};
use super::error::{at, is_plain_name};
use super::tmp::ProcessDir;
use crate::digest::Digest;

/// The records of a store. Clones are the same records.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
    tmp: Arc<ProcessDir>,
    claims: Arc<Claims>,
}

/// What a record's file holds.
#[derive(Deserialize)]
struct Found<T> {
    key: Digest,
    record: T,
}

impl Records {
    pub(super) fn new(directory: PathBuf, tmp: Arc<ProcessDir>, claims: Arc<Claims>) -> Self {
        Records {
            directory,
            tmp,
            claims,
        }
    }

    /// Returns the record, which then stays while the store is open: no sweep takes it.
    pub fn claim<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        parse(&self.claim_bytes(kind, key)?, key)
    }

    /// The same, of one that is no JSON.
    pub fn claim_bytes(&self, kind: &str, key: &Digest) -> Option<Vec<u8>> {
        self.claims.read(&self.path(kind, key).ok()?)
    }

    /// Keeps sweeps away while many records are claimed: each would ask for itself otherwise.
    pub fn claiming(&self) -> Option<Claiming> {
        self.claims.hold().ok()
    }

    /// Returns the record, or `None` where there is no good one.
    pub fn get<T: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<T> {
        parse(&self.get_bytes(kind, key)?, key)
    }

    /// Returns a record that is no JSON; who put it knows how to check it.
    pub fn get_bytes(&self, kind: &str, key: &Digest) -> Option<Vec<u8>> {
        fs::read(self.path(kind, key).ok()?).ok()
    }

    /// Keeps a record that is no JSON.
    ///
    /// # Errors
    /// Where `kind` is not a plain name, or the file cannot be written.
    pub fn put_bytes(&self, kind: &str, key: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_parts(kind, key, &[bytes])
    }

    /// The same, of bytes that lie in several places.
    ///
    /// # Errors
    /// As [`Records::put_bytes`].
    pub fn put_parts(&self, kind: &str, key: &Digest, parts: &[&[u8]]) -> Result<(), StoreError> {
        let path = self.path(kind, key)?;
        // the directory is there but for the first record in it
        if self.tmp.replace_parts(&path, parts).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        self.tmp.replace_parts(&path, parts)
    }

    /// Returns when the record was last used; `None` where there is none.
    pub fn used(&self, kind: &str, key: &Digest) -> Option<SystemTime> {
        let metadata = fs::metadata(self.path(kind, key).ok()?).ok()?;
        metadata.modified().ok()
    }

    /// Keeps a record, in place of an earlier one.
    ///
    /// # Errors
    /// Where `kind` is not a plain name, or the file cannot be written.
    pub fn put<T: Serialize>(
        &self,
        kind: &str,
        key: &Digest,
        record: &T,
    ) -> Result<(), StoreError> {
        self.put_all(kind, &[key], record)
    }

    /// Keeps one record under several keys.
    ///
    /// # Errors
    /// As [`Records::put`].
    pub fn put_all<T: Serialize>(
        &self,
        kind: &str,
        keys: &[&Digest],
        record: &T,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Record {
            kind: kind.to_owned(),
            source,
        };
        let record = serde_json::to_vec(record).map_err(failed)?;
        for key in keys {
            let key_json = serde_json::to_vec(key).map_err(failed)?;
            let parts: [&[u8]; 5] = [b"{\"key\":", &key_json, b",\"record\":", &record, b"}"];
            self.put_bytes(kind, key, &parts.concat())?;
        }
        Ok(())
    }

    /// Notes that the record was used at `now`, for a sweep that removes the longest unused ones.
    pub fn touch(&self, kind: &str, key: &Digest, now: SystemTime) {
        if let Ok(path) = self.path(kind, key)
            && let Ok(file) = fs::File::options().write(true).open(path)
        {
            // A sweep that knows less is no harm.
            let _ = file.set_modified(now);
        }
    }

    /// Removes a record; one that is not there is fine.
    ///
    /// # Errors
    /// Where `kind` is not a plain name, or the file cannot be removed.
    pub fn remove(&self, kind: &str, key: &Digest) -> Result<(), StoreError> {
        let path = self.path(kind, key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Lists the keys of a kind, in order.
    ///
    /// # Errors
    /// Where `kind` is not a plain name.
    pub fn list(&self, kind: &str) -> Result<Vec<Digest>, StoreError> {
        let mut keys = Vec::new();
        let directories = fs::read_dir(self.kind_directory(kind)?);
        for directory in directories.into_iter().flatten().flatten() {
            for entry in fs::read_dir(directory.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name();
                let key = name
                    .to_str()
                    .map(|hex| format!("sha256:{hex}").parse::<Digest>());
                keys.extend(key.and_then(Result::ok));
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn kind_directory(&self, kind: &str) -> Result<PathBuf, StoreError> {
        if is_plain_name(kind) {
            Ok(self.directory.join(kind))
        } else {
            Err(StoreError::Name {
                name: kind.to_owned(),
            })
        }
    }

    fn path(&self, kind: &str, key: &Digest) -> Result<PathBuf, StoreError> {
        let hex = key.hex();
        Ok(self.kind_directory(kind)?.join(&hex[..2]).join(hex))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], key: &Digest) -> Option<T> {
    let found: Found<T> = serde_json::from_slice(bytes).ok()?;
    (found.key == *key).then_some(found.record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn records_read_back_and_bad_ones_are_misses() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let records = store.records();
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let record = vec!["a".to_owned()];
        assert_eq!(records.get::<Vec<String>>("steps", &key), None);
        assert!(records.list("steps").expect("list").is_empty());
        records.put("steps", &key, &record).expect("put");
        assert_eq!(records.get("steps", &key), Some(record.clone()));
        assert_eq!(records.list("steps").expect("list"), [key]);
        assert_eq!(records.get::<u32>("steps", &key), None, "another shape");

        records.put("steps", &other, &record).expect("put");
        let path = |key: &Digest| records.path("steps", key).expect("path");
        fs::copy(path(&key), path(&other)).expect("copy");
        assert_eq!(records.get::<Vec<String>>("steps", &other), None, "foreign");

        let whole = fs::read(path(&key)).expect("read");
        for length in 0..whole.len() {
            fs::write(path(&key), &whole[..length]).expect("tear");
            assert_eq!(records.get::<Vec<String>>("steps", &key), None, "{length}");
        }
        records.remove("steps", &key).expect("remove");
        records.remove("steps", &key).expect("remove twice");
        assert!(records.put("../x", &key, &record).is_err());
    }
}
