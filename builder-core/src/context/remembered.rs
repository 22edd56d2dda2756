//! Facts of files as bytes, in the order of a walk.
//!
//! ```text
//! magic | entry … | checksum
//! entry   length | path length | path | size | mtime | ctime | inode | device | content | xattrs | (name | value) …
//! ```
//!
//! Nothing is taken apart when a file is read: only where each entry begins is noted. A torn or foreign file is none.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, Write};

use rayon::prelude::*;

use super::Stamp;
use super::digests::Facts;
use crate::digest::ContentDigest;

const MAGIC: &[u8; 8] = b"bldfd\x00\x002";
const SUM_BYTES: usize = 32;
/// Parts of so many bytes are summed on their own, on all cores.
const SUMMED_BYTES: usize = 1 << 20;

/// Entries that are known by their paths.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    bytes: Vec<u8>,
    /// Where each entry begins, in the order of a walk.
    starts: Vec<usize>,
}

impl Remembered {
    /// Takes what [`Remembered::with`] returned; `None` for anything else.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Remembered> {
        let body = bytes.len().checked_sub(SUM_BYTES)?;
        if !bytes.starts_with(MAGIC) || body < MAGIC.len() || sum(&bytes[..body]) != bytes[body..] {
            return None;
        }
        let mut starts = Vec::new();
        let mut rest = &bytes[MAGIC.len()..body];
        while !rest.is_empty() {
            starts.push(body - rest.len());
            take_sized(&mut rest)?;
        }
        Some(Remembered { bytes, starts })
    }

    /// Adds an entry that comes after all others in the order of a walk; false: it does not, and is not added.
    pub(super) fn push(&mut self, path: &[u8], stamp: &Stamp, facts: &Facts) -> bool {
        if self
            .last()
            .is_some_and(|last| !walk_order(last, path).is_lt())
        {
            return false;
        }
        self.starts.push(self.bytes.len());
        put(&mut self.bytes, path, stamp, facts);
        true
    }

    /// Takes in entries that come after all others; false: they do not.
    pub(super) fn append(&mut self, other: &Remembered) -> bool {
        if let (Some(last), Some(first)) =
            (self.last(), other.starts.first().map(|_| other.path(0)))
            && !walk_order(last, first).is_lt()
        {
            return false;
        }
        for at in 0..other.starts.len() {
            self.push_entry(other.entry(at));
        }
        true
    }

    /// Adds an entry as it is in another row, after all others.
    pub(super) fn push_entry(&mut self, entry: &[u8]) {
        self.starts.push(self.bytes.len());
        sized(&mut self.bytes, entry);
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    fn last(&self) -> Option<&[u8]> {
        Some(self.path(self.starts.len().checked_sub(1)?))
    }

    /// Starts to look paths up.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { of: self, next: 0 }
    }

    fn entry(&self, at: usize) -> &[u8] {
        let mut rest = &self.bytes[self.starts[at]..];
        take_sized(&mut rest).unwrap_or_default()
    }

    fn path(&self, at: usize) -> &[u8] {
        take_sized(&mut self.entry(at)).unwrap_or_default()
    }
}

/// Calls `each` with the entries of all `sources` in the order of a walk; of those of one path with that of the first source.
pub(super) fn merge<E>(
    sources: &[&Remembered],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = vec![0; sources.len()];
    let head = |source: usize, next: &[usize]| {
        let of: &Remembered = sources[source];
        (next[source] < of.starts.len()).then(|| of.path(next[source]))
    };
    loop {
        let heads = (0..sources.len()).filter_map(|source| Some((source, head(source, &next)?)));
        // Of equal ones the first.
        let Some((first, path)) = heads.min_by(|(_, a), (_, b)| walk_order(a, b)) else {
            return Ok(());
        };
        each(path, sources[first].entry(next[first]))?;
        for source in first..sources.len() {
            if head(source, &next) == Some(path) {
                next[source] += 1;
            }
        }
    }
}

/// Writes what [`Remembered::from_bytes`] takes: the entries of all `sources` that are still `present`; of those of one path
/// that of the first source.
pub(super) fn write(
    sources: &[&Remembered],
    present: &dyn Fn(&[u8]) -> bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut out = Summed {
        out,
        part: MAGIC.to_vec(),
        sums: Vec::new(),
    };
    merge(sources, |path, entry| {
        if !present(path) {
            return Ok(());
        }
        out.put(&(entry.len() as u32).to_le_bytes())?;
        out.put(entry)
    })?;
    out.end_part()?;
    let sum = ContentDigest::of(&out.sums).0;
    out.out.write_all(&sum)
}

/// Writes in parts, and sums each: see [`sum`].
struct Summed<'a> {
    out: &'a mut dyn Write,
    part: Vec<u8>,
    sums: Vec<u8>,
}

impl Summed<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = SUMMED_BYTES - self.part.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == SUMMED_BYTES {
                self.end_part()?;
            }
        }
        Ok(())
    }

    fn end_part(&mut self) -> io::Result<()> {
        if !self.part.is_empty() {
            self.sums
                .extend_from_slice(&ContentDigest::of(&self.part).0);
            self.out.write_all(&self.part)?;
            self.part.clear();
        }
        Ok(())
    }
}

/// Looks paths up; quickest in the order of a walk.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    of: &'a Remembered,
    /// Most likely what is asked for next.
    next: usize,
}

impl Reader<'_> {
    /// Returns the facts of the file at `path`, if it is known with this `stamp`.
    pub(super) fn facts(&mut self, path: &[u8], stamp: &Stamp) -> Option<Facts> {
        let starts = &self.of.starts;
        if self.next >= starts.len() || self.of.path(self.next) != path {
            let mut at = 0..starts.len();
            while !at.is_empty() {
                let middle = at.start + at.len() / 2;
                match walk_order(self.of.path(middle), path) {
                    Ordering::Less => at.start = middle + 1,
                    Ordering::Equal => at = middle..middle,
                    Ordering::Greater => at.end = middle,
                }
            }
            self.next = at.start;
            if self.next >= starts.len() || self.of.path(self.next) != path {
                return None;
            }
        }
        let mut entry = self.of.entry(self.next);
        self.next += 1;
        read(&mut entry, stamp)
    }
}

/// Compares part by part: what is below a directory comes right after it.
pub(super) fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    // The end of a path is before the end of a part, and that before any letter.
    let rank = |path: &[u8]| path.get(head).map(|byte| (*byte != b'/', *byte));
    rank(a).cmp(&rank(b))
}

/// Each part's checksum, then theirs: a disk may lose what it was told to write.
fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let parts: Vec<[u8; SUM_BYTES]> = bytes
        .par_chunks(SUMMED_BYTES)
        .map(|part| ContentDigest::of(part).0)
        .collect();
    ContentDigest::of(&parts.concat()).0
}

fn put(out: &mut Vec<u8>, path: &[u8], stamp: &Stamp, facts: &Facts) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    sized(out, path);
    let Stamp {
        size,
        mtime_ns,
        ctime_ns,
        inode,
        device,
    } = stamp;
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&mtime_ns.to_le_bytes());
    out.extend_from_slice(&ctime_ns.to_le_bytes());
    out.extend_from_slice(&inode.to_le_bytes());
    out.extend_from_slice(&device.to_le_bytes());
    sized(out, facts.content.as_ref().map_or(b"", |it| &it.0));
    out.extend_from_slice(&(facts.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &facts.xattrs {
        sized(out, name);
        sized(out, value);
    }
    let length = (out.len() - begin - 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads an entry; `None` where it is of another stamp.
fn read(rest: &mut &[u8], wanted: &Stamp) -> Option<Facts> {
    take_sized(rest)?;
    let stamp = Stamp {
        size: u64::from_le_bytes(take(rest)?),
        mtime_ns: i64::from_le_bytes(take(rest)?),
        ctime_ns: i64::from_le_bytes(take(rest)?),
        inode: u64::from_le_bytes(take(rest)?),
        device: u64::from_le_bytes(take(rest)?),
    };
    if stamp != *wanted {
        return None;
    }
    let content = match take_sized(rest)? {
        b"" => None,
        content => Some(ContentDigest(content.try_into().ok()?)),
    };
    let mut xattrs = BTreeMap::new();
    for _ in 0..u32::from_le_bytes(take(rest)?) {
        let name = take_sized(rest)?.to_vec();
        xattrs.insert(name, take_sized(rest)?.to_vec());
    }
    Some(Facts {
        content,
        xattrs,
        bytes: None,
    })
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_le_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::context::learned::Learned;

    pub(in crate::context) fn known(seed: u64) -> (Stamp, Facts) {
        let stamp = Stamp {
            size: seed,
            mtime_ns: -1,
            inode: seed,
            ..Stamp::default()
        };
        let content = seed
            .is_multiple_of(2)
            .then(|| ContentDigest::of(&seed.to_le_bytes()));
        let xattrs = BTreeMap::from_iter((0..seed % 3).map(|at| (vec![at as u8], vec![0; 9])));
        let bytes = None;
        (
            stamp,
            Facts {
                content,
                xattrs,
                bytes,
            },
        )
    }

    const PATHS: [&str; 9] = ["a", "a/b", "a/b/c", "a-b", "a.b", "a.b/c", "ab", "b", "b/a"];

    pub(in crate::context) fn of(paths: &[(&str, u64)], earlier: &Remembered) -> Vec<u8> {
        let mut learned = Learned::default();
        for (path, seed) in paths {
            let (stamp, facts) = known(*seed);
            learned.add(path.as_bytes(), &stamp, &facts);
        }
        written(&learned, earlier)
    }

    pub(in crate::context) fn written(learned: &Learned, earlier: &Remembered) -> Vec<u8> {
        let mut out = Vec::new();
        let present = |path: &[u8]| path != b"gone";
        learned.write(earlier, &present, &mut out).expect("write");
        out
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        for (a, one) in PATHS.iter().enumerate() {
            for (b, other) in PATHS.iter().enumerate() {
                assert_eq!(walk_order(one.as_bytes(), other.as_bytes()), a.cmp(&b));
            }
        }
    }

    #[test]
    fn what_is_learned_is_found_in_any_order_with_its_stamp_only() {
        let all: Vec<(&str, u64)> = PATHS.into_iter().zip(0..).collect();
        let first = of(&all[..4], &Remembered::default());
        let first = Remembered::from_bytes(first).expect("whole");
        let changes = [&all[2..], &[("gone", 1), ("a", 20)]].concat();
        let all = [&all[1..], &[("a", 20)]].concat();
        let both = Remembered::from_bytes(of(&changes, &first)).expect("whole");
        for round in [all.clone(), all.iter().rev().copied().collect()] {
            let mut reader = both.reader();
            for (path, seed) in round {
                let (stamp, facts) = known(seed);
                assert_eq!(reader.facts(path.as_bytes(), &stamp), Some(facts), "{path}");
                let other = Stamp { device: 1, ..stamp };
                assert_eq!(reader.facts(path.as_bytes(), &other), None, "{path}");
                assert_eq!(reader.facts(b"gone", &stamp), None);
            }
        }
    }

    #[test]
    fn what_is_torn_or_foreign_is_none() {
        let whole = of(&[("a", 1), ("b", 2)], &Remembered::default());
        for length in 0..whole.len() {
            assert!(Remembered::from_bytes(whole[..length].to_vec()).is_none());
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(Remembered::from_bytes(other).is_none());
        }
        let empty = of(&[], &Remembered::default());
        assert!(Remembered::from_bytes(empty).is_some());
    }
}
