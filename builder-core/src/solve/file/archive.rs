//! ADD of a local archive: its files, at the destination.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::FileError;
use super::error::shown;
use super::target::{Data, Target};
use crate::context::{Follow, Lookup, Node, Tree, join_path, parent_path, resolve};
use crate::layer::compression::decompressor;
use crate::layer::{Entry, EntryKind, LayerError, Limits, Reader, ReaderOptions};

/// How archives of a build are read.
#[derive(Clone, Copy)]
pub(in crate::solve) struct Archives<'a> {
    /// Where their files lie until the layer is written.
    pub(in crate::solve) spool_dir: &'a Path,
    /// What one may unpack to, if the author says.
    pub(in crate::solve) max_bytes: Option<u64>,
}

/// How archives are unpacked by one step.
pub(super) struct Unpack<'a> {
    pub(super) archives: Archives<'a>,
    /// Of directories that are made and are not in the archive; what is in it keeps its owners, as in BuildKit.
    pub(super) made_owner: (u32, u32),
}

impl Unpack<'_> {
    /// Unpacks `node` at `dest` if it is a tar archive, plain or compressed, and says whether it was one.
    pub(super) fn try_unpack(
        &self,
        target: &mut Target,
        tree: &dyn Tree,
        node: &Node,
        dest: &[u8],
    ) -> Result<bool, FileError> {
        if !is_archive(tree, node)? {
            return Ok(false);
        }
        let name = String::from_utf8_lossy(&node.path).into_owned();
        let base = target.make_directories(dest, self.made_owner)?;
        let bad = |source| FileError::Unreadable {
            name: name.clone(),
            source,
        };
        let unreadable = |error| bad(LayerError::stream("read the archive")(error));
        let plain = decompressor(BufReader::new(tree.open(node)?)).map_err(unreadable)?;
        let limits = Limits::of_compressed(node.stamp.size, self.archives.max_bytes);
        let options = ReaderOptions {
            whiteouts: false,
            limits,
        };
        let mut reader = Reader::new(plain, options);
        let mut spool = tempfile::tempfile_in(self.archives.spool_dir).map_err(FileError::Spool)?;
        let mut pieces: Vec<(Entry, Option<u64>)> = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        while let Some(entry) = reader.next().map_err(bad)? {
            let offset = match entry.kind {
                EntryKind::File { .. } => {
                    let offset = spool.stream_position().map_err(FileError::Spool)?;
                    loop {
                        let n = reader.read(&mut buffer).map_err(unreadable)?;
                        if n == 0 {
                            break;
                        }
                        spool.write_all(&buffer[..n]).map_err(FileError::Spool)?;
                    }
                    Some(offset)
                }
                _ => None,
            };
            pieces.push((entry, offset));
        }
        spool.flush().map_err(FileError::Spool)?;
        let spool = Arc::new(spool);
        for (entry, offset) in pieces {
            self.put(target, &base, &name, entry, offset, &spool)?;
        }
        Ok(true)
    }

    fn put(
        &self,
        target: &mut Target,
        base: &[u8],
        name: &str,
        mut entry: Entry,
        offset: Option<u64>,
        spool: &Arc<File>,
    ) -> Result<(), FileError> {
        let relative = inside(&entry.path).ok_or_else(|| FileError::Escapes {
            name: name.to_owned(),
            entry: String::from_utf8_lossy(&entry.path).into_owned(),
        })?;
        if relative.is_empty() {
            return Ok(());
        }
        let whole = join_path(base, &relative);
        let parent = target.make_directories(parent_path(&whole), self.made_owner)?;
        let last = whole.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let path = join_path(&parent, last);
        for id in [entry.uid, entry.gid] {
            if id == u32::MAX {
                return Err(FileError::NoId { id });
            }
        }
        if let EntryKind::Hardlink { target: link } = &entry.kind {
            let inner = inside(link).ok_or_else(|| FileError::Escapes {
                name: name.to_owned(),
                entry: String::from_utf8_lossy(link).into_owned(),
            })?;
            let missing = || FileError::LinkTarget {
                name: name.to_owned(),
                entry: String::from_utf8_lossy(&entry.path).into_owned(),
                target: String::from_utf8_lossy(link).into_owned(),
            };
            // Links on the way are followed inside the root; the last part is linked to, whatever it is.
            let whole = join_path(base, &inner);
            let there = resolve(&*target, &whole, Follow::Parents)?.ok_or_else(missing)?;
            if there.kind.is_dir() || there.path == path {
                return Err(missing());
            }
            return target.link(path, &there);
        }
        match target.lookup(&path)? {
            Some(there) if there.kind.is_dir() && entry.kind != EntryKind::Directory => {
                return Err(FileError::FileOntoDirectory { path: shown(&path) });
            }
            // A directory's entry for a link to a directory leaves the link, as tar and Docker do.
            Some(there)
                if entry.kind == EntryKind::Directory
                    && matches!(there.kind, crate::context::NodeKind::Symlink(_)) =>
            {
                target.make_directories(&path, self.made_owner)?;
                return Ok(());
            }
            _ => {}
        }
        entry.path = path;
        let data = match offset {
            Some(offset) => Data::Spool {
                file: spool.clone(),
                offset,
            },
            None => Data::None,
        };
        target.put(entry, data)
    }
}

/// Cleans a name of an archive; `None` where it leads out.
fn inside(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Whether the file begins as a tar archive does, once decompressed.
fn is_archive(tree: &dyn Tree, node: &Node) -> Result<bool, FileError> {
    if node.stamp.size == 0 {
        return Ok(false);
    }
    let Ok(mut plain) = decompressor(BufReader::new(tree.open(node)?)) else {
        return Ok(false);
    };
    let mut block = [0u8; 512];
    if plain.read_exact(&mut block).is_err() || block.iter().all(|&b| b == 0) {
        return Ok(false);
    }
    let start: &[u8] = &block;
    let rest = start.chain(plain);
    let mut reader = Reader::new(rest, ReaderOptions::default());
    Ok(matches!(reader.next(), Ok(Some(_))))
}
