//! Finds the file that another process speaks of, and remembers whose it is.
//!
//! The listener stands in the step's root, with a user's rights on the host: a path that changes between two looks can
//! deceive the step itself, and nobody else.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_NOW,
    Uid,
};
use rustix::io::Errno;

use super::calls::Place;
use crate::owner::{self, Owner};
use crate::sys::{self, Answer};

const LONGEST_PATH: usize = 4096;
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A file, and, for a symbolic link, where it stands.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: OwnedFd,
    pub(super) stat: Stat,
    link: Option<(OwnedFd, Vec<u8>)>,
}

impl Found {
    /// A directory that is open.
    pub(super) fn directory(file: OwnedFd, stat: Stat) -> Found {
        Found {
            file,
            stat,
            link: None,
        }
    }
}

/// Reads a string that ends with NUL.
pub(super) fn read_path(thread: u32, address: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; LONGEST_PATH];
    let n = sys::read_memory(thread, address, &mut bytes)?;
    let end = bytes[..n].iter().position(|byte| *byte == 0);
    bytes.truncate(end.ok_or(Errno::NAMETOOLONG)?);
    Ok(bytes)
}

/// Opens what a descriptor, or the working directory, of another process is.
fn open_number(thread: u32, number: i32) -> Result<OwnedFd, Errno> {
    let path = match number {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number => format!("/proc/{thread}/fd/{number}"),
    };
    rustix::fs::open(path, PATH, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Errno::BADF,
        other => other,
    })
}

/// `/proc/self` and `/dev/fd` mean the process that asks.
fn of_asker(thread: u32, path: &[u8]) -> Option<Vec<u8>> {
    let below = |prefix: &[u8], to: String| {
        let rest = path.strip_prefix(prefix)?;
        (rest.is_empty() || rest[0] == b'/').then(|| [to.as_bytes(), rest].concat())
    };
    below(b"/proc/self", format!("/proc/{thread}"))
        .or_else(|| below(b"/proc/thread-self", format!("/proc/{thread}")))
        .or_else(|| below(b"/dev/fd", format!("/proc/{thread}/fd")))
        .or_else(|| below(b"/dev/stdin", format!("/proc/{thread}/fd/0")))
        .or_else(|| below(b"/dev/stdout", format!("/proc/{thread}/fd/1")))
        .or_else(|| below(b"/dev/stderr", format!("/proc/{thread}/fd/2")))
}

/// Opens a path as `thread` would.
fn open_path(thread: u32, dir: i32, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let name = OsStr::from_bytes(path);
    if path.first() != Some(&b'/') {
        let base = open_number(thread, dir)?;
        return rustix::fs::openat(base, name, PATH | flags, Mode::empty());
    }
    if let Some(path) = of_asker(thread, path) {
        return rustix::fs::openat(CWD, &path[..], PATH | flags, Mode::empty());
    }
    // of a process that has changed its root, that root
    let root = rustix::fs::open(format!("/proc/{thread}/root"), PATH, Mode::empty())?;
    loop {
        let opened = rustix::fs::openat2(
            &root,
            name,
            PATH | flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            return opened;
        }
    }
}

/// The directory and the last part of a path; `None` where that is no name.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let (parent, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], &trimmed[1..]),
        Some(cut) => (&trimmed[..cut], &trimmed[cut + 1..]),
        None => (&b"."[..], trimmed),
    };
    (!matches!(name, b"" | b"." | b"..")).then_some((parent, name))
}

/// The directory that `path` names something in, and that name.
pub(super) fn parent_of(thread: u32, dir: i32, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let (parent, name) = split(path).ok_or(Errno::INVAL)?;
    let parent = open_path(thread, dir, parent, OFlags::DIRECTORY)?;
    Ok((parent, name.to_vec()))
}

/// Finds a file.
pub(super) fn find(thread: u32, place: Place) -> Result<Found, Errno> {
    let (file, dir, path) = match place {
        Place::Open(number) => (open_number(thread, number)?, number, Vec::new()),
        Place::Path {
            dir,
            address,
            follow,
            empty,
        } => {
            // no path at all is as good as an empty one, to newer kernels
            let path = match (address, empty) {
                (0, true) => Vec::new(),
                _ => read_path(thread, address)?,
            };
            let file = match &path[..] {
                b"" if empty => open_number(thread, dir)?,
                b"" => return Err(Errno::NOENT),
                path => {
                    let flags = match follow {
                        true => OFlags::empty(),
                        false => OFlags::NOFOLLOW,
                    };
                    open_path(thread, dir, path, flags)?
                }
            };
            (file, dir, path)
        }
    };
    let stat = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let link = match is_link && !path.is_empty() {
        true => Some(parent_of(thread, dir, &path)?),
        false => None,
    };
    Ok(Found { file, stat, link })
}

/// What no attribute can hold: owners of pipes and sockets, of files of a file system without attributes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    owners: HashMap<(u64, u64), Owner>,
}

impl Memory {
    /// Whose the file is, as the step has it; `None`: as the kernel says.
    pub(super) fn owner(&self, found: &Found) -> Result<Option<Owner>, Errno> {
        let key = (found.stat.st_dev, found.stat.st_ino);
        if !self.owners.is_empty()
            && let Some(owner) = self.owners.get(&key)
        {
            return Ok(Some(*owner));
        }
        match (FileType::from_raw_mode(found.stat.st_mode), &found.link) {
            (FileType::RegularFile | FileType::Directory, _) => owner::get_open(found.file.as_fd()),
            (FileType::Symlink, Some((dir, name))) => owner::get(dir.as_fd(), name, &found.stat),
            _ => Ok(None),
        }
    }

    /// Does the file stand for a device?
    pub(super) fn is_device(&self, found: &Found) -> bool {
        let stands = FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile
            && found.stat.st_size == 0;
        stands
            && self
                .owner(found)
                .is_ok_and(|owner| owner.is_some_and(Owner::is_device))
    }

    /// Gives the file to `new`, with all that the kernel does then: set-user-id bits and capabilities go.
    pub(super) fn give(&mut self, found: &Found, new: Owner) -> Result<(), Errno> {
        let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        match (FileType::from_raw_mode(found.stat.st_mode), &found.link) {
            (FileType::Symlink, Some((dir, name))) => {
                touch_link(dir.as_fd(), name, &found.stat)?;
                owner::put(dir.as_fd(), name, &found.stat, new)
            }
            (FileType::RegularFile | FileType::Directory, _) => {
                rustix::fs::chownat(&found.file, "", root, group, AtFlags::EMPTY_PATH)?;
                match owner::put_open(found.file.as_fd(), new) {
                    Err(Errno::OPNOTSUPP | Errno::PERM) => self.keep(&found.stat, new),
                    other => return other,
                }
                Ok(())
            }
            _ => {
                rustix::fs::chownat(&found.file, "", root, group, AtFlags::EMPTY_PATH)?;
                self.keep(&found.stat, new);
                Ok(())
            }
        }
    }

    /// A link that goes to another directory, or gets another name there, keeps its owner.
    ///
    /// # Errors
    /// No room to remember it. What is wrong with the call itself the kernel says.
    pub(super) fn follow(&self, thread: u32, from: Place, to: Place) -> Result<(), Errno> {
        let Some((found, owner)) = self.owned_link(thread, from) else {
            return Ok(());
        };
        let (
            Some((dir, name)),
            Place::Path {
                dir: base, address, ..
            },
        ) = (&found.link, to)
        else {
            return Ok(());
        };
        let Ok((new, _)) =
            read_path(thread, address).and_then(|path| parent_of(thread, base, &path))
        else {
            return Ok(());
        };
        let id = |dir: &OwnedFd| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino));
        if id(dir)? == id(&new)? {
            return Ok(());
        }
        owner::put_moved(dir.as_fd(), name, &found.stat, new.as_fd(), owner)
    }

    /// Sets a link's times, which it is remembered by.
    pub(super) fn touch(&self, thread: u32, at: Place, times: u64) -> Result<Answer, Errno> {
        let Some((found, owner)) = self.owned_link(thread, at) else {
            return Ok(Answer::Continue);
        };
        let Some((dir, name)) = &found.link else {
            return Ok(Answer::Continue);
        };
        let mut given = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
        };
        if times != 0 {
            let mut bytes = [0; 32];
            if sys::read_memory(thread, times, &mut bytes)? != bytes.len() {
                return Err(Errno::FAULT);
            }
            let number = |nth: usize| {
                let mut eight = [0; 8];
                eight.copy_from_slice(&bytes[8 * nth..8 * nth + 8]);
                i64::from_ne_bytes(eight)
            };
            let time = |nth: usize| Timespec {
                tv_sec: number(nth),
                tv_nsec: number(nth + 1),
            };
            (given.last_access, given.last_modification) = (time(0), time(2));
        }
        rustix::fs::utimensat(dir, name, &given, AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        owner::put(dir.as_fd(), name, &stat, owner)?;
        Ok(Answer::Value(0))
    }

    /// A symbolic link that somebody else than root is remembered to have.
    fn owned_link(&self, thread: u32, place: Place) -> Option<(Found, Owner)> {
        let found = find(thread, place).ok()?;
        found.link.as_ref()?;
        let owner = self.owner(&found).ok()??;
        Some((found, owner))
    }

    fn keep(&mut self, stat: &Stat, owner: Owner) {
        self.owners.insert((stat.st_dev, stat.st_ino), owner);
    }

    /// Remembers the owner of something new: as [`Memory::give`], but nothing is to be taken away.
    pub(super) fn own_new(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        owner: Owner,
    ) -> Result<(), Errno> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match owner::put(dir, name, &stat, owner) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                self.keep(&stat, owner);
                Ok(())
            }
            other => other,
        }
    }
}

/// Sets a link's times to what they are: it is in the step's layer then.
fn touch_link(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    let time = |tv_sec, nanos: u64| Timespec {
        tv_sec,
        tv_nsec: nanos.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_before_their_last_name() {
        for (path, expected) in [
            ("a", Some((".", "a"))),
            ("/a", Some(("/", "a"))),
            ("/a/b/", Some(("/a", "b"))),
            ("a/..", None),
            ("/", None),
            (".", None),
        ] {
            let expected = expected.map(|(a, b): (&str, &str)| (a.as_bytes(), b.as_bytes()));
            assert_eq!(split(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn proc_self_is_the_asker() {
        for (path, expected) in [
            ("/proc/self/fd/3", Some("/proc/7/fd/3")),
            ("/proc/selfish", None),
            ("/dev/stdout", Some("/proc/7/fd/1")),
            ("/etc", None),
        ] {
            let found = of_asker(7, path.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
