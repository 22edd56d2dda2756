//! Mounts overlays: by descriptors, or, on an older kernel, by mount(2).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags};

use super::detached::stack;
use super::mount_plan::Layers;
use super::protocol::{During, Failure};

/// A detached overlay stays usable by descriptor but cannot be cloned from: it is stacked on `/`, too.
pub(super) fn overlay(
    layers: &Layers,
    memory: &OwnedFd,
    name: &str,
    stacked: &mut usize,
) -> Result<OwnedFd, Failure> {
    match new_overlay(layers) {
        Ok(mount) => {
            stack(&mount).during_at("attach the overlay over", &layers.upper)?;
            *stacked += 1;
            Ok(mount)
        }
        // a kernel before 6.8 knows no `lowerdir+`, one before 6.5 no single options
        Err(Errno::INVAL | Errno::NOSYS) => {
            old_overlay(layers, memory, name).during_at("mount the overlay over", &layers.upper)
        }
        Err(errno) => Err(refused(layers, errno)),
    }
}

/// Mounts an overlay that hangs nowhere yet; `None` on a kernel that has only mount(2) for it.
pub(super) fn detached_overlay(layers: &Layers) -> Result<Option<OwnedFd>, Failure> {
    match new_overlay(layers) {
        Ok(mount) => Ok(Some(mount)),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(refused(layers, errno)),
    }
}

/// Says which directory of an overlay is missing, if one is.
fn refused(layers: &Layers, errno: Errno) -> Failure {
    let mut all = layers.lowers.iter().chain([&layers.upper, &layers.work]);
    let missing = all.find(|path| rustix::fs::stat(path.as_path()).is_err());
    let (call, path, errno) = match missing {
        Some(missing) => ("find the overlay's directory", missing, Errno::NOENT),
        None => ("mount the overlay over", &layers.upper, errno),
    };
    Failure {
        call: call.to_owned(),
        path: Some(path.clone()),
        errno: errno.raw_os_error(),
    }
}

/// Mounts an overlay by descriptors, detached.
pub(super) fn new_overlay(layers: &Layers) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // the kernel takes values below 256 bytes: a longer path goes by a descriptor's name
    let mut open = Vec::new();
    let mut set = |key: &str, path: &Path| -> Result<(), Errno> {
        if path.as_os_str().len() < 256 {
            return rustix::mount::fsconfig_set_string(&context, key, path);
        }
        let directory = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        rustix::mount::fsconfig_set_string(
            &context,
            key,
            format!("/proc/self/fd/{}", directory.as_raw_fd()),
        )?;
        open.push(directory);
        Ok(())
    };
    for lower in &layers.lowers {
        set("lowerdir+", lower)?;
    }
    set("upperdir", &layers.upper)?;
    set("workdir", &layers.work)?;
    for (key, value) in overlay_options(layers.userxattr) {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_set_flag(&context, "volatile")?;
    if layers.userxattr {
        rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

const PAGE: usize = 4096;

/// Fixed, whatever the kernel was built or started with: layers are moved, and read without the overlay.
///
/// `volatile` comes with them: without it the end of every step writes the whole file system of the upper directory
/// to disk, and each fsync of a package manager its part. Who keeps an upper directory makes it durable.
/// `userxattr` implies that redirects are neither made nor followed, and excludes an explicit `redirect_dir=off`.
fn overlay_options(userxattr: bool) -> &'static [(&'static str, &'static str)] {
    const OPTIONS: &[(&str, &str)] = &[
        ("index", "off"),
        ("metacopy", "off"),
        ("redirect_dir", "off"),
    ];
    if userxattr { &OPTIONS[..2] } else { OPTIONS }
}

/// Mounts an overlay in `directory` as older kernels do, and takes it off again.
pub(super) fn try_old_overlay(layers: &Layers, directory: &Path) -> Result<(), Errno> {
    let memory = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    drop(old_overlay(layers, &memory, "tried")?);
    rustix::mount::unmount(directory.join("tried"), UnmountFlags::DETACH)
}

/// The same by mount(2). All options must fit into a page, so layers go by the names of descriptors.
fn old_overlay(layers: &Layers, memory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let mut open = Vec::new();
    let mut short = |path: &PathBuf| -> Result<String, Errno> {
        let directory = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
        open.push(directory);
        Ok(short)
    };
    let lowers = layers
        .lowers
        .iter()
        .map(&mut short)
        .collect::<Result<Vec<_>, _>>()?;
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        short(&layers.upper)?,
        short(&layers.work)?
    );
    for (key, value) in overlay_options(layers.userxattr) {
        options.push_str(&format!(",{key}={value}"));
    }
    if layers.userxattr {
        options.push_str(",userxattr");
    }
    if options.len() + ",volatile".len() >= PAGE {
        return Err(Errno::TOOBIG);
    }
    let with_volatile =
        std::ffi::CString::new(format!("{options},volatile")).map_err(|_| Errno::INVAL)?;
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::fs::mkdirat(memory, name, Mode::from_raw_mode(0o755))?;
    let target = format!("/proc/self/fd/{}/{name}", memory.as_raw_fd());
    let mount = |options: &std::ffi::CString| {
        rustix::mount::mount(
            "overlay",
            &target,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
    };
    match mount(&with_volatile) {
        // a kernel before 5.10
        Err(Errno::INVAL) => mount(&options)?,
        other => other?,
    }
    rustix::fs::openat(memory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
