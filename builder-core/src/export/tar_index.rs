//! Which parts earlier layers' tars have, and how the hash of each stood after every part.
//!
//! One file a tar, `cache/tar-parts/<hex of the tar>`; one whose tar is gone is removed when it is met. A part that is read is held
//! against its key by who asked for it. A state of the hash cannot be: it is believed, for which the file says by a digest at its
//! end that it is whole.
//!
//! | bytes | what                                                     |
//! |-------|----------------------------------------------------------|
//! | 12    | `tar-parts/1` and a line feed, once                      |
//! | 32    | key of the part                                          |
//! | 8     | its length, little-endian; it starts where the one before ends |
//! | 105   | SHA-256 of the tar so far, not finished                  |
//! | 32    | BLAKE3 of all before, once                               |

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{ContentDigest, DiffId, Digest};
use crate::layer::parts::{EarlierTars, HashState, Marked, Place};
use crate::store::Store;

const PLACE: &str = "tar-parts";
const MAGIC: &[u8] = b"tar-parts/1\n";
const KEY: usize = 32;
const LENGTH: usize = 8;
const RECORD: usize = KEY + LENGTH + HashState::BYTES;
const SUM: usize = 32;
/// The newest ones are what a layer resembles.
const MOST_FILES: usize = 16;

/// The parts of the store's newest tars.
#[derive(Debug)]
pub struct TarIndex {
    tars: Vec<PathBuf>,
    places: HashMap<ContentDigest, Place>,
    open: Mutex<HashMap<usize, Option<Arc<File>>>>,
}

impl TarIndex {
    /// Reads what is known; `None` where nothing is. What cannot be read is not known.
    pub(super) fn open(store: &Store) -> Option<Self> {
        let mut found: Vec<(std::time::SystemTime, PathBuf, PathBuf)> = Vec::new();
        for item in fs::read_dir(store.cache_dir().join(PLACE)).ok()?.flatten() {
            let name = item.file_name();
            let digest = name
                .to_str()
                .map(|hex| format!("sha256:{hex}").parse::<Digest>());
            if let (Some(Ok(digest)), Ok(about)) = (digest, item.metadata()) {
                let time = about.modified().unwrap_or(std::time::UNIX_EPOCH);
                found.push((time, item.path(), store.blobs().path(&digest)));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        let mut index = TarIndex {
            tars: Vec::new(),
            places: HashMap::new(),
            open: Mutex::default(),
        };
        for (_, file, tar) in found {
            // Only looked at: an old tar is not in use because its parts are known.
            if !tar.exists() {
                let _ = fs::remove_file(file);
            } else if index.tars.len() < MOST_FILES {
                index.add(&file, tar);
            }
        }
        (!index.places.is_empty()).then_some(index)
    }

    fn add(&mut self, file: &Path, tar: PathBuf) {
        let Ok(bytes) = fs::read(file) else { return };
        let Some((bytes, sum)) = bytes.split_last_chunk::<SUM>() else {
            return;
        };
        let Some(records) = bytes.strip_prefix(MAGIC) else {
            return;
        };
        if ContentDigest::of(bytes).0 != *sum {
            return;
        }
        let mut offset = 0u64;
        for record in records.chunks_exact(RECORD) {
            let (mut key, mut length) = ([0; KEY], [0; LENGTH]);
            key.copy_from_slice(&record[..KEY]);
            length.copy_from_slice(&record[KEY..KEY + LENGTH]);
            let length = u64::from_le_bytes(length);
            let Some(after) = HashState::from_bytes(&record[KEY + LENGTH..]) else {
                return;
            };
            let place = Place {
                tar: self.tars.len(),
                offset,
                length,
                after,
            };
            self.places.entry(ContentDigest(key)).or_insert(place);
            offset = offset.saturating_add(length);
        }
        self.tars.push(tar);
    }
}

impl EarlierTars for TarIndex {
    fn find(&self, key: &ContentDigest) -> Option<Place> {
        self.places.get(key).cloned()
    }

    fn read(&self, place: &Place) -> Option<Vec<u8>> {
        let file = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let file = open.entry(place.tar);
            let file = file.or_insert_with(|| File::open(&self.tars[place.tar]).ok().map(Arc::new));
            file.clone()?
        };
        let mut bytes = vec![0; usize::try_from(place.length).ok()?];
        file.read_exact_at(&mut bytes, place.offset).ok()?;
        Some(bytes)
    }
}

/// Writes down the parts of a tar, which is in the store. What cannot be written costs time later.
pub(super) fn save(store: &Store, tar: DiffId, parts: &[Marked]) {
    let mut bytes = MAGIC.to_vec();
    for part in parts {
        bytes.extend_from_slice(&part.key.0);
        bytes.extend_from_slice(&part.length.to_le_bytes());
        bytes.extend_from_slice(&part.after.to_bytes());
    }
    let sum = ContentDigest::of(&bytes);
    bytes.extend_from_slice(&sum.0);
    let directory = store.cache_dir().join(PLACE);
    let written = (|| {
        fs::create_dir_all(&directory)?;
        let mut file = tempfile::NamedTempFile::new_in(store.tmp_dir())?;
        file.write_all(&bytes)?;
        file.persist(directory.join(tar.0.hex()))?;
        Ok::<_, io::Error>(())
    })();
    drop(written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::parts::key_of;
    use crate::layer::{Entry, EntryKind, Writer, WriterOptions};

    fn written() -> (Vec<u8>, Vec<Marked>) {
        let mut writer = Writer::new(Vec::new(), WriterOptions::default());
        for nth in 0..5u8 {
            let data: Vec<u8> = (0..700_000u32).map(|at| (at / 999) as u8 ^ nth).collect();
            let entry = Entry {
                path: format!("file-{nth}").into(),
                kind: EntryKind::File {
                    size: data.len() as u64,
                },
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: 1,
                xattrs: std::collections::BTreeMap::new(),
            };
            writer.append(&entry, &mut &data[..]).expect("append");
        }
        let marks = writer.marks().expect("marks");
        (writer.finish().expect("finish").0, marks)
    }

    #[test]
    fn parts_are_found_until_the_index_or_the_tar_is_not_what_it_was() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("store");
        assert!(TarIndex::open(&store).is_none());
        let (tar, marks) = written();
        assert!(marks.len() > 2, "{} parts", marks.len());
        let digest = store.blobs().put(&tar).expect("put");
        save(&store, DiffId(digest), &marks);
        let index = TarIndex::open(&store).expect("an index");
        let mut offset = 0;
        for mark in &marks {
            let place = index.find(&mark.key).expect("a place");
            assert_eq!((place.offset, place.length), (offset, mark.length));
            assert_eq!(place.after.to_bytes(), mark.after.to_bytes());
            let bytes = index.read(&place).expect("bytes");
            assert_eq!(key_of(&bytes), Some(mark.key));
            offset += mark.length;
        }
        assert_eq!(offset + 1024, tar.len() as u64);

        let file = store.cache_dir().join(PLACE).join(digest.hex());
        let whole = fs::read(&file).expect("read");
        for at in (0..whole.len()).step_by(whole.len() / 50) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).expect("damage");
            assert!(TarIndex::open(&store).is_none(), "byte {at}");
        }
        fs::write(&file, &whole[..whole.len() / 2]).expect("cut short");
        assert!(TarIndex::open(&store).is_none());

        fs::write(&file, &whole).expect("mend");
        let index = TarIndex::open(&store).expect("an index");
        let place = index.find(&marks[1].key).expect("a place");
        let mut damaged = tar.clone();
        damaged[place.offset as usize + 700] ^= 1;
        fs::write(store.blobs().path(&digest), damaged).expect("damage");
        let bytes = index.read(&place).expect("bytes");
        assert_ne!(key_of(&bytes), Some(marks[1].key));
        store.blobs().remove(&digest).expect("remove");
        assert!(TarIndex::open(&store).is_none());
        assert!(!file.exists(), "an index whose tar is gone goes, too");
    }
}
