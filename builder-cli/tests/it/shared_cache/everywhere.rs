//! The same cache for everybody: on every rung, for every platform of an image, for several builders at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::{LAYERS, Place, STEPS, event, read};
use crate::fixture::{self, Steps};
use crate::users;

#[test]
fn what_one_rung_wrote_each_other_finds() {
    const TEST: &str = "shared_cache/rungs";
    let Some(place) = Place::new(TEST) else {
        return;
    };
    let expected = place.uncached();
    place.export("a", "cache:0", ",mode=max");
    let mut names = vec![place.front.name("cache:0")];
    for who in users::on_every_rung(TEST, place.temp.path()) {
        let context = who.home.join("context");
        fixture::copy_tree(&place.temp.path().join("context"), &context);
        who.give(&context);
        let dest = who.home.join("out");
        let build = |args: &[&str]| {
            let _ = fs::remove_dir_all(&dest);
            let mut command = who.build(place.base);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            command.args(["--progress=rawjson", "-t", "app", "-o"]);
            command.arg(format!("type=oci,tar=false,dest={}", dest.display()));
            let ran = fixture::run(command.args(args).arg(&context)).ok();
            let index = read(&dest.join("index.json"));
            assert_eq!(index["manifests"][0]["digest"], *expected, "{}", who.name);
            let steps = Steps::of(&ran);
            let reran = steps.reran().len();
            assert_eq!(steps.warnings, Vec::<String>::new(), "{}", who.name);
            (ran, reran)
        };
        // What it runs by itself is written to both places; then it finds what those before it wrote.
        let name = place.front.name(&format!("cache:{}", names.len()));
        let dir = who.home.join("cache");
        let to_name = format!("type=registry,ref={name},mode=max,ignore-error=false");
        let to_dir = format!(
            "type=local,dest={},mode=max,ignore-error=false",
            dir.display()
        );
        let (ran, reran) = build(&["--cache-to", &to_name, "--cache-to", &to_dir]);
        assert_eq!(reran, STEPS, "{}", who.name);
        assert_eq!(event(&ran, "cache_written")["steps"], STEPS, "{}", who.name);
        let from_dir = format!("type=local,src={}", dir.display());
        let before = names.last().expect("a name").clone();
        for from in [&before, &name, &from_dir] {
            fs::remove_dir_all(who.store()).expect("remove the store");
            let (_, reran) = build(&["--cache-from", from]);
            assert_eq!(reran, 0, "{}: {from}", who.name);
        }
        names.push(name);
    }
    assert!(names.len() > 1, "nobody could build");
}

#[test]
fn several_platforms_share_a_cache() {
    let Some(place) = Place::new("shared_cache/platforms") else {
        return;
    };
    let dockerfile = "FROM --platform=$BUILDPLATFORM busybox AS build\nARG TARGETARCH\n\
        RUN echo $TARGETARCH > /arch\nFROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n\
        COPY --from=build /arch /arch\nCOPY page /page\n";
    let context = place.temp.path().join("context");
    fixture::write_files(&context, &[("Dockerfile", dockerfile)]);
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let build =
        |store: &str, args: &[&str]| place.archived(store, &[&platforms[..], args].concat());
    let (_, expected) = build("uncached", &[]);
    let name = place.front.name("cache:1");
    let image = place.front.name("image:1");
    let to = format!("type=registry,ref={name},mode=max,ignore-error=false");
    let dir = place.path("cache");
    let to_dir = format!("type=local,dest={dir},mode=max,ignore-error=false");
    let output = format!("type=registry,name={image}");
    let args = [
        "--cache-to",
        &to,
        "--cache-to",
        &to_dir,
        "--cache-to",
        "type=inline",
        "-o",
        &output,
    ];
    place.build("a", &[&platforms[..], &args].concat());
    for (store, from) in [("b", &name), ("c", &format!("type=local,src={dir}"))] {
        let (ran, digest) = build(store, &["--cache-from", from]);
        assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{from}");
        assert_eq!(digest, expected, "{from}");
    }
    // An image carries the steps that its layers are of, each platform's its own: what they stand on need not run.
    let (ran, digest) = build("d", &["--cache-from", &image]);
    assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new());
    assert_eq!(digest, expected);
    // One platform of it.
    let (ran, _) = place.archived("e", &["--platform", "linux/arm64", "--cache-from", &name]);
    assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new());
    fixture::write_files(&context, &[("page", "another page\n")]);
    let (ran, _) = build("f", &["--cache-from", &name]);
    let reran: BTreeSet<String> = Steps::of(&ran)
        .reran()
        .iter()
        .map(|it| (*it).to_owned())
        .collect();
    assert_eq!(reran, BTreeSet::from(["COPY page /page".to_owned()]));
}

#[test]
fn two_builders_at_once_find_the_same() {
    let Some(place) = Place::new("shared_cache/two") else {
        return;
    };
    let expected = place.uncached();
    let dir = place.path("cache");
    place.export("a", "cache:1", ",mode=max");
    let to = format!("type=local,dest={dir},mode=max");
    place.build("a", &["--cache-to", &to]);
    let name = place.front.name("cache:1");
    let to_name = format!("type=registry,ref={name},mode=max");
    let from_dir = format!("type=local,src={dir}");
    for (kind, from, to) in [("registry", &name, &to_name), ("local", &from_dir, &to)] {
        place.front.asked();
        let args = ["--cache-from", from, "--cache-to", to];
        std::thread::scope(|scope| {
            let args = &args;
            let both = ["b", "c"].map(|store| {
                let (place, store) = (&place, format!("{kind}-{store}"));
                scope.spawn(move || place.archived(&store, args))
            });
            for builder in both {
                let (ran, digest) = builder.join().expect("builder");
                assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{kind}");
                assert_eq!(digest, expected, "{kind}");
                // What both write is there already, and nothing of the cache is lost by them.
                let written = event(&ran, "cache_written");
                assert_eq!(
                    (&written["steps"], &written["sent"]),
                    (&json!(STEPS), &json!(0)),
                    "{kind}"
                );
            }
        });
        let fetched = match kind {
            // The config, what the keys were made from, and the layers.
            "registry" => 2 * (2 + LAYERS),
            _ => 0,
        };
        assert_eq!(place.front.fetched().len(), fetched, "{kind}");
        // It is whole: a third one finds everything.
        let (ran, digest) = place.archived(&format!("{kind}-d"), &["--cache-from", from]);
        assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{kind}");
        assert_eq!(digest, expected, "{kind}");
    }
}

#[test]
fn two_builders_of_one_store_fetch_each_layer_once() {
    let Some(place) = Place::new("shared_cache/one-store") else {
        return;
    };
    place.export("a", "cache:1", ",mode=max");
    let from = place.front.name("cache:1");
    place.front.asked();
    let outputs = ["x", "y"].map(|name| format!("type=oci,tar=false,dest={}", place.path(name)));
    std::thread::scope(|scope| {
        let (place, from) = (&place, &from);
        let both = outputs.each_ref().map(|output| {
            scope.spawn(move || place.build("both", &["--cache-from", from, "-o", output]))
        });
        for builder in both {
            let ran = builder.join().expect("builder");
            assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new());
        }
    });
    let mut fetched = place.front.fetched();
    let all = fetched.len();
    fetched.dedup();
    assert_eq!(fetched.len(), 1 + LAYERS);
    // The cache's config may be read by both.
    assert!(all <= fetched.len() + 1, "{all}");
    let index = |name: &str| read(&Path::new(&place.path(name)).join("index.json"));
    assert_eq!(index("x"), index("y"));
}

#[test]
fn an_image_that_carries_no_cache_is_told_of() {
    let Some(place) = Place::new("shared_cache/none") else {
        return;
    };
    let name = place.front.name("team/app:1");
    let output = format!("type=registry,name={name}");
    place.build("a", &["-o", &output]);
    for (tag, platform) in [("1", ""), ("2", "linux/amd64,linux/arm64")] {
        let name = place.front.name(&format!("team/app:{tag}"));
        if !platform.is_empty() {
            let context = place.temp.path().join("context");
            fixture::write_files(
                &context,
                &[("Dockerfile", "FROM scratch\nCOPY page /page\n")],
            );
            let output = format!("type=registry,name={name}");
            place.build("a", &["-o", &output, "--platform", platform]);
        }
        let ran = place.build(&format!("b{tag}"), &["--cache-from", &name]);
        let warnings = Steps::of(&ran).warnings;
        let told = format!("{name} is an image that carries no cache");
        let hint = "--cache-to type=inline";
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert!(
            warning.contains(&told) && warning.contains(hint),
            "{warning}"
        );
    }
}
