//! Overlayfs' marks of removals, and plain removal.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::OverlayFormat;
use crate::layer::xattr;

/// Marks the directory as one that hides what is below it.
pub(crate) fn mark_opaque(
    at: BorrowedFd<'_>,
    name: &[u8],
    format: OverlayFormat,
) -> Result<(), Errno> {
    let key: &[u8] = match format.userxattr {
        true => b"user.overlay.opaque",
        false => b"trusted.overlay.opaque",
    };
    xattr::set(at, name, key, b"y")
}

/// Puts overlayfs' mark of a removal: the device 0:0, or, on a file system that is itself an overlay and refuses that one,
/// an empty file with an attribute.
pub(crate) fn put_whiteout(
    at: BorrowedFd<'_>,
    name: &[u8],
    format: OverlayFormat,
) -> Result<(), Errno> {
    match rustix::fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(at, name, FileType::RegularFile, mode, 0)?;
    let key: &[u8] = match format.userxattr {
        true => b"user.overlay.whiteout",
        false => b"trusted.overlay.whiteout",
    };
    xattr::set(at, name, key, b"y")
}

/// Removes `name`, with all that is in it; nothing there is no error. Directories that cannot be entered (overlayfs
/// leaves its work directory with mode 000) are opened up first.
pub(crate) fn clear_path(at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let open = || {
        rustix::fs::openat(
            at,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let dir = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    let mut opened_up = false;
    let mut items = rustix::fs::Dir::read_from(&dir)?;
    while let Some(item) = items.read() {
        let item = item?;
        let inside = item.file_name().to_bytes();
        if matches!(inside, b"." | b"..") {
            continue;
        }
        match clear_path(dir.as_fd(), inside) {
            Err(Errno::ACCESS) if !opened_up => {
                opened_up = true;
                rustix::fs::fchmod(&dir, Mode::RWXU)?;
                clear_path(dir.as_fd(), inside)?;
            }
            other => other?,
        }
    }
    rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}
