//! Makes files for a process that believes to be a user, or where a directory gives its group on.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::calls::{How, Make, Place};
use super::files::{self, Found, Memory};
use super::ids::Ids;
use super::processes;
use crate::owner::{Node, Owner};
use crate::sys::Answer;

/// What comes of it.
#[derive(Debug)]
pub(super) enum Made {
    Answer(Answer),
    /// The file, opened for the process.
    Open {
        file: OwnedFd,
        close_on_exec: bool,
    },
}

const CONTINUE: Made = Made::Answer(Answer::Continue);
const SET_GROUP_ID: u32 = libc::S_ISGID;

/// Makes what is asked, or leaves it to the kernel where that does the same.
pub(super) fn make(
    thread: u32,
    ids: &Ids,
    memory: &mut Memory,
    place: Place,
    what: Make,
) -> Result<Made, Errno> {
    let Place::Path { dir, address, .. } = place else {
        return Ok(CONTINUE);
    };
    let device = match what {
        Make::Node { mode, device } => device_of(mode, device),
        _ => None,
    };
    let path = files::read_path(thread, address)?;
    // what is wrong with the way there, the kernel says
    let Ok((parent, name)) = files::parent_of(thread, dir, &path) else {
        return Ok(CONTINUE);
    };
    let stat = rustix::fs::statat(&parent, "", AtFlags::EMPTY_PATH)?;
    let gives_group = stat.st_mode & SET_GROUP_ID != 0;
    if ids.makes_as_root() && !gives_group && device.is_none() {
        return Ok(CONTINUE);
    }
    let parent = Found::directory(parent, stat);
    let mut owner = Owner::of(ids.user.files, ids.group.files);
    if gives_group {
        owner.gid = memory.owner(&parent)?.unwrap_or_default().gid;
    }
    owner.node = device;
    if owner.is_plain() {
        return Ok(CONTINUE);
    }
    if device.is_some() && ids.user.effective != 0 {
        return Err(Errno::PERM);
    }
    let dir = &parent.file;
    let umask = processes::umask(thread).unwrap_or(0o022);
    let mode = |mode: u32| Mode::from_raw_mode(mode & 0o7777 & !umask);
    let mut open = None;
    match what {
        Make::File(How {
            flags: given,
            mode: bits,
        }) => {
            if given.contains(OFlags::TMPFILE) {
                return Ok(CONTINUE);
            }
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(dir, &name[..], given | new, mode(bits)) {
                Ok(file) => {
                    open = Some(Made::Open {
                        file,
                        close_on_exec: given.contains(OFlags::CLOEXEC),
                    });
                }
                // it is there, and keeps its owner; or it cannot be, which the kernel says
                Err(_) => return Ok(CONTINUE),
            }
        }
        Make::Directory { mode: bits } => rustix::fs::mkdirat(dir, &name[..], mode(bits))?,
        Make::Link { target } => {
            let target = files::read_path(thread, target)?;
            rustix::fs::symlinkat(&target[..], dir, &name[..])?;
        }
        Make::Node {
            mode: bits,
            device: number,
        } => {
            let kind = match (device, FileType::from_raw_mode(bits)) {
                (Some(_), _) | (_, FileType::Unknown) => FileType::RegularFile,
                (None, kind) => kind,
            };
            let number = if device.is_some() { 0 } else { number };
            rustix::fs::mknodat(dir, &name[..], kind, mode(bits), number)?;
        }
    }
    memory.own_new(std::os::fd::AsFd::as_fd(dir), &name, owner)?;
    Ok(open.unwrap_or(Made::Answer(Answer::Value(0))))
}

/// The device that `mknod` is asked for.
fn device_of(mode: u32, device: u64) -> Option<Node> {
    let kind = FileType::from_raw_mode(mode);
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice).then(|| Node {
        kind,
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
    })
}
