//! Bytes by digest, names for them, and small records, in one directory that many processes share.
//!
//! ```text
//! root/
//!   oci-layout, index.json, blobs/sha256/<hex>   an OCI image layout: other tools can read it as it is
//!   cache/<kind>/<2 hex>/<hex>                   records (see `records`)
//!   snapshots/                                   unpacked layers; belongs to the room `snapshot`
//!   tmp/<random>/                                one directory a process, locked while it lives
//!   locks/{use,tmp,index}                        what flock is taken on
//! ```
//!
//! Promises, for any number of processes, and for `kill -9` at any moment:
//! - A blob is whole: it is written to `tmp/`, hashed on the way, and renamed into place.
//! - `index.json` is replaced by rename, under a lock, and keeps the entries of other tools.
//! - While a [`Store`] is open it holds `locks/use` shared: a sweep, which takes it exclusively, waits.
//! - What a dead process left in `tmp/` is removed by the next one to open the store: a living one holds
//!   a lock on its directory. `locks/tmp` covers the moment between making and locking it.
//!
//! Lock order: `use`, then `tmp` or `index`; never both of these at once.
//!
//! Nothing is synced to the disk: after a power cut a blob may be short. [`Blobs::read`] and
//! [`Blobs::has_sized`] notice, and a fetch then replaces it; the cost of syncing every layer would be paid
//! by every build instead.
//!
//! Not here: what the bytes are (the one exception is `index.json`), pruning, unpacked trees.

mod blobs;
mod error;
mod lock;
mod records;
mod tags;
mod tmp;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use blobs::{BlobWriter, Blobs, RawBlobWriter};
pub use error::StoreError;
pub use lock::Lock;
pub use records::Records;
pub use tags::Tag;

use error::at;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &str = concat!(
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","#,
    r#""manifests":[]}"#
);

/// An open store. Clones are the same store; it is closed when the last of them is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: Blobs,
    records: Records,
    // Fields are dropped in this order: first the directory, then the lock that says it is in use.
    tmp: Arc<tmp::ProcessDir>,
    _in_use: Lock,
}

impl Store {
    /// Opens the store in `root`, and makes it where there is none.
    ///
    /// Leftovers of dead processes are removed, errors of which are ignored.
    ///
    /// # Errors
    /// Where the directory cannot be made or written, or `oci-layout` says that it is something else.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        refuse_foreign(root)?;
        let directories = ["", "blobs/sha256", "cache", "locks", "snapshots", "tmp"];
        for directory in directories {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(at("create", &path))?;
        }
        let root = fs::canonicalize(root).map_err(at("open", root))?;
        let in_use = Lock::shared(&root.join("locks/use"))?;
        let tmp = Arc::new(tmp::ProcessDir::new(&root)?);
        init(&root, &tmp)?;
        Ok(Store {
            inner: Arc::new(Inner {
                blobs: Blobs::new(root.join("blobs/sha256"), tmp.clone()),
                records: Records::new(root.join("cache"), tmp.clone()),
                root,
                tmp,
                _in_use: in_use,
            }),
        })
    }

    /// Returns the store's directory, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub fn records(&self) -> &Records {
        &self.inner.records
    }

    /// Returns the directory of unpacked layers.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.root().join("snapshots")
    }

    /// Returns the directory of unpacked layers of a rung that keeps them in another form: none reads those of another.
    pub fn snapshots_dir_of(&self, form: &str) -> PathBuf {
        self.root().join(format!("snapshots-{form}"))
    }

    /// Returns the directory of records and caches.
    pub fn cache_dir(&self) -> PathBuf {
        self.root().join("cache")
    }

    /// Returns this process's own directory for unfinished work: on the store's file system, removed when
    /// the store is closed, or by another process should this one die.
    pub fn tmp_dir(&self) -> &Path {
        self.inner.tmp.path()
    }

    /// Takes the store-wide lock `name` for itself alone; waits for it. Do not call from async code.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.lock_path(name)?)
    }

    /// Takes the store-wide lock `name` if nobody has it.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Lock::try_exclusive(&self.lock_path(name)?)
    }

    fn lock_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        if !error::is_plain_name(name) {
            return Err(StoreError::Name {
                name: name.to_owned(),
            });
        }
        // Apart from the store's own, which are taken in a fixed order.
        let path = self.root().join("locks").join(format!("{name}.lock"));
        Ok(path)
    }
}

fn init(root: &Path, tmp: &tmp::ProcessDir) -> Result<(), StoreError> {
    let _lock = Lock::exclusive(&root.join("locks/index"))?;
    let layout = root.join("oci-layout");
    match fs::read(&layout) {
        Ok(bytes) => {
            let version = serde_json::from_slice::<serde_json::Value>(&bytes)
                .ok()
                .and_then(|it| it.get("imageLayoutVersion")?.as_str().map(str::to_owned));
            match version.as_deref() {
                Some(version) if version.starts_with("1.") => {}
                _ => return Err(StoreError::NotALayout { path: layout }),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tmp.replace(&layout, LAYOUT.as_bytes())?;
        }
        Err(error) => return Err(at("read", &layout)(error)),
    }
    let index = root.join("index.json");
    if !index.exists() {
        tmp.replace(&index, EMPTY_INDEX.as_bytes())?;
    }
    Ok(())
}

/// A directory with other things in it is not made a store: who removes the store would remove them.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let Ok(entries) = fs::read_dir(root) else {
        return Ok(());
    };
    const OURS: [&str; 9] = [
        "blobs",
        "cache",
        "locks",
        "snapshots",
        "snapshots-copied",
        "snapshots-single",
        "tmp",
        "oci-layout",
        "index.json",
    ];
    for entry in entries.flatten() {
        let name = entry.file_name();
        if OURS.iter().any(|ours| name == *ours) {
            return Ok(());
        }
        if name != "lost+found" {
            let path = root.to_owned();
            return Err(StoreError::Foreign { path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_store_is_an_oci_layout() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("a/b");
        let store = Store::open(&root).expect("open");
        oci_spec::image::OciLayout::from_file(root.join("oci-layout")).expect("layout");
        oci_spec::image::ImageIndex::from_file(root.join("index.json")).expect("index");
        let tmp = store.tmp_dir().to_owned();
        assert!(tmp.is_dir());
        let clone = store.clone();
        drop(store);
        assert!(tmp.is_dir());
        drop(clone);
        assert!(!tmp.exists());
    }

    #[test]
    fn something_else_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("oci-layout"), "{}").expect("write");
        let error = Store::open(dir.path()).expect_err("not a layout");
        assert!(matches!(error, StoreError::NotALayout { .. }), "{error}");
    }

    #[test]
    fn leftovers_go_and_the_living_stay() {
        let dir = tempfile::tempdir().expect("temp dir");
        let first = Store::open(dir.path()).expect("open");
        fs::write(first.tmp_dir().join("mine"), "x").expect("write");
        let dead = dir.path().join("tmp/dead");
        let work = dead.join("overlay/work/work");
        fs::create_dir_all(&work).expect("mkdir");
        fs::write(work.join("file"), "x").expect("write");
        fs::set_permissions(&work, fs::Permissions::from_mode(0o000)).expect("chmod");
        let second = Store::open(dir.path()).expect("open again");
        assert!(!dead.exists());
        assert!(first.tmp_dir().join("mine").exists());
        assert_ne!(first.tmp_dir(), second.tmp_dir());
    }

    #[test]
    fn a_sweep_waits_for_users() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let path = dir.path().join("locks/use");
        assert!(Lock::try_exclusive(&path).expect("lock").is_none());
        drop(store);
        // A program that another test starts at this moment has the descriptor until its exec.
        let free = || Lock::try_exclusive(&path).expect("lock").is_some();
        let tries = (0..200).any(|_| {
            free() || {
                std::thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
        assert!(tries, "the lock is still held");
    }

    #[test]
    fn named_locks_exclude() {
        let dir = tempfile::tempdir().expect("temp dir");
        let one = Store::open(dir.path()).expect("open");
        let two = Store::open(dir.path()).expect("open");
        let held = one.lock("mount-1").expect("lock");
        assert!(two.try_lock("mount-1").expect("try").is_none());
        assert!(two.try_lock("mount-2").expect("try").is_some());
        drop(held);
        assert!(two.try_lock("mount-1").expect("try").is_some());
        assert!(two.try_lock("../x").is_err());
    }

    #[test]
    fn blobs_outlive_the_store() {
        let dir = tempfile::tempdir().expect("temp dir");
        let digest = Store::open(dir.path())
            .and_then(|store| store.blobs().put(b"hello"))
            .expect("put");
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(store.blobs().read(&digest, 10).expect("read"), b"hello");
        assert_eq!(digest, Digest::of(b"hello"));
    }
}
