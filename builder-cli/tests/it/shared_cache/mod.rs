//! Caches that travel: what one store wrote another one finds, fetching what it needs; a bad one costs time and no more.

mod buildkit;
mod everywhere;
mod reasons;
mod trouble;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{self, Ran, Steps};
use crate::front::Front;
use crate::outputs::{Registry, lacks};
use crate::users;

const DOCKERFILE: &str = "\
FROM busybox AS build
WORKDIR /src
COPY source .
RUN tr a-z A-Z < source > made
FROM busybox
RUN echo ready > /ready
COPY --from=build /src/made /made
COPY page /page
RUN cat /made /page > /all
CMD [\"cat\", \"/all\"]
";
const STEPS: usize = 7;
/// Of the image, above its base.
const LAYERS: usize = 4;

/// A registry, with somebody in front who counts.
struct Place {
    temp: TempDir,
    base: &'static Path,
    front: Front,
    _registry: Registry,
}

impl Place {
    fn new(test: &str) -> Option<Place> {
        if lacks(test, &["docker-registry"]) {
            return None;
        }
        let base = fixture::base(test)?;
        let temp = fixture::temp_dir();
        let registry = Registry::start(temp.path());
        let front = Front::start(registry.port);
        let files = [
            ("Dockerfile", DOCKERFILE),
            ("source", "source\n"),
            ("page", "page\n"),
        ];
        fixture::write_files(&temp.path().join("context"), &files);
        Some(Place {
            temp,
            base,
            front,
            _registry: registry,
        })
    }

    fn path(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    /// Builds in the store `store`, the image also written to `<store>.tar`.
    fn build(&self, store: &str, args: &[&str]) -> Ran {
        fixture::run(&mut self.command(store, args)).ok()
    }

    fn command(&self, store: &str, args: &[&str]) -> Command {
        let mut command = fixture::build(self.base, Path::new(&self.path(store)));
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command.args(["--progress=rawjson", "-t", "app"]).args(args);
        command.arg(self.path("context"));
        command
    }

    /// The digest of the image that an archive holds.
    fn archived(&self, store: &str, args: &[&str]) -> (Ran, String) {
        let dest = self.path(&format!("{store}.out"));
        let _ = fs::remove_dir_all(&dest);
        let output = format!("type=oci,tar=false,dest={dest}");
        let ran = self.build(store, &[args, &["-o", &output]].concat());
        let index = read(&Path::new(&dest).join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
        (ran, digest.to_owned())
    }

    /// The image's digest where no cache has a part in it.
    fn uncached(&self) -> String {
        self.archived("uncached", &[]).1
    }

    fn export(&self, store: &str, name: &str, more: &str) -> Ran {
        let to = format!("type=registry,ref={}{more}", self.front.name(name));
        self.build(store, &["--cache-to", &to])
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

/// How many steps were found in a shared cache and used.
fn found(ran: &Ran) -> usize {
    let events = ran.events();
    events.iter().filter(|it| it["event"] == "found").count()
}

fn event(ran: &Ran, name: &str) -> Value {
    let events = ran.events().into_iter();
    let mut of_name = events.filter(|it| it["event"] == name);
    of_name.next().unwrap_or(Value::Null)
}

#[test]
fn an_empty_store_finds_every_step_and_fetches_what_it_needs() {
    const TEST: &str = "shared_cache/empty";
    let Some(place) = Place::new(TEST) else {
        return;
    };
    let written = place.export("a", "team/cache:1", ",mode=max");
    let written = event(&written, "cache_written");
    assert_eq!(written["steps"], STEPS, "{written}");
    let expected = place.uncached();
    place.front.asked();
    let from = place.front.name("team/cache:1");
    for who in users::everybody(TEST, place.temp.path()) {
        let context = who.home.join("context");
        fixture::copy_tree(&place.temp.path().join("context"), &context);
        who.give(&context);
        let dest = who.home.join("out");
        let mut command = who.build(place.base);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command.args(["--progress=rawjson", "-t", "app", "--cache-from", &from]);
        command.arg("-o");
        command.arg(format!("type=oci,tar=false,dest={}", dest.display()));
        let ran = fixture::run(command.arg(&context)).ok();
        let steps = Steps::of(&ran);
        assert_eq!(steps.reran(), Vec::<&str>::new(), "{}", who.name);
        assert_eq!(steps.names.len(), STEPS);
        let index = read(&dest.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str();
        assert_eq!(digest, Some(&*expected), "{}", who.name);
        // The config of the cache, and the layers of the image; none of the other stage.
        assert_eq!(place.front.fetched().len(), 1 + LAYERS, "{}", who.name);
        // Now the store has it all.
        let again = fixture::run(&mut command).ok();
        assert_eq!(Steps::of(&again).reran(), Vec::<&str>::new());
        assert_eq!(place.front.fetched(), Vec::<String>::new(), "{}", who.name);
    }
}

#[test]
fn a_second_export_sends_what_is_new() {
    let Some(place) = Place::new("shared_cache/new") else {
        return;
    };
    let first = event(&place.export("a", "cache:1", ",mode=max"), "cache_written");
    let layers = STEPS;
    // And the config, and what the keys were made from.
    assert_eq!(first["sent"], layers + 2, "{first}");
    let context = place.temp.path().join("context");
    fixture::write_files(&context, &[("page", "another page\n")]);
    let second = event(&place.export("a", "cache:1", ",mode=max"), "cache_written");
    // Two steps stand on the page; and those two.
    assert_eq!(
        (&second["sent"], &second["there"]),
        (&json!(4), &json!(layers - 2))
    );
    let other = event(&place.export("a", "other:1", ",mode=max"), "cache_written");
    assert_eq!((&other["sent"], &other["mounted"]), (&json!(0), &json!(9)));
}

#[test]
fn min_has_the_steps_of_the_image_and_max_has_all() {
    let Some(place) = Place::new("shared_cache/modes") else {
        return;
    };
    for (mode, steps) in [("min", LAYERS), ("max", STEPS)] {
        let more = format!(",mode={mode}");
        let written = event(&place.export("a", mode, &more), "cache_written");
        assert_eq!(written["steps"], steps, "{mode}");
        let ran = place.build(mode, &["--cache-from", &place.front.name(mode)]);
        assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{mode}");
    }
    // Another first step of the image: then the other stage's result must be looked at.
    let context = place.temp.path().join("context");
    let edited = DOCKERFILE.replace("echo ready", "echo well");
    fixture::write_files(&context, &[("Dockerfile", &edited)]);
    for (mode, reran) in [("min", STEPS), ("max", LAYERS)] {
        let store = format!("{mode}-edited");
        let (ran, digest) = place.archived(&store, &["--cache-from", &place.front.name(mode)]);
        assert_eq!(Steps::of(&ran).reran().len(), reran, "{mode}");
        assert_eq!(digest, place.uncached(), "{mode}");
    }
}

#[test]
fn a_changed_step_runs_on_what_is_fetched() {
    let Some(place) = Place::new("shared_cache/changed") else {
        return;
    };
    place.export("a", "cache:1", ",mode=max,compression=zstd");
    let context = place.temp.path().join("context");
    fixture::write_files(&context, &[("page", "another page\n")]);
    let (ran, digest) = place.archived("b", &["--cache-from", &place.front.name("cache:1")]);
    let steps = Steps::of(&ran);
    assert_eq!(
        steps.reran(),
        ["COPY page /page", "RUN cat /made /page > /all"]
    );
    assert_eq!(digest, place.uncached(), "compressed as if it had run here");
    let explained = Command::new(fixture::program())
        .args(["explain", "--root", &place.path("b")])
        .output()
        .expect("explain");
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    let line = format!("found in {}", place.front.name("cache:1"));
    assert!(text.contains(&line), "{text}");
}

#[test]
fn a_directory_is_a_cache_with_tags() {
    let Some(place) = Place::new("shared_cache/local") else {
        return;
    };
    let dir = place.path("cache");
    for (tag, image_manifest) in [("latest", true), ("index", false)] {
        let to = format!(
            "type=local,dest={dir},tag={tag},mode=max,image-manifest={image_manifest},ignore-error=false"
        );
        place.build("a", &["--cache-to", &to]);
    }
    let expected = place.uncached();
    let index = read(&Path::new(&dir).join("index.json"));
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    for (nth, more) in ["", ",tag=index", &format!(",digest={digest}")]
        .iter()
        .enumerate()
    {
        let from = format!("type=local,src={dir}{more}");
        let (ran, found) = place.archived(&format!("b{nth}"), &["--cache-from", &from]);
        assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{more}");
        assert_eq!(found, expected, "{more}");
    }
    let from = format!("type=local,src={dir},tag=none");
    let ran = place.build("c", &["--cache-from", &from]);
    let warnings = Steps::of(&ran).warnings;
    assert!(warnings[0].contains("tag `none`"), "{warnings:?}");
}

#[test]
fn an_index_is_a_cache_at_a_registry_too() {
    let Some(place) = Place::new("shared_cache/index") else {
        return;
    };
    for (tag, oci) in [("oci", true), ("docker", false)] {
        let more =
            format!(",mode=max,image-manifest=false,oci-mediatypes={oci},ignore-error=false");
        place.export("a", tag, &more);
        let ran = place.build(tag, &["--cache-from", &place.front.name(tag)]);
        assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new(), "{tag}");
    }
}

#[test]
fn an_image_carries_its_own_cache() {
    let Some(place) = Place::new("shared_cache/inline") else {
        return;
    };
    let name = place.front.name("team/app:1");
    let output = format!("type=registry,name={name}");
    place.build("a", &["-o", &output, "--cache-to", "type=inline"]);
    let inline = place.archived("a", &["--cache-to", "type=inline"]).1;
    let from = ["--cache-from", &name];
    let (ran, digest) = place.archived("b", &[&from[..], &["--cache-to", "type=inline"]].concat());
    assert_eq!(Steps::of(&ran).reran(), Vec::<&str>::new());
    assert_eq!(digest, inline);
    // Without asking for it, no image carries one; nor does one that stands on such an image.
    let (_, digest) = place.archived("c", &from);
    assert_eq!(digest, place.uncached());
    let context = place.temp.path().join("on-top");
    fixture::write_files(&context, &[("Dockerfile", &format!("FROM {name}\n"))]);
    let store = place.path("d");
    let mut command = fixture::build(place.base, Path::new(&store));
    fixture::run(command.args(["-t", "top"]).arg(&context)).ok();
    let shown = Command::new(fixture::program())
        .args(["save", "--root", &store, "top"])
        .output()
        .expect("save");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && !text.contains("moby.buildkit.cache.v0"));
}

#[test]
fn cache_mounts_go_along_where_that_is_asked() {
    let Some(place) = Place::new("shared_cache/mounts") else {
        return;
    };
    let dockerfile = |command: &str| {
        format!("FROM busybox\nRUN --mount=type=cache,id=packages,target=/c {command}\n")
    };
    let context = place.temp.path().join("context");
    let write = |command: &str| {
        fixture::write_files(&context, &[("Dockerfile", &dockerfile(command))]);
    };
    write(
        "mkdir /c/deep && echo kept > /c/deep/file && ln /c/deep/file /c/link && chown 5:6 /c/link",
    );
    let with = event(
        &place.export("a", "with:1", ",mounts=true"),
        "cache_written",
    );
    let without = event(&place.export("a", "without:1", ""), "cache_written");
    let count = |it: &Value| ["sent", "there", "mounted"].map(|key| it[key].as_u64().unwrap_or(0));
    assert_eq!(
        count(&with).iter().sum::<u64>(),
        count(&without).iter().sum::<u64>() + 1
    );
    write("cat /c/deep/file /c/link && stat -c '%u:%g %h' /c/link && rm -r /c/*");
    let logged = |ran: &Ran| -> String {
        let events = ran.events().into_iter();
        let logs = events.filter(|it| it["event"] == "log");
        logs.map(|it| it["bytes"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    place.front.asked();
    let from = place.front.name("with:1");
    let ran = place.build("b", &["--cache-from", &from]);
    assert_eq!(logged(&ran), "kept\nkept\n5:6 2\n");
    // Only the first use is filled: what a step has emptied since stays so.
    write("ls -A /c");
    let ran = place.build("b", &["--cache-from", &from]);
    assert_eq!(logged(&ran), "");
    let from = place.front.name("without:1");
    let ran = place.build("c", &["--cache-from", &from]);
    assert_eq!(logged(&ran), "");
}

#[test]
fn no_cache_reads_none() {
    let Some(place) = Place::new("shared_cache/off") else {
        return;
    };
    place.export("a", "cache:1", ",mode=max");
    place.front.asked();
    let from = place.front.name("cache:1");
    let ran = place.build("b", &["--no-cache", "--cache-from", &from]);
    assert_eq!(found(&ran), 0);
    assert_eq!(place.front.asked(), Vec::<String>::new());
    // A stage that is made to run runs, and what stands on it is found by what that made.
    let args = ["--no-cache-filter=build", "--cache-from", &from];
    let ran = place.build("c", &args);
    let steps = Steps::of(&ran);
    let reran: BTreeSet<&str> = steps.reran().into_iter().collect();
    let forced = [
        "WORKDIR /src",
        "COPY source .",
        "RUN tr a-z A-Z < source > made",
    ];
    assert_eq!(reran, BTreeSet::from(forced));
}
