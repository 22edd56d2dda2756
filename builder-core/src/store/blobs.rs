//! Blobs: whole files named by their digest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::StoreError;
use super::claims::Claims;
use super::error::at;
use super::raw::RawBlobWriter;
use super::tmp::ProcessDir;
use crate::digest::{Digest, DigestWriter};

/// The blobs of a store. Clones are the same blobs; they keep the process's temporary directory, and with it what the
/// process has claimed.
#[derive(Debug, Clone)]
pub struct Blobs {
    pub(super) directory: PathBuf,
    /// Where more blobs are, to read: those of a store beside which these are on trial (see `staged`).
    beside: Option<PathBuf>,
    pub(super) downloads: PathBuf,
    pub(super) tmp: Arc<ProcessDir>,
    claims: Arc<Claims>,
}

impl Blobs {
    pub(super) fn new(root: &Path, tmp: Arc<ProcessDir>, claims: Arc<Claims>) -> Self {
        Blobs {
            directory: root.join("blobs/sha256"),
            beside: None,
            downloads: root.join("downloads"),
            tmp,
            claims,
        }
    }

    /// The same blobs, but what is new goes into `directory`.
    pub(super) fn staged_in(&self, directory: &Path) -> Self {
        Blobs {
            directory: directory.to_owned(),
            beside: Some(self.directory.clone()),
            ..self.clone()
        }
    }

    /// Returns where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let own = self.own(digest);
        match &self.beside {
            Some(beside) if !own.exists() => beside.join(digest.hex()),
            _ => own,
        }
    }

    /// Returns where the blob is written to.
    pub(super) fn own(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Whether the blob is there with `size` bytes; false for one that a power cut has shortened. One that is stays there
    /// while the store is open: no sweep takes it.
    pub fn has_sized(&self, digest: &Digest, size: u64) -> bool {
        let claimed = self.claims.claim(&[self.path(digest)]).unwrap_or_default();
        let found = claimed.into_iter().flatten();
        found
            .map(|it| (it.is_file(), it.len()))
            .any(|it| it == (true, size))
    }

    /// Returns the number of bytes; `None` where the blob is not there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::metadata(self.path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Opens the blob for reading; its content is not verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or what the system says.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { digest: *digest },
            _ => at("open", &path)(error),
        })
    }

    /// Returns the blob's content, verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooLarge`] above `max_bytes`; [`StoreError::Damaged`].
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let file = self.open(digest)?;
        let size = file.metadata().map_err(at("read", &path))?.len();
        if size > max_bytes {
            return Err(StoreError::TooLarge {
                digest: *digest,
                size,
                max: max_bytes,
            });
        }
        let mut bytes = Vec::new();
        file.take(max_bytes)
            .read_to_end(&mut bytes)
            .map_err(at("read", &path))?;
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(StoreError::Damaged {
                digest: *digest,
                actual,
                path,
            }),
        }
    }

    /// Keeps `bytes` and returns their digest.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has_sized(&digest, bytes.len() as u64) {
            self.tmp.replace(&self.own(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Starts a blob; nothing is seen of it before a commit.
    ///
    /// # Errors
    /// Where the temporary file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter {
            out: DigestWriter::new(self.tmp.file()?),
            directory: self.directory.clone(),
            _tmp: self.tmp.clone(),
        })
    }

    /// Starts a blob whose writer hashes on its own, so that nothing is hashed twice; see
    /// [`RawBlobWriter::commit_hashed`].
    ///
    /// # Errors
    /// None today: the file is made when the first bytes must leave memory.
    pub fn raw_writer(&self) -> Result<RawBlobWriter, StoreError> {
        Ok(RawBlobWriter::new(self.clone()))
    }

    /// Takes in a file whose digest should be `expected`: verified while it is copied.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`], and what reading and writing say.
    pub fn import(&self, file: &Path, expected: &Digest) -> Result<u64, StoreError> {
        let mut writer = self.writer()?;
        let mut input = File::open(file).map_err(at("open", file))?;
        io::copy(&mut input, &mut writer).map_err(at("copy", file))?;
        writer.commit(Some(*expected)).map(|(_, size)| size)
    }

    /// Makes a nameless file on the store's file system, for work that needs one.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn scratch(&self) -> Result<File, StoreError> {
        tempfile::tempfile_in(self.tmp.path()).map_err(at("create a file in", self.tmp.path()))
    }

    /// Removes a blob; one that is not there is fine.
    ///
    /// # Errors
    /// What the system says. Only for a sweep, which holds the store for itself.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.own(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Lists every blob, in order; files that are not named by a digest are passed over.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(at("list", &self.directory))?;
        let mut digests: Vec<Digest> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                format!("sha256:{}", name.to_str()?).parse().ok()
            })
            .collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// Reads every blob and checks it; returns how many there are.
    ///
    /// # Errors
    /// The first damaged blob.
    pub fn verify_all(&self) -> Result<usize, StoreError> {
        let digests = self.list()?;
        digests.iter().try_for_each(|digest| self.verify(digest))?;
        Ok(digests.len())
    }

    /// Reads a blob and checks it, in little memory.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], and what reading says.
    pub fn verify(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        let mut hash = DigestWriter::new(io::sink());
        io::copy(&mut self.open(digest)?, &mut hash).map_err(at("read", &path))?;
        match hash.finish() {
            (_, actual, _) if actual != *digest => Err(StoreError::Damaged {
                digest: *digest,
                actual,
                path,
            }),
            _ => Ok(()),
        }
    }
}

/// A blob being written: hashed on the way. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    out: DigestWriter<NamedTempFile>,
    directory: PathBuf,
    _tmp: Arc<ProcessDir>,
}

impl BlobWriter {
    /// Puts the blob in its place and returns its digest and size.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] where the content is not what `expected` names; nothing is kept then.
    pub fn commit(self, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        let (file, actual, size) = self.out.finish();
        if let Some(expected) = expected
            && expected != actual
        {
            return Err(StoreError::Mismatch { expected, actual });
        }
        persist(file, &self.directory, &actual)?;
        Ok((actual, size))
    }
}

impl BlobWriter {
    /// Says what a failed write means for the user: the disk is full, and the like.
    pub fn failed(&self, error: io::Error) -> StoreError {
        at("write a blob to", &self.directory)(error)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

pub(super) fn persist(
    file: NamedTempFile,
    directory: &Path,
    digest: &Digest,
) -> Result<(), StoreError> {
    // Over an older one too: that one may be damaged, and who reads it keeps the file it has open.
    let path = directory.join(digest.hex());
    file.persist(&path)
        .map_err(|error| at("write", &path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        (dir, store)
    }

    #[test]
    fn a_writer_hashes_and_counts() {
        let (_dir, store) = store();
        let mut writer = store.blobs().writer().expect("writer");
        writer.write_all(b"hel").expect("write");
        writer.write_all(b"lo").expect("write");
        let (digest, size) = writer.commit(Some(Digest::of(b"hello"))).expect("commit");
        assert_eq!((digest, size), (Digest::of(b"hello"), 5));
        assert_eq!(store.blobs().size(&digest), Some(5));
        assert_eq!(store.blobs().list().expect("list"), [digest]);
        assert_eq!(store.blobs().verify_all().expect("verify"), 1);
    }

    #[test]
    fn a_mismatch_names_both_and_keeps_nothing() {
        let (_dir, store) = store();
        let mut writer = store.blobs().writer().expect("writer");
        writer.write_all(b"evil").expect("write");
        let error = writer
            .commit(Some(Digest::of(b"good")))
            .expect_err("mismatch");
        let text = error.to_string();
        assert!(text.contains(&Digest::of(b"good").hex()), "{text}");
        assert!(text.contains(&Digest::of(b"evil").hex()), "{text}");
        assert!(store.blobs().list().expect("list").is_empty());
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("tmp").count(), 0);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let (_dir, store) = store();
        let mut writer = store.blobs().raw_writer().expect("writer");
        writer.write_all(b"half").expect("write");
        drop(writer);
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("tmp").count(), 0);
        let mut writer = store.blobs().raw_writer().expect("writer");
        writer.write_all(b"all").expect("write");
        assert_eq!(writer.commit_hashed(Digest::of(b"all")).expect("commit"), 3);
        store.blobs().verify_all().expect("verify");
    }

    #[test]
    fn damage_is_noticed_and_mended() {
        let (_dir, store) = store();
        let blobs = store.blobs();
        let digest = blobs.put(b"hello").expect("put");
        fs::write(blobs.path(&digest), b"hell").expect("damage");
        assert!(!blobs.has_sized(&digest, 5));
        let error = blobs.read(&digest, 100).expect_err("damaged");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(blobs.verify_all().is_err());
        blobs.put(b"hello").expect("put again");
        blobs.verify_all().expect("mended");
        let error = blobs.read(&digest, 4).expect_err("too large");
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        let absent = blobs.read(&Digest::of(b"?"), 4).expect_err("absent");
        assert!(matches!(absent, StoreError::NotFound { .. }), "{absent}");
    }

    #[test]
    fn imports_verify() {
        let (dir, store) = store();
        let file = dir.path().join("file");
        fs::write(&file, b"data").expect("write");
        let digest = Digest::of(b"data");
        assert_eq!(store.blobs().import(&file, &digest).expect("import"), 4);
        let wrong = store.blobs().import(&file, &Digest::of(b"other"));
        assert!(matches!(wrong, Err(StoreError::Mismatch { .. })));
    }
}
