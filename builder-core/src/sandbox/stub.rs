//! Layers of mount points, below all layers of an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::mount_plan::{Kind, MountStep, What};
use super::mount_point::restore_modified;
use super::protocol::{During, Failure};

/// Where a stub layer is made, and what it holds.
pub(super) type StubKey = (PathBuf, Vec<(PathBuf, Kind)>);

/// What the stub layer holds, relative to it, parents first.
pub(super) fn stub_entries(steps: &[MountStep]) -> Vec<(PathBuf, Kind)> {
    let mut entries: BTreeMap<PathBuf, Kind> = BTreeMap::new();
    for MountStep { target, kind, what } in steps {
        if matches!(what, What::Mask | What::Seal | What::BytesOver { .. }) || covered(target) {
            continue;
        }
        let Ok(relative) = target.strip_prefix("/") else {
            continue;
        };
        for parent in relative
            .ancestors()
            .skip(1)
            .filter(|parent| *parent != Path::new(""))
        {
            entries.insert(parent.to_owned(), Kind::Directory);
        }
        entries.entry(relative.to_owned()).or_insert(*kind);
    }
    entries.into_iter().collect()
}

/// Whether a path lies in what every step gets mounted anyway.
fn covered(target: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|mounted| target.starts_with(mounted) && target != Path::new(mounted))
}

/// A layer of mount points, beside the work directory: on the image's own file system, so that the step sees one
/// device number for files and directories.
#[derive(Debug)]
pub(super) struct Stub {
    pub(super) path: PathBuf,
    /// It outlives the step.
    pub(super) is_shared: bool,
}

impl Stub {
    pub(super) fn make(path: PathBuf, entries: &[(PathBuf, Kind)]) -> Result<Self, Failure> {
        // of an earlier step that was killed with its helper
        let _ = fs::remove_dir_all(&path);
        let stub = Self {
            path,
            is_shared: false,
        };
        stub.fill(entries).inspect_err(|_| stub.remove())?;
        Ok(stub)
    }

    pub(super) fn shared(&self) -> Self {
        Self {
            path: self.path.clone(),
            is_shared: true,
        }
    }

    fn fill(&self, entries: &[(PathBuf, Kind)]) -> Result<(), Failure> {
        let make = || -> Result<(), Errno> {
            rustix::fs::mkdir(&self.path, Mode::from_raw_mode(0o755))?;
            let root = rustix::fs::open(&self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            for (path, kind) in entries {
                match kind {
                    Kind::Directory => {
                        rustix::fs::mkdirat(&root, path, Mode::from_raw_mode(0o755))?
                    }
                    Kind::File => rustix::fs::mknodat(
                        &root,
                        path,
                        FileType::RegularFile,
                        Mode::from_raw_mode(0o644),
                        0,
                    )?,
                }
            }
            Ok(())
        };
        make().during_at("make the mount points in", &self.path)
    }

    pub(super) fn remove(&self) {
        // what cannot be removed lies beside the work directory, and goes away with it
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes directories from an upper directory that are there for mount points only: empty, and untouched since.
pub(super) fn remove_copies(upper: &Path, directories: &[PathBuf]) {
    let Ok(upper) = rustix::fs::open(upper, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    for directory in directories {
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            continue;
        };
        let parent = if parent == Path::new("") {
            Path::new(".")
        } else {
            parent
        };
        let opened = rustix::fs::openat2(
            &upper,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        if let Ok(parent) = opened
            && let Ok(before) = rustix::fs::fstat(&parent)
            && rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_ok()
        {
            let _ = restore_modified(&parent, &before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_layer_has_every_mount_point_and_its_parents() {
        let step = |target: &str, kind, what| MountStep {
            target: target.into(),
            kind,
            what,
        };
        let steps = [
            step("/proc", Kind::Directory, What::Proc),
            step("/dev", Kind::Directory, What::Devices),
            step("/dev/extra", Kind::Directory, What::Mqueue),
            step("/proc/keys", Kind::Directory, What::Mask),
            step("/proc/sys", Kind::Directory, What::Seal),
            step("/a/b", Kind::Directory, What::Mqueue),
            step(
                "/etc/hosts",
                Kind::File,
                What::Bind {
                    source: "/s".into(),
                    read_only: true,
                },
            ),
            step("/srv/over", Kind::File, What::BytesOver { bytes: vec![] }),
        ];
        let entries: Vec<_> = stub_entries(&steps)
            .into_iter()
            .map(|(path, kind)| (path.to_str().unwrap().to_owned(), kind == Kind::Directory))
            .collect();
        let expected = [
            ("a", true),
            ("a/b", true),
            ("dev", true),
            ("etc", true),
            ("etc/hosts", false),
            ("proc", true),
        ];
        assert_eq!(entries, expected.map(|(path, dir)| (path.to_owned(), dir)));
    }
}
