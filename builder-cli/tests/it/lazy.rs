//! What no step looks at is not unpacked, and an output gets what it asked for.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::engines::fake;
use crate::fixture::{self, Ran};
use crate::outputs::{Registry, lacks};
use crate::tree::Image;

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
        // A name is looked up in the image, a destination may be a link of it: a listing tells.
        ("FROM busybox\nCOPY --link --chown=root file /\n", 0),
        ("FROM busybox\nCOPY file /\nWORKDIR /a\nCOPY file b/\n", 0),
        ("FROM busybox\nRUN true\nCOPY file /\n", 1),
        ("FROM busybox\nCOPY --from=busybox /bin/busybox /x\n", 1),
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

/// `builder COMMAND --root STORE …`
fn builder(store: &Path, command: &str, arguments: &[&str]) -> Ran {
    let mut builder = Command::new(fixture::program());
    builder
        .arg(command)
        .arg("--root")
        .arg(store)
        .args(arguments);
    fixture::run(&mut builder)
}

/// A registry with `base:1`, of one layer; returns that layer's digest.
fn with_base(dir: &Path) -> (Registry, String) {
    let dockerfile = "FROM scratch\nCOPY Dockerfile /dir/made\n";
    let (registry, layers, _) = with_base_of(dir, dockerfile);
    (registry, layers[0].clone())
}

/// A registry with `base:1`; returns the digests of its layers, and what they are uncompressed.
fn with_base_of(dir: &Path, dockerfile: &str) -> (Registry, Vec<String>, Vec<String>) {
    let registry = Registry::start(dir);
    let context = dir.join("base");
    fixture::write_files(&context, &[("Dockerfile", dockerfile)]);
    let name = format!("127.0.0.1:{}/base:1", registry.port);
    let place = context.display().to_string();
    let store = dir.join("base-store");
    builder(&store, "build", &["--push", "-t", &name, &place]).ok();
    let out = dir.join("base-out");
    let layout = format!("oci:{}", out.display());
    builder(&store, "copy", &[&format!("docker://{name}"), &layout]).ok();
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
    };
    let index = read(&out.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let manifest = read(&out.join("blobs").join(digest.replace(':', "/")));
    let layers = manifest["layers"].as_array().expect("layers");
    let digest = |layer: &serde_json::Value| layer["digest"].as_str().map(str::to_owned);
    let layers = layers.iter().filter_map(digest).collect();
    (registry, layers, Image::open(&out, None).diff_ids())
}

#[test]
fn layers_of_a_base_stay_where_they_are_until_somebody_needs_them() {
    if lacks("lazy", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let (registry, layer) = with_base(temp.path());
    let host = format!("127.0.0.1:{}", registry.port);
    let before = registry.gets(&layer);
    let gets = || registry.gets(&layer) - before;
    let context = temp.path().join("context");
    let place = context.display().to_string();
    let dockerfile = format!("FROM {host}/base:1\nLABEL a=b\nCOPY --link file /x\n");
    fixture::write_files(&context, &[("Dockerfile", &dockerfile), ("file", "x")]);
    let store = temp.path().join("store");

    // Built, pushed beside the base, shown, renamed, pushed again, built upon: all without the layer.
    let app = format!("{host}/team/app:1");
    builder(&store, "build", &["--push", "-t", &app, &place]).ok();
    assert_eq!(gets(), 0, "build and push");
    for (command, arguments) in [
        ("tag", &[&app, "local:1"][..]),
        ("images", &["--no-trunc"]),
        ("inspect", &["local:1"]),
        ("history", &["local:1"]),
        ("tag", &["local:1", &format!("{host}/other:2")]),
        ("push", &[&format!("{host}/other:2")]),
        ("rmi", &[&format!("{host}/other:2")]),
        ("prune", &["--force", "--all"]),
        ("du", &[]),
        ("build", &["-t", &app, &place]),
    ] {
        builder(&store, command, arguments).ok();
        assert_eq!(gets(), 0, "{command} {arguments:?}");
    }
    let upon = temp.path().join("upon");
    fixture::write_files(&upon, &[("Dockerfile", "FROM local:1\nENV C=d\n")]);
    let upon = upon.display().to_string();
    builder(&store, "build", &["-t", "upon:1", &upon]).ok();
    assert_eq!(gets(), 0, "FROM an image that is here in part");
    let fresh = temp.path().join("fresh");
    builder(&fresh, "pull", &[&app]).ok();
    assert_eq!(gets(), 1, "what was pushed is whole");

    // An archive holds it: it is fetched, once.
    let archive = temp.path().join("saved.tar").display().to_string();
    builder(&store, "save", &["-o", &archive, "upon:1"]).ok();
    assert_eq!(gets(), 2);
    builder(&store, "save", &["-o", &archive, "upon:1"]).ok();
    assert_eq!(gets(), 2);
    builder(&temp.path().join("loaded"), "load", &["-i", &archive]).ok();
}

#[test]
fn an_engine_is_asked_before_layers_of_a_base_are_fetched_for_it() {
    if lacks("lazy/engine", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let mut noise = vec![0; 400_000];
    let mut random = fs::File::open("/dev/urandom").expect("random bytes");
    random.read_exact(&mut noise).expect("random bytes");
    fs::create_dir(dir.join("base")).expect("mkdir");
    for (name, bytes) in [("one", &noise[..]), ("two", &noise[50_000..])] {
        fs::write(dir.join("base").join(name), bytes).expect("write");
    }
    let dockerfile = "FROM scratch\nCOPY one /\nCOPY two /\n";
    let (registry, layers, diff_ids) = with_base_of(dir, dockerfile);
    let context = dir.join("context");
    let dockerfile = format!(
        "FROM 127.0.0.1:{}/base:1\nCOPY --link file /x\n",
        registry.port
    );
    fixture::write_files(&context, &[("Dockerfile", &dockerfile), ("file", "x")]);
    let place = context.display().to_string();
    for (case, podman, held, takes, fetched) in [
        ("all", false, 2, true, [0, 0]),
        ("some", false, 1, true, [0, 1]),
        ("none", false, 0, true, [1, 1]),
        ("podman", true, 1, true, [0, 1]),
        // Layers that went away in between.
        ("lost", false, 1, false, [1, 1]),
    ] {
        let before: Vec<usize> = layers.iter().map(|it| registry.gets(it)).collect();
        let socket = dir.join(format!("{case}.sock"));
        // version, info, list, the image of that name, the load; and once more where it was refused
        let requests = if takes { 5 } else { 6 };
        let shown = diff_ids[..held].to_vec();
        let engine = fake(&socket, requests, move |head, _| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            match path {
                "/version" if podman => r#"{"Components":[{"Name":"Podman Engine"}]}"#.to_owned(),
                "/images/json" => "[]".to_owned(),
                "/images/app:1/json" => {
                    serde_json::json!({"RootFS": {"Layers": shown}}).to_string()
                }
                path if path.starts_with("/images/load") && !takes => {
                    r#"{"error":"no such layer"}"#.to_owned()
                }
                _ => "{}".to_owned(),
            }
        });
        let mut command = Command::new(fixture::program());
        command
            .args(["build", "--load", "-t", "app:1", &place, "--root"])
            .arg(dir.join(format!("store-{case}")))
            .env("DOCKER_HOST", format!("unix://{}", socket.display()));
        let ran = fixture::run(&mut command);
        let sent = format!("({} of 3 layers sent)", 3 - held);
        match takes {
            true => assert!(ran.ok().stderr.contains(&sent), "{case}"),
            false => assert!(ran.stderr.contains("no such layer"), "{}", ran.stderr),
        }
        engine.join().expect("the engine");
        let gets = layers.iter().map(|it| registry.gets(it));
        let gets: Vec<usize> = gets.zip(before).map(|(now, then)| now - then).collect();
        assert_eq!(gets, fetched, "{case}");
    }
}

#[test]
fn a_layer_that_a_copy_has_listed_is_not_asked_for_again() {
    if lacks("lazy", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let (registry, layer) = with_base(temp.path());
    let before = registry.gets(&layer);
    let name = format!("127.0.0.1:{}/base:1", registry.port);
    let store = temp.path().join("store");
    for (nth, text) in ["one", "two"].into_iter().enumerate() {
        let context = temp.path().join(format!("context-{nth}"));
        let dockerfile = format!("FROM {name}\nCOPY file /dir/\n");
        fixture::write_files(&context, &[("Dockerfile", &dockerfile), ("file", text)]);
        let place = context.display().to_string();
        builder(&store, "build", &["-t", "app", &place]).ok();
        assert_eq!(registry.gets(&layer) - before, 1, "{text}");
    }
    assert_eq!(snapshots(&store), 0);
}

#[test]
fn a_layer_that_has_gone_is_named_with_where_it_was() {
    if lacks("lazy", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let (registry, layer) = with_base(temp.path());
    let host = format!("127.0.0.1:{}", registry.port);
    let context = temp.path().join("context");
    let place = context.display().to_string();
    fixture::write_files(
        &context,
        &[("Dockerfile", &format!("FROM {host}/base:1\nENV A=b\n"))],
    );
    let store = temp.path().join("store");
    builder(&store, "build", &["-t", "local:1", &place]).ok();
    let blob = layer.replace("sha256:", "");
    let kept = temp.path().join("registry/docker/registry/v2/blobs/sha256");
    fs::remove_dir_all(kept.join(&blob[..2]).join(&blob)).expect("remove");

    let second = Registry::start(&fixture_dir(temp.path()));
    let elsewhere = format!("127.0.0.1:{}/app:1", second.port);
    builder(&store, "tag", &["local:1", &elsewhere]).ok();
    let archive = temp.path().join("saved.tar").display().to_string();
    for (command, arguments) in [
        ("save", &["-o", &archive, "local:1"][..]),
        ("push", &[&elsewhere]),
    ] {
        let ran = builder(&store, command, arguments);
        assert_eq!(ran.code, Some(1), "{command}: {}", ran.stderr);
        for said in [layer.as_str(), &format!("{host}/base")] {
            assert!(ran.stderr.contains(said), "{command}: {}", ran.stderr);
        }
    }
    assert!(!Path::new(&archive).exists());
}

/// A directory for another registry.
fn fixture_dir(temp: &Path) -> std::path::PathBuf {
    let dir = temp.join("second");
    fs::create_dir(&dir).expect("mkdir");
    dir
}
