//! What is in the store, and what it takes on the disk: blocks that are allocated, as `du` counts them, each inode once.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::{Store, StoreError};
use crate::store::error::at;

/// What a thing in the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Layers, manifests and configs.
    Blob,
    /// Unpacked layers.
    Snapshot,
    CacheMount,
    /// What keys led to, and how to explain a miss.
    Record,
    /// Digests of the files of contexts.
    FileDigests,
    /// Copies of git repositories that were contexts or added.
    Git,
    /// Directories, locks, the index, and what builds have not finished.
    Other,
}

impl Kind {
    /// Names the lock that a user of a thing holds, for what is changed in place.
    pub(crate) fn lock(self, name: &str) -> Option<String> {
        match self {
            Kind::CacheMount => Some(format!("mount-{name}")),
            Kind::Git => Some(format!("git-{name}")),
            _ => None,
        }
    }
}

/// What something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Size {
    /// Allocated on the disk.
    pub bytes: u64,
    pub inodes: u64,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// One thing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub kind: Kind,
    /// A blob's digest and a snapshot's chain in hex; `steps/<hex>` for a record.
    pub name: String,
    pub path: PathBuf,
    pub size: Size,
    pub used: SystemTime,
}

/// All that is in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// In the order of their kinds and names.
    pub items: Vec<Stored>,
    /// What belongs to no item.
    pub other: Size,
}

impl Measured {
    /// Returns what the whole store takes.
    pub fn total(&self) -> Size {
        let mut total = self.other;
        self.items.iter().for_each(|item| total += item.size);
        total
    }
}

/// Sizes that need not be measured again: by kind and name, with the time of measuring.
pub(crate) type Remembered = BTreeMap<(Kind, String), (SystemTime, Size)>;

/// An inode with more than one name.
type Linked = ((u64, u64), u64);

impl Store {
    /// Measures everything, this process's own directory apart.
    ///
    /// # Errors
    /// A directory of the store that cannot be read.
    pub fn measure(&self) -> Result<Measured, StoreError> {
        self.measure_with(&Remembered::new())
    }

    /// Measures what is not known from before. A snapshot never changes; a cache mount does while it is used.
    pub(crate) fn measure_with(&self, known: &Remembered) -> Result<Measured, StoreError> {
        let root = self.root();
        let mut found: Vec<(Kind, String, PathBuf)> = Vec::new();
        let mut rest = vec![root.to_owned()];
        let children = |path: &Path| children(path).map_err(at("list", path));
        for path in children(root)? {
            match name(&path).as_str() {
                "blobs" => {
                    rest.push(path.clone());
                    for algorithm in children(&path)? {
                        rest.push(algorithm.clone());
                        let blobs = children(&algorithm)?.into_iter();
                        found.extend(blobs.map(|it| (Kind::Blob, name(&it), it)));
                    }
                }
                "snapshots" => {
                    rest.push(path.clone());
                    let snapshots = children(&path)?.into_iter();
                    found.extend(snapshots.map(|it| (Kind::Snapshot, name(&it), it)));
                }
                "cache" => {
                    rest.push(path.clone());
                    for kind in children(&path)? {
                        self.cached(&kind, &mut found, &mut rest)?;
                    }
                }
                "tmp" => {
                    let others = children(&path)?.into_iter();
                    found.extend(
                        others
                            .filter(|it| it != self.inner.tmp.own())
                            .map(|it| (Kind::Other, String::new(), it)),
                    );
                    rest.push(path);
                }
                _ => found.push((Kind::Other, String::new(), path)),
            }
        }
        found.sort_unstable();
        let sizes: Vec<Option<(Stored, Vec<Linked>)>> = found
            .into_par_iter()
            .map(|(kind, name, path)| self.stored(kind, name, path, known))
            .collect();
        let mut measured = Measured::default();
        let mut seen: HashSet<(u64, u64)> = HashSet::new();
        for path in rest {
            // What goes while it is measured takes nothing.
            if let Ok(metadata) = fs::symlink_metadata(&path) {
                measured.other += size(&metadata);
            }
        }
        for (mut item, linked) in sizes.into_iter().flatten() {
            for (inode, bytes) in linked {
                if seen.insert(inode) {
                    item.size += Size { bytes, inodes: 1 };
                }
            }
            match item.kind {
                Kind::Other => measured.other += item.size,
                _ => measured.items.push(item),
            }
        }
        Ok(measured)
    }

    /// Lists `cache/<kind>`: mounts, digests of files, and records of whatever kind.
    fn cached(
        &self,
        path: &Path,
        found: &mut Vec<(Kind, String, PathBuf)>,
        rest: &mut Vec<PathBuf>,
    ) -> Result<(), StoreError> {
        let kind = name(path);
        if !path.is_dir() {
            found.push((Kind::Other, String::new(), path.to_owned()));
            return Ok(());
        }
        rest.push(path.to_owned());
        for inner in children(path).map_err(at("list", path))? {
            match kind.as_str() {
                "mounts" => found.push((Kind::CacheMount, name(&inner), inner)),
                "files" => found.push((Kind::FileDigests, name(&inner), inner)),
                "git" => found.push((Kind::Git, name(&inner), inner)),
                "members" | "tar-parts" => {
                    found.push((Kind::Record, format!("{kind}/{}", name(&inner)), inner));
                }
                _ if name(&inner).len() == 2 && inner.is_dir() => {
                    let records = children(&inner).map_err(at("list", &inner))?;
                    let named = records.into_iter();
                    found.extend(
                        named.map(|it| (Kind::Record, format!("{kind}/{}", name(&it)), it)),
                    );
                    rest.push(inner);
                }
                _ => found.push((Kind::Other, String::new(), inner)),
            }
        }
        Ok(())
    }

    fn stored(
        &self,
        kind: Kind,
        name: String,
        path: PathBuf,
        known: &Remembered,
    ) -> Option<(Stored, Vec<Linked>)> {
        let metadata = fs::symlink_metadata(&path).ok()?;
        let used = match kind.lock(&name) {
            Some(lock) => {
                let lock = self.root().join(format!("locks/{lock}.lock"));
                let used = fs::metadata(lock).and_then(|it| it.modified());
                used.or_else(|_| metadata.modified())
            }
            None => metadata.modified(),
        };
        let used = used.unwrap_or(UNIX_EPOCH);
        let mut linked = Vec::new();
        let remembered = known.get(&(kind, name.clone()));
        let size = match remembered {
            Some((at, size)) if kind == Kind::Snapshot || used < *at => *size,
            _ => {
                let mut size = Size::default();
                add(&path, &metadata, &mut size, &mut linked);
                size
            }
        };
        let stored = Stored {
            kind,
            name,
            path,
            size,
            used,
        };
        Some((stored, linked))
    }
}

/// Adds a file or a tree; inodes with several names are put aside.
fn add(path: &Path, metadata: &fs::Metadata, size: &mut Size, linked: &mut Vec<Linked>) {
    if metadata.nlink() > 1 && !metadata.is_dir() {
        linked.push(((metadata.dev(), metadata.ino()), self::size(metadata).bytes));
        return;
    }
    *size += self::size(metadata);
    if !metadata.is_dir() {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // What goes while it is measured takes nothing.
        if let Ok(metadata) = entry.metadata() {
            add(&entry.path(), &metadata, size, linked);
        }
    }
}

fn size(metadata: &fs::Metadata) -> Size {
    Size {
        bytes: metadata.blocks() * 512,
        inodes: 1,
    }
}

fn children(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `du` says of a directory, in bytes and inodes.
    fn du(path: &Path) -> Option<Size> {
        let ask = |inodes: bool| {
            let mut du = std::process::Command::new("du");
            du.args(["-s", if inodes { "--inodes" } else { "--block-size=1" }]);
            let out = du
                .arg(path)
                .output()
                .ok()
                .filter(|it| it.status.success())?;
            let text = String::from_utf8(out.stdout).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Some(Size {
            bytes: ask(false)?,
            inodes: ask(true)?,
        })
    }

    #[test]
    fn the_sum_is_what_du_says() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        store.blobs().put(&vec![1; 100_000]).expect("put");
        let key = crate::digest::Digest::of(b"key");
        store.records().put("steps", &key, &"value").expect("put");
        let fs_dir = store.snapshots_dir().join("aa/fs/deep");
        fs::create_dir_all(&fs_dir).expect("mkdir");
        fs::write(fs_dir.join("one"), vec![2; 50_000]).expect("write");
        fs::hard_link(fs_dir.join("one"), fs_dir.join("two")).expect("link");
        let mounts = store.cache_dir().join("mounts/m");
        fs::create_dir_all(&mounts).expect("mkdir");
        fs::hard_link(fs_dir.join("one"), mounts.join("three")).expect("link");
        let sparse = fs::File::create(mounts.join("sparse")).expect("create");
        sparse.set_len(1 << 30).expect("set length");
        let git = store.cache_dir().join("git/abc/objects");
        fs::create_dir_all(&git).expect("mkdir");
        fs::write(git.join("pack"), vec![3; 9_000]).expect("write");
        let measured = store.measure().expect("measure");
        let kinds: Vec<Kind> = measured.items.iter().map(|it| it.kind).collect();
        assert_eq!(
            kinds,
            [
                Kind::Blob,
                Kind::Snapshot,
                Kind::CacheMount,
                Kind::Record,
                Kind::Git
            ]
        );
        let Some(mut said) = du(dir.path()) else {
            #[expect(clippy::print_stderr, reason = "says what this test needs")]
            {
                eprintln!("skipped: the_sum_is_what_du_says: needs du");
            }
            return;
        };
        // This process's own directory goes with it.
        let own = du(store.inner.tmp.own()).expect("du");
        said.bytes -= own.bytes;
        said.inodes -= own.inodes;
        assert_eq!(measured.total(), said);
    }

    #[test]
    fn what_is_remembered_is_not_walked_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        fs::create_dir_all(store.snapshots_dir().join("aa/fs")).expect("mkdir");
        fs::create_dir_all(store.cache_dir().join("mounts/m")).expect("mkdir");
        let size = Size {
            bytes: 7,
            inodes: 7,
        };
        let of = |known: &Remembered| {
            let measured = store.measure_with(known).expect("measure");
            let items = measured.items.iter();
            items.map(|it| it.size == size).collect::<Vec<bool>>()
        };
        let names = [(Kind::Snapshot, "aa"), (Kind::CacheMount, "m")];
        let at = |time: SystemTime| -> Remembered {
            let entries = names.map(|(kind, name)| ((kind, name.to_owned()), (time, size)));
            entries.into_iter().collect()
        };
        let hour = std::time::Duration::from_secs(3600);
        assert_eq!(of(&at(SystemTime::now() + hour)), [true, true]);
        assert_eq!(
            of(&at(SystemTime::now() - hour)),
            [true, false],
            "used since"
        );
    }
}
