//! The text form of a tree: one line an entry, in layer order.
//!
//! ```text
//! bin dir 755 0:0 0 -
//! bin/sh file 755 0:0 5 2cf24dba5fb0
//! bin/ash link - - - - -> bin/sh
//! dev/null char 666 0:0 0 - 1,3
//! etc/mtab symlink 777 0:0 0 - -> ../proc/mounts
//! usr/bin/ping file 755 0:0 5 2cf24dba5fb0 [security.capability]
//! ```
//!
//! The digest is the start of the file's SHA-256. Times are left out: they differ where trees are the same.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::digest::{Digest, DigestWriter};
use crate::layer::error::shown;
use crate::layer::{Entry, EntryKind, LayerError, Reader, ReaderOptions, order, xattr};

/// Lists an uncompressed tar; `.wh.` names are shown as removals.
pub fn of_tar(tar: impl Read) -> Result<String, LayerError> {
    let mut reader = Reader::new(
        tar,
        ReaderOptions {
            whiteouts: true,
            ..ReaderOptions::default()
        },
    );
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let digest = match entry.kind {
            EntryKind::File { .. } => Some(digest_of(&mut reader, &entry.path)?),
            _ => None,
        };
        found.push((entry, digest));
    }
    Ok(text(found))
}

/// Lists a directory. Of several names of one file, the first in layer order is the file.
///
/// Whiteouts of an overlay's upper directory are shown as what they are on disk: `char` with `0,0`.
pub fn of_dir(dir: BorrowedFd<'_>) -> Result<String, LayerError> {
    let mut found = Vec::new();
    let mut links = HashMap::new();
    walk(dir, b"", &mut links, &mut found)?;
    Ok(text(found))
}

fn walk(
    dir: BorrowedFd<'_>,
    path: &[u8],
    links: &mut HashMap<(u64, u64), Vec<u8>>,
    found: &mut Vec<(Entry, Option<Digest>)>,
) -> Result<(), LayerError> {
    let mut names = Vec::new();
    let own = rustix::fs::openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(LayerError::io("open", path))?;
    for item in rustix::fs::Dir::new(own).map_err(LayerError::io("list", path))? {
        let item = item.map_err(LayerError::io("list", path))?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    for name in names {
        let full = match path {
            b"" => name.clone(),
            _ => [path, b"/", &name].concat(),
        };
        let stat = rustix::fs::statat(dir, &name[..], AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::io("stat", &full))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let open = |flags| {
            rustix::fs::openat(
                dir,
                &name[..],
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags,
                Mode::empty(),
            )
            .map_err(LayerError::io("open", &full))
        };
        let mut digest = None;
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let earlier = match stat.st_nlink > 1 && kind != FileType::Directory {
            true => links.get(&(stat.st_dev, stat.st_ino)).cloned(),
            false => None,
        };
        let kind_of = match kind {
            _ if earlier.is_some() => EntryKind::Hardlink {
                target: earlier.unwrap_or_default(),
            },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink {
                target: rustix::fs::readlinkat(dir, &name[..], Vec::new())
                    .map_err(LayerError::io("read the link", &full))?
                    .into_bytes(),
            },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::RegularFile => {
                let mut file = std::fs::File::from(open(OFlags::empty())?);
                digest = Some(digest_of(&mut file, &full)?);
                EntryKind::File {
                    size: stat.st_size.cast_unsigned(),
                }
            }
            _ => continue,
        };
        if !matches!(kind_of, EntryKind::Hardlink { .. }) {
            links.insert((stat.st_dev, stat.st_ino), full.clone());
        }
        found.push((
            Entry {
                path: full.clone(),
                kind: kind_of,
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                mtime: stat.st_mtime,
                xattrs: xattr::all(dir, &name)
                    .map_err(LayerError::io("read attributes of", &full))?,
            },
            digest,
        ));
        if kind == FileType::Directory {
            walk(open(OFlags::DIRECTORY)?.as_fd(), &full, links, found)?;
        }
    }
    Ok(())
}

fn digest_of(data: &mut impl Read, path: &[u8]) -> Result<Digest, LayerError> {
    let mut hash = DigestWriter::new(io::sink());
    io::copy(data, &mut hash).map_err(LayerError::io("read", path))?;
    Ok(hash.finish().1)
}

fn text(mut found: Vec<(Entry, Option<Digest>)>) -> String {
    found.sort_by(|(a, _), (b, _)| order(a, b));
    let mut out = String::new();
    for (entry, digest) in &found {
        let (kind, tail) = match &entry.kind {
            EntryKind::File { .. } => ("file", String::new()),
            EntryKind::Directory => ("dir", String::new()),
            EntryKind::Symlink { target } => ("symlink", format!(" -> {}", shown(target))),
            EntryKind::Hardlink { target } => ("link", format!(" -> {}", shown(target))),
            EntryKind::CharDevice { major, minor } => ("char", format!(" {major},{minor}")),
            EntryKind::BlockDevice { major, minor } => ("block", format!(" {major},{minor}")),
            EntryKind::Fifo => ("fifo", String::new()),
            EntryKind::Whiteout => ("whiteout", String::new()),
            EntryKind::OpaqueWhiteout => ("opaque", String::new()),
        };
        let path = shown(&entry.path);
        let bare = matches!(
            entry.kind,
            EntryKind::Hardlink { .. } | EntryKind::Whiteout | EntryKind::OpaqueWhiteout
        );
        let facts = match bare {
            true => "- - - -".to_owned(),
            false => format!(
                "{:o} {}:{} {} {}",
                entry.mode,
                entry.uid,
                entry.gid,
                entry.size(),
                digest.map_or("-".to_owned(), |d| d.hex()[..12].to_owned()),
            ),
        };
        // Writing into a String cannot fail.
        let _ = write!(out, "{path} {kind} {facts}{tail}");
        if !entry.xattrs.is_empty() && !bare {
            let names: Vec<String> = entry.xattrs.keys().map(|name| shown(name)).collect();
            let _ = write!(out, " [{}]", names.join(" "));
        }
        out.push('\n');
    }
    out
}
