//! Whatever the way to a compressed layer, its bytes are the same, and it is made once.

use std::io::Write;

use super::*;
use crate::layer::{Entry, EntryKind, Writer, WriterOptions, Written};

const HOW: Compression = Compression::Gzip(6);

/// Forty files of 100 KB; the one called `edited` holds `text`.
fn tar(text: &str) -> Vec<u8> {
    write(Writer::new(Vec::new(), WriterOptions::default()), text).0
}

fn write<W: Write>(mut writer: Writer<W>, text: &str) -> (W, Written) {
    for nth in 0..40u32 {
        let line = match nth {
            17 => text.to_owned(),
            _ => format!("line of file {nth}\n"),
        };
        let data: Vec<u8> = line.bytes().cycle().take(100_000).collect();
        let entry = Entry {
            path: format!("file-{nth:02}").into(),
            kind: EntryKind::File {
                size: data.len() as u64,
            },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1,
            xattrs: std::collections::BTreeMap::new(),
        };
        writer.append(&entry, &mut &data[..]).expect("append");
    }
    writer.finish().expect("finish")
}

struct Bench {
    _dir: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("store");
    Bench { _dir: dir, store }
}

fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::of(tar))
}

fn plain(tar: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER, tar)
}

/// Writes a layer as a step does and asks for it as an output does.
fn stream(store: &Store, tar: &[u8], threads: usize) -> Descriptor {
    let compressor = Compressor::new(store.clone(), [HOW, Compression::None], threads);
    let mut writer = compressor.writer(true).expect("writer");
    for piece in tar.chunks(30_000) {
        writer.write_all(piece).expect("write");
    }
    writer.commit(diff_id(tar)).expect("commit");
    let made = compressor.get(diff_id(tar), &plain(tar), HOW, false);
    made.expect("compressed")
}

/// The same, and tells of the entries beside the bytes.
fn stream_outlined(store: &Store, text: &str, threads: usize) -> Descriptor {
    let compressor = Compressor::new(store.clone(), [HOW, Compression::None], threads);
    let mut out = compressor.writer(true).expect("writer");
    let outline = out.outline();
    let writer = Writer::outlined(out, WriterOptions::default(), outline);
    let (out, written) = write(writer, text);
    out.commit(written.diff_id).expect("commit");
    let blob = Descriptor::new(media_type::OCI_LAYER, written.diff_id.0, written.size);
    let made = compressor.get(written.diff_id, &blob, HOW, false);
    made.expect("compressed")
}

#[test]
fn the_bytes_do_not_depend_on_the_way() {
    let tar = tar("one\n");
    let expected = {
        let Bench { _dir, store } = bench();
        store.blobs().put(&tar).expect("put");
        let late = Compressor::new(store.clone(), [], 1);
        let got = late.get(diff_id(&tar), &plain(&tar), HOW, false);
        got.expect("compressed")
    };
    for threads in [1, 8] {
        let Bench { _dir, store } = bench();
        assert_eq!(stream(&store, &tar, threads), expected, "{threads} threads");
        store.blobs().verify_all().expect("whole");
        // Members of another layer are used again.
        let Bench { _dir, store } = bench();
        stream(&store, &self::tar("two\n"), threads);
        assert_eq!(
            stream(&store, &tar, threads),
            expected,
            "{threads} threads, after another"
        );
        // Of a layer that is told of, too, whether the one before was told of or not.
        for (before, known) in [(None, false), (Some("two\n"), false), (Some("two\n"), true)] {
            let Bench { _dir, store } = bench();
            match before {
                Some(text) if known => _ = stream_outlined(&store, text, threads),
                Some(text) => _ = stream(&store, &self::tar(text), threads),
                None => {}
            }
            let made = stream_outlined(&store, "one\n", threads);
            assert_eq!(made, expected, "{threads} threads, outlined");
            store.blobs().verify_all().expect("whole");
        }
        let Bench { _dir, store } = bench();
        store.blobs().put(&tar).expect("put");
        let found = Compressor::new(store.clone(), [HOW], threads);
        found.expect(diff_id(&tar), tar.len() as u64);
        let got = found.get(diff_id(&tar), &plain(&tar), HOW, false);
        assert_eq!(
            got.expect("compressed"),
            expected,
            "{threads} threads, found"
        );
    }
}

#[test]
fn members_come_from_the_earlier_blob_and_not_from_a_damaged_one() {
    let (one, two) = (tar("one\n"), tar("two\n"));
    let Bench { _dir, store } = bench();
    let first = stream(&store, &one, 2);
    let known = MemberIndex::open(&store).known.places.len();
    assert!(known >= 3, "{known} members");
    let second = stream(&store, &two, 2);
    let more = MemberIndex::open(&store).known.places.len();
    assert!(
        more > known && more - known <= 2,
        "{known}, then {more} members"
    );
    // A byte of the first blob changes where it lies: what stands there is compressed again.
    let path = store.blobs().path(&first.digest);
    let mut bytes = std::fs::read(&path).expect("read");
    for byte in bytes.iter_mut().skip(1000).step_by(1000) {
        *byte ^= 1;
    }
    std::fs::write(&path, bytes).expect("damage");
    store.blobs().remove(&second.digest).expect("remove");
    assert_eq!(stream_outlined(&store, "two\n", 2), second);
    store.blobs().remove(&second.digest).expect("remove");
    assert_eq!(stream(&store, &two, 2), second);
    store.blobs().remove(&first.digest).expect("remove");
    store.blobs().verify_all().expect("whole");
    // An index whose blob is gone goes, too.
    let index = store.cache_dir().join("members").join(first.digest.hex());
    assert!(index.exists());
    drop(MemberIndex::open(&store));
    assert!(!index.exists());
}

#[test]
fn a_layer_that_is_not_kept_leaves_nothing() {
    let tar = tar("one\n");
    let Bench { _dir, store } = bench();
    let compressor = Compressor::new(store.clone(), [HOW], 2);
    let mut writer = compressor.writer(true).expect("writer");
    writer.write_all(&tar).expect("write");
    drop(writer);
    let mut writer = compressor.writer(false).expect("writer");
    writer.write_all(&tar).expect("write");
    writer.commit(diff_id(&tar)).expect("commit");
    while Arc::strong_count(&compressor.shared) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(store.blobs().list().expect("list"), [diff_id(&tar).0]);
}

#[test]
fn a_foreign_layer_changes_its_codec_by_force_only() {
    let tar = tar("one\n");
    let Bench { _dir, store } = bench();
    let mut zstd = Vec::new();
    let made = compress_with(
        &mut &tar[..],
        Compression::Zstd(3),
        &mut zstd,
        CompressOptions::default(),
    );
    let made = made.expect("compress");
    store.blobs().put(&zstd).expect("put");
    let blob = Descriptor::new(made.media_type, made.digest, made.size);
    let compressor = Compressor::new(store.clone(), [HOW], 0);
    let get = |how, force| compressor.get(diff_id(&tar), &blob, how, force);
    assert_eq!(get(HOW, false).expect("as it is"), blob);
    assert_eq!(get(Compression::Zstd(19), true).expect("as it is"), blob);
    assert_eq!(
        get(HOW, true).expect("gzip").media_type,
        media_type::OCI_LAYER_GZIP
    );
    let plain = get(Compression::None, true).expect("none");
    assert_eq!(
        (plain.media_type.as_str(), plain.digest),
        (media_type::OCI_LAYER, diff_id(&tar).0)
    );
    let lies = compressor.get(diff_id(b"other"), &blob, HOW, true);
    assert!(matches!(lies, Err(ExportError::Damaged { .. })), "{lies:?}");
}

#[test]
fn a_damaged_layer_is_removed() {
    let tar = tar("one\n");
    let Bench { _dir, store } = bench();
    store.blobs().put(&tar).expect("put");
    let mut damaged = tar.clone();
    damaged[5000] ^= 1;
    std::fs::write(store.blobs().path(&diff_id(&tar).0), damaged).expect("damage");
    let compressor = Compressor::new(store.clone(), [HOW], 2);
    let got = compressor.get(diff_id(&tar), &plain(&tar), HOW, false);
    assert!(matches!(got, Err(ExportError::Damaged { .. })), "{got:?}");
    assert!(store.blobs().list().expect("list").is_empty());
}
