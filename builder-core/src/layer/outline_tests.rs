//! Who writes a tar and who reads it come to the same members, whatever it holds.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::Mutex;

use super::super::compression::{
    CompressOptions, Compression, MemberCache, Skip, compress, compress_outlined, compress_with,
};
use super::super::cutter::members;
use super::super::{Entry, EntryKind, Writer, WriterOptions};
use super::*;

const HOW: Compression = Compression::Gzip(1);

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn entries(seed: u64) -> Vec<(Entry, Vec<u8>)> {
    const SIZES: [usize; 12] = [
        0,
        1,
        512,
        700,
        20_480,
        100_000,
        300_001,
        LARGE - 512,
        LARGE - 511,
        LARGE,
        LARGE + 1,
        3 * LARGE + 77,
    ];
    let mut dice = Dice(seed);
    let one = |nth: usize| {
        let mut path = format!("d{}/file-{nth}", nth / 7).into_bytes();
        if dice.roll(5) == 0 {
            path.extend("/ä/long".repeat(20).bytes());
        }
        // Few are large, so that small ones fill members.
        let sizes = if dice.roll(4) == 0 { SIZES.len() } else { 7 };
        let size = SIZES[dice.roll(sizes)];
        let kind = match dice.roll(6) {
            0 => EntryKind::Directory,
            1 => EntryKind::Symlink {
                target: b"there".to_vec(),
            },
            _ => EntryKind::File { size: size as u64 },
        };
        let size = if let EntryKind::File { .. } = kind {
            size
        } else {
            0
        };
        let mut xattrs = BTreeMap::new();
        match dice.roll(60) {
            0 => _ = xattrs.insert(b"user.huge".to_vec(), vec![b'x'; LARGE + 5]),
            1..5 => _ = xattrs.insert(b"user.a".to_vec(), vec![b'x'; 700]),
            _ => {}
        }
        let mut data = vec![dice.roll(256) as u8; size];
        for at in (0..size).step_by(600) {
            data[at] = (at / 600) as u8;
        }
        let entry = Entry {
            path,
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 7,
            xattrs,
        };
        (entry, data)
    };
    (0..80).map(one).collect()
}

fn written(entries: &[(Entry, Vec<u8>)]) -> (Vec<u8>, Vec<Outlined>) {
    let mut outline = Outline::default();
    let members = outline.follow();
    let mut writer = Writer::outlined(Vec::new(), WriterOptions::default(), outline);
    for (entry, data) in entries {
        writer.append(entry, &mut &data[..]).expect("append");
    }
    let (tar, _) = writer.finish().expect("finish");
    (tar, members.into_iter().collect())
}

#[test]
fn what_is_outlined_is_what_is_found() {
    let mut outlined_bytes = 0;
    for seed in 0..8 {
        let (tar, outlined) = written(&entries(seed));
        let found = members(&mut &tar[..]).expect("members");
        assert!(outlined.len() < found.len(), "the last one is left");
        for (nth, member) in outlined.iter().enumerate() {
            let (length, key) = found[nth];
            assert_eq!(member.length, length, "seed {seed}, member {nth}");
            if let Some(told) = member.key {
                assert_eq!(told, key, "seed {seed}, member {nth}");
            }
            outlined_bytes += length;
        }
    }
    assert!(outlined_bytes > 8 * LARGE as u64);
}

#[derive(Default)]
struct Memory(Mutex<HashMap<ContentDigest, Vec<u8>>>);

impl MemberCache for Memory {
    fn get(&self, key: &ContentDigest) -> Option<Vec<u8>> {
        self.0.lock().expect("lock").get(key).cloned()
    }

    fn put(&self, key: &ContentDigest, member: &[u8], _offset: u64) {
        let member = member.to_vec();
        self.0.lock().expect("lock").insert(*key, member);
    }
}

/// Counts what is read of it.
struct Counted<'a> {
    tar: &'a [u8],
    read: usize,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.tar.read(buf)?;
        self.read += n;
        Ok(n)
    }
}

impl Skip for Counted<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.tar = &self.tar[bytes as usize..];
        Ok(())
    }
}

#[test]
fn known_members_are_not_read_and_change_nothing() {
    for (seed, threads) in [(1, 1), (2, 8)] {
        let mut entries = entries(seed);
        let cache = Memory::default();
        let options = CompressOptions {
            threads,
            cache: Some(&cache),
            known: true,
        };
        // What the first one keeps under keys made from bytes is found under those of the outline.
        let (before, _) = written(&entries);
        compress_with(&mut &before[..], HOW, &mut io::sink(), options).expect("compress");
        let (_, data) = entries
            .iter_mut()
            .filter(|(_, data)| (1..LARGE / 4).contains(&data.len()))
            .nth(25)
            .expect("a small file");
        data[0] ^= 1;
        let (tar, outlined) = written(&entries);
        let mut plain = Vec::new();
        let wanted = compress(&mut &tar[..], HOW, &mut plain).expect("compress");
        for round in 0..2 {
            let mut counted = Counted { tar: &tar, read: 0 };
            let mut out = Vec::new();
            let outlined = outlined.iter().copied();
            let made = compress_outlined(&mut counted, outlined, HOW, &mut out, options)
                .expect("compress");
            assert!(out == plain, "seed {seed}, round {round}");
            assert_eq!(
                (made.digest, made.diff_size),
                (wanted.digest, tar.len() as u64)
            );
            let unread: u64 = members(&mut &tar[..]).expect("members").len() as u64;
            assert!(
                unread > 4 && counted.read < tar.len(),
                "{} read",
                counted.read
            );
        }
    }
}

#[test]
fn what_differs_in_anything_has_another_key() {
    let file = |size| EntryKind::File { size };
    let (entry, _) = &entries(9)[0];
    let of = |change: &dyn Fn(&mut Entry), data: &[u8]| {
        let mut entry = Entry {
            kind: file(data.len() as u64),
            ..entry.clone()
        };
        change(&mut entry);
        let (tar, _) = written(&[(entry, data.to_vec())]);
        members(&mut &tar[..]).expect("members")[0].1
    };
    let plain = of(&|_| {}, b"one");
    assert_eq!(plain, of(&|_| {}, b"one"));
    let others = [
        of(&|_| {}, b"two"),
        of(&|_| {}, b"one\0"),
        of(&|it| it.mode = 0o600, b"one"),
        of(&|it| it.mtime = 8, b"one"),
        of(&|it| it.path = b"other".to_vec(), b"one"),
    ];
    assert!(others.iter().all(|it| *it != plain));
    // Padding that another program has put is told apart, in bytes that it does not change the sum of.
    let (mut tar, _) = written(&[(
        Entry {
            kind: file(3),
            ..entry.clone()
        },
        b"one".to_vec(),
    )]);
    let at = tar.windows(4).position(|it| it == b"one\0").expect("data");
    let before = members(&mut &tar[..]).expect("members")[0].1;
    tar[at + 100] = 1;
    assert_ne!(before, members(&mut &tar[..]).expect("members")[0].1);
}
