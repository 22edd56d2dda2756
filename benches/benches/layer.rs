//! What a layer costs: written, unpacked, compressed, found in an upper directory.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::os::fd::AsFd;

use benches::text;
use builder_core::layer::compression::{CompressOptions, Compression, compress_with};
use builder_core::layer::{
    Entry, EntryKind, OverlayFormat, Reader, ReaderOptions, UnpackOptions, Unpacker, Writer,
    WriterOptions,
};
use builder_core::snapshot::changes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 20_000;
const DIRS: usize = 500;

fn entry(path: String, kind: EntryKind) -> Entry {
    Entry {
        path: path.into_bytes(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        xattrs: BTreeMap::new(),
    }
}

fn entries(size: u64) -> Vec<Entry> {
    let mut all = Vec::new();
    for dir in 0..DIRS {
        all.push(entry(format!("d{dir}"), EntryKind::Directory));
        for file in 0..FILES / DIRS {
            all.push(entry(format!("d{dir}/f{file}"), EntryKind::File { size }));
        }
    }
    all
}

fn tar(size: u64) -> Vec<u8> {
    let data = text(1, size as usize);
    let mut writer = Writer::new(Vec::new(), WriterOptions::default());
    for entry in entries(size) {
        let data = if entry.size() > 0 { &data[..] } else { &[] };
        writer.append(&entry, &mut &data[..]).expect("append");
    }
    writer.finish().expect("finish").0
}

fn unpack(tar: &[u8], dir: &std::path::Path) {
    let root = std::fs::File::open(dir).expect("open");
    let overlay = Some(OverlayFormat { userxattr: true });
    let options = UnpackOptions {
        overlay,
        chown: None,
        remember: false,
    };
    let mut unpacker = Unpacker::new(root.as_fd(), options).expect("unpacker");
    let mut reader = Reader::new(tar, ReaderOptions::default());
    unpacker.unpack(&mut reader).expect("unpack");
    unpacker.finish().expect("finish");
}

fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer");
    group.sample_size(10);

    let large = 20_000;
    let all = entries(large);
    let data = text(1, large as usize);
    group.throughput(Throughput::Bytes(large * FILES as u64));
    group.bench_function("write 20k files, 400 MB", |b| {
        b.iter(|| {
            let mut writer = Writer::new(std::io::sink(), WriterOptions::default());
            for entry in &all {
                let data = if entry.size() > 0 { &data[..] } else { &[] };
                writer.append(entry, &mut &data[..]).expect("append");
            }
            black_box(writer.finish().expect("finish").1)
        });
    });

    let mut text_tar = Writer::new(Vec::new(), WriterOptions::default());
    for i in 0..1500 {
        let data = text(i, 20_000);
        let kind = EntryKind::File { size: 20_000 };
        text_tar
            .append(&entry(format!("f{i}"), kind), &mut &data[..])
            .expect("append");
    }
    let text_tar = text_tar.finish().expect("finish").0;
    group.throughput(Throughput::Bytes(text_tar.len() as u64));
    for (name, how, threads) in [
        ("gzip, 1 thread", Compression::default(), 1),
        ("gzip, 2 threads", Compression::default(), 2),
        ("zstd -3, 2 threads", Compression::Zstd(3), 2),
    ] {
        group.bench_function(name, |b| {
            let options = CompressOptions {
                threads,
                cache: None,
                known: false,
            };
            b.iter(|| {
                let mut out = std::io::sink();
                compress_with(&mut &text_tar[..], how, &mut out, options).expect("compress")
            });
        });
    }

    let small = tar(200);
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("read 20k entries", |b| {
        b.iter(|| {
            let mut reader = Reader::new(&small[..], ReaderOptions::default());
            while let Some(entry) = reader.next().expect("entry") {
                black_box(entry);
            }
        });
    });
    group.bench_function("unpack 20k files", |b| {
        b.iter_with_large_drop(|| {
            let dir = tempfile::tempdir().expect("tempdir");
            unpack(&small, dir.path());
            dir
        });
    });

    let upper = tempfile::tempdir().expect("tempdir");
    unpack(&small, upper.path());
    let lower = tempfile::tempdir().expect("tempdir");
    let fd = std::fs::File::open(upper.path()).expect("open");
    let lowers = [lower.path().to_owned()];
    group.bench_function("changes, 20k new files", |b| {
        b.iter(|| black_box(changes(fd.as_fd(), &lowers, true).expect("changes")));
    });
    group.finish();
}

criterion_group!(benches, layer);
criterion_main!(benches);
