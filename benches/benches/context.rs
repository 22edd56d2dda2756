//! What a context of 20,000 files costs before anything is copied: listed, and known by what the files hold.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use benches::text;
use builder_core::context::digests::DigestCache;
use builder_core::context::{LocalTree, Node, NodeRef, Tree};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 20_000;
const DIRS: usize = 500;
const FILE_BYTES: usize = 2_000;

fn make(root: &Path) {
    for dir in 0..DIRS {
        let path = root.join(format!("d{dir}"));
        fs::create_dir(&path).expect("a directory");
        for file in 0..FILES / DIRS {
            let seed = dir * DIRS + file;
            fs::write(path.join(format!("f{file}")), text(seed, FILE_BYTES)).expect("a file");
        }
    }
}

fn list(root: &Path) -> LocalTree {
    LocalTree::walk(root, None, "the build context", None).expect("a walk")
}

fn nodes(tree: &LocalTree) -> Vec<NodeRef> {
    tree.walk(b"").expect("the listing")
}

/// Walks, and asks for the facts of all files.
fn know(root: &Path, cache: &DigestCache) -> usize {
    let tree = list(root);
    let nodes = nodes(&tree);
    let nodes: Vec<&Node> = nodes.iter().map(|node| &**node).collect();
    cache.facts(&tree, &nodes).expect("facts").len()
}

fn context(c: &mut Criterion) {
    let temp = tempfile::tempdir().expect("tempdir");
    let root = temp.path().join("context");
    fs::create_dir(&root).expect("a directory");
    make(&root);
    // Only files older than the clock's grain are remembered.
    std::thread::sleep(Duration::from_millis(200));

    let mut group = c.benchmark_group("context");
    group.sample_size(10);
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("walk 20k files", |b| {
        b.iter(|| black_box(list(&root).len()));
    });
    group.bench_function("walk and digests, 20k files, cold", |b| {
        b.iter(|| know(&root, &DigestCache::in_memory()));
    });

    let file = temp.path().join("digests");
    let cache = DigestCache::load(&file);
    know(&root, &cache);
    cache.save(temp.path(), &|_| true).expect("saved");
    group.bench_function("walk and digests, 20k files, remembered", |b| {
        b.iter(|| know(&root, &DigestCache::load(&file)));
    });
    group.finish();
}

criterion_group!(benches, context);
criterion_main!(benches);
