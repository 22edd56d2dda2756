//! What a build pushes, read back by others: an index, an image without a tag.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture;
use crate::outputs::{Registry, lacks, tool};

const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH/\n";

fn build(dir: &Path, arguments: &[&str]) -> fixture::Ran {
    fixture::write_files(&dir.join("context"), &[("Dockerfile", DOCKERFILE)]);
    let mut command = Command::new(fixture::program());
    command
        .args(["build", "--progress=plain", "--root"])
        .arg(dir.join("store"))
        .args(arguments)
        .arg("--metadata-file")
        .arg(dir.join("meta.json"))
        .arg(dir.join("context"))
        .env_remove("SOURCE_DATE_EPOCH");
    fixture::run(&mut command)
}

fn meta(dir: &Path) -> Value {
    let text = std::fs::read(dir.join("meta.json")).expect("metadata");
    serde_json::from_slice(&text).expect("JSON")
}

fn skopeo(arguments: &[&str]) -> Value {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false"]);
    serde_json::from_str(&tool(command.args(arguments))).expect("JSON")
}

#[test]
fn an_index_is_pushed_whole_and_read_by_skopeo_and_podman() {
    if lacks("pushes/index", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = format!("127.0.0.1:{}/team/many", registry.port);
    let platforms = "--platform=linux/amd64,linux/arm64";
    let (one, two) = (format!("{name}:1"), format!("{name}:2"));
    build(dir, &["--push", "-t", &one, "-t", &two, platforms]).ok();
    let digest = meta(dir)["containerimage.digest"].clone();
    for tag in [&one, &two] {
        let found = skopeo(&["--raw", &format!("docker://{tag}")]);
        let entries = found["manifests"].as_array().expect("an index");
        let architectures: Vec<&str> = entries
            .iter()
            .filter_map(|it| it["platform"]["architecture"].as_str())
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
        for architecture in architectures {
            let over = format!("--override-arch={architecture}");
            let found = skopeo(&[&over, &format!("docker://{tag}")]);
            assert_eq!(found["Architecture"], architecture);
            // Of an index, skopeo tells the digest of the index.
            assert_eq!(found["Digest"], digest);
        }
    }
    if lacks("pushes/index: podman", &["podman"]) || !fixture::is_root() {
        return;
    }
    for architecture in ["amd64", "arm64"] {
        let podman = |arguments: &[&str]| {
            let mut command = Command::new("podman");
            command.arg("--root").arg(dir.join("podman"));
            command.arg("--runroot").arg(dir.join("podman-run"));
            command.args(["--storage-driver=vfs"]);
            tool(command.args(arguments))
        };
        podman(&[
            "pull",
            "-q",
            "--tls-verify=false",
            "--arch",
            architecture,
            &one,
        ]);
        let said = podman(&["inspect", "--format", "{{.Architecture}}", &one]);
        assert_eq!(said.trim(), architecture);
    }
}

#[test]
fn metadata_names_what_was_pushed_whatever_stands_before_it() {
    if lacks("pushes/metadata", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = format!("127.0.0.1:{}/team/meta", registry.port);
    let archive = format!("type=oci,dest={}", dir.join("o.tar").display());
    let zstd = "type=registry,compression=zstd,force-compression=true";
    let referrers = "type=registry,oci-artifact=true";
    for (tag, outputs, more) in [
        ("1", [&archive, zstd], None),
        ("2", [zstd, &archive], None),
        ("3", [&archive, referrers], Some("--sbom=true")),
        ("4", [referrers, &archive], Some("--sbom=true")),
    ] {
        let tagged = format!("{name}:{tag}");
        let iid = dir.join("iid");
        let shown = iid.display().to_string();
        let mut arguments = vec!["-t", &tagged, "--iidfile", &shown];
        arguments.extend(outputs.iter().flat_map(|it| ["-o", it]));
        arguments.extend(more);
        build(dir, &arguments).ok();
        let meta = meta(dir);
        let digest = meta["containerimage.digest"].as_str().expect("a digest");
        assert_eq!(meta["image.name"], *tagged);
        assert_eq!(meta["containerimage.descriptor"]["digest"], digest);
        let raw = |name: &str| skopeo(&["--raw", &format!("docker://{name}")]);
        let found = raw(&format!("{name}@{digest}"));
        assert_eq!(found, raw(&tagged), "{tag}");
        // The id is the config's, or the index's, as ever.
        let id = std::fs::read_to_string(iid).expect("an id");
        match more {
            None => assert_eq!(found["config"]["digest"], id),
            Some(_) => assert_eq!(digest, id),
        }
    }
}

#[test]
fn a_push_by_digest_leaves_no_tag() {
    if lacks("pushes/by-digest", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = format!("127.0.0.1:{}/team/app", registry.port);
    let output =
        format!("type=image,name={name},push=true,push-by-digest=true,name-canonical=true");
    let ran = build(dir, &["-o", &output]).ok();
    let meta = meta(dir);
    let digest = meta["containerimage.digest"].as_str().expect("a digest");
    assert!(
        ran.stderr.contains(&format!("pushing {name}@{digest}")),
        "{}",
        ran.stderr
    );
    let found = skopeo(&["--raw", &format!("docker://{name}@{digest}")]);
    assert_eq!(
        found["config"]["digest"],
        meta["containerimage.config.digest"]
    );
    let mut tags = Command::new("skopeo");
    tags.args(["list-tags", "--tls-verify=false"])
        .arg(format!("docker://{name}"));
    let ran = fixture::run(&mut tags);
    let tags: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    assert!(
        tags["Tags"].as_array().is_none_or(Vec::is_empty),
        "{}",
        ran.stdout
    );
}

#[test]
fn files_of_platforms_are_split_as_asked() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let out = dir.join("out");
    let output = |split: &str| format!("type=local,dest={},platform-split={split}", out.display());
    build(dir, &["--platform=linux/arm64", "-o", &output("true")]).ok();
    assert!(out.join("linux_arm64/arm64/Dockerfile").exists());
    build(dir, &["--platform=linux/arm64", "-o", &output("false")]).ok();
    assert!(out.join("arm64/Dockerfile").exists());
    let both = "--platform=linux/arm64,linux/amd64";
    let ran = build(dir, &[both, "-o", &output("false")]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("platform-split=false: the files"),
        "{}",
        ran.stderr
    );
}

/// Runs a command for images on a store of `dir`.
fn on(dir: &Path, store: &str, arguments: &[&str]) -> fixture::Ran {
    let mut command = Command::new(fixture::program());
    command.args(arguments).arg("--root").arg(dir.join(store));
    fixture::run(&mut command)
}

/// Pushes `name` from a store; returns the digest that is told, with what was sent.
#[track_caller]
fn pushed(dir: &Path, store: &str, name: &str) -> (String, String) {
    let ran = on(dir, store, &["push", name]).ok();
    let told = ran.stdout.split("digest: ").nth(1).expect("a digest");
    let (digest, rest) = told.split_once(' ').expect("a size");
    let sent = rest.split_once('(').expect("counts").1;
    (
        digest.to_owned(),
        sent.trim_end().trim_end_matches(')').to_owned(),
    )
}

#[test]
fn an_index_that_is_pulled_or_loaded_whole_is_pushed_whole() {
    if lacks("pushes/whole", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = |tag: &str| format!("127.0.0.1:{}/team/whole:{tag}", registry.port);
    let (first, archive) = (name("1"), dir.join("whole.tar").display().to_string());
    let output = format!("type=oci,dest={archive}");
    let arguments = ["-t", &first, "-o", "type=registry", "-o", &output];
    let more = [
        "--provenance=mode=max",
        "--platform=linux/amd64,linux/arm64",
    ];
    build(dir, &[&arguments[..], &more].concat()).ok();
    let digest = meta(dir)["containerimage.digest"].clone();
    let digest = digest.as_str().expect("a digest");

    on(dir, "pulled", &["pull", "--all-platforms", &first]).ok();
    on(dir, "loaded", &["load", "-i", &archive]).ok();
    for store in ["pulled", "loaded"] {
        let other = name(store);
        on(dir, store, &["tag", &first, &other]).ok();
        let (told, sent) = pushed(dir, store, &other);
        assert_eq!(told, digest, "{store}");
        assert!(sent.starts_with("0 sent, 0 mounted,"), "{store}: {sent}");
        let raw = skopeo(&["--raw", &format!("docker://{other}")]);
        assert_eq!(
            raw["manifests"].as_array().map(Vec::len),
            Some(4),
            "{store}"
        );
    }
    // One platform, where that is asked for, and by `pull` alone.
    on(
        dir,
        "one",
        &["load", "--platform=linux/arm64", "-i", &archive],
    )
    .ok();
    let ran = on(dir, "one", &["inspect", "-f", "{{.Architecture}}", &first]).ok();
    assert_eq!(ran.stdout, "arm64\n");
    on(dir, "one", &["pull", &first]).ok();
    assert_ne!(pushed(dir, "one", &first).0, digest);
}

#[test]
fn a_pull_of_another_platform_than_there_is_warns() {
    if lacks("pushes/platform", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = format!("127.0.0.1:{}/team/one:1", registry.port);
    build(
        dir,
        &["-t", &name, "-o", "type=registry", "--platform=linux/arm64"],
    )
    .ok();
    for (asked, warns) in [
        (&["--platform=linux/arm/v7"][..], true),
        (&["--platform=linux/arm64"], false),
        (&[], false),
    ] {
        let ran = on(dir, "pulled", &[&["pull", &name], asked].concat()).ok();
        let said = ran
            .stderr
            .contains("wanted linux/arm/v7, actual: linux/arm64");
        assert_eq!(said, warns, "{asked:?}: {}", ran.stderr);
    }
}

#[test]
fn what_the_store_keeps_is_pushed_as_a_build_pushes_it() {
    if lacks("pushes/stored", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = |tag: &str| format!("127.0.0.1:{}/team/{tag}", registry.port);
    let attested = ["--provenance=mode=max", "--sbom=true"];
    for (case, output, arguments, pushing) in [
        ("one", "type=registry", &[][..], &[][..]),
        (
            "many",
            "type=registry",
            &["--platform=linux/amd64,linux/arm64"],
            &[],
        ),
        ("said", "type=registry", &attested, &[]),
        (
            "zstd",
            "type=registry,compression=zstd,compression-level=5",
            &attested,
            &["--compression-format=zstd", "--compression-level=5"],
        ),
        (
            "plain",
            "type=registry,compression=uncompressed",
            &[],
            &["--compression-format=uncompressed"],
        ),
    ] {
        // Kept as it is, and pushed compressed, by one build: what it attests has one time.
        let first = name(&format!("{case}:1"));
        build(dir, &[&["-t", &first, "-o", output], arguments].concat()).ok();
        let expected = meta(dir)["containerimage.digest"].clone();
        let other = name(&format!("{case}:2"));
        on(dir, "store", &["tag", &first, &other]).ok();
        let ran = on(dir, "store", &[&["push", &other], pushing].concat()).ok();
        let digest = expected.as_str().expect("a digest");
        assert!(
            ran.stdout.contains(digest),
            "{case}: {} not {digest}",
            ran.stdout
        );
        assert!(
            ran.stdout.contains("(0 sent, 0 mounted,"),
            "{case}: {}",
            ran.stdout
        );
        let raw = skopeo(&["--raw", &format!("docker://{other}")]);
        assert_eq!(
            raw,
            skopeo(&["--raw", &format!("docker://{first}")]),
            "{case}"
        );
    }
    // Kept alone: the first push sends, the second sends nothing, and in the same form.
    let kept = name("kept:1");
    build(dir, &["-t", &kept, "--build-arg=TARGETARCH=kept"]).ok();
    let (first, sent) = pushed(dir, "store", &kept);
    assert!(!sent.starts_with("0 sent"), "{sent}");
    let (second, sent) = pushed(dir, "store", &kept);
    assert_eq!(second, first);
    assert!(sent.starts_with("0 sent, 0 mounted,"), "{sent}");
    let found = skopeo(&["--raw", &format!("docker://{kept}")]);
    assert_eq!(
        found["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let ran = on(
        dir,
        "store",
        &["inspect", "-f", "{{index .RepoDigests 0}}", &kept],
    )
    .ok();
    assert!(ran.stdout.trim().ends_with(&first), "{}", ran.stdout);
    let ran = on(
        dir,
        "store",
        &["push", "--compression-format=zstd:chunked", &kept],
    );
    assert!(
        ran.stderr.contains("unknown compression `zstd:chunked`"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(2));
}

/// Docker's manifest names no zstd: nobody takes one that does.
#[test]
fn a_schema_2_image_that_is_pushed_with_zstd_is_ocis() {
    if lacks("pushes/schema2", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = |tag: &str| format!("127.0.0.1:{}/team/{tag}", registry.port);
    let oci = "application/vnd.oci.image";
    let docker = "application/vnd.docker.distribution.manifest";
    for (case, platforms, kind) in [
        ("one", "linux/amd64", "v2+json"),
        ("many", "linux/amd64,linux/arm64", "list.v2+json"),
    ] {
        let first = name(&format!("{case}:1"));
        let types = "type=registry,oci-mediatypes=false";
        let platforms = format!("--platform={platforms}");
        build(dir, &["-t", &first, "-o", types, &platforms]).ok();
        let raw = |it: &str| skopeo(&["--raw", &format!("docker://{it}")]);
        assert_eq!(raw(&first)["mediaType"], format!("{docker}.{kind}"));
        on(dir, case, &["pull", "--all-platforms", &first]).ok();
        for (codec, expected, says) in [("zstd", oci, true), ("gzip", docker, false)] {
            let other = name(&format!("{case}:{codec}"));
            on(dir, case, &["tag", &first, &other]).ok();
            let format = format!("--compression-format={codec}");
            let ran = on(dir, case, &["push", &format, &other]).ok();
            let said = ran.stderr.contains("with the media types of OCI");
            assert_eq!(said, says, "{case} {codec}: {}", ran.stderr);
            let found = raw(&other);
            let found = found["mediaType"].as_str().expect("a type");
            assert!(found.starts_with(expected), "{case} {codec}: {found}");
            // Who reads it knows all that it names.
            let config = skopeo(&["--override-arch=amd64", &format!("docker://{other}")]);
            assert_eq!(config["Architecture"], "amd64");
        }
    }
    let types = "type=registry,oci-mediatypes=false,compression=zstd";
    let ran = build(dir, &["-t", &name("x:1"), "-o", types]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("use compression=gzip"),
        "{}",
        ran.stderr
    );
}

/// What a repository has besides images is no reason to pull none of them.
#[test]
fn all_tags_are_pulled_without_what_refers_to_them() {
    if lacks("pushes/all tags", &["docker-registry", "skopeo"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let repository = format!("127.0.0.1:{}/team/all", registry.port);
    let name = format!("{repository}:1");
    let output = "type=registry,oci-artifact=true";
    build(dir, &["--sbom=true", "-t", &name, "-o", output]).ok();
    let ran = on(dir, "first", &["pull", "--all-tags", &repository]).ok();
    assert_eq!(ran.stdout.matches("Digest: ").count(), 1, "{}", ran.stdout);
    assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);

    // An artifact with a tag of its own is named, and passed over.
    let index = skopeo(&["--raw", &format!("docker://{name}")]);
    let entries = index["manifests"].as_array().expect("an index");
    let said = entries.iter().find(|it| it["platform"]["os"] == "unknown");
    let digest = said.expect("an attestation")["digest"].as_str();
    let artifact = format!("docker://{repository}@{}", digest.expect("a digest"));
    let mut command = Command::new("skopeo");
    command.args(["copy", "-q", "--insecure-policy"]);
    command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
    tool(command.args([&artifact, &format!("docker://{repository}:note")]));
    let ran = on(dir, "second", &["pull", "--all-tags", &repository]).ok();
    assert_eq!(ran.stdout.matches("Digest: ").count(), 1, "{}", ran.stdout);
    let skipped = format!("skipped: {repository}:note");
    assert!(ran.stderr.contains(&skipped), "{}", ran.stderr);
}
