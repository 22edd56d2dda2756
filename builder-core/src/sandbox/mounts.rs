//! Carries a mount plan out, in the step's own mount namespace.
//!
//! Each mount is made detached (fsopen, fsmount, open_tree) and then moved onto a descriptor of its target: no path
//! is looked up twice, and none outside the root. What must be attached before it can be cloned is stacked on `/`
//! of the old root, which goes away as a whole after pivot_root.
//!
//! A step may make device nodes, and an image may bring them, as with Docker; only those in `/dev` can be opened.
//! Docker has a cgroup decide that, which is not to be had everywhere: here every mount is `nodev`, and the devices of
//! `/dev` are mounts of their own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};

use super::detached::{
    PRIVATE_MOUNT, attach, clone_object, clone_tree, dev_pts, devices, empty_directory, filesystem,
    host_sys, no_devices, stack, tmpfs,
};
use super::id_map;
use super::mount_plan::{Kind, Layers, MountStep, What};
use super::mount_point::{Interior, open_in};
use super::overlay_mount::{detached_overlay, overlay};
use super::protocol::{During, Failure};
use super::spec::MountSource;
use crate::owner::{self, Owner};
use crate::sys;

/// What becomes the root.
#[derive(Debug)]
pub(super) enum RootMount<'a> {
    Overlay(Layers),
    Directory(&'a Path),
    /// Not mounted at all: a tree to chroot into, and a directory beside it.
    Chroot {
        tree: &'a Path,
        hold: &'a Path,
    },
}

/// Mounts everything and makes it the process's root. `any_device` lets every device node be opened.
pub(super) fn enter_root(
    root: RootMount<'_>,
    steps: &[MountStep],
    any_device: bool,
) -> Result<Interior, Failure> {
    make_private()?;
    let memory =
        tmpfs(None, 0o755, MountAttrFlags::empty()).during("mount a tmpfs for the step's files")?;
    stack(&memory).during("attach the tmpfs for the step's files")?;
    let mut stacked = 1;
    // sources first: their paths are the builder's, and are looked up before anything is put over them
    let mut sources = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let made = source(&memory, index, &step.what, &mut stacked)?;
        let own_device = matches!(
            step.what,
            What::Host {
                no_devices: false,
                ..
            }
        );
        if let (Some(mount), false) = (&made, any_device || own_device) {
            no_devices(mount).during_at("forbid devices in the mount for", &step.target)?;
        }
        sources.push(made);
    }
    let root_mount = match root {
        RootMount::Overlay(layers) => overlay(&layers, &memory, "root", &mut 0)?,
        RootMount::Directory(path) => {
            let tree = clone_tree(path).during_at("bind the root", path)?;
            stack(&tree).during_at("attach the root", path)?;
            tree
        }
        RootMount::Chroot { .. } => return Err(Failure::reason("a root that is not mounted")),
    };
    if !any_device {
        no_devices(&root_mount).during_at("forbid devices in", "/")?;
    }
    let mut interior = Interior::new(root_mount);
    let mut writable = Vec::new();
    for (step, source) in steps.iter().zip(sources) {
        writable.extend(mount(&mut interior, step, source, &memory)?);
    }
    for mount in writable {
        sys::set_mount_attributes(&mount, false, MountAttrFlags::MOUNT_ATTR_RDONLY)
            .during("make a mount read-only")?;
    }
    rustix::process::fchdir(interior.root()).during("enter the new root")?;
    rustix::process::pivot_root(".", ".").during("pivot_root")?;
    // the old root lies on the new one, and on the old root what was stacked there: the uppermost goes first
    for _ in 0..=stacked {
        rustix::mount::unmount(".", UnmountFlags::DETACH).during("detach the old root")?;
    }
    rustix::process::chdir("/").during_at("chdir", "/")?;
    check_alone(interior.root())?;
    Ok(interior)
}

/// Lets no mount of the process be seen outside, and none from outside come in.
pub(super) fn make_private() -> Result<(), Failure> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .during_at("make mounts private", "/")
}

/// Mounts a root that hangs nowhere yet; `None` where that cannot be had.
pub(super) fn detached(root: &RootMount<'_>) -> Result<Option<OwnedFd>, Failure> {
    match root {
        RootMount::Overlay(layers) => detached_overlay(layers),
        RootMount::Directory(path) => clone_tree(path).during_at("bind the root", *path).map(Some),
        RootMount::Chroot { .. } => Ok(None),
    }
}

/// Makes sure that nothing lies on the root: `..` would step into it.
pub(super) fn check_alone(root: &OwnedFd) -> Result<(), Failure> {
    let above = rustix::fs::stat("/..").during_at("stat", "/..")?;
    let root = rustix::fs::fstat(root).during_at("stat", "/")?;
    if (above.st_dev, above.st_ino) != (root.st_dev, root.st_ino) {
        return Err(Failure::reason("the old root could not be detached"));
    }
    Ok(())
}

/// Makes what a step mounts, if that comes from outside the root or from memory.
pub(super) fn source(
    memory: &OwnedFd,
    index: usize,
    what: &What,
    stacked: &mut usize,
) -> Result<Option<OwnedFd>, Failure> {
    match what {
        What::Bind { source, read_only } => {
            let tree = clone_tree(source).during_at("bind", source)?;
            if *read_only {
                sys::set_mount_attributes(&tree, true, MountAttrFlags::MOUNT_ATTR_RDONLY)
                    .during_at("make read-only", source)?;
            }
            Ok(Some(tree))
        }
        What::Host {
            source,
            read_only,
            no_suid,
            no_exec,
            no_devices: _,
        } => {
            let tree = clone_tree(source).during_at("bind", source)?;
            let asked = [
                (*read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
                (*no_suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
                (*no_exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            ];
            let asked = asked.iter().filter(|(asked, _)| *asked);
            let attributes: MountAttrFlags = asked.map(|(_, flag)| *flag).collect();
            sys::set_mount_attributes(&tree, true, attributes)
                .during_at("restrict the mount of", source)?;
            Ok(Some(tree))
        }
        What::Inside {
            root,
            path,
            read_only,
        } => {
            let directory = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .during_at("find the mount's source", root)?;
            let part = open_in(&directory, path, OFlags::PATH)
                .during_at("find in the mount's source", path)?;
            let tree = clone_object(&part).during_at("bind", path)?;
            if *read_only {
                sys::set_mount_attributes(&tree, true, MountAttrFlags::MOUNT_ATTR_RDONLY)
                    .during_at("make read-only", path)?;
            }
            Ok(Some(tree))
        }
        // read-only only when all is mounted: a mount point inside may be missing
        What::Overlay {
            layers,
            subpath,
            read_only: _,
        } => {
            let whole = overlay(layers, memory, &format!("overlay-{index}"), stacked)?;
            let part = open_in(&whole, subpath, OFlags::PATH)
                .during_at("find in the mount's source", subpath)?;
            let tree = clone_object(&part).during_at("bind", subpath)?;
            Ok(Some(tree))
        }
        What::Bytes {
            bytes,
            mode,
            uid,
            gid,
            read_only,
            no_exec,
        } => {
            let mut attributes =
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            if *no_exec {
                attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
            }
            if *read_only {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            file_in_memory(memory, index, bytes, (*mode, *uid, *gid), attributes).map(Some)
        }
        What::BytesOver { bytes } => {
            let attributes = PRIVATE_MOUNT;
            file_in_memory(memory, index, bytes, (0o644, 0, 0), attributes).map(Some)
        }
        _ => Ok(None),
    }
}

fn file_in_memory(
    memory: &OwnedFd,
    index: usize,
    bytes: &[u8],
    (mode, uid, gid): (u32, u32, u32),
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let name = format!("bytes-{index}");
    let make = || -> Result<OwnedFd, Errno> {
        let file = rustix::fs::openat(
            memory,
            &name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        match rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // beyond the mapped ids: where there is only one, the listener shows what is remembered
            Err(Errno::INVAL) if id_map::is_single() => {
                owner::put_open(file.as_fd(), Owner::of(uid, gid))?;
            }
            other => other?,
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        let tree = clone_object(&file)?;
        sys::set_mount_attributes(&tree, false, attributes)?;
        Ok(tree)
    };
    make().during("make a file in memory")
}

/// Returns the mount where it still has to be made read-only.
pub(super) fn mount(
    interior: &mut Interior,
    step: &MountStep,
    source: Option<OwnedFd>,
    memory: &OwnedFd,
) -> Result<Option<OwnedFd>, Failure> {
    let target = step.target.as_path();
    let made = match &step.what {
        What::Mask | What::Seal => {
            return cover(interior, target, step.what == What::Mask).map(|()| None);
        }
        What::BytesOver { .. } if interior.open(target, OFlags::PATH).is_err() => return Ok(None),
        What::Bind { .. }
        | What::Host { .. }
        | What::Inside { .. }
        | What::Overlay { .. }
        | What::Bytes { .. }
        | What::BytesOver { .. } => source.ok_or(Errno::INVAL),
        What::Proc => filesystem("proc", &[], PRIVATE_MOUNT),
        What::Sys { read_only } => {
            let read_only = match read_only {
                true => MountAttrFlags::MOUNT_ATTR_RDONLY,
                false => MountAttrFlags::empty(),
            };
            match filesystem("sysfs", &[], PRIVATE_MOUNT | read_only) {
                // the host's own is covered in part, as in a container: a new one would show more
                Err(Errno::PERM) => host_sys(),
                other => other,
            }
        }
        What::HostSys => host_sys(),
        What::Devices => tmpfs(
            Some(64 << 10 << 10),
            0o755,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        ),
        What::DevPts => dev_pts(),
        What::Mqueue => filesystem("mqueue", &[], PRIVATE_MOUNT),
        What::Tmpfs {
            size_bytes,
            mode,
            no_exec,
            read_only,
        } => {
            let mut attributes =
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            if *no_exec {
                attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
            }
            if *read_only {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            tmpfs(*size_bytes, *mode, attributes)
        }
    };
    let made = match (&step.what, made) {
        // a kernel without POSIX message queues
        (What::Mqueue, Err(Errno::NODEV)) => return Ok(None),
        (_, made) => made.during_at("make the mount for", target)?,
    };
    let found = interior.mount_point(target, step.kind)?;
    attach(&made, &found.object).during_at("mount on", target)?;
    interior.mounted(found);
    match &step.what {
        What::Devices => devices(&made, memory).during_at("make the devices in", target)?,
        What::HostSys | What::Sys { .. } => hide_cgroups(interior)?,
        What::Overlay {
            read_only: true, ..
        } => return Ok(Some(made)),
        _ => {}
    }
    Ok(None)
}

/// A new sysfs has an empty directory there already; the host's has the host's cgroups below.
fn hide_cgroups(interior: &Interior) -> Result<(), Failure> {
    let path = Path::new("/sys/fs/cgroup");
    let Ok(found) = interior.open(path, OFlags::PATH | OFlags::DIRECTORY) else {
        return Ok(());
    };
    empty_directory()
        .and_then(|empty| attach(&empty, &found))
        .during_at("hide", path)
}

/// Hides a path of the root or makes it read-only, if it is there.
fn cover(interior: &Interior, path: &Path, hide: bool) -> Result<(), Failure> {
    let Ok(found) = interior.open(path, OFlags::PATH) else {
        return Ok(());
    };
    let directory = rustix::fs::fstat(&found)
        .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        .during_at("stat", path)?;
    let over = || {
        if !hide {
            let tree = clone_object(&found)?;
            sys::set_mount_attributes(&tree, true, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
            return Ok(tree);
        }
        if directory {
            return empty_directory();
        }
        let tree = clone_object(&interior.open(Path::new("/dev/null"), OFlags::PATH)?)?;
        sys::set_mount_attributes(&tree, false, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        Ok(tree)
    };
    let what = if hide { "hide" } else { "make read-only" };
    over()
        .and_then(|over: OwnedFd| attach(&over, &found))
        .during_at(what, path)
}

/// For the callers that name a kind of thing by what is there.
pub(super) fn kind_of(file_type: FileType) -> Kind {
    if file_type == FileType::Directory {
        Kind::Directory
    } else {
        Kind::File
    }
}

/// Whether a mount's source is a directory: its mount point must be the same.
pub(super) fn kind(source: &MountSource) -> Result<Kind, Failure> {
    match source {
        MountSource::Tmpfs { .. } => Ok(Kind::Directory),
        MountSource::Bytes { .. } => Ok(Kind::File),
        MountSource::Bind(path) | MountSource::Host { path, .. } => {
            let stat = rustix::fs::stat(path).during_at("find the mount's source", path)?;
            Ok(kind_of(FileType::from_raw_mode(stat.st_mode)))
        }
        MountSource::Inside { root, path } => {
            let failed = "find in the mount's source";
            let root = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .during_at(failed, root)?;
            let found = open_in(&root, path, OFlags::PATH).during_at(failed, path)?;
            let stat = rustix::fs::fstat(&found).during_at(failed, path)?;
            Ok(kind_of(FileType::from_raw_mode(stat.st_mode)))
        }
        MountSource::Overlay {
            lowers,
            upper,
            subpath,
            ..
        } => [upper]
            .into_iter()
            .chain(lowers)
            .find_map(|layer| {
                let layer =
                    rustix::fs::open(layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
                let found = open_in(&layer, subpath, OFlags::PATH).ok()?;
                let file_type = FileType::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode);
                // a whiteout, or the end of a link in another layer's tree
                (file_type != FileType::CharacterDevice).then(|| kind_of(file_type))
            })
            .ok_or(Errno::NOENT)
            .during_at("find in the mount's source", subpath),
    }
}
