//! What no step looks at is not unpacked, and an output gets what it asked for.

use std::fs;
use std::path::Path;

use crate::fixture;

fn snapshots(store: &Path) -> usize {
    fs::read_dir(store.join("snapshots")).map_or(0, |items| items.count())
}

#[test]
fn a_base_that_no_step_sees_is_not_unpacked() {
    let Some(base) = fixture::base("lazy") else {
        return;
    };
    let temp = fixture::temp_dir();
    for (nth, (dockerfile, expected)) in [
        ("FROM busybox\nENV A=1\n", 0),
        ("FROM busybox\nCOPY --link file /\n", 0),
        ("FROM busybox\nCOPY --link --chown=5:6 file /a/b/\n", 0),
        // A name is looked up in the image, a destination may be a link of it.
        ("FROM busybox\nCOPY --link --chown=root file /\n", 1),
        ("FROM busybox\nCOPY file /\n", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let context = temp.path().join(format!("context-{nth}"));
        fixture::write_files(&context, &[("Dockerfile", dockerfile), ("file", "x")]);
        let store = temp.path().join(format!("store-{nth}"));
        fixture::run(fixture::build(base, &store).arg(&context)).ok();
        assert_eq!(snapshots(&store), expected, "{dockerfile}");
    }
}

#[test]
fn forced_compression_reaches_the_layers_of_a_base() {
    let Some(base) = fixture::base("lazy") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = temp.path().join("context");
    let files = [("Dockerfile", "FROM busybox\nCOPY file /\n"), ("file", "x")];
    fixture::write_files(&context, &files);
    let store = temp.path().join("store");
    let types = |force: &str| {
        let out = temp.path().join(format!("out-{}", force.len()));
        let output = format!(
            "type=oci,tar=false,compression=zstd{force},dest={}",
            out.display()
        );
        fixture::run(
            fixture::build(base, &store)
                .args(["-o", &output])
                .arg(&context),
        )
        .ok();
        let read = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
        };
        let index = read(&out.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
        let manifest = read(&out.join("blobs").join(digest.replace(':', "/")));
        let layers = manifest["layers"].as_array().expect("layers").clone();
        let of = |layer: &serde_json::Value| layer["mediaType"].as_str().map(str::to_owned);
        layers.iter().filter_map(of).collect::<Vec<_>>()
    };
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let plain = types("");
    assert_eq!((plain.len(), plain[1].as_str()), (2, zstd), "{plain:?}");
    assert_eq!(types(",force-compression=true"), [zstd, zstd]);
}
