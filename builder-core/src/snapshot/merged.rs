//! Lookups in a stack of overlay directories, as overlayfs itself would do them, without a mount.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::layer::xattr;
use crate::owner;

const DIR: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Directories on top of each other, topmost first.
#[derive(Debug)]
pub struct Stack {
    root: MergedDir,
}

/// One directory of the merged tree: its parts in the layers that have it, topmost first.
#[derive(Debug)]
pub struct MergedDir {
    parts: Vec<OwnedFd>,
    userxattr: bool,
}

/// What a name is in the merged tree.
#[derive(Debug)]
pub enum Child {
    Directory {
        /// Of the topmost part, which is the one that shows.
        stat: Stat,
        dir: MergedDir,
    },
    /// Anything else; `part` is the place among the parent's parts.
    Other { stat: Stat, part: usize },
}

impl Stack {
    /// Opens the directories, topmost first.
    pub fn open<P: AsRef<Path>>(layers: &[P], userxattr: bool) -> io::Result<Stack> {
        let mut parts = Vec::with_capacity(layers.len());
        for layer in layers {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            parts.push(rustix::fs::open(layer.as_ref(), flags, Mode::empty())?);
        }
        Ok(Stack {
            root: MergedDir { parts, userxattr },
        })
    }

    /// Puts another directory on top.
    pub(super) fn on_top(&self, top: BorrowedFd<'_>) -> io::Result<Stack> {
        let mut parts = vec![top.try_clone_to_owned()?];
        for part in &self.root.parts {
            parts.push(part.try_clone()?);
        }
        Ok(Stack {
            root: MergedDir {
                parts,
                userxattr: self.root.userxattr,
            },
        })
    }

    /// Returns the root directory.
    pub fn root(&self) -> &MergedDir {
        &self.root
    }

    /// Looks `path` up; symbolic links are not followed. The root itself is `None` here: see [`Stack::root`].
    pub fn lookup(&self, path: &[u8]) -> io::Result<Option<(Child, MergedDir)>> {
        let mut at = self.root.try_clone()?;
        let mut parts = path
            .split(|b| *b == b'/')
            .filter(|p| !p.is_empty())
            .peekable();
        while let Some(name) = parts.next() {
            let Some(child) = at.lookup(name)? else {
                return Ok(None);
            };
            if parts.peek().is_none() {
                return Ok(Some((child, at)));
            }
            match child {
                Child::Directory { dir, .. } => at = dir,
                Child::Other { .. } => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Returns where `target`, seen from the directory `base`, leads with every symbolic link followed. What does not
    /// exist is taken as it is written.
    pub(super) fn resolve(&self, base: &[u8], target: &[u8]) -> io::Result<Vec<u8>> {
        let split = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|b| *b == b'/')
                .rev()
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut ahead = split(target);
        if !target.starts_with(b"/") {
            ahead.extend(split(base));
        }
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    real.pop();
                    continue;
                }
                _ => real.push(part),
            }
            let Some((Child::Other { stat, part }, parent)) = self.lookup(&real.join(&b'/'))?
            else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Errno::LOOP.into());
            }
            let name = real.pop().unwrap_or_default();
            let link = rustix::fs::readlinkat(parent.part(part), name, Vec::new())?.into_bytes();
            if link.starts_with(b"/") {
                real.clear();
            }
            ahead.extend(split(&link));
        }
        Ok(real.join(&b'/'))
    }
}

impl MergedDir {
    /// Returns one part of the directory.
    pub fn part(&self, index: usize) -> BorrowedFd<'_> {
        self.parts[index].as_fd()
    }

    /// Returns the attributes of `name` in one part of the directory, of the part itself where `name` is empty.
    pub(crate) fn xattrs(
        &self,
        index: usize,
        name: &[u8],
    ) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        xattr::all(self.part(index), name)
    }

    /// Is there no part? So in a stack of no layers.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn try_clone(&self) -> io::Result<MergedDir> {
        Ok(MergedDir {
            parts: self
                .parts
                .iter()
                .map(OwnedFd::try_clone)
                .collect::<Result<_, _>>()?,
            userxattr: self.userxattr,
        })
    }

    /// Returns what `name` is here, `None` for what does not exist or has been removed.
    pub fn lookup(&self, name: &[u8]) -> io::Result<Option<Child>> {
        let mut top = None;
        let mut parts = Vec::new();
        for (i, at) in self.parts.iter().enumerate() {
            let mut stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if top.is_none() && !is_whiteout(at.as_fd(), name, &stat, self.userxattr)? {
                    show_owner(at.as_fd(), name, &mut stat)?;
                    return Ok(Some(Child::Other { stat, part: i }));
                }
                break;
            }
            if top.is_none() {
                show_owner(at.as_fd(), name, &mut stat)?;
                top = Some(stat);
            }
            parts.push(rustix::fs::openat(at, name, DIR, Mode::empty())?);
            if i + 1 < self.parts.len() && is_opaque(at.as_fd(), name, self.userxattr)? {
                break;
            }
        }
        let userxattr = self.userxattr;
        Ok(top.map(|stat| Child::Directory {
            stat,
            dir: MergedDir { parts, userxattr },
        }))
    }

    /// Returns the names in this directory, in byte order, without those removed.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut seen = BTreeMap::new();
        for at in &self.parts {
            for (name, kind) in list(at.as_fd())? {
                if seen.contains_key(&name) {
                    continue;
                }
                let removed = match kind {
                    FileType::CharacterDevice | FileType::RegularFile | FileType::Unknown => {
                        let stat = rustix::fs::statat(at, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                        is_whiteout(at.as_fd(), &name, &stat, self.userxattr)?
                    }
                    _ => false,
                };
                seen.insert(name, removed);
            }
        }
        let shown = seen.into_iter().filter(|(_, removed)| !removed);
        Ok(shown.map(|(name, _)| name).collect())
    }
}

/// Returns the names in a directory and what they are said to be.
pub(super) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let mut found = Vec::new();
    let mut items = rustix::fs::Dir::new(own)?;
    while let Some(item) = items.read() {
        let item = item?;
        let name = item.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            found.push((name.to_vec(), item.file_type()));
        }
    }
    Ok(found)
}

/// Is this a removal: a character device 0:0, or an empty file with overlayfs' mark?
pub(super) fn is_whiteout(
    at: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    userxattr: bool,
) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            Ok(xattr::get(at, name, key("whiteout", userxattr).as_bytes())?.is_some())
        }
        _ => Ok(false),
    }
}

/// Puts what is remembered of `name` into what the kernel said.
pub(super) fn show_owner(at: BorrowedFd<'_>, name: &[u8], stat: &mut Stat) -> Result<(), Errno> {
    if let Some(owner) = owner::get(at, name, stat)? {
        owner.show_in(stat);
    }
    Ok(())
}

/// Does this directory hide what is below it?
pub(super) fn is_opaque(at: BorrowedFd<'_>, name: &[u8], userxattr: bool) -> io::Result<bool> {
    let value = xattr::get(at, name, key("opaque", userxattr).as_bytes())?;
    Ok(value.as_deref() == Some(b"y"))
}

/// Returns the full name of one of overlayfs' attributes.
pub(super) fn key(name: &str, userxattr: bool) -> String {
    let space = if userxattr { "user" } else { "trusted" };
    format!("{space}.overlay.{name}")
}
