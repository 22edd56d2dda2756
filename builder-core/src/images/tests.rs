//! Images of a store, without a registry.

use std::collections::BTreeMap;
use std::io::Write;

use super::{ArchiveFormat, Filter, Images, ImagesError, Removed};
use crate::digest::{DiffId, Digest};
use crate::export::Destination;
use crate::image::{Descriptor, History, ImageConfig, Manifest, Platform, Reference, media_type};
use crate::layer::compression::{Compression, compress};
use crate::registry::{Client, ClientOptions};
use crate::store::Store;

struct Place {
    dir: tempfile::TempDir,
    store: Store,
    images: Images,
}

fn name(text: &str) -> Reference {
    text.parse().expect(text)
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("store");
        let client = Client::new(ClientOptions::default());
        Place {
            images: Images::new(store.clone(), client),
            dir,
            store,
        }
    }

    /// Puts an image of one layer with `text` in it; `lie` is a `diff_id` that is wrong.
    fn image(&self, text: &str, seconds: u32, how: Compression, lie: bool) -> Descriptor {
        let blobs = self.store.blobs();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let appended = tar.append_data(&mut header, "file", text.as_bytes());
        appended.expect("append");
        let tar = tar.into_inner().expect("tar");
        let mut out = Vec::new();
        let made = compress(&mut &tar[..], how, &mut out).expect("compress");
        blobs.put(&out).expect("put");
        let mut config = ImageConfig::scratch(&Platform::host());
        config.created = Some(format!("2020-01-01T00:00:{seconds:02}Z"));
        config.diff_ids = vec![match lie {
            true => DiffId(Digest::of(b"a lie")),
            false => DiffId(Digest::of(&tar)),
        }];
        config.history = vec![History {
            created_by: Some(format!("COPY {text}")),
            ..History::default()
        }];
        config.config.labels = BTreeMap::from([("of".to_owned(), text.to_owned())]);
        let bytes = config.to_bytes();
        blobs.put(&bytes).expect("put");
        let layer = Descriptor::new(made.media_type, made.digest, made.size);
        let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
        let manifest = Manifest::new(config, vec![layer], BTreeMap::new());
        blobs.put(&manifest.to_bytes()).expect("put");
        manifest.descriptor()
    }

    fn tagged(&self, names: &[&str], text: &str, seconds: u32) -> Descriptor {
        let top = self.image(text, seconds, Compression::None, false);
        for it in names {
            self.store.tag(&name(it), top.clone()).expect("tag");
        }
        top
    }

    fn names(&self, filters: &[&str]) -> Vec<String> {
        let filters: Vec<Filter> = filters.iter().map(|it| it.parse().expect(it)).collect();
        let rows = self.images.list(&filters).expect("list").rows;
        rows.iter()
            .map(|row| {
                row.name
                    .as_ref()
                    .map_or("<none>".to_owned(), Reference::familiar)
            })
            .collect()
    }
}

#[test]
fn images_are_found_listed_and_filtered() {
    let place = Place::new();
    place.tagged(&["a:1", "x.io/a:1"], "one", 1);
    place.tagged(&["b:1"], "two", 2);
    let nameless = place.image("three", 3, Compression::None, false);
    place.store.keep(&nameless).expect("keep");
    assert_eq!(place.names(&[]), ["<none>", "b:1", "a:1", "x.io/a:1"]);
    for (filters, expected) in [
        (&["dangling=true"][..], &["<none>"][..]),
        (&["dangling=false", "label=of=two"], &["b:1"]),
        (&["label=of"], &["<none>", "b:1", "a:1", "x.io/a:1"]),
        (&["reference=a"], &["a:1"]),
        (&["reference=*/a"], &["x.io/a:1"]),
        (&["reference=?:1"], &["b:1", "a:1"]),
        (&["before=b:1"], &["a:1", "x.io/a:1"]),
        (&["since=b:1"], &["<none>"]),
    ] {
        assert_eq!(place.names(filters), expected, "{filters:?}");
    }
    let absent = place.images.list(&["before=c".parse().expect("filter")]);
    assert!(matches!(absent, Err(ImagesError::NoSuchImage { .. })));
    let one = place.images.find("a:1").expect("a:1");
    let id = one.id();
    for text in [
        id.to_string(),
        id.hex(),
        id.hex()[..12].to_owned(),
        one.top.digest.to_string(),
    ] {
        assert_eq!(place.images.find(&text).expect("found").id(), id, "{text}");
    }
    assert_eq!(one.repo_tags(), ["a:1", "x.io/a:1"]);
    for text in ["c", "a:2", "sha256:ffffffffffff", "zz"] {
        let error = place.images.find(text).expect_err(text);
        assert!(matches!(error, ImagesError::NoSuchImage { .. }), "{error}");
    }
    let history = one.history();
    assert_eq!(
        (history.len(), history[0].created_by.as_str()),
        (1, "COPY one")
    );
    assert_eq!(one.inspect()["Config"]["Labels"]["of"], "one");
    // What cannot be read comes apart.
    let b = place.images.find("b:1").expect("b");
    place.store.blobs().remove(&b.id()).expect("remove");
    let listing = place.images.list(&[]).expect("list");
    assert_eq!((listing.rows.len(), listing.broken.len()), (3, 1));
    assert_eq!(listing.broken[0].0, "b:1");
}

#[test]
fn names_are_given_and_taken() {
    let place = Place::new();
    place.tagged(&["a:1"], "one", 1);
    let images = &place.images;
    images.tag("a:1", &name("b:2")).expect("tag");
    let pinned = name("c").with_digest(Digest::of(b"x"));
    let error = images.tag("a:1", &pinned).expect_err("a digest");
    assert!(matches!(error, ImagesError::DigestAsTag { .. }), "{error}");
    let id = images.find("b:2").expect("b").id();
    let error = images.remove(&id.hex(), false).expect_err("two names");
    assert!(error.to_string().contains("a:1, b:2"), "{error}");
    let removed = images.remove("b:2", false).expect("remove");
    assert_eq!(removed, [Removed::Untagged(name("b:2"))]);
    let removed = images.remove("a:1", false).expect("remove");
    assert_eq!(
        removed,
        [Removed::Untagged(name("a:1")), Removed::Deleted(id)]
    );
    assert!(images.remove("a:1", false).is_err());
    place.tagged(&["a:1", "b:1"], "one", 1);
    assert_eq!(images.remove(&id.hex(), true).expect("remove").len(), 3);
    assert!(place.names(&[]).is_empty());
}

#[test]
fn archives_are_written_and_read() {
    let place = Place::new();
    place.tagged(&["a:1", "a:2"], "one", 1);
    let zipped = place.image("two", 2, Compression::Gzip(6), false);
    place.store.tag(&name("x.io/b:1"), zipped).expect("tag");
    let path = |name: &str| place.dir.path().join(name);
    let wanted = ["a:1", "a:2", "x.io/b:1"].map(str::to_owned);
    for (format, file) in [
        (ArchiveFormat::Docker, "docker.tar"),
        (ArchiveFormat::Oci, "oci.tar"),
    ] {
        let out = path(file);
        let saved = place.images.save(&wanted, format, Destination::File(&out));
        saved.expect("save");
        let bytes = std::fs::read(&out).expect("read");
        let gz = path(&format!("{file}.gz"));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&bytes).expect("gzip");
        std::fs::write(&gz, encoder.finish().expect("gzip")).expect("write");
        let zst = zstd::encode_all(&bytes[..], 1).expect("zstd");
        std::fs::write(path(&format!("{file}.zst")), zst).expect("write");
        for suffix in ["", ".gz", ".zst"] {
            let other = Place::new();
            let file = path(&format!("{file}{suffix}"));
            let mut stream = std::fs::File::open(&file).expect("open");
            let loaded = match suffix {
                "" => other.images.load(&file, None),
                _ => other.images.load_stream(&mut stream, None),
            };
            assert_eq!(loaded.expect("load").len(), 2, "{}", file.display());
            assert_eq!(other.names(&[]), ["x.io/b:1", "a:1", "a:2"]);
            other.store.blobs().verify_all().expect("verify");
            let (ours, theirs) = (place.images.find("a:1"), other.images.find("a:1"));
            assert_eq!(ours.expect("ours").id(), theirs.expect("theirs").id());
        }
    }
    // By its id: no names are written, whatever it has.
    let (out, id) = (
        path("id.tar"),
        place.images.find("a:1").expect("found").id(),
    );
    for (wanted, names) in [(&[id.hex()][..], 0), (&["a:1".to_owned(), id.hex()], 1)] {
        let saved = place
            .images
            .save(wanted, ArchiveFormat::Docker, Destination::File(&out));
        saved.expect("save");
        let loaded = Place::new().images.load(&out, None).expect("load");
        assert_eq!((loaded[0].id, loaded[0].names.len()), (id, names));
    }
    let error = place.images.load_stream(&mut &b"no archive"[..], None);
    let text = error.expect_err("no archive").to_string();
    assert!(text.starts_with("standard input is neither"), "{text}");
    // One that has no names.
    let nameless = place.image("three", 3, Compression::None, false);
    place.store.keep(&nameless).expect("keep");
    let id = place
        .images
        .find(&nameless.digest.to_string())
        .expect("found")
        .id();
    let out = path("nameless.tar");
    let saved = place
        .images
        .save(&[id.hex()], ArchiveFormat::Docker, Destination::File(&out));
    saved.expect("save");
    let other = Place::new();
    let loaded = other.images.load(&out, None).expect("load");
    assert_eq!((loaded[0].id, loaded[0].names.len()), (id, 0));
    assert_eq!(other.names(&[]), ["<none>"]);
    assert_eq!(
        other.images.remove(&id.hex(), false).expect("remove"),
        [Removed::Deleted(id)]
    );
}

#[test]
fn lies_in_archives_are_refused() {
    let place = Place::new();
    let lie = place.image("one", 1, Compression::Gzip(6), true);
    place.store.tag(&name("lie:1"), lie).expect("tag");
    let out = place.dir.path().join("lie.tar");
    let saved = place.images.save(
        &["lie:1".to_owned()],
        ArchiveFormat::Oci,
        Destination::File(&out),
    );
    saved.expect("save");
    let other = Place::new();
    let error = other.images.load(&out, None).expect_err("a lie");
    assert!(matches!(error, ImagesError::WrongDiffId { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&Digest::of(b"a lie").to_string()), "{text}");
    assert!(other.names(&[]).is_empty());
    let left = other.store.blobs().list().expect("list");
    assert_eq!(left, [], "nothing of it stays");
    // The same where the layer is here already, and right for another image; that one stays whole.
    let truth = place.image("one", 1, Compression::Gzip(6), false);
    place.store.tag(&name("truth:1"), truth).expect("tag");
    let good = place.dir.path().join("truth.tar");
    let truth = ["truth:1".to_owned()];
    let saved = place
        .images
        .save(&truth, ArchiveFormat::Oci, Destination::File(&good));
    saved.expect("save");
    let loaded = other.images.load(&good, None);
    loaded.expect("the truth");
    let error = other.images.load(&out, None);
    let error = error.expect_err("a lie about a layer that is here");
    assert!(matches!(error, ImagesError::WrongDiffId { .. }), "{error}");
    let again = other.dir.path().join("again.tar");
    let saved = other
        .images
        .save(&truth, ArchiveFormat::Oci, Destination::File(&again));
    saved.expect("the good image is whole");
    let zstd = place.image("one", 1, Compression::Zstd(3), false);
    place.store.tag(&name("z:1"), zstd).expect("tag");
    let saved = place.images.save(
        &["z:1".to_owned()],
        ArchiveFormat::Docker,
        Destination::File(&out),
    );
    assert!(saved.expect_err("zstd").to_string().contains("zstd"));
    let error = other
        .images
        .load(place.dir.path(), None)
        .expect_err("no layout");
    assert!(
        error.to_string().contains("neither an OCI layout"),
        "{error}"
    );
}
