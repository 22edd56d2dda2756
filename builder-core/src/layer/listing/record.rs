//! The kept form of a listing.
//!
//! ```text
//! "layer listing 1\n"  entry*  0  (kept: path, bytes)*  SHA-256 of all before
//! entry   kind  shared  rest  mode  uid  gid  mtime  [size | target | major minor]  attributes
//! ```
//!
//! Numbers are LEB128, texts have their length first. `shared` is how many bytes of the path are those of the entry before.
//! Entries stand as in the tar: what later ones do to earlier ones is for [`merged`](super::merged).

use std::collections::BTreeMap;
use std::io::Read;

use crate::digest::Digest;
use crate::layer::{Entry, EntryKind, LayerError, Reader};

const START: &[u8] = b"layer listing 1\n";
const DIGEST_BYTES: usize = 32;
/// Files whose bytes are kept: whom names in `--chown` stand for.
const KEPT: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
const MAX_KEPT_BYTES: u64 = 1 << 20;
/// A layer of some million entries is quicker unpacked than listed.
const MAX_BYTES: usize = 32 << 20;

const END: u8 = 0;
const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const SYMLINK: u8 = 3;
const HARDLINK: u8 = 4;
const CHAR_DEVICE: u8 = 5;
const BLOCK_DEVICE: u8 = 6;
const FIFO: u8 = 7;
const WHITEOUT: u8 = 8;
const OPAQUE: u8 = 9;

/// Lists entries as they come, in memory that is bounded whatever the layer.
#[derive(Debug)]
pub struct Recorder {
    bytes: Vec<u8>,
    last: Vec<u8>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    too_long: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder {
            bytes: START.to_vec(),
            last: Vec::new(),
            kept: BTreeMap::new(),
            too_long: false,
        }
    }
}

impl Recorder {
    /// Lists all that `reader` has left.
    ///
    /// # Errors
    /// What reading says.
    pub fn read<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<(), LayerError> {
        while let Some(entry) = reader.next()? {
            self.push(&entry);
            if Recorder::keeps(&entry) {
                let mut bytes = Vec::new();
                let read = reader.read_to_end(&mut bytes);
                read.map_err(LayerError::stream("read the layer"))?;
                self.keep(&entry.path, bytes);
            }
        }
        Ok(())
    }

    /// Lists one more entry.
    pub fn push(&mut self, entry: &Entry) {
        if self.bytes.len() > MAX_BYTES {
            self.too_long = true;
            return;
        }
        let Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = entry;
        // What is another thing now has none of the data of before.
        self.kept.remove(path);
        let out = &mut self.bytes;
        out.push(match kind {
            EntryKind::File { .. } => FILE,
            EntryKind::Directory => DIRECTORY,
            EntryKind::Symlink { .. } => SYMLINK,
            EntryKind::Hardlink { .. } => HARDLINK,
            EntryKind::CharDevice { .. } => CHAR_DEVICE,
            EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
            EntryKind::Fifo => FIFO,
            EntryKind::Whiteout => WHITEOUT,
            EntryKind::OpaqueWhiteout => OPAQUE,
        });
        let same = path.iter().zip(&self.last).take_while(|(a, b)| a == b);
        let shared = same.count();
        number(out, shared as u64);
        text(out, &path[shared..]);
        for value in [mode, uid, gid] {
            number(out, u64::from(*value));
        }
        number(out, mtime.cast_unsigned());
        match kind {
            EntryKind::File { size } => number(out, *size),
            EntryKind::Symlink { target } | EntryKind::Hardlink { target } => text(out, target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                number(out, u64::from(*major));
                number(out, u64::from(*minor));
            }
            _ => {}
        }
        number(out, xattrs.len() as u64);
        for (name, value) in xattrs {
            text(out, name);
            text(out, value);
        }
        self.last.clone_from(path);
    }

    /// Whether the file's bytes are wanted too.
    pub fn keeps(entry: &Entry) -> bool {
        KEPT.contains(&&entry.path[..])
            && matches!(entry.kind, EntryKind::File { size } if size <= MAX_KEPT_BYTES)
    }

    /// Keeps the bytes of the file that was listed last.
    pub fn keep(&mut self, path: &[u8], bytes: Vec<u8>) {
        self.kept.insert(path.to_vec(), bytes);
    }

    /// Returns the listing; `None` where it would be too long to be of use.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        if self.too_long {
            return None;
        }
        let out = &mut self.bytes;
        out.push(END);
        number(out, self.kept.len() as u64);
        for (path, bytes) in &self.kept {
            text(out, path);
            text(out, bytes);
        }
        let digest = Digest::of(out);
        out.extend_from_slice(digest.as_bytes());
        Some(self.bytes)
    }
}

/// A layer's entries, in the order of its tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// The bytes of the few files whose content is asked for.
    pub kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Listing {
    /// Reads what [`Recorder::finish`] gave; `None` for anything else, a torn one among it.
    pub fn parse(bytes: &[u8]) -> Option<Listing> {
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if Digest::of(body).as_bytes() != digest {
            return None;
        }
        let mut input = Input(body.strip_prefix(START)?);
        let mut entries = Vec::new();
        let mut path: Vec<u8> = Vec::new();
        loop {
            let kind = input.byte()?;
            if kind == END {
                break;
            }
            let shared = input.size()?;
            path.truncate(shared);
            path.extend_from_slice(input.text()?);
            let mode = input.small()?;
            let (uid, gid) = (input.small()?, input.small()?);
            let mtime = input.number()?.cast_signed();
            let kind = match kind {
                FILE => EntryKind::File {
                    size: input.number()?,
                },
                DIRECTORY => EntryKind::Directory,
                SYMLINK => EntryKind::Symlink {
                    target: input.text()?.to_vec(),
                },
                HARDLINK => EntryKind::Hardlink {
                    target: input.text()?.to_vec(),
                },
                CHAR_DEVICE | BLOCK_DEVICE => {
                    let (major, minor) = (input.small()?, input.small()?);
                    match kind {
                        CHAR_DEVICE => EntryKind::CharDevice { major, minor },
                        _ => EntryKind::BlockDevice { major, minor },
                    }
                }
                FIFO => EntryKind::Fifo,
                WHITEOUT => EntryKind::Whiteout,
                OPAQUE => EntryKind::OpaqueWhiteout,
                _ => return None,
            };
            entries.push(Entry {
                path: path.clone(),
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs: input.pairs()?,
            });
        }
        let kept = input.pairs()?;
        input.0.is_empty().then_some(Listing { entries, kept })
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let size = self.size()?;
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(text)
    }

    fn pairs(&mut self) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let count = self.size()?;
        let mut pairs = BTreeMap::new();
        for _ in 0..count {
            pairs.insert(self.text()?.to_vec(), self.text()?.to_vec());
        }
        Some(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode: 0o755,
            uid: 70_000,
            gid: 3,
            mtime: -5,
            xattrs: BTreeMap::from([(b"user.a".to_vec(), b"\0\n".to_vec())]),
        }
    }

    #[test]
    fn what_is_listed_is_read_back() {
        let target = b"../x".to_vec();
        let (major, minor) = (1, 300);
        let entries = vec![
            entry("", EntryKind::Directory),
            entry("etc", EntryKind::Directory),
            entry("etc/passwd", EntryKind::File { size: 3 }),
            entry(
                "etc/p",
                EntryKind::Symlink {
                    target: target.clone(),
                },
            ),
            entry("etc/p2", EntryKind::Hardlink { target }),
            entry("dev/c", EntryKind::CharDevice { major, minor }),
            entry("dev/b", EntryKind::BlockDevice { major, minor }),
            entry("dev/f", EntryKind::Fifo),
            Entry::whiteout("usr/gone"),
            Entry::opaque_whiteout("usr"),
            entry("big", EntryKind::File { size: u64::MAX }),
        ];
        let mut recorder = Recorder::default();
        for entry in &entries {
            recorder.push(entry);
            if Recorder::keeps(entry) {
                recorder.keep(&entry.path, b"a:b".to_vec());
            }
        }
        let bytes = recorder.finish().expect("short enough");
        let listing = Listing::parse(&bytes).expect("parse");
        assert_eq!(listing.entries, entries);
        assert_eq!(listing.kept.len(), 1);
        assert_eq!(listing.kept[&b"etc/passwd"[..]], b"a:b");
        for length in 0..bytes.len() {
            assert_eq!(Listing::parse(&bytes[..length]), None, "{length}");
        }
        let mut odd = bytes;
        odd[20] ^= 1;
        assert_eq!(Listing::parse(&odd), None);
    }

    #[test]
    fn a_listing_is_bounded() {
        let mut recorder = Recorder::default();
        let mut long = entry("x", EntryKind::Directory);
        long.xattrs.insert(b"user.b".to_vec(), vec![0; 1 << 20]);
        for _ in 0..40 {
            recorder.push(&long);
        }
        assert!(recorder.bytes.len() < MAX_BYTES + (2 << 20));
        assert_eq!(recorder.finish(), None);
    }
}
