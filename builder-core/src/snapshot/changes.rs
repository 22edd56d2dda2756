//! What is in an overlay's upper directory, compared with what is below it.
//!
//! | in the upper directory                        | comes out as                                                    |
//! |-----------------------------------------------|-----------------------------------------------------------------|
//! | whiteout of something below                   | removal                                                         |
//! | whiteout of nothing                           | nothing                                                         |
//! | file that equals the one below                | nothing (unless another name of it changed)                     |
//! | directory that equals the one below           | nothing, unless something in it changed                         |
//! | opaque directory over a directory             | a removal of every name below that it does not have itself      |
//! | several names of one file                     | the first in layer order is the file, the others hard links     |
//! | socket                                        | nothing                                                         |
//! | root directory                                | nothing, unless its mode, owner or attributes changed           |
//!
//! Files are equal when mode, owner, size, device, attributes and the time in nanoseconds are. Where the time is in whole
//! seconds on both sides, as in everything unpacked from a layer, it proves little and the bytes are compared.
//!
//! A copy of a tree is compared in the same way, less the files that its baseline knows to be untouched.
//!
//! One thread: a walk in parallel gained nothing with two cores, and steps already run beside each other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::baseline::Baseline;
use super::merged::{self, Child, MergedDir, Stack};
use super::{At as _, SnapshotError};
use crate::digest::ContentDigest;
use crate::layer::{Entry, EntryKind, OverlayFormat, shown, xattr};
use crate::owner;

/// One entry of the layer that the upper directory makes; see [`open_data`] for a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub entry: Entry,
}

/// Opens a changed file's data below `upper`; symbolic links are never followed.
pub fn open_data(upper: BorrowedFd<'_>, change: &Change) -> Result<File, SnapshotError> {
    let path = &change.entry.path[..];
    rustix::fs::openat2(
        upper,
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map(File::from)
    .map_err(SnapshotError::io("open", path))
}

/// Reads a changed file's data below `upper`, with its digest.
pub(crate) fn read_data(
    upper: BorrowedFd<'_>,
    change: &Change,
) -> Result<(Vec<u8>, ContentDigest), SnapshotError> {
    let size = change.entry.size();
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    // One byte too many is asked for: it tells a file that has grown.
    open_data(upper, change)?
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .at("read", &change.entry.path)?;
    let content = ContentDigest::of(&bytes);
    Ok((bytes, content))
}

/// Returns what `upper` changes in the tree of `lowers` (topmost first), in layer order.
pub fn changes(
    upper: BorrowedFd<'_>,
    lowers: &[PathBuf],
    userxattr: bool,
) -> Result<Vec<Change>, SnapshotError> {
    walk(upper, lowers, userxattr, None)
}

/// Returns what differs between `tree`, a copy of the whole tree of `lowers` in which a step ran, and that tree.
pub(super) fn changes_of_copy(
    tree: BorrowedFd<'_>,
    lowers: &[PathBuf],
    before: Option<&Baseline>,
    format: OverlayFormat,
) -> Result<Vec<Change>, SnapshotError> {
    walk(tree, lowers, format.userxattr, before)
}

fn walk(
    upper: BorrowedFd<'_>,
    lowers: &[PathBuf],
    userxattr: bool,
    before: Option<&Baseline>,
) -> Result<Vec<Change>, SnapshotError> {
    let stack =
        Stack::open(lowers, userxattr).map_err(SnapshotError::io("open a layer of", b""))?;
    let mut walk = Walk {
        userxattr,
        before,
        nodes: Vec::new(),
    };
    walk.root(upper, stack.root())?;
    let lower = (!stack.root().is_empty()).then(|| stack.root());
    // Nothing of the layers below shows through a copy, as if each of its directories were opaque.
    walk.dir(upper, b"", lower, before.is_some(), None)?;
    Ok(finish(walk.nodes))
}

struct Node {
    entry: Entry,
    parent: Option<usize>,
    keep: bool,
    /// Device and inode of a file with several names.
    inode: Option<(u64, u64)>,
    /// In a copy: the file had this name before the step.
    had: bool,
}

struct Walk<'a> {
    userxattr: bool,
    before: Option<&'a Baseline>,
    nodes: Vec<Node>,
}

impl Walk<'_> {
    fn root(&mut self, upper: BorrowedFd<'_>, lower: &MergedDir) -> Result<(), SnapshotError> {
        let facts = |dir: BorrowedFd<'_>| -> std::io::Result<_> {
            let stat = owner::stat(dir, b"")?;
            Ok((stat, xattr::all(dir, b"")?))
        };
        let (stat, xattrs) = facts(upper).at("read", b"")?;
        let (mode, uid, gid, old) = match lower.is_empty() {
            true => (0o755, 0, 0, BTreeMap::new()),
            false => {
                let (stat, xattrs) = facts(lower.part(0)).at("read", b"")?;
                (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, xattrs)
            }
        };
        if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (mode, uid, gid) || xattrs != old {
            self.nodes.push(Node {
                entry: entry(Vec::new(), EntryKind::Directory, &stat, xattrs),
                parent: None,
                keep: true,
                inode: None,
                had: false,
            });
        }
        Ok(())
    }

    /// `hidden`: the directory is opaque, so that what `lower` has does not show through.
    fn dir(
        &mut self,
        upper: BorrowedFd<'_>,
        path: &[u8],
        lower: Option<&MergedDir>,
        hidden: bool,
        parent: Option<usize>,
    ) -> Result<(), SnapshotError> {
        let mut names = merged::list(upper).map_err(SnapshotError::io("list", path))?;
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let full = |name: &[u8]| match path {
            b"" => name.to_vec(),
            _ => [path, b"/", name].concat(),
        };

        // Removals first, as in every layer.
        let mut removed = Vec::new();
        let mut left = Vec::with_capacity(names.len());
        for (name, _) in &names {
            let mut stat = rustix::fs::statat(upper, &name[..], AtFlags::SYMLINK_NOFOLLOW)
                .map_err(SnapshotError::io("stat", &full(name)))?;
            let whiteout = merged::is_whiteout(upper, name, &stat, self.userxattr)
                .map_err(SnapshotError::io("read attributes of", &full(name)))?;
            if whiteout {
                removed.push(name.clone());
            } else {
                merged::show_owner(upper, name, &mut stat).at("read", &full(name))?;
                left.push((name, stat));
            }
        }
        if let Some(lower) = lower {
            if hidden {
                removed = lower.names().at("read the layers below at", path)?;
                removed.retain(|name| left.binary_search_by(|(n, _)| (*n).cmp(name)).is_err());
            }
            for name in removed {
                if hidden
                    || lower
                        .lookup(&name)
                        .at("read the layers below at", path)?
                        .is_some()
                {
                    self.nodes.push(Node {
                        entry: Entry::whiteout(full(&name)),
                        parent,
                        keep: true,
                        inode: None,
                        had: false,
                    });
                }
            }
        }
        for (name, stat) in left {
            self.name(upper, name, full(name), stat, lower, hidden, parent)?;
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of the walk, cut out for its length"
    )]
    fn name(
        &mut self,
        upper: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        stat: Stat,
        lower: Option<&MergedDir>,
        hidden: bool,
        parent: Option<usize>,
    ) -> Result<(), SnapshotError> {
        if self
            .before
            .is_some_and(|before| before.is_untouched(&path, &stat))
        {
            return Ok(());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let kind_of = match kind {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File {
                size: stat.st_size.cast_unsigned(),
            },
            FileType::Symlink => EntryKind::Symlink {
                target: rustix::fs::readlinkat(upper, name, Vec::new())
                    .map_err(SnapshotError::io("read the link", &path))?
                    .into_bytes(),
            },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(()), // a socket
        };
        let below = match lower {
            None => None,
            Some(lower) => {
                let failed = SnapshotError::io("look in the layers below for", &path);
                lower.lookup(name).map_err(failed)?
            }
        };
        let had = self.before.is_some_and(|before| before.had(&path, &stat));
        let xattrs = xattr::all(upper, name).at("read", &path)?;
        let entry = entry(path.clone(), kind_of, &stat, xattrs);
        let keep = match (&below, lower) {
            (Some(Child::Directory { stat: old, dir }), _) if kind == FileType::Directory => {
                let old = (old.st_mode & 0o7777, old.st_uid, old.st_gid);
                old != (entry.mode, entry.uid, entry.gid)
                    || xattr::all(dir.part(0), b"").at("read", &path)? != entry.xattrs
            }
            (Some(Child::Other { stat: old, part }), Some(lower))
                if kind != FileType::Directory =>
            {
                let lower = lower.part(*part);
                !same(&stat, old)
                    || xattr::all(lower, name).at("read", &path)? != entry.xattrs
                    || !same_bytes(upper, lower, name, &stat).at("read", &path)?
            }
            _ => true,
        };
        let own = self.nodes.len();
        let several = stat.st_nlink > 1 && kind != FileType::Directory;
        self.nodes.push(Node {
            entry,
            parent,
            keep,
            inode: several.then_some((stat.st_dev, stat.st_ino)),
            had,
        });
        let attribute = |key: &'static str| {
            let full = merged::key(key, self.userxattr);
            match xattr::get(upper, name, full.as_bytes()) {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(SnapshotError::OverlayFeature {
                    path: shown(&path),
                    name: key,
                }),
                Err(e) => Err(SnapshotError::io("read attributes of", &path)(e)),
            }
        };
        if kind == FileType::RegularFile && below.is_some() {
            attribute("metacopy")?;
        }
        if kind != FileType::Directory {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir: OwnedFd = rustix::fs::openat(upper, name, flags, Mode::empty())
            .map_err(SnapshotError::io("open", &path))?;
        attribute("redirect")?;
        match &below {
            Some(Child::Directory { dir: below, .. }) => {
                let hidden = hidden
                    || merged::is_opaque(upper, name, self.userxattr)
                        .map_err(SnapshotError::io("read attributes of", &path))?;
                self.dir(dir.as_fd(), &path, Some(below), hidden, Some(own))
            }
            _ => self.dir(dir.as_fd(), &path, None, false, Some(own)),
        }
    }
}

fn entry(path: Vec<u8>, kind: EntryKind, stat: &Stat, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs,
    }
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev, a.st_size)
        == (b.st_mode, b.st_uid, b.st_gid, b.st_rdev, b.st_size)
        && (a.st_mtime, a.st_mtime_nsec) == (b.st_mtime, b.st_mtime_nsec)
}

/// Compares what the time cannot tell: bytes where it is in whole seconds, and always the targets of links.
fn same_bytes(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) -> std::io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let read = |at| rustix::fs::readlinkat(at, name, Vec::new());
            Ok(read(upper)? == read(lower)?)
        }
        FileType::RegularFile if stat.st_mtime_nsec == 0 && stat.st_size > 0 => {
            let open = |at| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(at, name, flags, Mode::empty()).map(File::from)
            };
            let (mut a, mut b) = (open(upper)?, open(lower)?);
            let mut one = vec![0; 64 * 1024];
            let mut two = vec![0; 64 * 1024];
            loop {
                let n = a.read(&mut one)?;
                if n == 0 {
                    return Ok(true);
                }
                match b.read_exact(&mut two[..n]) {
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                    other => other?,
                }
                if one[..n] != two[..n] {
                    return Ok(false);
                }
            }
        }
        _ => Ok(true),
    }
}

/// Turns names of one file into hard links, and keeps the parents of all that is kept.
fn finish(mut nodes: Vec<Node>) -> Vec<Change> {
    let mut groups: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        if let Some(inode) = node.inode {
            groups.entry(inode).or_default().push(i);
        }
    }
    for mut group in groups.into_values() {
        // Overlayfs copies one name up, and leaves the others what they were. In a copy all of them have changed:
        // those that were there before are files of their own, and the first stands for them beside new names.
        let (old, new): (Vec<usize>, Vec<usize>) = group.iter().partition(|i| nodes[**i].had);
        if old.len() > 1 {
            if old.iter().any(|i| nodes[*i].keep) {
                old.iter().for_each(|i| nodes[*i].keep = true);
            }
            if new.is_empty() {
                continue;
            }
            group.retain(|i| *i == old[0] || new.contains(i));
        }
        // One changed name brings the others: they are one file in the tree, so they are in the layer.
        if !group.iter().any(|i| nodes[*i].keep) {
            continue;
        }
        let target = nodes[group[0]].entry.path.clone();
        nodes[group[0]].keep = true;
        for i in &group[1..] {
            nodes[*i].keep = true;
            nodes[*i].entry.kind = EntryKind::Hardlink {
                target: target.clone(),
            };
        }
    }
    for i in (0..nodes.len()).rev() {
        if let (true, Some(parent)) = (nodes[i].keep, nodes[i].parent) {
            nodes[parent].keep = true;
        }
    }
    nodes
        .into_iter()
        .filter(|node| node.keep)
        .map(|node| Change { entry: node.entry })
        .collect()
}
