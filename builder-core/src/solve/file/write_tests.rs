//! What is taken from earlier layers changes nothing of a layer, whatever became of the files and of the earlier layers.

use std::collections::HashMap;
use std::io::{Seek, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::context::{Lookup, Node, NodeKind, Stamp, Tree, Xattrs};
use crate::layer::parts::HashState;

const MIB: usize = 1 << 20;

/// Files in memory, and how many of them were opened.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<Vec<u8>, Vec<u8>>,
    opened: AtomicUsize,
}

impl Lookup for Files {
    fn lookup(&self, _path: &[u8]) -> Result<Option<Node>, ContextError> {
        Ok(None)
    }
}

impl Tree for Files {
    fn children(&self, _path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        Ok(Arc::from([]))
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut file = tempfile::tempfile().expect("temp file");
        file.write_all(&self.bytes[&node.path]).expect("write");
        file.rewind().expect("rewind");
        Ok(file)
    }

    fn xattrs(&self, _node: &Node) -> Result<Xattrs, ContextError> {
        Ok(Xattrs::new())
    }

    fn place(&self) -> &'static str {
        "the test"
    }

    fn has_owners(&self) -> bool {
        false
    }
}

/// Layers that were written, newest last.
#[derive(Default)]
struct Earlier {
    tars: Vec<Vec<u8>>,
    places: HashMap<ContentDigest, Place>,
}

impl Earlier {
    fn add(&mut self, layer: &Layered<Vec<u8>>) {
        let mut offset = 0;
        for Marked { key, length, after } in layer.marks.clone() {
            let tar = self.tars.len();
            let place = Place {
                tar,
                offset,
                length,
                after,
            };
            self.places.insert(key, place);
            offset += length;
        }
        assert_eq!(offset + 1024, layer.written.size, "all is in parts");
        self.tars.push(layer.out.clone());
    }
}

impl EarlierTars for &Earlier {
    fn find(&self, key: &ContentDigest) -> Option<Place> {
        self.places.get(key).cloned()
    }

    fn read(&self, place: &Place) -> Option<Vec<u8>> {
        let start = place.offset as usize;
        let tar = &self.tars[place.tar];
        tar.get(start..start + place.length as usize)
            .map(<[u8]>::to_vec)
    }
}

/// How much of a file there is, and what distinguishes it.
type Case = Vec<(String, usize, u8)>;

fn bytes(size: usize, seed: u8) -> Vec<u8> {
    let byte = |at: usize| (at / 512) as u8 ^ (at % 251) as u8 ^ seed;
    (0..size).map(byte).collect()
}

/// Files of a few KB, with a large one among them.
fn base() -> Case {
    let size = |nth: usize| match nth {
        30 => 0,
        500 => 3 * MIB + 77,
        _ => 20_000 + nth * 37,
    };
    let name = |nth: usize| format!("d{}/file-{nth:03}", nth / 100);
    (0..600)
        .map(|nth| (name(nth), size(nth), nth as u8))
        .collect()
}

/// Writes the files as a layer; `known` are those that the files are said to hold.
fn write(
    files: &Case,
    known: &Case,
    earlier: Option<&Earlier>,
) -> (Result<Layered<Vec<u8>>, FileError>, usize) {
    let there = files
        .iter()
        .map(|(path, size, seed)| (path.clone().into_bytes(), bytes(*size, *seed)));
    let tree = Arc::new(Files {
        bytes: there.collect(),
        opened: AtomicUsize::new(0),
    });
    let mut target = Target::new(None, 0);
    for (path, size, seed) in known {
        let node = Node {
            path: path.clone().into_bytes(),
            kind: NodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 5,
            links: 1,
            stamp: Stamp {
                size: *size as u64,
                ..Stamp::default()
            },
        };
        let entry = Entry {
            path: node.path.clone(),
            kind: EntryKind::File { size: *size as u64 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 5,
            xattrs: BTreeMap::new(),
        };
        let content = ContentDigest::of(&bytes(*size, *seed));
        let data = Data::of_tree(tree.clone(), node.into(), Some(content));
        target.put(entry, data).expect("put");
    }
    let layer = target.write(Vec::new(), Outline::default(), || earlier, None);
    (layer, tree.opened.load(Ordering::Relaxed))
}

fn whole(files: &Case, earlier: Option<&Earlier>) -> (Layered<Vec<u8>>, usize) {
    let (layer, opened) = write(files, files, earlier);
    (layer.expect("a layer"), opened)
}

#[test]
fn a_layer_is_the_same_whatever_an_earlier_one_has_of_it() {
    let before = base();
    let (first, opened) = whole(&before, None);
    assert_eq!(opened, before.len());
    let with = |change: &dyn Fn(&mut Case)| {
        let mut files = before.clone();
        change(&mut files);
        files
    };
    // (what, files, at most so many are opened)
    let cases = [
        ("nothing", with(&|_| {}), 1),
        ("the first", with(&|it| it[0].2 = 99), 60),
        ("one in the middle", with(&|it| it[300].2 = 99), 60),
        ("the last", with(&|it| it[599].2 = 99), 60),
        ("the large one", with(&|it| it[500].2 = 99), 60),
        ("two", with(&|it| (it[100].2, it[400].2) = (98, 99)), 110),
        (
            "one more at the start",
            with(&|it| it.insert(0, ("a".to_owned(), 700, 7))),
            60,
        ),
        (
            "one more in the middle",
            with(&|it| it.insert(300, ("d2/file-299b".to_owned(), 70_000, 7))),
            60,
        ),
        (
            "one more at the end",
            with(&|it| it.push(("z".to_owned(), 700, 7))),
            60,
        ),
        ("one less", with(&|it| _ = it.remove(200)), 60),
        ("the last one less", with(&|it| _ = it.pop()), 60),
        ("one that has grown", with(&|it| it[200].1 += 5_000), 60),
        (
            "one that has grown to be large",
            with(&|it| it[200].1 += 2 * MIB),
            60,
        ),
        (
            "all",
            with(&|it| it.iter_mut().for_each(|it| it.2 ^= 64)),
            600,
        ),
    ];
    for (what, files, most) in cases {
        let (cold, _) = whole(&files, None);
        let mut earlier = Earlier::default();
        earlier.add(&first);
        let (found, opened) = whole(&files, Some(&earlier));
        assert!(found.out == cold.out, "{what}: the bytes");
        assert_eq!(found.written, cold.written, "{what}");
        assert!(opened <= most, "{what}: {opened} files opened");
        // And of what it says of itself, the next one is made.
        earlier.add(&found);
        let (again, opened) = whole(&files, Some(&earlier));
        assert!(again.out == cold.out, "{what}: the bytes, again");
        assert_eq!(again.written, cold.written, "{what}, again");
        assert!(opened <= 2, "{what}, again: {opened} beside large ones");
        let states = |layer: &Layered<_>| -> Vec<_> {
            let marks = layer.marks.iter();
            marks.map(|mark| mark.after.to_bytes()).collect()
        };
        assert_eq!(states(&again), states(&cold), "{what}");
    }
}

#[test]
fn what_goes_before_the_first_change_is_not_hashed() {
    let before = base();
    let (first, _) = whole(&before, None);
    let mut earlier = Earlier::default();
    earlier.add(&first);
    let nothing = Earlier::default();
    let (other, _) = whole(&before[..300].to_vec(), Some(&nothing));
    // With wrong states the digest is wrong: they are what it comes from.
    let wrong: HashState = other.marks[0].after.clone();
    for place in earlier.places.values_mut() {
        place.after = wrong.clone();
    }
    for (changed, is_wrong) in [(0, false), (599, true)] {
        let mut files = before.clone();
        files[changed].2 = 99;
        let (cold, _) = whole(&files, None);
        let (found, _) = whole(&files, Some(&earlier));
        assert!(found.out == cold.out);
        assert_eq!(found.written.content, cold.written.content);
        let differs = found.written.diff_id != cold.written.diff_id;
        assert_eq!(differs, is_wrong, "file {changed} changed");
    }
}

#[test]
fn a_damaged_earlier_layer_gives_the_same() {
    let before = base();
    let (first, _) = whole(&before, None);
    let mut files = before.clone();
    files[300].2 = 99;
    let (cold, _) = whole(&files, None);
    let flip = |tar: &mut Vec<u8>, step: usize| {
        tar.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
    };
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let damages: [(&str, Damage<'_>); 4] = [
        ("a byte here and there", &|tar| flip(tar, 3_000_001)),
        ("bytes everywhere", &|tar| flip(tar, 9_999)),
        ("cut short", &|tar| tar.truncate(5 * MIB)),
        ("empty", &|tar| tar.clear()),
    ];
    for (what, damage) in damages {
        let mut earlier = Earlier::default();
        earlier.add(&first);
        damage(&mut earlier.tars[0]);
        let (found, opened) = whole(&files, Some(&earlier));
        assert!(found.out == cold.out, "{what}");
        assert_eq!(found.written, cold.written, "{what}");
        assert!(opened > 60, "{what}: {opened}");
    }
}

#[test]
fn a_file_that_changed_after_the_look_at_it_is_never_half_of_either() {
    let looked_at = base();
    let (first, _) = whole(&looked_at, None);
    let mut earlier = Earlier::default();
    earlier.add(&first);
    let mut files = looked_at.clone();
    (files[10].2, files[550].2) = (98, 99);
    // What the look at it found is in the earlier layer.
    let (layer, _) = write(&files, &looked_at, Some(&earlier));
    assert!(layer.expect("a layer").out == first.out);
    // It is not: the file must be read, and is another.
    let mut now = looked_at.clone();
    now[11].2 = 97;
    let (layer, _) = write(&files, &now, Some(&earlier));
    let error = layer.map(|_| ()).expect_err("an error");
    assert!(
        matches!(error, FileError::Layer(LayerError::Rewritten { .. })),
        "{error}"
    );
}
