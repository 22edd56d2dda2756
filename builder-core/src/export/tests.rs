//! What is written is read back: by ourselves, by skopeo and by podman where they are installed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::{Destination, ExportError, Finished, docker_archive, oci_archive, oci_directory};
use crate::digest::{DiffId, Digest};
use crate::image::{Descriptor, ImageConfig, Manifest, Platform, media_type};
use crate::registry::layout;
use crate::store::Store;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    image: Finished,
}

/// An image with one plain and one compressed layer.
fn fixture(names: &[&str]) -> Fixture {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(&dir.path().join("store")).expect("store");
    let tar = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, &b"hello"[..])
            .expect("tar");
        tar.into_inner().expect("tar")
    };
    let (plain, other) = (tar("plain"), tar("other"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&other).expect("gzip");
    let gzip = encoder.finish().expect("gzip");
    let mut config = ImageConfig::scratch(&Platform::host());
    config.diff_ids = vec![DiffId(Digest::of(&plain)), DiffId(Digest::of(&other))];
    let config_bytes = config.to_bytes();
    let layers = vec![
        Descriptor::of(media_type::OCI_LAYER, &plain),
        Descriptor::of(media_type::OCI_LAYER_GZIP, &gzip),
    ];
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config_bytes);
    let manifest = Manifest::new(descriptor.clone(), layers.clone(), BTreeMap::new());
    for bytes in [&plain, &gzip, &config_bytes, &manifest.to_bytes()] {
        store.blobs().put(bytes).expect("put");
    }
    let image = Finished {
        manifest: manifest.descriptor().for_platform(Platform::host()),
        config: descriptor,
        layers,
        names: names.iter().map(|it| it.parse().expect(it)).collect(),
        index: None,
        others: Vec::new(),
    };
    Fixture { dir, store, image }
}

impl Fixture {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Reads an image back into an empty store.
    fn read_back(&self, path: &Path, wanted: Option<&str>) -> layout_result::Result {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("store");
        let found = layout::resolve(path, wanted, &Platform::host(), store.blobs())?;
        store.blobs().verify_all()?;
        Ok(found)
    }
}

mod layout_result {
    pub(super) type Result =
        std::result::Result<crate::registry::Resolved, crate::registry::RegistryError>;
}

#[test]
fn everything_written_reads_back() {
    let it = fixture(&["app:1", "reg.example/team/app:2"]);
    let (oci, docker, tree) = (it.path("oci.tar"), it.path("docker.tar"), it.path("tree"));
    let blobs = it.store.blobs();
    oci_archive(&it.image, blobs, Destination::File(&oci)).expect("oci");
    docker_archive(&it.image, blobs, Destination::File(&docker)).expect("docker");
    oci_directory(&it.image, blobs, &tree).expect("directory");
    oci_directory(&it.image, blobs, &tree).expect("directory again");
    for path in [&oci, &docker, &tree] {
        for wanted in ["app:1", "2", "reg.example/team/app:2"] {
            let found = it.read_back(path, Some(wanted)).expect(wanted);
            assert_eq!(found.manifest_descriptor.digest, it.image.manifest.digest);
            assert_eq!(found.layers, it.image.layers);
        }
        it.read_back(path, None).expect("the only one");
        assert!(it.read_back(path, Some("app:3")).is_err());
    }
    let index = fs::read(tree.join("index.json")).expect("read");
    let theirs = oci_spec::image::ImageIndex::from_reader(&index[..]).expect("index");
    assert_eq!(theirs.manifests().len(), 2);
    assert!(
        String::from_utf8_lossy(&index).contains(r#""org.opencontainers.image.ref.name": "1""#)
    );
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let write = || {
        let it = fixture(&["app:1"]);
        let mut bytes = Vec::new();
        docker_archive(&it.image, it.store.blobs(), Destination::Writer(&mut bytes))
            .expect("docker");
        bytes
    };
    let bytes = write();
    assert_eq!(bytes, write());
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<String> = archive
        .entries()
        .expect("entries")
        .map(|entry| {
            let entry = entry.expect("entry");
            assert_eq!(entry.header().mtime().expect("mtime"), 0);
            entry.path().expect("path").display().to_string()
        })
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(names.len(), 9, "{names:?}");
}

#[test]
fn a_failed_export_leaves_the_earlier_file() {
    let it = fixture(&[]);
    let path = it.path("out.tar");
    fs::write(&path, "earlier").expect("write");
    let blob = it.store.blobs().path(&it.image.layers[1].digest);
    fs::write(&blob, "short").expect("damage");
    let error = oci_archive(&it.image, it.store.blobs(), Destination::File(&path));
    assert!(matches!(error, Err(ExportError::Size { .. })));
    fs::remove_file(&blob).expect("remove");
    let error = oci_archive(&it.image, it.store.blobs(), Destination::File(&path));
    assert!(matches!(error, Err(ExportError::Store(_))));
    assert_eq!(fs::read(&path).expect("read"), b"earlier");
    assert_eq!(fs::read_dir(it.dir.path()).expect("list").count(), 2);
    let mut zstd = it.image.clone();
    zstd.layers[0].media_type = media_type::OCI_LAYER_ZSTD.to_owned();
    let error = docker_archive(&zstd, it.store.blobs(), Destination::File(&path));
    assert!(matches!(error, Err(ExportError::LayerType { .. })));
}

#[test]
fn directories_are_added_to_but_not_taken_over() {
    let it = fixture(&["app:1"]);
    let other = it.path("other");
    fs::create_dir(&other).expect("mkdir");
    fs::write(other.join("precious"), "x").expect("write");
    let error = oci_directory(&it.image, it.store.blobs(), &other);
    assert!(matches!(error, Err(ExportError::NotALayout { .. })));
    let tree = it.path("tree");
    oci_directory(&it.image, it.store.blobs(), &tree).expect("first");
    let mut second = it.image.clone();
    second.names = vec!["app:2".parse().expect("name")];
    oci_directory(&second, it.store.blobs(), &tree).expect("second");
    for wanted in ["app:1", "app:2"] {
        it.read_back(&tree, Some(wanted)).expect(wanted);
    }
}

/// Runs a tool; `false` where it is not installed.
fn runs(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
            true
        }
        Err(_) => {
            skip(program);
            false
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skip(program: &str) {
    eprintln!("skipped: {program} is not installed");
}

#[test]
fn other_tools_read_what_is_written() {
    let it = fixture(&["app:1"]);
    let (oci, docker, tree) = (it.path("oci.tar"), it.path("docker.tar"), it.path("tree"));
    oci_archive(&it.image, it.store.blobs(), Destination::File(&oci)).expect("oci");
    docker_archive(&it.image, it.store.blobs(), Destination::File(&docker)).expect("docker");
    oci_directory(&it.image, it.store.blobs(), &tree).expect("directory");
    it.store
        .tag(&it.image.names[0], it.image.manifest.clone())
        .expect("tag");
    for (at, source) in [
        format!("oci-archive:{}:1", oci.display()),
        format!(
            "docker-archive:{}:docker.io/library/app:1",
            docker.display()
        ),
        format!("oci-archive:{}:1", docker.display()),
        format!("oci:{}:1", tree.display()),
        format!("oci:{}:docker.io/library/app:1", it.store.root().display()),
    ]
    .iter()
    .enumerate()
    {
        let target = format!("dir:{}", it.path(&format!("copy{at}")).display());
        if !runs(
            "skopeo",
            &["copy", "-q", "--insecure-policy", source, &target],
        ) {
            return;
        }
    }
    let (root, run) = (it.path("root"), it.path("run"));
    let at = |path: &Path| path.display().to_string();
    let (root, run, archive) = (at(&root), at(&run), at(&docker));
    let storage = [
        "--root",
        &root,
        "--runroot",
        &run,
        "--storage-driver",
        "vfs",
    ];
    // Without root and without user namespaces it can store nothing.
    let able = Command::new("podman").args(storage).arg("info").output();
    if !able.is_ok_and(|it| it.status.success()) {
        return skip("a podman that works here");
    }
    runs(
        "podman",
        &[&storage[..], &["load", "-q", "-i", &archive]].concat(),
    );
    runs(
        "podman",
        &[
            &storage[..],
            &["image", "exists", "docker.io/library/app:1"],
        ]
        .concat(),
    );
}
