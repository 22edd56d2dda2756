//! `builder du` adds up to what the disk says; `builder prune` removes what it should, and builds go on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{self, Ran, Steps};
use crate::users;

const DOCKERFILE: &str = "\
FROM busybox AS made
COPY src /src
RUN --mount=type=cache,target=/cache head -c 300000 /dev/zero > /cache/data && ln /src/a /src/hard
FROM busybox
COPY --from=made /src /srv
RUN echo done > /done
";

fn builder(store: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(fixture::program());
    command.args(args).arg("--root").arg(store);
    fixture::run(&mut command)
}

pub(crate) fn du_json(store: &Path) -> Value {
    let ran = builder(store, &["du", "--format=json"]).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// What `du` says: bytes and inodes.
pub(crate) fn disk(store: &Path) -> (u64, u64) {
    let ask = |args: &[&str]| -> u64 {
        let out = Command::new("du")
            .args(args)
            .arg(store)
            .output()
            .expect("du");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.split_whitespace()
            .next()
            .and_then(|it| it.parse().ok())
            .expect("a number")
    };
    (ask(&["-s", "--block-size=1"]), ask(&["-s", "--inodes"]))
}

#[track_caller]
pub(crate) fn assert_exact(store: &Path) {
    let json = du_json(store);
    let total = &json["total"];
    let said = (total["bytes"].as_u64(), total["inodes"].as_u64());
    let (bytes, inodes) = disk(store);
    assert_eq!(said, (Some(bytes), Some(inodes)), "builder du, and du -s");
    let mut sum = json["other"]["bytes"].as_u64().expect("bytes");
    for item in json["items"].as_array().expect("items") {
        sum += item["bytes"].as_u64().expect("bytes");
    }
    assert_eq!(sum, bytes, "the items add up");
}

fn number(json: &Value, kind: &str) -> u64 {
    json["kinds"][kind]["number"].as_u64().expect(kind)
}

struct Project {
    temp: tempfile::TempDir,
    base: &'static Path,
}

impl Project {
    fn new(test: &str) -> Option<Project> {
        let base = fixture::base(test)?;
        if !fixture::has("du") {
            fixture::skip(test, "du");
            return None;
        }
        let temp = fixture::temp_dir();
        let files = [
            ("Dockerfile", DOCKERFILE),
            ("src/a", "a\n"),
            ("src/b", "b\n"),
        ];
        fixture::write_files(&temp.path().join("context"), &files);
        Some(Project { temp, base })
    }

    fn store(&self) -> std::path::PathBuf {
        self.temp.path().join("store")
    }

    fn build(&self, args: &[&str]) -> Steps {
        let mut command = fixture::build(self.base, &self.store());
        command
            .arg("--progress=rawjson")
            .args(args)
            .arg(self.temp.path().join("context"));
        Steps::of(&fixture::run(&mut command).ok())
    }
}

#[test]
fn du_adds_up_and_prune_keeps_what_named_images_need() {
    let Some(project) = Project::new("prune") else {
        return;
    };
    let store = project.store();
    project.build(&["-t", "kept:1"]);
    assert_exact(&store);
    let first = du_json(&store);
    assert_eq!(number(&first, "cache_mount"), 1);
    fs::write(project.temp.path().join("context/src/a"), "other\n").expect("write");
    project.build(&[]);
    assert_exact(&store);
    let before = du_json(&store);

    let dry = builder(&store, &["prune", "--dry-run", "--format=json"]).ok();
    assert_eq!(
        du_json(&store)["total"],
        before["total"],
        "a dry run removes nothing"
    );
    let freed = builder(&store, &["prune", "--format=json"]).ok();
    let freed: Value = serde_json::from_str(&freed.stdout).expect("JSON");
    let dry: Value = serde_json::from_str(&dry.stdout).expect("JSON");
    assert_eq!(dry["freed"], freed["freed"]);
    assert_exact(&store);
    let after = du_json(&store);
    let bytes = |json: &Value| json["bytes"].as_u64().expect("bytes");
    assert_eq!(
        bytes(&before["total"]) - bytes(&freed["freed"]),
        bytes(&after["total"]),
        "what is freed is what is gone"
    );
    assert_eq!(bytes(&freed["left"]), bytes(&after["total"]));
    assert!(bytes(&freed["freed"]) > 0);
    assert_eq!(
        number(&after, "cache_mount"),
        1,
        "mounts stay without --all"
    );

    // The named image is whole, and what it was made with is still found.
    let image = crate::tree::Image::open(&store, Some("docker.io/library/kept:1"));
    assert_eq!(image.diff_ids().len(), 3);
    fs::write(project.temp.path().join("context/src/a"), "a\n").expect("write");
    let steps = project.build(&[]);
    let reran = steps.reran();
    assert!(!reran.contains(&"RUN echo done > /done"), "{reran:?}");

    builder(&store, &["prune", "--all"]).ok();
    assert_exact(&store);
    let empty = du_json(&store);
    assert_eq!(number(&empty, "cache_mount"), 0);
    assert_eq!(number(&empty, "snapshot"), 0);
    let image = crate::tree::Image::open(&store, Some("docker.io/library/kept:1"));
    assert_eq!(image.diff_ids().len(), 3);
    assert_eq!(project.build(&[]).reran().len(), 4);
}

#[test]
fn filters_and_limits_are_heeded() {
    let Some(project) = Project::new("prune") else {
        return;
    };
    let store = project.store();
    project.build(&[]);
    let all = du_json(&store);
    builder(&store, &["prune", "--all", "--filter", "until=1h"]).ok();
    assert_eq!(
        du_json(&store)["total"],
        all["total"],
        "nothing is an hour old"
    );
    builder(&store, &["prune", "--all", "--keep-storage=10GB"]).ok();
    assert_eq!(
        du_json(&store)["total"],
        all["total"],
        "it is smaller than that"
    );
    builder(&store, &["prune", "--filter", "type=exec.cachemount"]).ok();
    let json = du_json(&store);
    assert_eq!(number(&json, "cache_mount"), 0);
    assert_eq!(number(&json, "blob"), number(&all, "blob"));
    assert!(
        project.build(&[]).reran().is_empty(),
        "a cache mount is no result"
    );
    let half = all["total"]["bytes"].as_u64().expect("bytes") / 2;
    builder(
        &store,
        &["prune", "--all", &format!("--max-used-space={half}")],
    )
    .ok();
    let left = du_json(&store)["total"]["bytes"].as_u64().expect("bytes");
    assert!(left <= half && left > 0, "{left} of {half}");
    assert_exact(&store);
    project.build(&[]);
    let inodes = || du_json(&store)["total"]["inodes"].as_u64().expect("inodes");
    let most = inodes() - 20;
    builder(
        &store,
        &["prune", "--all", &format!("--max-used-inodes={most}")],
    )
    .ok();
    let left = inodes();
    assert!(left <= most && left + 20 > most / 2, "{left} of {most}");
    assert_exact(&store);
    for bad in [
        &["prune", "--filter", "colour=red"][..],
        &["prune", "--filter", "type=nothing"],
        &["prune", "--keep-storage", "many"],
        &["prune", "--keep-duration", "long"],
    ] {
        let ran = builder(&store, bad);
        assert_eq!(ran.code, Some(2), "{bad:?}: {}", ran.stderr);
    }
}

#[test]
fn a_build_holds_the_store_to_its_limits() {
    let Some(project) = Project::new("prune") else {
        return;
    };
    let store = project.store();
    project.build(&["-t", "kept:1", "--gc=off"]);
    let edit = |text: &str| {
        fs::write(project.temp.path().join("context/src/a"), text).expect("write");
    };
    edit("1");
    project.build(&["--gc=max-mounts=100KB,every=0s"]);
    assert_eq!(
        number(&du_json(&store), "cache_mount"),
        0,
        "mounts are bounded"
    );
    // This build's own results and the named image stay; what was there before goes.
    edit("2");
    project.build(&["--gc=max-used-space=1,every=0s"]);
    assert!(project.build(&["--gc=off"]).reran().len() <= 4);
    assert_exact(&store);
    let image = crate::tree::Image::open(&store, Some("docker.io/library/kept:1"));
    assert_eq!(image.diff_ids().len(), 3);
    let mut bad = fixture::build(project.base, &store);
    let ran = fixture::run(
        bad.arg("--gc=sometimes=1")
            .arg(project.temp.path().join("context")),
    );
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn a_cache_mount_has_its_name_and_its_use_counts() {
    let Some(project) = Project::new("prune") else {
        return;
    };
    let store = project.store();
    project.build(&[]);
    let mount = || -> Value {
        let json = du_json(&store);
        let items = json["items"].as_array().expect("items").clone();
        let mut items = items.into_iter();
        items
            .find(|it| it["kind"] == "cache_mount")
            .expect("a mount")
    };
    assert_eq!(mount()["what"], "/cache", "the id is the target");
    let id = mount()["id"].as_str().expect("id").to_owned();
    let lock = fs::File::options()
        .write(true)
        .open(store.join(format!("locks/mount-{id}.lock")))
        .expect("the mount's lock");
    lock.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000))
        .expect("set the time");
    assert_eq!(mount()["last_used"], 1_000_000);
    project.build(&["--no-cache"]);
    assert_ne!(mount()["last_used"], 1_000_000, "it has been used");
    builder(&store, &["prune", "--all", "--keep-duration=1h"]).ok();
    assert_eq!(number(&du_json(&store), "cache_mount"), 1);
}

#[test]
fn everybody_can_prune_what_he_built() {
    let Some(project) = Project::new("prune-users") else {
        return;
    };
    let temp = project.temp.path();
    fixture::set_mode(temp, 0o755);
    for who in users::everybody("prune-users", temp) {
        let mut command = who.build(project.base);
        let tags = ["-t", "kept:1"];
        fixture::run(command.args(tags).arg(temp.join("context"))).ok();
        let ask = |args: &[&str]| -> Value {
            let mut command = who.command(&who.program);
            command.args(args).arg("--format=json").arg("--root");
            let ran = fixture::run(command.arg(who.store())).ok();
            serde_json::from_str(&ran.stdout).expect("JSON")
        };
        let before = ask(&["du"]);
        let (bytes, inodes) = disk(&who.store());
        let total = json!({"bytes": bytes, "inodes": inodes});
        assert_eq!(before["total"], total, "{}", who.name);
        let pruned = ask(&["prune", "--all"]);
        let after = ask(&["du"]);
        assert_eq!(pruned["left"], after["total"], "{}", who.name);
        for kind in ["snapshot", "cache_mount"] {
            assert_eq!(number(&after, kind), 0, "{}: {kind}", who.name);
        }
        let image = crate::tree::Image::open(&who.store(), Some("docker.io/library/kept:1"));
        assert_eq!(image.diff_ids().len(), 3, "{}", who.name);
    }
}
