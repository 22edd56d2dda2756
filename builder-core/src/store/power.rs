//! After a power cut: what of the store is on the disk, and what is looked at again.
//!
//! ```text
//! synced/mark         <boot id> <time>: what was changed before that time is on the disk
//! synced/index.json   the names of images at that time
//! ```
//!
//! Nothing waits for the disk. Once in a while the file system is synced beside a build's own work, and then the mark moves
//! ([`Store::sync_earlier`]). Whoever first opens the store after the machine was started again, in order or not, does not
//! trust what changed since the mark: blobs are read and those that are not what their name says are removed; unpacked
//! layers and remembered digests go, as they can be made again from what is left; `index.json`, where it is torn, is
//! the one of the mark. Records need no look: a torn one is a miss whenever it is read.
//!
//! Cache mounts and copies of git repositories stay as they are: only the tools that wrote them know what is whole. A clock
//! that was set back between two starts hides what was changed meanwhile.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::at;
use super::{Condemned, EMPTY_INDEX, LAYOUT, Lock, Store, StoreError};

/// Names the time from one start of the machine to the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Files have times of the kernel's last tick.
const GRAIN: Duration = Duration::from_secs(1);
/// How old the mark is when it is moved.
const AGE: Duration = Duration::from_secs(600);

#[derive(Debug, PartialEq, Eq)]
struct Mark {
    boot: String,
    synced: SystemTime,
}

impl Mark {
    fn read(path: &Path) -> Option<Mark> {
        Mark::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Mark> {
        // a torn one lacks its end
        let (boot, nanos) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Mark {
            boot: boot.to_owned(),
            synced: UNIX_EPOCH + Duration::from_nanos(nanos.parse().ok()?),
        })
    }

    fn text(&self) -> String {
        let since = self.synced.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{} {}\n", self.boot, since.as_nanos())
    }
}

/// Returns `None` where the machine does not tell; then nothing is known of power cuts.
pub(super) fn boot() -> Option<String> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    Some(text.trim().to_owned())
}

impl Store {
    /// Looks at what may be torn, where this is the first one to open the store since the machine was started.
    pub(super) fn look_after(&self, boot: &str) -> Result<(), StoreError> {
        let known = |it: &Option<Mark>| it.as_ref().is_some_and(|mark| mark.boot == boot);
        if known(&Mark::read(&self.mark())) {
            return Ok(());
        }
        let _alone = self.lock("power")?;
        let mark = Mark::read(&self.mark());
        if known(&mark) {
            return Ok(());
        }
        if !self.root().join("oci-layout").exists() {
            return self.put_mark(boot, SystemTime::now());
        }
        let since = mark.map_or(UNIX_EPOCH, |mark| mark.synced);
        if self.mend(since)? {
            self.sync(boot)?;
        }
        Ok(())
    }

    /// Syncs what there is from before, if that was not done for a while, so that less is looked at after a power cut. It
    /// may take seconds: it is for a thread of its own. An error is no harm: the mark stays where it is.
    pub fn sync_earlier(&self) {
        let age = Mark::read(&self.mark()).map(|mark| mark.synced.elapsed());
        if age.is_none_or(|age| age.is_ok_and(|age| age < AGE)) {
            return;
        }
        if let Some(boot) = boot()
            && let Ok(Some(_alone)) = self.try_lock("power")
        {
            let _ = self.sync(&boot);
        }
    }

    fn mark(&self) -> PathBuf {
        self.root().join("synced/mark")
    }

    fn sync(&self, boot: &str) -> Result<(), StoreError> {
        let root = self.root();
        let now = SystemTime::now();
        let mut index = self.inner.tmp.file()?;
        let path = root.join("index.json");
        match File::open(&path) {
            Ok(mut from) => std::io::copy(&mut from, &mut index).map_err(at("read", &path))?,
            Err(_) => 0,
        };
        let directory = File::open(root).map_err(at("open", root))?;
        rustix::fs::syncfs(&directory).map_err(|errno| at("sync", root)(errno.into()))?;
        self.put_mark(boot, now)?;
        let path = root.join("synced/index.json");
        index
            .persist(&path)
            .map_err(|error| at("write", &path)(error.error))?;
        Ok(())
    }

    fn put_mark(&self, boot: &str, synced: SystemTime) -> Result<(), StoreError> {
        let directory = self.root().join("synced");
        fs::create_dir_all(&directory).map_err(at("create", &directory))?;
        let boot = boot.to_owned();
        let synced = synced - GRAIN;
        let text = Mark { boot, synced }.text();
        self.inner.tmp.replace(&self.mark(), text.as_bytes())
    }

    /// Removes what changed since and is torn, or can be made again; false where something of it could not be removed.
    fn mend(&self, since: SystemTime) -> Result<bool, StoreError> {
        let root = self.root();
        self.mend_documents()?;
        let mut torn = Vec::new();
        for path in changed(&root.join("blobs/sha256"), since) {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(|name| format!("sha256:{name}").parse().ok());
            if let Some(digest) = digest
                && let Err(StoreError::Damaged { .. }) = self.blobs().verify(&digest)
            {
                torn.push(path);
            }
        }
        for place in fs::read_dir(root).map_err(at("list", root))?.flatten() {
            if place
                .file_name()
                .as_encoded_bytes()
                .starts_with(b"snapshots")
            {
                torn.extend(changed(&place.path(), since));
            }
        }
        for place in ["files", "members", "tar-parts"] {
            torn.extend(changed(&self.cache_dir().join(place), since));
        }
        let condemned: Vec<Condemned> = torn
            .into_iter()
            .filter_map(|path| {
                let used = fs::symlink_metadata(&path).and_then(|it| it.modified());
                let (used, lock) = (used.ok()?, None);
                Some(Condemned { path, used, lock })
            })
            .collect();
        let gone = self.sweep(&condemned)?;
        Ok(gone.iter().all(|gone| *gone))
    }

    /// The two documents without which there is no store.
    fn mend_documents(&self) -> Result<(), StoreError> {
        let root = self.root();
        let whole = |name: &str| {
            let bytes = fs::read(root.join(name)).unwrap_or_default();
            let object = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&bytes);
            object.is_ok().then_some(bytes)
        };
        let tmp = &self.inner.tmp;
        // one that says something, if not what it should, is for `init` to refuse
        if fs::metadata(root.join("oci-layout")).is_ok_and(|it| it.len() == 0) {
            tmp.replace(&root.join("oci-layout"), LAYOUT.as_bytes())?;
        }
        let _lock = Lock::exclusive(&root.join("locks/index"))?;
        if whole("index.json").is_none() {
            let earlier = whole("synced/index.json");
            let bytes = earlier.unwrap_or_else(|| EMPTY_INDEX.as_bytes().to_vec());
            tmp.replace(&root.join("index.json"), &bytes)?;
        }
        Ok(())
    }
}

/// Lists what of a directory changed at `since` or later, whatever its times of use say.
fn changed(directory: &Path, since: SystemTime) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        entries => entries,
    };
    let entries = entries.into_iter().flatten().flatten();
    let is_new = |path: &PathBuf| {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return false;
        };
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
        UNIX_EPOCH + Duration::new(seconds, nanos) >= since
    };
    entries.map(|it| it.path()).filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn marks() {
        let mark = Mark {
            boot: "a-b".to_owned(),
            synced: UNIX_EPOCH + Duration::from_nanos(12),
        };
        assert_eq!(mark.text(), "a-b 12\n");
        for (text, expected) in [
            ("a-b 12\n", true),
            ("a-b 1", false), // torn
            ("a-b 12", false),
            ("a-b\n", false),
            ("\0\0\0\0\n", false),
            ("", false),
        ] {
            let parsed = Mark::parse(text);
            assert_eq!(parsed.as_ref() == Some(&mark), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_torn_goes_and_what_was_synced_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let synced = store.blobs().put(b"synced").expect("put");
        let snapshots = store.snapshots_dir();
        let snapshot = |name: &str| {
            let path = snapshots.join(name);
            fs::create_dir_all(path.join("fs")).expect("mkdir");
            path
        };
        let old = snapshot("old");
        fs::write(dir.path().join("synced/index.json"), EMPTY_INDEX).expect("write");
        // as it is long after these were written
        std::thread::sleep(Duration::from_millis(20));
        let mark = Mark {
            boot: "before".to_owned(),
            synced: SystemTime::now(),
        };
        fs::write(store.mark(), mark.text()).expect("write");
        std::thread::sleep(Duration::from_millis(20));
        let whole = store.blobs().put(b"whole").expect("put");
        let [short, zero] = [b"shortened", b"of zeroes"].map(|bytes| {
            let digest = store.blobs().put(bytes).expect("put");
            store.blobs().path(&digest)
        });
        fs::write(&short, b"short").expect("write");
        fs::write(&zero, [0; 9]).expect("write");
        let new = snapshot("new");
        fs::write(dir.path().join("index.json"), b"").expect("write");
        fs::write(dir.path().join("oci-layout"), b"").expect("write");
        drop(store);

        let store = Store::open(dir.path()).expect("open");
        let has = |digest: &Digest| store.blobs().has(digest);
        assert!(has(&synced) && has(&whole));
        assert!(!short.exists() && !zero.exists());
        assert!(old.exists() && !new.exists());
        assert_eq!(store.list().expect("list"), []);
        let mark = Mark::read(&store.mark()).expect("a mark");
        assert_eq!(Some(mark.boot), boot());
        // the same start of the machine: nothing is looked at
        let kept = snapshot("kept");
        drop(store);
        drop(Store::open(dir.path()).expect("open"));
        assert!(kept.exists());
    }
}
