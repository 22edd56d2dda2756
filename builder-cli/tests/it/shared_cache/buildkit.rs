//! BuildKit imports what we write without an error, and we what it writes; neither gets a hit from the other.

use std::path::Path;
use std::process::Command;

use crate::engine::Engine;
use crate::fixture::{self, Steps};
use crate::outputs::{Registry, lacks, tool};

/// Returns a client that can do BuildKit: a newer one needs a plugin for it.
fn client(engine: &Engine, context: &Path) -> Option<String> {
    let clients = ["docker", "/usr/bin/docker"].into_iter();
    let mut able = clients.filter(|client| {
        let mut command = engine.client(client);
        command.args(["build", "-q"]).arg(context);
        fixture::run(&mut command).code == Some(0)
    });
    able.next().map(str::to_owned)
}

#[test]
fn buildkit_imports_our_caches_and_we_import_its() {
    const TEST: &str = "shared_cache/buildkit";
    if lacks(TEST, &["docker-registry", "dockerd", "docker"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(TEST, "root");
    }
    let temp = fixture::temp_dir();
    let context = temp.path().join("context");
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY a /a\nCOPY b /b\n"),
        ("a", "a"),
        ("b", "b"),
    ];
    fixture::write_files(&context, &files);
    let engine = match Engine::docker_in(temp.path()) {
        Ok(engine) => engine,
        Err(why) => return fixture::skip(TEST, &format!("a dockerd that starts: {why}")),
    };
    let Some(client) = client(&engine, &context) else {
        return fixture::skip(TEST, "a docker client that can do BuildKit");
    };
    let registry = Registry::start(temp.path());
    let name = |tag: &str| format!("127.0.0.1:{}/cache:{tag}", registry.port);
    let builder = |store: &str, args: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.args(["build", "--progress=rawjson", "--root"]);
        command
            .arg(temp.path().join(store))
            .args(args)
            .arg(&context);
        fixture::run(&mut command).ok()
    };
    let (image, manifest, index) = (name("image"), name("manifest"), name("index"));
    let output = format!("type=registry,name={image}");
    let to = |name: &str, is_manifest: bool| {
        format!("type=registry,ref={name},mode=max,image-manifest={is_manifest},ignore-error=false")
    };
    let (to_manifest, to_index) = (to(&manifest, true), to(&index, false));
    let mut args = vec!["-o", &output];
    for to in ["type=inline", &to_manifest, &to_index] {
        args.extend(["--cache-to", to]);
    }
    builder("a", &args);
    for from in [&image, &manifest, &index] {
        let mut command = engine.client(&client);
        command.args(["build", "--progress=plain", "--cache-from", from]);
        let said = fixture::run(command.arg(&context)).ok().stderr;
        let line = format!("importing cache manifest from {from}");
        assert!(said.contains(&line), "{said}");
        assert!(!said.to_lowercase().contains("error"), "{said}");
    }
    let theirs = name("theirs");
    let mut command = engine.client(&client);
    command.args([
        "build",
        "--build-arg=BUILDKIT_INLINE_CACHE=1",
        "-t",
        &theirs,
    ]);
    fixture::run(command.arg(&context)).ok();
    tool(engine.client(&client).args(["push", &theirs]));
    let warnings = Steps::of(&builder("b", &["--cache-from", &theirs])).warnings;
    let told = format!("the cache {theirs} was written by another builder");
    assert!(warnings.iter().any(|it| it.contains(&told)), "{warnings:?}");
}
