//! One entry of a layer, wherever it comes from.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// `size` bytes of data follow.
    File {
        size: u64,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    /// Another name of an earlier entry of the same layer; `target` is its path.
    Hardlink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// The path below is gone (OCI image-spec, layer.md, "Whiteouts"). `path` is the removed path itself.
    Whiteout,
    /// All that lower layers have in this directory is gone ("Opaque Whiteout").
    OpaqueWhiteout,
}

/// A path with its facts. Paths are relative to the root, without a leading or trailing slash, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Returns a removal of `path`.
    pub fn whiteout(path: impl Into<Vec<u8>>) -> Entry {
        Entry::bare(path.into(), EntryKind::Whiteout)
    }

    /// Returns a removal of all that lower layers have in the directory `path`.
    pub fn opaque_whiteout(path: impl Into<Vec<u8>>) -> Entry {
        Entry::bare(path.into(), EntryKind::OpaqueWhiteout)
    }

    fn bare(path: Vec<u8>, kind: EntryKind) -> Entry {
        Entry {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        }
    }

    /// Returns the bytes of data that follow the entry.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}

/// Compares two entries by layer order: parents before children; among siblings removals first, then byte order.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    keys(a).cmp(keys(b)).then_with(|| {
        let late = |entry: &Entry| entry.kind == EntryKind::OpaqueWhiteout;
        late(a).cmp(&late(b))
    })
}

/// One key a path component: a removal sorts before every other sibling.
fn keys(entry: &Entry) -> impl Iterator<Item = (bool, &[u8])> {
    let removal = entry.kind == EntryKind::Whiteout;
    let mut parts = entry
        .path
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty())
        .peekable();
    std::iter::from_fn(move || {
        let part = parts.next()?;
        let stays = !(removal && parts.peek().is_none());
        Some((stays, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_come_first_and_parents_before_children() {
        let dir = |path: &str| Entry::bare(path.into(), EntryKind::Directory);
        let mut entries = [
            dir("a-b"),
            dir("a/b"),
            Entry::opaque_whiteout("a"),
            dir("a"),
            Entry::whiteout("z"),
            Entry::whiteout("a/z"),
            dir("a/b/c"),
        ];
        entries.sort_by(order);
        let texts: Vec<String> = entries
            .iter()
            .map(|e| format!("{:?} {}", e.kind, String::from_utf8_lossy(&e.path)))
            .collect();
        assert_eq!(
            texts,
            [
                "Whiteout z",
                "Directory a",
                "OpaqueWhiteout a",
                "Whiteout a/z",
                "Directory a/b",
                "Directory a/b/c",
                "Directory a-b",
            ]
        );
    }
}
