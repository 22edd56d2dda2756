//! The files that a step sees, as bytes: what is hashed is what is kept for explaining a later miss.
//!
//! ```text
//! group   1 | length | directory or file                  what one source came to
//! entry   2 | length | path length | path | attributes    one file of it, as the step sees it
//! attribute   code | length | value
//! ```
//!
//! The bytes of a list name no place where the files come from: a pattern that finds the same files has the same
//! digest. Where each group begins and what its paths stand below is kept beside them, for messages.

use std::collections::{BTreeMap, HashMap};

use crate::digest::ContentDigest;
use crate::progress::Change;

const GROUP: u8 = 1;
const ENTRY: u8 = 2;

const KIND: u8 = 1;
const MODE: u8 = 2;
const OWNER: u8 = 3;
const DEVICE: u8 = 4;
const CONTENT: u8 = 5;
const TARGET: u8 = 6;
const LINK: u8 = 7;
const XATTR: u8 = 8;

/// One file with all that a step can see of it; never its times.
#[derive(Debug, Clone, Default)]
pub struct FileEntry<'a> {
    /// As the step sees it.
    pub path: &'a [u8],
    /// `file`, `directory`, …
    pub kind: &'a str,
    pub mode: Option<u32>,
    pub owner: Option<(u32, u32)>,
    pub device: Option<(u32, u32)>,
    pub content: Option<ContentDigest>,
    /// Of a symlink.
    pub target: Option<&'a [u8]>,
    /// The first name of a file that was listed already.
    pub link: Option<&'a [u8]>,
    pub xattrs: Option<&'a BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// A list of files, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileList {
    /// For each group: where it begins, and the directory that its paths are relative to.
    places: Vec<(usize, Vec<u8>)>,
    body: Vec<u8>,
}

impl FileList {
    /// Starts what one source came to; `below` is the directory that paths are relative to, for messages.
    pub fn group(&mut self, below: &[u8], is_directory: bool) {
        self.places.push((self.body.len(), below.to_vec()));
        self.body.push(GROUP);
        sized(&mut self.body, &[u8::from(is_directory)]);
    }

    /// Makes room for files whose paths are so long.
    pub fn reserve(&mut self, paths: impl Iterator<Item = usize>) {
        // Type, mode and content, with their codes and lengths.
        const BESIDES: usize = 80;
        self.body
            .reserve(paths.map(|length| length + BESIDES).sum());
    }

    pub fn push(&mut self, entry: &FileEntry<'_>) {
        let FileEntry {
            path,
            kind,
            mode,
            owner,
            device,
            content,
            target,
            link,
            xattrs,
        } = entry;
        let out = &mut self.body;
        out.push(ENTRY);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        sized(out, path);
        let mut attribute = |code: u8, value: &[u8]| {
            out.push(code);
            sized(out, value);
        };
        let pair = |(a, b): (u32, u32)| [a.to_le_bytes(), b.to_le_bytes()].concat();
        attribute(KIND, kind.as_bytes());
        if let Some(mode) = mode {
            attribute(MODE, &mode.to_le_bytes());
        }
        if let Some(owner) = owner {
            attribute(OWNER, &pair(*owner));
        }
        if let Some(device) = device {
            attribute(DEVICE, &pair(*device));
        }
        if let Some(content) = content {
            attribute(CONTENT, &content.0);
        }
        if let Some(target) = target {
            attribute(TARGET, target);
        }
        if let Some(link) = link {
            attribute(LINK, link);
        }
        for (name, value) in xattrs.iter().copied().flatten() {
            attribute(XATTR, &[&ContentDigest::of(value).0[..], name].concat());
        }
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Names all that is in the list, and nothing of where it comes from.
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(&self.body)
    }

    /// Returns the list as bytes, for keeping it, in two parts: the second is not copied.
    pub fn to_parts(&self) -> (Vec<u8>, &[u8]) {
        let mut head = (self.places.len() as u32).to_le_bytes().to_vec();
        for (at, below) in &self.places {
            head.extend_from_slice(&(*at as u64).to_le_bytes());
            sized(&mut head, below);
        }
        (head, &self.body)
    }

    /// Returns the list as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (head, body) = self.to_parts();
        [&head[..], body].concat()
    }

    /// Reads what [`FileList::to_bytes`] returned; `None` where it is something else.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Option<FileList> {
        let mut rest = &bytes[..];
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut places = Vec::new();
        for _ in 0..count {
            let at = u64::from_le_bytes(take(&mut rest)?);
            places.push((usize::try_from(at).ok()?, take_sized(&mut rest)?.to_vec()));
        }
        let head = bytes.len() - rest.len();
        bytes.drain(..head);
        Some(FileList {
            places,
            body: bytes,
        })
    }

    /// Returns every entry.
    fn entries(&self) -> Vec<Listed<'_>> {
        let mut out = Vec::new();
        let mut places = self.places.iter();
        let mut below: &[u8] = &[];
        let mut rest = &self.body[..];
        while let Some(code) = take::<1>(&mut rest) {
            let Some(record) = take_sized(&mut rest) else {
                break;
            };
            match code[0] {
                GROUP => below = places.next().map_or(&[], |(_, below)| below),
                _ => {
                    let mut attributes = record;
                    let path = take_sized(&mut attributes).unwrap_or_default();
                    out.push(Listed {
                        below,
                        path,
                        attributes,
                    });
                }
            }
        }
        out
    }

    /// Returns what differs between `self`, the earlier list, and `now`, at most `most` of it, and how much there is.
    pub(super) fn changes(&self, now: &FileList, most: usize) -> (Vec<Change>, usize) {
        let (old, new) = (self.entries(), now.entries());
        // What both begin and end with is most of them: only the middle is sorted out.
        let head = old.iter().zip(&new);
        let head = head.take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[head..], &new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev());
        let tail = tail.take_while(|(a, b)| a == b).count();
        let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
        let before = old.iter().map(|it| (it.full(), it.attributes));
        let mut before: HashMap<Vec<u8>, &[u8]> = before.collect();
        let mut changes = Vec::new();
        let mut count = 0;
        let mut add = |change: &dyn Fn() -> Change| {
            count += 1;
            if changes.len() < most {
                changes.push(change());
            }
        };
        for it in new {
            let path = it.full();
            match before.remove(&path) {
                None => add(&|| file_change(&path, "new", Vec::new())),
                Some(old) if old != it.attributes => {
                    add(&|| file_change(&path, "changed", differing(old, it.attributes)));
                }
                Some(_) => {}
            }
        }
        for it in old {
            let path = it.full();
            if before.contains_key(&path) {
                add(&|| file_change(&path, "gone", Vec::new()));
            }
        }
        (changes, count)
    }
}

/// An entry of a list; there may be very many.
#[derive(Clone, Copy)]
struct Listed<'a> {
    below: &'a [u8],
    path: &'a [u8],
    attributes: &'a [u8],
}

impl Listed<'_> {
    /// Returns the path with the directory that it is below.
    fn full(&self) -> Vec<u8> {
        match self.below {
            [] => self.path.to_vec(),
            below => [below, b"/", self.path].concat(),
        }
    }
}

impl PartialEq for Listed<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same_path = match self.below == other.below {
            true => self.path == other.path,
            false => self.full() == other.full(),
        };
        same_path && self.attributes == other.attributes
    }
}

fn file_change(path: &[u8], what: &str, attributes: Vec<String>) -> Change {
    Change {
        kind: "file".to_owned(),
        name: String::from_utf8_lossy(path).into_owned(),
        what: what.to_owned(),
        attributes,
        old: None,
        new: None,
    }
}

/// Names the attributes that differ, with their values where people can read them.
fn differing(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (shown(old), shown(new));
    let mut out = Vec::new();
    for name in order(&old, &new) {
        match (old.get(name), new.get(name)) {
            (a, b) if a == b => {}
            (Some((_, Some(a))), Some((_, Some(b)))) => out.push(format!("{name} {a} → {b}")),
            _ => out.push(name.clone()),
        }
    }
    out
}

type Attributes = BTreeMap<String, (Vec<u8>, Option<String>)>;

/// Content last: a file of another type has another content too.
fn order<'a>(old: &'a Attributes, new: &'a Attributes) -> Vec<&'a String> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_by_key(|name| (*name == "content", *name));
    names.dedup();
    names
}

/// Reads attributes: name, bytes, and text for people.
fn shown(mut rest: &[u8]) -> Attributes {
    let mut out = BTreeMap::new();
    while let Some([code]) = take::<1>(&mut rest) {
        let Some(value) = take_sized(&mut rest) else {
            break;
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let number = |at: usize| {
            let bytes = value.get(at..at + 4).and_then(|it| it.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let (name, shown) = match code {
            KIND => ("type".to_owned(), Some(text(value))),
            MODE => ("mode".to_owned(), Some(format!("{:o}", number(0)))),
            OWNER => (
                "owner".to_owned(),
                Some(format!("{}:{}", number(0), number(4))),
            ),
            DEVICE => (
                "device".to_owned(),
                Some(format!("{}:{}", number(0), number(4))),
            ),
            CONTENT => ("content".to_owned(), None),
            TARGET => ("link target".to_owned(), Some(format!("`{}`", text(value)))),
            LINK => ("hard link".to_owned(), Some(format!("`{}`", text(value)))),
            XATTR => (
                format!("xattr {}", text(value.get(32..).unwrap_or_default())),
                None,
            ),
            _ => (format!("attribute {code}"), None),
        };
        out.insert(name, (value.to_vec(), shown));
    }
    out
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
mod tests {
    use super::*;

    fn file<'a>(path: &'a str, mode: u32, content: &str) -> FileEntry<'a> {
        FileEntry {
            path: path.as_bytes(),
            kind: "file",
            mode: Some(mode),
            content: Some(ContentDigest::of(content.as_bytes())),
            ..FileEntry::default()
        }
    }

    fn list(below: &str, entries: &[FileEntry<'_>]) -> FileList {
        let mut list = FileList::default();
        list.group(below.as_bytes(), true);
        entries.iter().for_each(|entry| list.push(entry));
        list
    }

    #[test]
    fn what_differs_is_named_with_its_attributes() {
        let link = |target: &'static str| FileEntry {
            path: b"l",
            kind: "symlink",
            target: Some(target.as_bytes()),
            ..FileEntry::default()
        };
        let owned = |uid| FileEntry {
            owner: Some((uid, 5)),
            ..file("o", 0o644, "")
        };
        let (none, one) = (
            BTreeMap::new(),
            BTreeMap::from([(b"user.a".to_vec(), b"1".to_vec())]),
        );
        let marked = |xattrs| FileEntry {
            xattrs: Some(xattrs),
            ..file("x", 0o644, "")
        };
        let a = || file("a", 0o644, "a");
        for (old, new, expected) in [
            (vec![a()], vec![a()], &[][..]),
            (
                vec![a()],
                vec![file("a", 0o755, "a")],
                &["src/a changed (mode 644 → 755)"],
            ),
            (
                vec![a()],
                vec![file("a", 0o644, "b")],
                &["src/a changed (content)"],
            ),
            (
                vec![a(), file("b", 0o644, "b"), file("c", 0o644, "c")],
                vec![a(), file("c", 0o644, "c")],
                &["src/b is gone"],
            ),
            (
                vec![a()],
                vec![a(), file("b", 0o644, "b")],
                &["src/b is new"],
            ),
            (
                vec![link("a")],
                vec![link("b")],
                &["src/l changed (link target `a` → `b`)"],
            ),
            (
                vec![owned(0)],
                vec![owned(7)],
                &["src/o changed (owner 0:5 → 7:5)"],
            ),
            (
                vec![marked(&none)],
                vec![marked(&one)],
                &["src/x changed (xattr user.a)"],
            ),
            (
                vec![FileEntry {
                    path: b"a",
                    ..link("x")
                }],
                vec![a()],
                &["src/a changed (link target, mode, type symlink → file, content)"],
            ),
        ] {
            let (old, new) = (list("src", &old), list("src", &new));
            let (changes, count) = old.changes(&new, 9);
            let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
            assert_eq!(count, expected.len());
            assert_eq!(old.digest() == new.digest(), expected.is_empty());
        }
    }

    #[test]
    fn lists_read_back_and_do_not_know_where_they_are_from() {
        let one = list("src", &[file("a", 0o644, "a"), file("b/c", 0o600, "")]);
        let two = list("other", &[file("a", 0o644, "a"), file("b/c", 0o600, "")]);
        assert_eq!(one.digest(), two.digest());
        let bytes = one.to_bytes();
        assert_eq!(FileList::from_bytes(bytes.clone()), Some(one.clone()));
        for length in 0..bytes.len() {
            // What is cut off is none, or a shorter list; never a panic.
            if let Some(short) = FileList::from_bytes(bytes[..length].to_vec()) {
                assert!(short.entries().len() <= 2);
            }
        }
        let (changes, count) = FileList::default().changes(&one, 1);
        assert_eq!((changes.len(), count), (1, 2));
    }
}
