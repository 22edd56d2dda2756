//! Mounts that hang nowhere yet: new file systems, clones, and what `/dev` holds.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::sys;

pub(super) const PRIVATE_MOUNT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A detached mount of a new file system.
pub(super) fn filesystem(
    name: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

pub(super) fn tmpfs(
    size_bytes: Option<u64>,
    mode: u32,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let mode = format!("{mode:o}");
    let size = size_bytes.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    if let Some(size) = &size {
        options.push(("size", size));
    }
    filesystem("tmpfs", &options, attributes)
}

pub(super) fn dev_pts() -> Result<OwnedFd, Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    let with_group = |group: Option<&str>| {
        let context = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            if value.is_empty() {
                rustix::mount::fsconfig_set_flag(&context, key)?;
            } else {
                rustix::mount::fsconfig_set_string(&context, key, value)?;
            }
        }
        if let Some(group) = group {
            rustix::mount::fsconfig_set_string(&context, "gid", group)?;
        }
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    // group 5 is `tty` everywhere; it may be missing from a small id map
    with_group(Some("5")).or_else(|_| with_group(None))
}

pub(super) fn host_sys() -> Result<OwnedFd, Errno> {
    let tree = clone_tree(Path::new("/sys"))?;
    sys::set_mount_attributes(&tree, true, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(tree)
}

pub(super) fn empty_directory() -> Result<OwnedFd, Errno> {
    tmpfs(
        Some(0),
        0o555,
        PRIVATE_MOUNT | MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

pub(super) const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Devices are made in `memory`, where they can be opened, and mounted on files in `directory`, where others cannot.
pub(super) fn devices(directory: &OwnedFd, memory: &OwnedFd) -> Result<(), Errno> {
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(*major, *minor);
        let made = match rustix::fs::mknodat(memory, *name, FileType::CharacterDevice, mode, device)
        {
            Ok(()) => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let node = rustix::fs::openat(memory, *name, flags, Mode::empty())?;
                clone_object(&node)
            }
            // a user namespace or a device filter: the host's own, then
            Err(Errno::PERM) => clone_tree(&Path::new("/dev").join(name)),
            Err(errno) => Err(errno),
        };
        match made {
            Ok(tree) => {
                let place = rustix::fs::openat(
                    directory,
                    *name,
                    OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
                    mode,
                )?;
                attach(&tree, &place)?;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(*target, directory, *name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

/// Lets no device node in a mount, or below it, be opened.
pub(super) fn no_devices(mount: &OwnedFd) -> Result<(), Errno> {
    sys::set_mount_attributes(mount, true, MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// A detached copy of what is mounted at a path of the host, with all below it.
pub(super) fn clone_tree(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

pub(super) fn clone_object(object: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(
        object,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
}

pub(super) fn attach(mount: &OwnedFd, target: impl AsFd) -> Result<(), Errno> {
    rustix::mount::move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Attaches a mount on top of what is stacked on `/`, where only its descriptor reaches it.
pub(super) fn stack(mount: &OwnedFd) -> Result<(), Errno> {
    rustix::mount::move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
