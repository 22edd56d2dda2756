//! Caches that are broken, slow, untrue or gone: they cost time, and never the build or its result.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{DOCKERFILE, Place, read};
use crate::fixture::{self, Steps};
use crate::front::Act;

#[test]
fn a_bad_cache_costs_time_and_no_more() {
    let Some(place) = Place::new("shared_cache/bad") else {
        return;
    };
    place.export("a", "cache:1", ",mode=max");
    let expected = place.uncached();
    let name = place.front.name("cache:1");
    let is_blob = |path: &str| path.contains("/blobs/");
    type Decide = Box<dyn Fn(&str, &str) -> Act + Send>;
    // The first blob that is asked for is the config.
    let behind_config = |act: Act| -> Decide {
        let seen = std::sync::atomic::AtomicUsize::new(0);
        Box::new(move |method, path| {
            let nth = || seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match method == "GET" && is_blob(path) && nth() > 0 {
                true => act,
                false => Act::Pass,
            }
        })
    };
    let on = |wanted: &'static str, act: Act| -> Decide {
        Box::new(move |_, path| match path.contains(wanted) {
            true => act,
            false => Act::Pass,
        })
    };
    let cases: Vec<(&str, Decide, &str)> = vec![
        (
            "manifest-500",
            on("/manifests/", Act::Answer(500)),
            "is not read",
        ),
        (
            "manifest-404",
            on("/manifests/", Act::Answer(404)),
            "is not read",
        ),
        (
            "manifest-silent",
            on("/manifests/", Act::Silence),
            "no answer in 2s",
        ),
        ("all-silent", on("/v2/", Act::Silence), "no answer in 2s"),
        (
            "manifest-cut",
            on("/manifests/", Act::Cut(20)),
            "is not read",
        ),
        ("config-500", on("/blobs/", Act::Answer(500)), "is not read"),
        ("config-cut", on("/blobs/", Act::Cut(20)), "is not read"),
        (
            "layer-404",
            behind_config(Act::Answer(404)),
            "cannot be used",
        ),
        (
            "layer-500",
            behind_config(Act::Answer(500)),
            "cannot be used",
        ),
        ("layer-cut", behind_config(Act::Cut(5)), "cannot be used"),
        (
            "layer-silent",
            behind_config(Act::Silence),
            "cannot be used",
        ),
    ];
    let from = format!("type=registry,ref={name},timeout=2s");
    for (store, decide, warned) in cases {
        place.front.act(decide);
        let (ran, digest) = place.archived(store, &["--cache-from", &from]);
        assert_eq!(digest, expected, "{store}");
        let warnings = Steps::of(&ran).warnings;
        let told = |it: &String| it.contains(&name) && it.contains(warned);
        assert!(warnings.iter().any(told), "{store}: {warnings:?}");
    }
}

/// Writes a document into a layout that is a cache, in place of the config, with what names it.
pub(super) fn rewrite(dir: &Path, change: impl Fn(&mut Value)) {
    let blob = |digest: &str| dir.join("blobs").join(digest.replace(':', "/"));
    let put = |value: &Value| {
        let bytes = value.to_string();
        let digest = format!("sha256:{}", fixture::sha256(bytes.as_bytes()));
        fs::write(blob(&digest), &bytes).expect("write");
        (digest, bytes.len())
    };
    let mut index = read(&dir.join("index.json"));
    let mut manifest = read(&blob(
        index["manifests"][0]["digest"].as_str().expect("top"),
    ));
    let mut config = read(&blob(
        manifest["config"]["digest"].as_str().expect("config"),
    ));
    change(&mut config);
    let (digest, size) = put(&config);
    manifest["config"]["digest"] = json!(digest);
    manifest["config"]["size"] = json!(size);
    let (digest, size) = put(&manifest);
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(size);
    fs::write(dir.join("index.json"), index.to_string()).expect("write");
}

#[test]
fn a_cache_that_lies_about_layers_is_found_out() {
    let Some(place) = Place::new("shared_cache/lies") else {
        return;
    };
    let expected = place.uncached();
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 5] = [
        (
            "swapped",
            |config| {
                let layers = config["builder"]["layers"].as_array_mut().expect("layers");
                let last = layers.len() - 1;
                let blob = layers[last]["blob"].clone();
                layers[last]["blob"] = layers[0]["blob"].take();
                layers[0]["blob"] = blob;
            },
            "as it says",
        ),
        (
            "no-layer",
            |config| {
                let layers = config["builder"]["layers"].as_array_mut().expect("layers");
                for layer in layers {
                    layer["blob"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
                }
            },
            "cannot be used",
        ),
        (
            "out-of-range",
            |config| config["builder"]["steps"][0]["layers"] = json!([99]),
            "",
        ),
        (
            "version",
            |config| config["builder"]["version"] = json!(2),
            "another builder",
        ),
        (
            "not-ours",
            |config| config["builder"] = Value::Null,
            "another builder",
        ),
    ];
    for (store, change, warned) in cases {
        let dir = place.path(&format!("cache-{store}"));
        place.build(
            "a",
            &["--cache-to", &format!("type=local,dest={dir},mode=max")],
        );
        rewrite(Path::new(&dir), change);
        let from = format!("type=local,src={dir}");
        let (ran, digest) = place.archived(store, &["--cache-from", &from]);
        assert_eq!(digest, expected, "{store}");
        let warnings = Steps::of(&ran).warnings;
        let told = warnings.iter().any(|it| it.contains(warned));
        assert!(told || warned.is_empty(), "{store}: {warnings:?}");
    }
}

#[test]
fn what_a_step_stands_on_is_made_again_where_the_cache_is_lost() {
    let Some(place) = Place::new("shared_cache/lost") else {
        return;
    };
    place.export("a", "cache:1", ",mode=max");
    place.build("b", &["--cache-from", &place.front.name("cache:1")]);
    // The store knows of layers that it never fetched; now it needs them, and nobody has them.
    let context = place.temp.path().join("context");
    let edited = DOCKERFILE.replace("echo ready", "echo well");
    fixture::write_files(&context, &[("Dockerfile", &edited)]);
    place.front.act(|_, _| Act::Answer(500));
    let (_, digest) = place.archived("b", &["--cache-from", &place.front.name("cache:1")]);
    assert_eq!(digest, place.uncached());
    let (_, digest) = place.archived("b", &[]);
    assert_eq!(digest, place.uncached());
}

#[test]
fn a_cache_that_cannot_be_written_is_told_of() {
    let Some(place) = Place::new("shared_cache/unwritten") else {
        return;
    };
    let name = place.front.name("cache:1");
    for act in [Act::Answer(500), Act::Answer(403)] {
        place.front.act(move |method, _| match method {
            "POST" | "PUT" | "PATCH" => act,
            _ => Act::Pass,
        });
        let ran = place.export("a", "cache:1", "");
        let warnings = Steps::of(&ran).warnings;
        let told = format!("the cache {name} is not written");
        assert!(warnings.iter().any(|it| it.contains(&told)), "{warnings:?}");
    }
    let to = format!("type=registry,ref={name},ignore-error=true");
    let ran = fixture::run(&mut place.command("a", &["--cache-to", &to, "-q"])).ok();
    let told = format!("WARN: the cache {name} is not written");
    assert!(ran.stderr.starts_with(&told), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let to = format!("type=registry,ref={name},ignore-error=false");
    let ran = fixture::run(&mut place.command("a", &["--cache-to", &to]));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("is not written"), "{}", ran.stderr);
}

#[test]
fn a_directory_that_is_no_cache_is_told_of() {
    let Some(place) = Place::new("shared_cache/odd") else {
        return;
    };
    let expected = place.uncached();
    let odd = |name: &str| {
        let dir = place.path(name);
        fs::create_dir_all(&dir).expect("mkdir");
        dir
    };
    let pipe = odd("pipe");
    let path = Path::new(&pipe).join("index.json");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("fifo");
    let torn = odd("torn");
    fs::write(Path::new(&torn).join("index.json"), "{\"schemaVersion\":2,").expect("write");
    let cases = [
        (pipe, "it is no file"),
        (torn, "not a valid index"),
        (odd("empty"), "No such file"),
        (place.path("nowhere"), "No such file"),
    ];
    for (nth, (dir, warned)) in cases.iter().enumerate() {
        let from = format!("type=local,src={dir}");
        let (ran, digest) = place.archived(&format!("b{nth}"), &["--cache-from", &from]);
        assert_eq!(digest, expected, "{dir}");
        let warnings = Steps::of(&ran).warnings;
        let told = warnings
            .iter()
            .any(|it| it.contains(dir) && it.contains(warned));
        assert!(told, "{dir}: {warnings:?}");
    }
    // What holds something else is not written to.
    let other = odd("other");
    fs::write(Path::new(&other).join("file"), "mine").expect("write");
    let ran = place.build("a", &["--cache-to", &format!("type=local,dest={other}")]);
    let warnings = Steps::of(&ran).warnings;
    assert!(warnings[0].contains("is left as it is"), "{warnings:?}");
    assert_eq!(fs::read_dir(&other).expect("list").count(), 1);
}
