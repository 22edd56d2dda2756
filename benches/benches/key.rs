//! What keys cost: that of a RUN, that of a COPY of many files, and the explanation of a miss, for which the parts are compared.

use std::hint::black_box;
use std::sync::Arc;

use builder_core::cache::{FileEntry, FileList, Key, KeyHasher, explain};
use builder_core::digest::ContentDigest;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 20_000;
const DIRS: usize = 500;
const VARIABLES: usize = 50;

fn run_key(command: &str) -> Key {
    let mut key = KeyHasher::new("bench-run/1");
    key.field("command", command);
    key.field("working directory", "/src");
    for at in 0..VARIABLES {
        key.field(&format!("variable NAME{at}"), format!("/opt/app/{at}/bin"));
    }
    key.field("the step before", ContentDigest::of(b"parent").0);
    key.finish()
}

/// Paths and contents as a walk has them; the file `other` holds something else.
fn files(other: usize) -> Vec<(Vec<u8>, ContentDigest)> {
    let file = |at: usize| {
        let path = format!("d{}/f{at}.txt", at % DIRS).into_bytes();
        let content = ContentDigest::of(format!("{at} {}", at == other).as_bytes());
        (path, content)
    };
    (0..FILES).map(file).collect()
}

fn copy_key(files: &[(Vec<u8>, ContentDigest)]) -> Key {
    let mut list = FileList::default();
    list.group(b"", true);
    list.reserve(files.iter().map(|(path, _)| path.len()));
    for (path, content) in files {
        list.push(&FileEntry {
            path,
            kind: "file",
            mode: Some(0o644),
            content: Some(*content),
            ..FileEntry::default()
        });
    }
    let mut key = KeyHasher::new("bench-copy/1");
    key.field("to", "/app");
    key.files("files", &list.digest(), Arc::new(list));
    key.finish()
}

fn key(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    group.bench_function("of a RUN with 50 variables", |b| {
        b.iter(|| run_key(black_box("make -j2 && make install")));
    });

    let (before, after) = (files(FILES), files(FILES / 2));
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("of a COPY of 20k files", |b| {
        b.iter(|| copy_key(black_box(&before)));
    });
    let (before, after) = (copy_key(&before), copy_key(&after));
    group.bench_function("one file of 20k explained", |b| {
        b.iter(|| explain(black_box(&before.parts), &after.parts).expect("a reason"));
    });
    group.finish();
}

criterion_group!(benches, key);
criterion_main!(benches);
