//! `rmi` and `prune` beside images whose parts are easily forgotten: attestations, layers that are still at a registry, layers
//! that a shared cache brought. What has a name goes out whole afterwards, as skopeo sees it; what nobody needs is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{self, Ran, Steps};
use crate::front::{Act, Front};
use crate::outputs::{Registry, lacks, tool};
use crate::prune::{assert_exact, du_json};

const ATTESTED: [&str; 2] = ["--provenance=mode=max", "--sbom=true"];
const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// A registry, and stores beside it.
struct Place {
    temp: TempDir,
    registry: Registry,
}

impl Place {
    fn new(test: &str) -> Option<Place> {
        if lacks(test, &["docker-registry", "skopeo", "du"]) {
            return None;
        }
        let temp = fixture::temp_dir();
        let registry = Registry::start(temp.path());
        Some(Place { temp, registry })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.registry.port)
    }

    fn on(&self, store: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(fixture::program());
        command
            .args(arguments)
            .arg("--root")
            .arg(self.path(store))
            .env_remove("SOURCE_DATE_EPOCH");
        fixture::run(&mut command).ok()
    }

    /// Builds a context of its own, with these files.
    fn build(&self, store: &str, files: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let context = self.path("context");
        let _ = fs::remove_dir_all(&context);
        fixture::write_files(&context, files);
        let context = context.display().to_string();
        self.on(
            store,
            &[&["build"], arguments, &[context.as_str()]].concat(),
        )
    }

    /// Saves and pushes an image, and has skopeo take it from there with all that it stands for. `manifests`: how many that are.
    #[track_caller]
    fn goes_out(&self, store: &str, image: &str, manifests: usize) {
        let archive = self.show("saved.tar");
        self.on(
            store,
            &["save", "--format=oci-archive", "-o", &archive, image],
        );
        let pushed = self.name(&format!("out/{store}:1"));
        self.on(store, &["tag", image, &pushed]);
        self.on(store, &["push", &pushed]);
        self.on(store, &["rmi", &pushed]);
        for source in [
            format!("oci-archive:{archive}"),
            format!("docker://{pushed}"),
        ] {
            let copied = self.path("copied");
            let _ = fs::remove_dir_all(&copied);
            let mut copy = Command::new("skopeo");
            copy.args(["copy", "-q", "--all", "--insecure-policy"]);
            copy.args(["--src-tls-verify=false", &source]);
            tool(copy.arg(format!("dir:{}", copied.display())));
            let items = fs::read_dir(&copied).expect("a directory");
            let names = items.map(|it| it.expect("an entry").file_name());
            let names = names.map(|it| it.to_string_lossy().into_owned());
            let found = names.filter(|it| it.ends_with("manifest.json")).count();
            let top = usize::from(manifests > 1);
            assert_eq!(found, manifests + top, "{source}");
        }
    }

    fn kinds(&self, store: &str) -> (u64, u64) {
        let said = du_json(&self.path(store));
        let number = |kind: &str| said["kinds"][kind]["number"].as_u64().expect(kind);
        (number("blob"), number("snapshot"))
    }
}

/// The blobs that are in a store.
fn blobs(store: &Path) -> BTreeSet<String> {
    let items = fs::read_dir(store.join("blobs/sha256")).expect("blobs");
    let names = items.map(|it| it.expect("an entry").file_name());
    names.map(|it| it.to_string_lossy().into_owned()).collect()
}

/// The blobs that the names in a store stand for, here or not.
fn named(store: &Path) -> BTreeSet<String> {
    let index = fs::read(store.join("index.json")).expect("index.json");
    let mut todo = vec![serde_json::from_slice::<Value>(&index).expect("JSON")];
    let mut found = BTreeSet::new();
    while let Some(document) = todo.pop() {
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        let parts = [
            list("manifests"),
            list("layers"),
            vec![document["config"].clone()],
        ];
        for descriptor in parts.concat() {
            let Some(digest) = descriptor["digest"].as_str() else {
                continue;
            };
            let hex = digest.replace("sha256:", "");
            let kind = descriptor["mediaType"].as_str().unwrap_or_default();
            if kind.contains("manifest") || kind.contains("index") {
                let bytes = fs::read(store.join("blobs/sha256").join(&hex)).expect("a document");
                todo.push(serde_json::from_slice(&bytes).expect("JSON"));
            }
            found.insert(hex);
        }
    }
    found
}

#[test]
fn attestations_stay_and_go_with_their_image() {
    let Some(place) = Place::new("kept/attestations") else {
        return;
    };
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\n";
    let build = |tag: &str| {
        let files = [("Dockerfile", dockerfile), ("file", tag)];
        place.build(
            "store",
            &files,
            &[&["-t", tag, BOTH], &ATTESTED[..]].concat(),
        );
    };
    let store = place.path("store");
    build("kept:1");
    build("gone:1");
    build("kept:1");
    let before = blobs(&store);
    place.on("store", &["rmi", "gone:1"]);
    place.on("store", &["prune", "--force"]);
    assert_exact(&store);
    assert!(blobs(&store).len() < before.len());
    assert_eq!(blobs(&store), named(&store), "prune");
    place.goes_out("store", "kept:1", 4);
    place.on("store", &["prune", "--force", "--all"]);
    assert_exact(&store);
    assert_eq!(blobs(&store), named(&store), "prune --all");
    place.goes_out("store", "kept:1", 4);
    // The last name takes all with it.
    place.on("store", &["rmi", "kept:1"]);
    place.on("store", &["prune", "--force", "--all"]);
    assert_eq!(place.kinds("store"), (0, 0));
}

#[test]
fn layers_that_are_still_at_a_registry_are_found_there() {
    let Some(place) = Place::new("kept/lazy") else {
        return;
    };
    let base = place.name("base:1");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\nCOPY file /\n";
    let files = [("Dockerfile", dockerfile), ("file", "base")];
    place.build("base", &files, &["--push", "-t", &base, BOTH]);
    let base_layers: BTreeSet<String> = {
        place.on("pulled", &["pull", "--all-platforms", &base]);
        blobs(&place.path("pulled"))
    };
    let store = place.path("store");
    let dockerfile = format!("FROM {base}\nCOPY --link file /x\n");
    let build = |tag: &str| {
        let files = [("Dockerfile", dockerfile.as_str()), ("file", tag)];
        // A list of packages would read the layers.
        place.build("store", &files, &["-t", tag, BOTH, "--provenance=true"]);
    };
    build("kept:1");
    build("gone:1");
    for prune in [&["prune", "--force"][..], &["prune", "--force", "--all"]] {
        place.on("store", &["rmi", "--force", "gone:1"]);
        place.on("store", prune);
        assert_exact(&store);
        let (here, named) = (blobs(&store), named(&store));
        assert!(here.is_subset(&named), "{prune:?}: {here:?} {named:?}");
        // Of the base three layers: its second is the same on both platforms.
        let lacking: Vec<&String> = named.difference(&here).collect();
        assert_eq!(lacking.len(), 3, "{prune:?}");
        assert!(lacking.iter().all(|it| base_layers.contains(*it)));
    }
    place.goes_out("store", "kept:1", 4);
    place.on("store", &["prune", "--force", "--all"]);
    assert_eq!(blobs(&store), named(&store), "fetched, and so kept");
    place.on("store", &["rmi", "kept:1"]);
    place.on("store", &["prune", "--force", "--all"]);
    assert_eq!(place.kinds("store"), (0, 0));
    let origins = store.join("cache/origins");
    let left = fs::read_dir(origins).map_or(0, |items| {
        let each = items.flatten().map(|it| fs::read_dir(it.path()));
        each.flatten().map(Iterator::count).sum()
    });
    assert_eq!(left, 0, "where layers of nobody are");
}

#[test]
fn another_compression_reaches_the_layers_of_every_platform() {
    let Some(place) = Place::new("kept/forced") else {
        return;
    };
    let base = place.name("base:1");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\n";
    let files = [("Dockerfile", dockerfile), ("file", "base")];
    place.build("base", &files, &["--push", "-t", &base, BOTH]);
    let app = place.name("app:1");
    let dockerfile = format!("FROM {base}\nCOPY --link file /x\n");
    let files = [("Dockerfile", dockerfile.as_str()), ("file", "x")];
    place.build("store", &files, &["-t", &app, BOTH]);
    place.on("store", &["push", "--compression-format=zstd", &app]);
    let raw = |name: &str| -> Value {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
        let text = tool(skopeo.arg(format!("docker://{name}")));
        serde_json::from_str(&text).expect("JSON")
    };
    for entry in raw(&app)["manifests"].as_array().expect("an index") {
        let digest = entry["digest"].as_str().expect("a digest");
        let manifest = raw(&format!("{}@{digest}", place.name("app")));
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let kinds: Vec<&str> = layers.filter_map(|it| it["mediaType"].as_str()).collect();
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        assert_eq!(kinds, [zstd, zstd], "{}", entry["platform"]);
    }
}

#[test]
fn layers_that_a_shared_cache_brought_are_whole() {
    let Some(place) = Place::new("kept/cache") else {
        return;
    };
    let dockerfile = "FROM scratch AS other\nCOPY file /beside\n\
        FROM scratch\nCOPY file /a\nCOPY --from=other /beside /b\nCOPY --link file /c\n";
    let files = [("Dockerfile", dockerfile), ("file", "x")];
    let (at, dir) = (place.name("cache:1"), place.show("cache"));
    let to_registry = format!("type=registry,ref={at},mode=max");
    let to_dir = format!("type=local,dest={dir},mode=max");
    place.build("first", &files, &["--cache-to", &to_registry]);
    place.build("first", &files, &["--cache-to", &to_dir]);
    let from_dir = format!("type=local,src={dir}");
    for (case, from) in [("from-registry", &at), ("from-directory", &from_dir)] {
        let flags = ["-t", "kept:1", "--provenance=true", "--progress=rawjson"];
        let arguments = [&flags[..], &["--cache-from", from]].concat();
        let reran = |ran: &Ran| Steps::of(ran).reran().len();
        assert_eq!(reran(&place.build(case, &files, &arguments)), 0, "{case}");
        let store = place.path(case);
        for prune in [&["prune", "--force"][..], &["prune", "--force", "--all"]] {
            place.on(case, prune);
            assert_exact(&store);
            // The layers of an image come with the build that finds them.
            assert_eq!(blobs(&store), named(&store), "{case} {prune:?}");
            if !prune.contains(&"--all") {
                let again = place.build(case, &files, &flags);
                assert_eq!(reran(&again), 0, "{case}");
            }
        }
        let _ = fs::rename(&dir, place.path("gone"));
        place.goes_out(case, "kept:1", 2);
        let _ = fs::rename(place.path("gone"), &dir);
        let again = place.build(case, &files, &flags);
        assert_eq!(reran(&again), 4, "{case}: prune --all");
        place.on(case, &["rmi", "kept:1"]);
        place.on(case, &["prune", "--force", "--all"]);
        assert_eq!(place.kinds(case), (0, 0), "{case}");
    }
}

#[test]
fn layers_behind_a_password_are_saved_with_it() {
    if lacks("kept/password", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let path = |name: &str| temp.path().join(name).display().to_string();
    let hash = bcrypt::hash("secret", 4).expect("bcrypt");
    fs::write(path("users"), format!("ada:{hash}\n")).expect("write");
    let users = path("users");
    let auth = format!("auth: {{htpasswd: {{realm: tests, path: {users}}}}}\n");
    let registry = Registry::start_with(temp.path(), &auth);
    let base = format!("127.0.0.1:{}/base:1", registry.port);
    // `ada:secret`
    let keys = format!(
        r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "YWRhOnNlY3JldA=="}}}}}}"#,
        registry.port
    );
    fs::write(path("auth.json"), keys).expect("write");
    let authfile = format!("--authfile={}", path("auth.json"));
    let on = |store: &str, arguments: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.args(arguments).arg("--root").arg(path(store));
        command.env("HOME", temp.path()).env_remove("DOCKER_CONFIG");
        command.env_remove("REGISTRY_AUTH_FILE");
        fixture::run(&mut command)
    };
    for (name, dockerfile) in [
        ("base", "FROM scratch\nCOPY Dockerfile /\n".to_owned()),
        ("app", format!("FROM {base}\nENV A=1\n")),
    ] {
        let context = temp.path().join(name);
        fixture::write_files(&context, &[("Dockerfile", &dockerfile)]);
    }
    let (context, app) = (path("base"), path("app"));
    on(
        "first",
        &["build", &authfile, "--push", "-t", &base, &context],
    )
    .ok();
    on("store", &["build", &authfile, "-t", "app", &app]).ok();
    let archive = path("app.tar");
    let refused = on("store", &["save", "-o", &archive, "app"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("log in"), "{}", refused.stderr);
    on("store", &["save", &authfile, "-o", &archive, "app"]).ok();
}

#[test]
fn a_load_that_fails_leaves_nothing_and_a_pull_goes_on() {
    let Some(place) = Place::new("kept/parts") else {
        return;
    };
    let app = place.name("app:1");
    let archive = place.show("app.tar");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\nCOPY file /\n";
    let files = [("Dockerfile", dockerfile), ("file", "x")];
    let output = format!("type=oci,dest={archive}");
    let flags = [
        "-t",
        &app,
        "--push",
        BOTH,
        "--provenance=true",
        "-o",
        &output,
    ];
    place.build("first", &files, &flags);
    let ask = |store: &str, arguments: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.args(arguments).arg("--root").arg(place.path(store));
        fixture::run(&mut command)
    };

    // The last member but the documents is damaged: all before it has been taken in.
    let good = fs::read(&archive).expect("the archive");
    let mut bad = good.clone();
    let layer = {
        let front = b"\x1f\x8b\x08";
        let at = bad.windows(3).rposition(|it| it == front);
        at.expect("a layer")
    };
    bad[layer + 20] ^= 0xff;
    fs::write(&archive, &bad).expect("write");
    let ran = ask("loaded", &["load", "-i", &archive]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let store = place.path("loaded");
    assert_eq!(blobs(&store), BTreeSet::new(), "{}", ran.stderr);
    fs::write(&archive, &good).expect("write");
    ask("loaded", &["load", "-i", &archive]).ok();
    assert_eq!(blobs(&store), named(&store));

    // A registry that breaks off: what has come stays, and is not asked for again.
    let front = Front::start(place.registry.port);
    let name = front.name("app:1");
    let broken = Mutex::new(None);
    front.act(move |method, path| {
        let is_blob = method == "GET" && path.contains("/blobs/");
        let mut broken = broken.lock().expect("the first blob");
        let is_broken = is_blob && *broken.get_or_insert_with(|| path.to_owned()) == path;
        if is_broken {
            Act::Answer(403)
        } else {
            Act::Pass
        }
    });
    let pull = ["pull", "--all-platforms", &name];
    let ran = ask("pulled", &pull);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    // Besides the index and its four manifests.
    let whole = named(&store).len() - 5;
    let said = format!("what has come is kept ({} of {whole} blobs", whole - 1);
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    let first: BTreeSet<String> = blobs(&place.path("pulled"));
    front.fetched();
    front.act(|_, _| Act::Pass);
    ask("pulled", &pull).ok();
    let again = front.fetched();
    assert_eq!(again.len(), 1, "{again:?}");
    let hex = |it: &String| it.replace("sha256:", "");
    assert!(
        again.iter().all(|it| !first.contains(&hex(it))),
        "{again:?}"
    );
    assert_eq!(blobs(&place.path("pulled")), named(&place.path("pulled")));
}
