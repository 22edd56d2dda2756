//! Where the members of earlier compressed layers are.
//!
//! Nothing is kept twice: an index names, for each member of a blob of the store, the key of what went in and the place of
//! what came out. One file a blob, `cache/members/<hex of the blob>`; one whose blob is gone is removed when it is met.
//!
//! | bytes | what                                                          |
//! |-------|---------------------------------------------------------------|
//! | 10    | `members/1` and a line feed, once                              |
//! | 32    | key of the input, codec and level                             |
//! | 8     | start of the BLAKE3 digest of the member: damage is not handed on |
//! | 8     | offset in the blob, little-endian                              |
//! | 4     | length                                                        |

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::{ContentDigest, Digest};
use crate::layer::compression::MemberCache;
use crate::store::Store;

const MAGIC: &[u8] = b"members/1\n";
const RECORD: usize = 32 + 8 + 8 + 4;
/// The newest ones are what a layer resembles.
const MOST_FILES: usize = 128;
const MOST_MEMBERS: usize = 400_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Among [`Known::blobs`].
    blob: usize,
    check: [u8; 8],
    offset: u64,
    length: u32,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    blobs: Vec<PathBuf>,
    pub(super) places: HashMap<[u8; 32], Place>,
}

/// The members of all blobs that are known, and those of the blob that is being made.
#[derive(Debug)]
pub(super) struct MemberIndex {
    directory: PathBuf,
    pub(super) known: Known,
    open: Mutex<HashMap<usize, Option<Arc<File>>>>,
    /// Keys of members that were read and are as their check says.
    read: Mutex<HashSet<[u8; 32]>>,
    made: Mutex<Vec<u8>>,
}

impl MemberIndex {
    /// Reads what is known. What cannot be read is not known.
    pub(super) fn open(store: &Store) -> Self {
        let directory = store.cache_dir().join("members");
        let known = read_all(&directory, store);
        MemberIndex {
            directory,
            known,
            open: Mutex::default(),
            read: Mutex::default(),
            made: Mutex::new(MAGIC.to_vec()),
        }
    }

    /// Writes down the members of `blob`, which is in the store. An index that cannot be written costs time later.
    pub(super) fn save(self, store: &Store, blob: &Digest) {
        let made = self
            .made
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let written = (|| {
            fs::create_dir_all(&self.directory)?;
            let mut file = tempfile::NamedTempFile::new_in(store.tmp_dir())?;
            file.write_all(&made)?;
            file.persist(self.directory.join(blob.hex()))?;
            Ok::<_, std::io::Error>(())
        })();
        drop(written);
    }

    fn file(&self, blob: usize) -> Option<Arc<File>> {
        let mut open = lock(&self.open);
        let path = &self.known.blobs[blob];
        open.entry(blob)
            .or_insert_with(|| File::open(path).ok().map(Arc::new))
            .clone()
    }
}

impl MemberCache for MemberIndex {
    fn get(&self, key: &ContentDigest) -> Option<Vec<u8>> {
        let place = self.known.places.get(&key.0)?;
        let mut member = vec![0; place.length as usize];
        let file = self.file(place.blob)?;
        file.read_exact_at(&mut member, place.offset).ok()?;
        if check(&member) != place.check {
            return None;
        }
        lock(&self.read).insert(key.0);
        Some(member)
    }

    fn put(&self, key: &ContentDigest, member: &[u8], offset: u64) {
        let Ok(length) = u32::try_from(member.len()) else {
            return;
        };
        let read = lock(&self.read).contains(&key.0);
        let known = self.known.places.get(&key.0).filter(|_| read);
        let check = known.map_or_else(|| check(member), |place| place.check);
        let mut made = lock(&self.made);
        made.extend_from_slice(&key.0);
        made.extend_from_slice(&check);
        made.extend_from_slice(&offset.to_le_bytes());
        made.extend_from_slice(&length.to_le_bytes());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(member: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&blake3::hash(member).as_bytes()[..8]);
    check
}

fn read_all(directory: &Path, store: &Store) -> Known {
    let mut files: Vec<(std::time::SystemTime, PathBuf, Digest)> = Vec::new();
    for item in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = item.file_name();
        let digest = name.to_str().map(|hex| format!("sha256:{hex}").parse());
        if let (Some(Ok(digest)), Ok(about)) = (digest, item.metadata()) {
            let time = about.modified().unwrap_or(std::time::UNIX_EPOCH);
            files.push((time, item.path(), digest));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    let mut known = Known::default();
    for (nth, (_, path, digest)) in files.iter().enumerate() {
        // Only looked at: an old blob is not in use because its members are known.
        if !store.blobs().path(digest).exists() {
            let _ = fs::remove_file(path);
            continue;
        }
        if nth < MOST_FILES && known.places.len() < MOST_MEMBERS {
            read_one(&mut known, path, store.blobs().path(digest));
        }
    }
    known
}

fn read_one(known: &mut Known, path: &Path, blob: PathBuf) {
    let Ok(bytes) = fs::read(path) else { return };
    let Some(records) = bytes.strip_prefix(MAGIC) else {
        return;
    };
    let blob_at = known.blobs.len();
    known.blobs.push(blob);
    for record in records.chunks_exact(RECORD) {
        let (mut key, mut check, mut offset, mut length) = ([0; 32], [0; 8], [0; 8], [0; 4]);
        key.copy_from_slice(&record[..32]);
        check.copy_from_slice(&record[32..40]);
        offset.copy_from_slice(&record[40..48]);
        length.copy_from_slice(&record[48..]);
        known.places.entry(key).or_insert(Place {
            blob: blob_at,
            check,
            offset: u64::from_le_bytes(offset),
            length: u32::from_le_bytes(length),
        });
    }
}
