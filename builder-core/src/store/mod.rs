//! Bytes by digest, names for them, and small records, in one directory that many processes share.
//!
//! ```text
//! root/
//!   oci-layout, index.json, blobs/sha256/<hex>   an OCI image layout: other tools can read it as it is
//!   cache/<kind>/<2 hex>/<hex>                   records (see `records`)
//!   snapshots/                                   unpacked layers; belongs to the room `snapshot`
//!   synced/                                      what is on the disk for sure (see `power`)
//!   downloads/<hex>                              what has come of blobs that are not here yet (see `downloads`)
//!   tmp/<start>-<random>/                        one directory a process, locked while it lives
//!   locks/{sweep,tmp,index}                      what flock is taken on
//! ```
//!
//! Promises, for any number of processes, and for `kill -9` at any moment:
//! - A blob is whole: it is written to `tmp/`, hashed on the way, and renamed into place.
//! - `index.json` is replaced by rename, under a lock, and keeps the entries of other tools.
//! - What must be right as a whole comes on trial (`staged`): it is seen when all of it has passed, else nothing of it stays.
//! - What a process relies on is claimed (`claims`), and what is claimed or new is never swept (`sweep`): builds and
//!   sweeps go on at the same time.
//! - What a dead process left in `tmp/` is removed by the next one to open the store: a living one holds
//!   a lock on its directory. `locks/tmp` covers the moment between making and locking it.
//!
//! Lock order: `power`, then `sweep`, then `tmp` or a cache mount's; never `index` with another.
//!
//! After a power cut, what was not yet on the disk is recognised and made again (see `power`). No build waits for the
//! disk: [`Blobs::read`] and [`Blobs::has_sized`] notice a short blob at any time.
//!
//! Not here: what the bytes are (the one exception is `index.json`), what is worth keeping, unpacked trees.

mod blobs;
mod built;
mod claims;
mod downloads;
mod error;
mod lock;
mod power;
mod raw;
mod records;
mod staged;
mod sweep;
mod tags;
mod tmp;
mod usage;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::ChainId;

pub use blobs::{BlobWriter, Blobs};
pub use claims::Claiming;
pub use downloads::Download;
pub use error::StoreError;
pub use lock::Lock;
pub use raw::{Follower, RawBlobWriter};
pub use records::Records;
pub use staged::Staged;
pub use sweep::Condemned;
pub use tags::Tag;
pub use usage::{Kind, Measured, Size, Stored};

use claims::Claims;
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
    claims: Arc<Claims>,
    tmp: Arc<tmp::ProcessDir>,
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
            let is_new = directory.is_empty() && !path.join("tmp").exists();
            fs::create_dir_all(&path).map_err(at("create", &path))?;
            if is_new {
                tmp::spread(&path);
            }
        }
        let root = fs::canonicalize(root).map_err(at("open", root))?;
        let tmp = Arc::new(tmp::ProcessDir::new(&root)?);
        let claims = Arc::new(Claims::new(&root, tmp.since()));
        let store = Store {
            inner: Arc::new(Inner {
                blobs: Blobs::new(&root, tmp.clone(), claims.clone()),
                records: Records::new(root.join("cache"), tmp.clone(), claims.clone()),
                root,
                claims,
                tmp,
            }),
        };
        if let Some(boot) = power::boot() {
            store.look_after(&boot)?;
        }
        init(store.root(), &store.inner.tmp)?;
        downloads::forget_old(&store.root().join("downloads"));
        Ok(store)
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
        Self::cache_dir_of(self.root())
    }

    /// Returns the same of the store at `root`, open or not.
    pub fn cache_dir_of(root: &Path) -> PathBuf {
        root.join("cache")
    }

    /// Returns this process's own directory for unfinished work: on the store's file system, removed when
    /// the store is closed, or by another process should this one die.
    pub fn tmp_dir(&self) -> &Path {
        self.inner.tmp.path()
    }

    /// Returns how much the disk of the store has free for an ordinary user; all there could be where it does not tell.
    pub fn free(&self) -> Size {
        let Ok(stat) = rustix::fs::statvfs(self.root()) else {
            return Size {
                bytes: u64::MAX,
                inodes: u64::MAX,
            };
        };
        Size {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // A file system that makes inodes as it needs them says 0 of 0.
            inodes: match stat.f_files {
                0 => u64::MAX,
                _ => stat.f_favail,
            },
        }
    }

    /// Says that the snapshots of `chains` are relied on from now on, those that are there.
    ///
    /// # Errors
    /// Where the sweep's lock cannot be taken.
    pub fn claim_snapshots(&self, chains: &[ChainId]) -> Result<(), StoreError> {
        let directory = self.snapshots_dir();
        let paths = chains.iter().map(|chain| directory.join(chain.0.hex()));
        let paths: Vec<PathBuf> = paths.collect();
        self.inner.claims.claim(&paths)?;
        Ok(())
    }

    /// Takes the store-wide lock `name` for itself alone; waits for it. Do not call from async code.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        Ok(Lock::exclusive(&self.lock_path(name)?)?.used())
    }

    /// Takes the store-wide lock `name` if nobody has it.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Ok(self.try_lock_untouched(name)?.map(Lock::used))
    }

    /// The same, but it does not count as a use.
    fn try_lock_untouched(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Lock::try_exclusive(&self.lock_path(name)?)
    }

    /// Takes the store-wide lock `name` together with others who take it so, if nobody has it for himself alone.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub fn try_lock_shared(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Ok(Lock::try_shared(&self.lock_path(name)?)?.map(Lock::used))
    }

    /// Writes down, for people, what the lock `name` is about. Whoever holds the lock calls it.
    ///
    /// # Errors
    /// Where the lock's file cannot be written.
    pub fn note(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.lock_path(name)?;
        if self.noted(name).as_deref() == Some(text) {
            return Ok(());
        }
        fs::write(&path, text).map_err(at("write", &path))
    }

    /// Returns what was written down about the lock `name`.
    pub fn noted(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.lock_path(name).ok()?).ok()?;
        Some(text).filter(|text| !text.is_empty())
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
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(at("open", root)(error));
        }
        Err(_) => return Ok(()),
    };
    const OURS: [&str; 10] = [
        "blobs",
        "cache",
        "downloads",
        "locks",
        "snapshots",
        "snapshots-copied",
        "snapshots-single",
        "tmp",
        "oci-layout",
        "index.json",
    ];
    let names: Vec<_> = entries.flatten().map(|it| it.file_name()).collect();
    let ours = |name: &OsString| OURS.iter().any(|ours| name == ours);
    let foreign = |name: &OsString| name != "lost+found";
    if !names.iter().any(ours) && names.iter().any(foreign) {
        let path = root.to_owned();
        return Err(StoreError::Foreign { path });
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
        assert_eq!(fs::read_dir(root.join("tmp")).expect("list").count(), 0);
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
    fn a_sweep_takes_what_is_old_and_nobody_has_claimed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let sweeper = Store::open(dir.path()).expect("open");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let names = ["old", "claimed", "seen", "touched"];
        let digests = names.map(|name| sweeper.blobs().put(name.as_bytes()).expect("put"));
        let path = |at: usize| sweeper.blobs().path(&digests[at]);
        for at in 0..names.len() {
            let file = fs::File::options()
                .write(true)
                .open(path(at))
                .expect("open");
            file.set_modified(old).expect("set time");
        }
        let condemned = |at: usize| Condemned {
            path: path(at),
            used: old,
            lock: None,
        };
        let other = Store::open(dir.path()).expect("open");
        assert!(other.blobs().has_sized(&digests[1], 7));
        assert_eq!(other.blobs().size(&digests[2]), Some(4));
        let new = other.blobs().put(b"new").expect("put");
        let used = fs::metadata(other.blobs().path(&new)).and_then(|it| it.modified());
        let mut all: Vec<Condemned> = (0..3).map(condemned).collect();
        all.push(Condemned {
            path: other.blobs().path(&new),
            used: used.expect("time"),
            lock: None,
        });
        let gone = sweeper.sweep(&all).expect("sweep");
        // What was only looked at is not claimed.
        assert_eq!(gone, [true, false, true, false]);
        assert!(!other.blobs().has_sized(&digests[0], 3));
        drop(other);
        let again = [condemned(1), condemned(3)];
        let file = fs::File::options().write(true).open(path(3)).expect("open");
        file.set_modified(old + std::time::Duration::from_secs(1))
            .expect("set time");
        assert_eq!(
            sweeper.sweep(&again).expect("sweep"),
            [false, false],
            "used since"
        );
        let count = fs::read_dir(sweeper.tmp_dir()).expect("list").count();
        assert_eq!(count, 0, "the trash is empty");
    }

    #[test]
    fn a_cache_mount_in_use_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let mount = store.cache_dir().join("mounts/abc");
        fs::create_dir_all(mount.join("deep")).expect("mkdir");
        let condemned = [Condemned {
            path: mount.clone(),
            used: std::time::UNIX_EPOCH,
            lock: Some("mount-abc".to_owned()),
        }];
        let other = Store::open(dir.path()).expect("open");
        let held = other.lock("mount-abc").expect("lock");
        assert_eq!(store.sweep(&condemned).expect("sweep"), [false]);
        drop(held);
        assert_eq!(store.sweep(&condemned).expect("sweep"), [true]);
        assert!(!mount.exists());
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
        let shared = one.try_lock_shared("mount-3").expect("try");
        assert!(shared.is_some());
        assert!(two.try_lock_shared("mount-3").expect("try").is_some());
        assert!(two.try_lock("mount-3").expect("try").is_none());
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
