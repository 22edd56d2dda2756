//! Owners and devices that the kernel does not let us make, remembered beside what stands for them.
//!
//! With one mapped id every file belongs to the one user. What an archive, a COPY or a step says of owners is kept in an
//! attribute of the file or directory; a device, or a pipe of another owner, is an empty file with that attribute.
//! Symbolic links take no attributes of users: their directory has a list, by where they lead and their time, so that
//! a link keeps its owner when it is renamed or copied, and a new link of the same name does not inherit one.
//!
//! | attribute            | on          | value                                                                  |
//! |----------------------|-------------|------------------------------------------------------------------------|
//! | `user.builder.owner` | files, directories | `uid:gid`, or `uid:gid:c:major:minor`, `…:b:…`, `uid:gid:p:0:0` |
//! | `user.builder.links` | directories | 14 bytes a link: six of a hash, the owner, the group                    |
//!
//! Neither ever reaches a layer, or is taken from one.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

/// On files and directories.
pub(crate) const OWNER: &[u8] = b"user.builder.owner";
/// On directories, of the links in them.
pub(crate) const LINKS: &[u8] = b"user.builder.links";

const LINK_BYTES: usize = 14;

/// What is remembered of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What the empty file stands for.
    pub(crate) node: Option<Node>,
}

/// A device or a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Owner {
    pub(crate) fn of(uid: u32, gid: u32) -> Owner {
        Owner {
            uid,
            gid,
            node: None,
        }
    }

    /// Nothing that the kernel would not say by itself.
    pub(crate) fn is_plain(self) -> bool {
        self == Owner::default()
    }

    /// Not a pipe.
    pub(crate) fn is_device(self) -> bool {
        self.node.is_some_and(|node| node.kind != FileType::Fifo)
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let Owner { uid, gid, node } = self;
        let Some(Node { kind, major, minor }) = node else {
            return format!("{uid}:{gid}").into_bytes();
        };
        let kind = match kind {
            FileType::CharacterDevice => 'c',
            FileType::BlockDevice => 'b',
            _ => 'p',
        };
        format!("{uid}:{gid}:{kind}:{major}:{minor}").into_bytes()
    }

    /// `None` for what [`Owner::to_bytes`] does not write.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Owner> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = text.split(':');
        let mut owner = Owner::of(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        if let Some(kind) = fields.next() {
            owner.node = Some(Node {
                kind: match kind {
                    "c" => FileType::CharacterDevice,
                    "b" => FileType::BlockDevice,
                    "p" => FileType::Fifo,
                    _ => return None,
                },
                major: fields.next()?.parse().ok()?,
                minor: fields.next()?.parse().ok()?,
            });
        }
        fields.next().is_none().then_some(owner)
    }

    /// Puts what is remembered into what the kernel said.
    pub(crate) fn show_in(self, stat: &mut Stat) {
        (stat.st_uid, stat.st_gid) = (self.uid, self.gid);
        if let Some(Node { kind, major, minor }) = self.node {
            stat.st_mode = kind.as_raw_mode() | stat.st_mode & 0o7777;
            stat.st_rdev = match kind {
                FileType::Fifo => 0,
                _ => rustix::fs::makedev(major, minor),
            };
        }
    }
}

/// Is the attribute ours?
pub(crate) fn is_own(key: &[u8]) -> bool {
    key == OWNER || key == LINKS
}

/// `lstat` with what is remembered; an empty name is `dir` itself.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    let mut stat = plain_stat(dir, name)?;
    if let Some(owner) = get(dir, name, &stat)? {
        owner.show_in(&mut stat);
    }
    Ok(stat)
}

fn plain_stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    let name = if name.is_empty() { b"." } else { name };
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What is remembered of `name`, of which the kernel says `stat`.
pub(crate) fn get(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<Option<Owner>, Errno> {
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {
            return Ok(attribute(dir, name, OWNER)?.and_then(|it| Owner::from_bytes(&it)));
        }
        FileType::Symlink => attribute(dir, b"", LINKS)?,
        _ => None,
    };
    let Some(links) = found else {
        return Ok(None);
    };
    let key = link_key(dir, name, stat)?;
    Ok(links
        .chunks_exact(LINK_BYTES)
        .rev()
        .find(|one| one[..6] == key)
        .map(link_owner))
}

/// Remembers `owner` of `name`, of which the kernel says `stat`.
///
/// # Errors
/// The file system has no attributes of users, or no room for another; `name` is a pipe, a socket or a device.
pub(crate) fn put(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    owner: Owner,
) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory if owner.is_plain() => {
            match remove(dir, name, OWNER) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                other => other,
            }
        }
        FileType::RegularFile | FileType::Directory => set(dir, name, OWNER, &owner.to_bytes()),
        FileType::Symlink => put_link(dir, link_key(dir, name, stat)?, owner),
        _ if owner.is_plain() => Ok(()),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// Remembers in the directory `to` whose the link `name` of `dir` is, which is about to go there.
///
/// # Errors
/// As [`put`].
pub(crate) fn put_moved(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    to: BorrowedFd<'_>,
    owner: Owner,
) -> Result<(), Errno> {
    put_link(to, link_key(dir, name, stat)?, owner)
}

fn put_link(dir: BorrowedFd<'_>, key: LinkKey, owner: Owner) -> Result<(), Errno> {
    let mut links = attribute(dir, b"", LINKS)?.unwrap_or_default();
    if owner.is_plain() && links.is_empty() {
        return Ok(());
    }
    drop_link(&mut links, &key);
    let with_it = |links: &mut Vec<u8>| {
        if !owner.is_plain() {
            links.extend_from_slice(&key);
            links.extend_from_slice(&owner.uid.to_le_bytes());
            links.extend_from_slice(&owner.gid.to_le_bytes());
        }
        set(dir, b"", LINKS, links)
    };
    match with_it(&mut links.clone()) {
        // those that have gone, or have got another time, are no longer needed
        Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {
            let there = link_keys(dir)?;
            let mut kept: Vec<u8> = links
                .chunks_exact(LINK_BYTES)
                .filter(|one| there.iter().any(|key| one[..6] == *key))
                .flatten()
                .copied()
                .collect();
            with_it(&mut kept)
        }
        other => other,
    }
}

/// The keys of all links in a directory.
fn link_keys(dir: BorrowedFd<'_>) -> Result<Vec<LinkKey>, Errno> {
    let mut keys = Vec::new();
    for entry in rustix::fs::Dir::read_from(open_again(dir)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let stat = plain_stat(dir, name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            keys.push(link_key(dir, name, &stat)?);
        }
    }
    Ok(keys)
}

/// The directory of a descriptor that may be of `O_PATH`.
fn open_again(dir: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty())
}

/// Gives `to` what is remembered of `from`: of a directory, its own owner, and that of links in either.
pub(crate) fn copy(
    from: BorrowedFd<'_>,
    from_name: &[u8],
    from_stat: &Stat,
    to: BorrowedFd<'_>,
    to_name: &[u8],
) -> Result<(), Errno> {
    let owner = get(from, from_name, from_stat)?;
    let is_dir = FileType::from_raw_mode(from_stat.st_mode) == FileType::Directory;
    if owner.is_some() || is_dir {
        let stat = plain_stat(to, to_name)?;
        put(to, to_name, &stat, owner.unwrap_or_default())?;
    }
    if is_dir && let Some(added) = attribute(from, from_name, LINKS)? {
        let mut links = attribute(to, to_name, LINKS)?.unwrap_or_default();
        for one in added.chunks_exact(LINK_BYTES) {
            drop_link(&mut links, &one[..6]);
            links.extend_from_slice(one);
        }
        set(to, to_name, LINKS, &links)?;
    }
    Ok(())
}

fn path_of(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

fn set(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path_of(dir, name), key, value, XattrFlags::empty())
}

fn remove(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<(), Errno> {
    rustix::fs::lremovexattr(path_of(dir, name), key)
}

fn attribute(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let path = path_of(dir, name);
    value(|room| rustix::fs::lgetxattr(&path, key, room))
}

fn value(get: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Option<Vec<u8>>, Errno> {
    let mut small = [0; 64];
    match get(&mut small) {
        Ok(n) => Ok(Some(small[..n].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 1 << 16];
            let n = get(&mut large)?;
            large.truncate(n);
            Ok(Some(large))
        }
        Err(errno) => Err(errno),
    }
}

/// What is remembered of an open file or directory (`O_PATH` will do).
pub(crate) fn get_open(file: BorrowedFd<'_>) -> Result<Option<Owner>, Errno> {
    // through the link: there is no call for a descriptor of this kind
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(value(|room| rustix::fs::getxattr(&path, OWNER, room))?
        .and_then(|bytes| Owner::from_bytes(&bytes)))
}

/// Remembers `owner` of an open file or directory (`O_PATH` will do).
pub(crate) fn put_open(file: BorrowedFd<'_>, owner: Owner) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if !owner.is_plain() {
        return rustix::fs::setxattr(&path, OWNER, &owner.to_bytes(), XattrFlags::empty());
    }
    match rustix::fs::removexattr(&path, OWNER) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Six bytes of a hash of what a link is known by.
type LinkKey = [u8; 6];

fn link_key(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<LinkKey, Errno> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    let mut hash = blake3::Hasher::new();
    hash.update(&stat.st_mtime.to_le_bytes());
    hash.update(&stat.st_mtime_nsec.to_le_bytes());
    hash.update(target.as_bytes());
    let mut key = [0; 6];
    key.copy_from_slice(&hash.finalize().as_bytes()[..6]);
    Ok(key)
}

fn drop_link(links: &mut Vec<u8>, key: &[u8]) {
    let kept: Vec<u8> = links
        .chunks_exact(LINK_BYTES)
        .filter(|one| one[..6] != *key)
        .flatten()
        .copied()
        .collect();
    *links = kept;
}

fn link_owner(one: &[u8]) -> Owner {
    let number = |at: usize| u32::from_le_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
    Owner::of(number(6), number(10))
}
