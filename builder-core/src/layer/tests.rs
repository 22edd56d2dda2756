//! Round trips, other tools' archives, and hostile ones.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;

use super::compression::{
    CompressOptions, Compression, MemberCache, compress, compress_with, decompressor,
};
use super::*;
use crate::digest::{ContentDigest, DiffId, Digest};

const LAYER: ReaderOptions = ReaderOptions {
    whiteouts: true,
    limits: Limits {
        pax_bytes: 1 << 20,
        entries: 1000,
        total_bytes: 1 << 30,
    },
};

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 1,
        xattrs: BTreeMap::new(),
    }
}

fn file(path: &str, data: &str) -> (Entry, Vec<u8>) {
    let size = data.len() as u64;
    (entry(path, EntryKind::File { size }), data.into())
}

fn write(
    entries: &[(Entry, Vec<u8>)],
    options: WriterOptions,
) -> Result<(Vec<u8>, Written), LayerError> {
    let mut writer = Writer::new(Vec::new(), options);
    for (entry, data) in entries {
        writer.append(entry, &mut &data[..])?;
    }
    writer.finish()
}

fn read(tar: &[u8], options: ReaderOptions) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let mut reader = Reader::new(tar, options);
    let mut all = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        reader
            .read_to_end(&mut data)
            .map_err(LayerError::stream("read"))?;
        all.push((entry, data));
    }
    Ok(all)
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        "[a-z]{1,8}".prop_map(String::into_bytes),
        prop::collection::vec(
            any::<u8>().prop_filter("part of a name", |b| !matches!(b, 0 | b'/')),
            1..120
        ),
        "[a-z]{90,130}".prop_map(String::into_bytes),
    ];
    let part = part.prop_filter("a name", |p| {
        !matches!(&p[..], b"." | b"..") && !p.starts_with(b".wh.")
    });
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join(&b'/'))
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let target = prop::collection::vec(any::<u8>().prop_filter("no NUL", |b| *b != 0), 1..200);
    let kind = prop_oneof![
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        Just(EntryKind::Whiteout),
        Just(EntryKind::OpaqueWhiteout),
        Just(EntryKind::File { size: 0 }),
        target.prop_map(|target| EntryKind::Symlink { target }),
        any_path().prop_map(|target| EntryKind::Hardlink { target }),
        (0u32..4096, 0u32..1 << 20)
            .prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ];
    let xattrs = prop::collection::btree_map(
        "user\\.[a-z]{1,5}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    let data = prop::collection::vec(any::<u8>(), 0..2000);
    (
        any_path(),
        kind,
        0u32..0o10000,
        any::<[u32; 2]>(),
        any::<i64>(),
        xattrs,
        data,
    )
        .prop_map(|(path, kind, mode, [uid, gid], mtime, xattrs, mut data)| {
            let kind = match kind {
                EntryKind::File { .. } => EntryKind::File {
                    size: data.len() as u64,
                },
                other => {
                    data.clear();
                    other
                }
            };
            let mtime = mtime.max(-i64::MAX);
            match kind {
                EntryKind::Whiteout => (Entry::whiteout(path), data),
                EntryKind::OpaqueWhiteout => (Entry::opaque_whiteout(path), data),
                kind => {
                    let entry = Entry {
                        path,
                        kind,
                        mode,
                        uid,
                        gid,
                        mtime,
                        xattrs,
                    };
                    (entry, data)
                }
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(entries in prop::collection::vec(any_entry(), 0..6)) {
        let (tar, written) = write(&entries, WriterOptions::default()).expect("write");
        prop_assert_eq!(written.diff_id.0, Digest::of(&tar));
        prop_assert_eq!(written.size, tar.len() as u64);
        prop_assert_eq!(read(&tar, LAYER).expect("read"), entries);
    }

    #[test]
    fn reading_never_panics(mut tar in Just(write(&[file("a", "text"), file(&"b".repeat(200), "x")], WriterOptions::default()).expect("write").0),
                            at in 0usize..4000, byte: u8, cut in 0usize..6000) {
        let at = at % tar.len();
        tar[at] = byte;
        tar.truncate(cut.max(1));
        let _ = read(&tar, LAYER);
    }
}

#[test]
fn other_readers_agree() {
    let mut long = file(&format!("{}/x", "d/".repeat(80)), "1");
    long.0.uid = 3_000_000;
    long.0.mtime = -5;
    let long_link = entry(
        "s",
        EntryKind::Symlink {
            target: vec![b't'; 150],
        },
    );
    let entries = [file("é", "2"), long, (long_link, Vec::new())];
    let (tar, _) = write(&entries, WriterOptions::default()).expect("write");
    let mut archive = tar::Archive::new(&tar[..]);
    let found: Vec<_> = archive
        .entries()
        .expect("entries")
        .map(|e| {
            let e = e.expect("entry");
            let link = e.link_name_bytes().map(|l| l.len());
            (
                e.path_bytes().into_owned(),
                e.header().uid().expect("uid"),
                link,
            )
        })
        .collect();
    assert_eq!(found[0].0, "é".as_bytes());
    assert_eq!(found[1].0.len(), 162);
    assert_eq!(found[2].2, Some(150));

    let mut theirs = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_uid(1 << 30);
    header.set_mode(0o4755);
    let name = "n".repeat(300);
    theirs
        .append_data(&mut header, &name, &b"abc"[..])
        .expect("append");
    let found = read(&theirs.into_inner().expect("tar"), LAYER).expect("read");
    assert_eq!(found[0].0.path, name.as_bytes());
    assert_eq!((found[0].0.uid, found[0].0.mode), (1 << 30, 0o4755));
    assert_eq!(found[0].1, b"abc");
}

#[test]
fn times_are_clamped_and_content_leaves_them_out() {
    let (mut a, data) = file("a", "x");
    let old = write(&[(a.clone(), data.clone())], WriterOptions::default()).expect("write");
    a.mtime = 99;
    let clamp_mtime = Some(1);
    let new = write(&[(a.clone(), data.clone())], WriterOptions { clamp_mtime }).expect("write");
    assert_eq!(old, new);
    let late = write(&[(a.clone(), data.clone())], WriterOptions::default()).expect("write");
    assert_ne!(late.1.diff_id, old.1.diff_id);
    assert_eq!(late.1.content, old.1.content);
    a.mode = 0o600;
    let other = write(&[(a, data)], WriterOptions::default()).expect("write");
    assert_ne!(other.1.content, old.1.content);
}

#[test]
fn what_a_layer_cannot_carry_is_refused() {
    let short = (file("a", "xyz").0, b"xy".to_vec());
    let long = (file("a", "xyz").0, b"wxyz".to_vec());
    let mut attribute = file("a", "");
    attribute.0.xattrs.insert(b"user.a=b".to_vec(), Vec::new());
    for (entry, says) in [
        (
            short,
            "`a` changed while it was read: 3 bytes were expected, 2 came",
        ),
        (long, "3 bytes were expected, 4 came"),
        (file("a\0b", ""), "NUL"),
        (file("d/.wh.x", ""), "whiteouts"),
        (file("", ""), "root"),
        (attribute, "`=`"),
    ] {
        let error = write(&[entry], WriterOptions::default()).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A header as any tar writer makes it, then data.
fn raw(name: &[u8], flag: u8, link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    if matches!(flag, b'3' | b'4') {
        header.set_device_major(0).expect("ustar");
        header.set_device_minor(0).expect("ustar");
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[test]
fn archives_that_contradict_themselves_are_refused() {
    let pax = |records: &[u8]| [raw(b"p", b'x', b"", records), raw(b"a", b'0', b"", b"x")].concat();
    let mut bad_sum = raw(b"a", b'0', b"", b"x");
    bad_sum[0] = b'b';
    let whole = raw(b"a", b'0', b"", &[1; 600]);
    for (tar, says) in [
        (whole[..700].to_vec(), "ends in the middle of `a`"),
        (whole[..300].to_vec(), "ends in the middle"),
        (raw(b"p", b'x', b"", b"6 a=b\n"), "ends in the middle"),
        (bad_sum, "entry `b` at byte 512: bad header checksum"),
        (pax(b"99 path=x\n"), "leaves its header"),
        (pax(b"11 size=-1\n"), "bad size"),
        (pax(b"16 size=1000000\n"), "ends in the middle"),
        (pax(b"12 path=a\0b\n"), "NUL"),
        (pax(b"19 GNU.sparse.map=\n19 GNU.sparse.size\n"), "="),
        (pax(b"22 GNU.sparse.major=1\n"), "sparse map"),
        (
            pax(b"21 GNU.sparse.size=5\n24 GNU.sparse.map=4,9,8\n"),
            "sparse map",
        ),
        (raw(b"a", b'Z', b"", b""), "unknown kind"),
        (raw(b".wh...", b'0', b"", b""), "whiteout of no name"),
        (raw(b"d/.wh.", b'0', b"", b""), "whiteout of no name"),
    ] {
        let error = read(&tar, LAYER).expect_err(says);
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[test]
fn a_small_archive_may_unpack_to_much_and_a_large_one_to_a_hundred_times_its_size() {
    for (compressed, told, expected) in [
        (0, None, Limits::FREE_BYTES),
        (1000, None, Limits::FREE_BYTES),
        (1 << 30, None, 100 << 30),
        (u64::MAX, None, u64::MAX),
        (1 << 30, Some(5), 5),
    ] {
        let limits = Limits::of_compressed(compressed, told);
        assert_eq!(limits.total_bytes, expected, "{compressed} {told:?}");
    }
}

#[test]
fn limits_hold() {
    let tar = write(
        &[file("a", "xx"), file(&"b".repeat(300), "y")],
        WriterOptions::default(),
    );
    let tar = tar.expect("write").0;
    for (limits, says) in [
        (
            Limits {
                entries: 1,
                ..Limits::default()
            },
            "number of entries",
        ),
        (
            Limits {
                total_bytes: 2,
                ..Limits::default()
            },
            "what it unpacks to",
        ),
        (
            Limits {
                pax_bytes: 100,
                ..Limits::default()
            },
            "extended header",
        ),
    ] {
        let options = ReaderOptions {
            whiteouts: true,
            limits,
        };
        let error = read(&tar, options).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn sparse_files_read_as_plain_ones() {
    let map01 = b"22 GNU.sparse.size=10\n26 GNU.sparse.map=2,1,6,2\n";
    let map00 = b"22 GNU.sparse.size=10\n23 GNU.sparse.offset=2\n25 GNU.sparse.numbytes=1\n23 GNU.sparse.offset=6\n25 GNU.sparse.numbytes=2\n";
    let map10 = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.realsize=10\n22 GNU.sparse.name=s\n";
    let mut inner = b"2\n2\n1\n6\n2\n".to_vec();
    inner.resize(512, 0);
    inner.extend_from_slice(b"abc");
    for (records, data) in [
        (&map01[..], &b"abc"[..]),
        (&map00[..], b"abc"),
        (&map10[..], &inner),
    ] {
        let fixed: Vec<u8> = records
            .split_inclusive(|b| *b == b'\n')
            .flat_map(|line| {
                let text = &line[line.iter().position(|b| *b == b' ').expect("space")..];
                let size = text.len() + 2;
                [size.to_string().as_bytes(), text].concat()
            })
            .collect();
        let tar = [
            raw(b"p", b'x', b"", &fixed),
            raw(b"s", b'0', b"", data),
            raw(b"z", b'0', b"", b"q"),
        ]
        .concat();
        let found = read(&tar, LAYER).expect("read");
        assert_eq!(found[0].0.kind, EntryKind::File { size: 10 });
        assert_eq!(
            found[0].1,
            b"\0\0a\0\0\0bc\0\0",
            "{}",
            records.escape_ascii()
        );
        assert_eq!(found[1].1, b"q");
    }
}

/// What GNU tar itself writes and reads.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test names what it lacks")]
fn gnu_tar_agrees() {
    let version = std::process::Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|out| out.stdout.starts_with(b"tar (GNU")) {
        return eprintln!("skipped: needs GNU tar");
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let run = |args: &[&str]| {
        let tar = std::process::Command::new("tar")
            .args(args)
            .current_dir(dir.path())
            .output();
        let tar = tar.expect("tar");
        assert!(
            tar.status.success() && tar.stderr.is_empty(),
            "{args:?}: {tar:?}"
        );
    };
    let name = "n".repeat(180);
    let mut holes = vec![0; 1 << 20];
    let mut sparse = std::fs::File::create(dir.path().join(&name)).expect("create");
    sparse.set_len(holes.len() as u64).expect("a hole");
    // More pieces than the first header of the old form holds.
    for piece in 0..40 {
        use std::os::unix::fs::FileExt as _;
        sparse
            .write_all_at(b"piece", piece * 20_000)
            .expect("write");
        holes[piece as usize * 20_000..][..5].copy_from_slice(b"piece");
    }
    sparse.flush().expect("flush");
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        run(&[form, &["-Scf", "t.tar", &name]].concat());
        let tar = std::fs::read(dir.path().join("t.tar")).expect("read");
        let found = read(&tar, LAYER).expect("read");
        assert_eq!(found.len(), 1, "{form:?}");
        assert_eq!(found[0].0.path, name.as_bytes(), "{form:?}");
        assert!(found[0].1 == holes, "{form:?}");
    }

    let mut entry = file("é/é", "data");
    entry.0.mtime = -7;
    entry.0.path.push(0xff);
    let path = entry.0.path.clone();
    let (tar, _) = write(
        &[entry, file(&format!("{}x", "long/".repeat(40)), "x")],
        WriterOptions::default(),
    )
    .expect("write");
    std::fs::write(dir.path().join("t.tar"), tar).expect("write");
    run(&["--no-same-owner", "--warning=no-timestamp", "-xf", "t.tar"]);
    use std::os::unix::ffi::OsStrExt as _;
    let out = dir.path().join(std::ffi::OsStr::from_bytes(&path));
    assert_eq!(std::fs::read(&out).expect("extracted"), b"data");
    assert_eq!(rustix::fs::stat(&out).expect("stat").st_mtime, -7);
}

fn unpack(dir: &Path, tar: &[u8], options: UnpackOptions) -> Result<Unpacked, LayerError> {
    let root = std::fs::File::open(dir).expect("open");
    let mut unpacker = Unpacker::new(root.as_fd(), options)?;
    let whiteouts = options.overlay.is_some();
    let mut reader = Reader::new(tar, ReaderOptions { whiteouts, ..LAYER });
    unpacker.unpack(&mut reader)?;
    unpacker.finish()
}

#[test]
fn hostile_archives_stay_inside() {
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("..", raw(b"../x", b'0', b"", b"q"), "`..` in a path"),
        (
            ".. in the middle",
            raw(b"a/../../x", b'0', b"", b"q"),
            "`..` in a path",
        ),
        ("absolute", raw(b"/etc/x", b'0', b"", b"q"), ""),
        (
            "a whiteout of what is outside",
            raw(b"../.wh.x", b'0', b"", b""),
            "`..` in a path",
        ),
        (
            "a file through an absolute link",
            [raw(b"l", b'2', b"/etc", b""), raw(b"l/x", b'0', b"", b"q")].concat(),
            "",
        ),
        (
            "a file through a link upwards",
            [raw(b"l", b'2', b"../..", b""), raw(b"l/x", b'0', b"", b"q")].concat(),
            "",
        ),
        (
            "a file over a link",
            [
                raw(b"l", b'2', b"/etc/passwd", b""),
                raw(b"l", b'0', b"", b"q"),
            ]
            .concat(),
            "",
        ),
        (
            "a directory over a link",
            [
                raw(b"l", b'2', b"/etc", b""),
                raw(b"l/", b'5', b"", b""),
                raw(b"l/x", b'0', b"", b"q"),
            ]
            .concat(),
            "",
        ),
        (
            "a hard link to what is outside",
            raw(b"h", b'1', b"../../etc/passwd", b""),
            "`..` in a path",
        ),
        (
            "a hard link through a link",
            [
                raw(b"l", b'2', b"/etc", b""),
                raw(b"h", b'1', b"l/passwd", b""),
            ]
            .concat(),
            "does not exist",
        ),
        (
            "a hard link to itself",
            raw(b"h", b'1', b"h", b""),
            "to itself",
        ),
        (
            "a link loop",
            [raw(b"l", b'2', b"l", b""), raw(b"l/x", b'0', b"", b"q")].concat(),
            "open",
        ),
        (
            "a file below a file",
            [raw(b"f", b'0', b"", b"q"), raw(b"f/x", b'0', b"", b"q")].concat(),
            "not a directory",
        ),
        ("a forged removal", raw(b"n", b'3', b"", b""), ""),
        ("no name", raw(b"/", b'0', b"", b"q"), ""),
    ];
    for (name, tar, says) in cases {
        for userxattr in [None, Some(true)] {
            let outer = tempfile::tempdir().expect("tempdir");
            let dir = outer.path().join("a/b");
            std::fs::create_dir_all(&dir).expect("mkdir");
            let overlay = userxattr.map(|userxattr| OverlayFormat { userxattr });
            let chown = Some((
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ));
            let result = unpack(
                &dir,
                tar,
                UnpackOptions {
                    overlay,
                    chown,
                    remember: false,
                },
            );
            // A layer's hard link may be to a file below; that is settled, or refused, later.
            let deferred = overlay.is_some() && *says == "does not exist";
            match result {
                Err(error) if !says.is_empty() => {
                    assert!(error.to_string().contains(says), "{name}: {error}");
                }
                other => assert!(
                    says.is_empty() == other.is_ok() || deferred,
                    "{name}: {other:?}"
                ),
            }
            let outside: Vec<_> = walkdir::WalkDir::new(outer.path())
                .into_iter()
                .map(|item| item.expect("walk").into_path())
                .filter(|path| !path.starts_with(&dir) && !dir.starts_with(path))
                .collect();
            assert_eq!(outside, Vec::<std::path::PathBuf>::new(), "{name}");
            assert!(!Path::new("/etc/x").exists(), "{name}");
            let node = rustix::fs::lstat(dir.join("n"));
            assert!(node.is_err(), "{name}: a device 0:0 is a removal");
        }
    }
}

#[test]
fn overlay_attributes_of_an_archive_are_left_out() {
    let (mut entry, data) = file("f", "x");
    entry
        .xattrs
        .insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
    entry
        .xattrs
        .insert(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec());
    entry
        .xattrs
        .insert(b"security.selinux".to_vec(), b"label".to_vec());
    let (tar, _) = write(&[(entry, data)], WriterOptions::default()).expect("write");
    let dir = tempfile::tempdir().expect("tempdir");
    let chown = Some((
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ));
    let done = unpack(
        dir.path(),
        &tar,
        UnpackOptions {
            overlay: None,
            chown,
            remember: false,
        },
    )
    .expect("unpack");
    assert_eq!(done.skipped.len(), 2, "{:?}", done.skipped);
    let path = dir.path().join("f");
    let mut names = [0u8; 256];
    let n = rustix::fs::llistxattr(&path, &mut names[..]).expect("list");
    assert!(
        !names[..n].windows(7).any(|w| w == b"overlay"),
        "{}",
        names[..n].escape_ascii()
    );
}

#[test]
fn a_listing_of_a_tar_is_that_of_its_directory() {
    let mut entries = vec![
        (entry("d", EntryKind::Directory), Vec::new()),
        file("d/f", "hello"),
        (
            entry(
                "d/h",
                EntryKind::Hardlink {
                    target: b"d/f".to_vec(),
                },
            ),
            Vec::new(),
        ),
        (entry("d-e", EntryKind::Fifo), Vec::new()),
        (
            entry(
                "s",
                EntryKind::Symlink {
                    target: b"d/f".to_vec(),
                },
            ),
            Vec::new(),
        ),
    ];
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    for (entry, _) in &mut entries {
        (entry.uid, entry.gid) = (uid, gid);
        entry.mode = 0o755;
    }
    entries[1]
        .0
        .xattrs
        .insert(b"user.k".to_vec(), b"v".to_vec());
    entries[4].0.mode = 0o777;
    let (tar, _) = write(&entries, WriterOptions::default()).expect("write");
    let dir = tempfile::tempdir().expect("tempdir");
    unpack(dir.path(), &tar, UnpackOptions::default()).expect("unpack");
    let root = std::fs::File::open(dir.path()).expect("open");
    let of_dir = listing::of_dir(root.as_fd()).expect("list");
    let of_tar = listing::of_tar(&tar[..]).expect("list");
    // Another name of a file carries no facts of its own, so its attributes are shown once.
    assert_eq!(of_dir, of_tar);
    assert!(of_tar.starts_with("d dir 755 "), "{of_tar}");
    assert!(
        of_tar.contains("5 2cf24dba5fb0 [user.k]\nd/h link - - - - -> d/f\nd-e fifo"),
        "{of_tar}"
    );
}

/// Many small files, a large one, and one that cannot be compressed.
fn big_tar(changed: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    for i in 0..400 {
        let data = format!("{i} {}", "some text ".repeat(i * 20));
        entries.push(file(&format!("small/{i:04}"), &data));
        if i == 100 {
            entries.push(file("small/0100x", changed));
            entries.push(file("large", &"0123456789abcdef".repeat(200_000)));
        }
    }
    write(&entries, WriterOptions::default()).expect("write").0
}

#[derive(Default)]
struct Memory {
    kept: Mutex<BTreeMap<ContentDigest, Vec<u8>>>,
    hits: Mutex<usize>,
}

impl MemberCache for Memory {
    fn get(&self, key: &ContentDigest) -> Option<Vec<u8>> {
        let found = self.kept.lock().expect("lock").get(key).cloned();
        *self.hits.lock().expect("lock") += usize::from(found.is_some());
        found
    }

    fn put(&self, key: &ContentDigest, member: &[u8], _offset: u64) {
        self.kept
            .lock()
            .expect("lock")
            .insert(*key, member.to_vec());
    }
}

#[test]
fn compressed_bytes_do_not_depend_on_threads_or_cache() {
    let tar = big_tar("one");
    let not_a_tar = vec![b'x'; 3_000_000];
    for input in [&tar[..], &not_a_tar, b"", b"short"] {
        for how in [
            Compression::None,
            Compression::Gzip(6),
            Compression::Zstd(3),
        ] {
            let mut outs = Vec::new();
            let cache = Memory::default();
            for (threads, cached) in [(1, false), (8, false), (3, true), (2, true)] {
                let cache = cached.then_some(&cache as &dyn MemberCache);
                let mut out = Vec::new();
                let options = CompressOptions {
                    threads,
                    cache,
                    known: false,
                };
                let blob =
                    compress_with(&mut &input[..], how, &mut out, options).expect("compress");
                assert_eq!(
                    (blob.digest, blob.size),
                    (Digest::of(&out), out.len() as u64)
                );
                assert_eq!(blob.diff_id, Some(DiffId(Digest::of(input))));
                assert_eq!(blob.diff_size, input.len() as u64);
                outs.push(out);
            }
            assert!(outs.windows(2).all(|pair| pair[0] == pair[1]), "{how:?}");
            let mut back = Vec::new();
            let mut reader = decompressor(&outs[0][..]).expect("decompress");
            reader.read_to_end(&mut back).expect("decompress");
            assert!(back == input, "{how:?}");
        }
    }
}

#[test]
fn a_small_change_compresses_little_again() {
    let cache = Memory::default();
    let options = CompressOptions {
        threads: 2,
        cache: Some(&cache),
        known: true,
    };
    let longer = "two, and longer by more than a block".repeat(40);
    let kept = ["one", &longer].map(|changed| {
        let tar = big_tar(changed);
        let how = Compression::Gzip(6);
        compress_with(&mut &tar[..], how, &mut io::sink(), options).expect("compress");
        cache.kept.lock().expect("lock").len()
    });
    assert!(kept[0] >= 20 && kept[1] - kept[0] <= 2, "{kept:?} members");
    assert!(*cache.hits.lock().expect("lock") >= kept[0] - 2);
}

#[test]
fn every_format_is_told_and_read() {
    let text = b"some text ".repeat(1000);
    let gzip = || {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&text).expect("write");
        out.finish().expect("gzip")
    };
    let bzip2 = || {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(&text).expect("write");
        out.finish().expect("bzip2")
    };
    let xz = || {
        let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
        out.write_all(&text).expect("write");
        out.finish().expect("xz")
    };
    let zstd = || zstd::encode_all(&text[..], 1).expect("zstd");
    for (name, packed) in [
        ("gzip", gzip()),
        ("bzip2", bzip2()),
        ("xz", xz()),
        ("zstd", zstd()),
        ("none", text.clone()),
    ] {
        // Two in a row are one stream.
        let twice = [&packed[..], &packed].concat();
        let mut back = Vec::new();
        let mut reader = decompressor(&twice[..]).expect(name);
        reader.read_to_end(&mut back).expect(name);
        assert!(back == [&text[..], &text].concat(), "{name}");
        if name != "none" {
            let cut = &packed[..packed.len() - 5];
            let mut reader = decompressor(cut).expect(name);
            assert!(
                reader.read_to_end(&mut Vec::new()).is_err(),
                "{name}, cut short"
            );
        }
    }
    let mut out = Vec::new();
    let blob = compress(&mut &text[..], Compression::default(), &mut out).expect("compress");
    assert_eq!(
        blob.media_type,
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
}
