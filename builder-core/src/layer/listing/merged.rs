//! The tree that the listings of a stack of layers come to.
//!
//! What unpacking would do with an odd layer (entries by way of symbolic links, directories that no entry describes, links to
//! nothing, names that are refused) is left to unpacking: there is no merged tree of it.

use std::collections::{BTreeMap, BTreeSet};

use super::Listing;
use crate::layer::{Entry, EntryKind};

/// A tree without its files' data.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// By path; of hard links each name is the file.
    entries: BTreeMap<Vec<u8>, Entry>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Merged {
    /// Puts listings on each other, base first; `None` where only unpacking can tell.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a Listing>) -> Option<Merged> {
        let mut merged = Merged::default();
        for layer in layers {
            merged.add(layer)?;
        }
        Some(merged)
    }

    /// Puts one more layer on top; after `None` the tree is of no use.
    pub fn add(&mut self, layer: &Listing) -> Option<()> {
        if !layer.entries.iter().all(|entry| is_plain(&entry.path)) {
            return None;
        }
        // Removals speak of the layers below, wherever they stand.
        for entry in &layer.entries {
            match entry.kind {
                EntryKind::Whiteout => self.remove(&entry.path),
                EntryKind::OpaqueWhiteout => self.remove_below(&entry.path),
                _ => {}
            }
        }
        let mut own = BTreeSet::new();
        for entry in &layer.entries {
            let path = &entry.path;
            let is_new = match entry.kind {
                EntryKind::Whiteout | EntryKind::OpaqueWhiteout => continue,
                // A removal in disguise: it is left out when unpacked.
                EntryKind::CharDevice { major: 0, minor: 0 } => return None,
                _ => own.insert(path),
            };
            let is_dir = entry.kind == EntryKind::Directory;
            // What comes twice replaces, or is added to: rare, and a matter of order.
            if !is_dir && (!is_new || path.is_empty()) {
                return None;
            }
            let parent = parent(path);
            if !parent.is_empty() && self.entries.get(parent)?.kind != EntryKind::Directory {
                return None;
            }
            let mut entry = entry.clone();
            if let EntryKind::Hardlink { target } = &entry.kind {
                let kept = self.kept.get(target).cloned();
                let there = self.entries.get(target)?;
                if there.kind == EntryKind::Directory {
                    return None;
                }
                entry = Entry {
                    path: path.clone(),
                    ..there.clone()
                };
                self.put(entry, kept);
                continue;
            }
            let kept = layer.kept.get(path).cloned();
            self.put(entry, kept);
        }
        // What is removed stands in a directory, which unpacking would make.
        let is_dir = |path: &[u8]| {
            self.get(path)
                .is_some_and(|it| it.kind == EntryKind::Directory)
        };
        let removals = layer.entries.iter().filter_map(|entry| match entry.kind {
            EntryKind::Whiteout => Some(parent(&entry.path)),
            EntryKind::OpaqueWhiteout => Some(&entry.path[..]),
            _ => None,
        });
        let mut removals = removals.filter(|path| !path.is_empty());
        removals.all(is_dir).then_some(())
    }

    /// Returns what is at `path`, no part of which is followed.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns the bytes of a file, if they are among the few that are kept.
    pub fn kept(&self, path: &[u8]) -> Option<&[u8]> {
        self.kept.get(path).map(Vec::as_slice)
    }

    /// Returns what is directly in the directory `path`, in byte order of names.
    pub fn children(&self, path: &[u8]) -> impl Iterator<Item = &Entry> {
        let prefix = prefix(path);
        let depth = prefix.len();
        self.range(prefix)
            .filter(move |entry| !entry.path[depth..].contains(&b'/'))
    }

    fn range(&self, prefix: Vec<u8>) -> impl Iterator<Item = &Entry> {
        self.entries
            .range(prefix.clone()..)
            .map(|(_, entry)| entry)
            .skip_while(|entry| entry.path.is_empty())
            .take_while(move |entry| entry.path.starts_with(&prefix))
    }

    fn put(&mut self, entry: Entry, kept: Option<Vec<u8>>) {
        if entry.kind != EntryKind::Directory {
            self.remove_below(&entry.path);
        }
        self.kept.remove(&entry.path);
        self.kept
            .extend(kept.map(|bytes| (entry.path.clone(), bytes)));
        self.entries.insert(entry.path.clone(), entry);
    }

    fn remove(&mut self, path: &[u8]) {
        self.remove_below(path);
        self.entries.remove(path);
        self.kept.remove(path);
    }

    fn remove_below(&mut self, path: &[u8]) {
        let is_dir = |entry: &Entry| entry.kind == EntryKind::Directory;
        if !path.is_empty() && !self.entries.get(path).is_some_and(is_dir) {
            return;
        }
        let below = self.range(prefix(path)).map(|entry| entry.path.clone());
        for path in below.collect::<Vec<_>>() {
            self.entries.remove(&path);
            self.kept.remove(&path);
        }
    }
}

fn prefix(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => Vec::new(),
        path => [path, b"/"].concat(),
    }
}

fn parent(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    &path[..cut.unwrap_or(0)]
}

fn is_plain(path: &[u8]) -> bool {
    path.is_empty()
        || !path.contains(&0)
            && path
                .split(|byte| *byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `d a`, `f a/x 3`, `l a/y target`, `h b target`, `w a/x`, `o a`: an entry each, `;` between layers.
    fn layers(text: &str) -> Vec<Listing> {
        let entry = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = |n: usize| words.get(n).copied().unwrap_or_default();
            let path = at(1).trim_start_matches('/').as_bytes().to_vec();
            let target = at(2).into();
            let kind = match at(0) {
                "d" => EntryKind::Directory,
                "f" => EntryKind::File {
                    size: at(2).parse().unwrap_or_default(),
                },
                "l" => EntryKind::Symlink { target },
                "h" => EntryKind::Hardlink { target },
                "w" => return Entry::whiteout(path),
                _ => return Entry::opaque_whiteout(path),
            };
            Entry {
                path,
                kind,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: 0,
                xattrs: BTreeMap::new(),
            }
        };
        let listing = |layer: &str| Listing {
            entries: layer.split(',').map(entry).collect(),
            kept: BTreeMap::new(),
        };
        text.split(';').map(listing).collect()
    }

    #[test]
    fn layers_add_up() {
        for (text, expected) in [
            ("d a, f a/x 1, f a/y 2", Some("a a/x a/y")),
            ("d a, f a/x 1; d a, f a/y 2", Some("a a/x a/y")),
            ("d a, f a/x 1; d a, w a/x", Some("a")),
            ("d a, f a/x 1; d a, f a/x 9, w a/x", Some("a a/x")),
            ("d a, f a/x 1; d a, f a/y 1, o a", Some("a a/y")),
            ("d a, f a/x 1; w a", Some("")),
            ("d a, f a/x 1, f ab 1; f a 1", Some("a ab")),
            ("d a, f a/x 1; l a b", Some("a")),
            ("d a, d a/b, f a/b/c 1, d a", Some("a a/b a/b/c")),
            ("f x 7, h y x", Some("x y")),
            ("f x 7; h y x", Some("x y")),
            ("d /, d a; d a", Some(" a")),
            ("d /, d a; o /, d b", Some(" b")),
            ("w nothing", Some("")),
            ("d a; w a/nothing", Some("a")),
            // Only unpacking knows.
            ("h y x", None),
            ("d x, h y x", None),
            ("f a/x 1", None),
            ("d r, l v r; f v/x 1", None),
            ("f x 1; f x/y 1", None),
            ("f x 1, f x 2", None),
            ("d ../a", None),
            ("d a//b", None),
            ("w a/x", None),
            ("d r, l v r; w v/x", None),
        ] {
            let merged = Merged::of(&layers(text));
            let paths = merged.map(|merged| {
                let all = merged.entries.keys();
                let all = all.map(|path| String::from_utf8_lossy(path).into_owned());
                all.collect::<Vec<_>>().join(" ")
            });
            assert_eq!(paths.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_lists_its_own() {
        let merged = Merged::of(&layers("d /, d a, f a/x 1, d a/b, f a/b/c 1, f a-b 1"));
        let merged = merged.expect("plain");
        let names = |path: &str| -> Vec<String> {
            let found = merged.children(path.as_bytes());
            let names = found.map(|it| String::from_utf8_lossy(&it.path).into_owned());
            names.collect()
        };
        assert_eq!(names(""), ["a", "a-b"]);
        assert_eq!(names("a"), ["a/b", "a/x"]);
        assert_eq!(names("a/b"), ["a/b/c"]);
        assert_eq!(names("a/x"), [""; 0]);
    }

    #[test]
    fn kept_bytes_go_with_their_file() {
        let mut stack = layers("d etc, f etc/passwd 3; d etc, f etc/group 1; w etc/passwd");
        let kept = BTreeMap::from([(b"etc/passwd".to_vec(), b"a:b".to_vec())]);
        stack[0].kept = kept;
        let merged = Merged::of(&stack[..2]).expect("plain");
        assert_eq!(merged.kept(b"etc/passwd"), Some(&b"a:b"[..]));
        assert_eq!(merged.kept(b"etc/group"), None);
        let merged = Merged::of(&stack).expect("plain");
        assert_eq!(merged.kept(b"etc/passwd"), None);
    }
}
