//! A stack of snapshots as the kernel shows it, read-only, in no mount namespace's tree.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::overlay::TmpDir;
use super::{SnapshotError, Stack};

/// A merged, read-only tree. It is gone when dropped.
#[derive(Debug)]
pub enum View {
    /// As the kernel shows it.
    Mounted(Mounted),
    /// To be looked up layer by layer, where nothing can be mounted.
    Layers(Stack),
}

/// A mount that is in no mount namespace's tree.
#[derive(Debug)]
pub struct Mounted {
    root: OwnedFd,
    /// Holds the empty directory that a stack of fewer than two needs.
    _empty: TmpDir,
}

impl Mounted {
    /// Returns the root directory; paths below it are for openat2 with RESOLVE_IN_ROOT.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Shows `lowers`, topmost first. `empty` holds a directory `fs` with the root's mode, at the very bottom.
    pub(super) fn new(
        lowers: &[PathBuf],
        empty: TmpDir,
        userxattr: bool,
    ) -> Result<Mounted, SnapshotError> {
        let bottom = empty.path().join("fs");
        if lowers.is_empty() {
            let root = open(&bottom).map_err(mount("open an empty directory"))?;
            return Ok(Mounted {
                root,
                _empty: empty,
            });
        }
        let mut layers = Vec::new();
        for path in lowers.iter().chain([&bottom]) {
            layers.push(open(path).map_err(mount("open a layer"))?);
        }
        let root = match detached(&layers, userxattr)? {
            Some(root) => root,
            None => attached(&layers, &empty.path().join("mnt"), userxattr)?,
        };
        Ok(Mounted {
            root,
            _empty: empty,
        })
    }
}

fn mount<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> SnapshotError {
    move |source| SnapshotError::Mount {
        action,
        source: source.into(),
    }
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// A name of the directory that is short whatever its path: strings given to fsconfig end at 255 bytes.
fn short(layer: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", layer.as_raw_fd())
}

/// Makes the mount without a place in the tree; `None` where the kernel cannot take layers one by one (before 6.5).
fn detached(layers: &[OwnedFd], userxattr: bool) -> Result<Option<OwnedFd>, SnapshotError> {
    let Ok(fs) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) else {
        return Ok(None); // the other way says why, if it fails as well
    };
    for layer in layers {
        if fsconfig_set_string(&fs, "lowerdir+", short(layer)).is_err() {
            return Ok(None);
        }
    }
    if userxattr {
        fsconfig_set_flag(&fs, "userxattr").map_err(mount("set userxattr"))?;
    }
    fsconfig_create(&fs).map_err(mount("create the overlay"))?;
    let attrs = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs)
        .map(Some)
        .map_err(mount("fsmount"))
}

/// Mounts on `place`, opens it, and takes it out of the tree again: it lives as long as it is open.
fn attached(layers: &[OwnedFd], place: &Path, userxattr: bool) -> Result<OwnedFd, SnapshotError> {
    let lowers: Vec<String> = layers.iter().map(short).collect();
    let mut data = format!("lowerdir={}", lowers.join(":"));
    if userxattr {
        data.push_str(",userxattr");
    }
    let data = std::ffi::CString::new(data).map_err(mount("name the layers"))?;
    std::fs::create_dir_all(place).map_err(mount("make a place for it"))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount("overlay", place, "overlay", flags, &*data).map_err(mount("mount"))?;
    let root = open(place);
    rustix::mount::unmount(place, UnmountFlags::DETACH).map_err(mount("detach the mount"))?;
    root.map_err(mount("open the mount"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way for older kernels, which `Mounted::new` does not take here.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test names what it lacks")]
    fn a_mount_that_is_detached_again_can_be_read() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut layers = Vec::new();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).expect("mkdir");
            std::fs::write(dir.path().join(name).join(name), name).expect("write");
            layers.push(open(&dir.path().join(name)).expect("open"));
        }
        let userxattr = crate::snapshot::overlay::tests::userxattr();
        let root = match attached(&layers, &dir.path().join("mnt"), userxattr) {
            Ok(root) => root,
            Err(error) => return eprintln!("skipped: overlay mounts are not to be had: {error}"),
        };
        let listing = crate::layer::listing::of_dir(root.as_fd()).expect("list");
        assert_eq!(listing.lines().count(), 2, "{listing}");
        assert_eq!(
            std::fs::read_dir(dir.path().join("mnt"))
                .expect("read")
                .count(),
            0
        );
    }
}
