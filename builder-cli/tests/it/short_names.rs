//! Short names, as `registries.conf` has them, in builds, pulls and copies.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Ran};
use crate::outputs::{Registry, lacks};

fn builder(dir: &Path, conf: &Path, command: &str, arguments: &[&str]) -> Ran {
    let mut builder = Command::new(fixture::program());
    builder
        .arg(command)
        .arg("--root")
        .arg(dir.join("other-store"))
        .args(arguments)
        .env("CONTAINERS_REGISTRIES_CONF", conf)
        .env("HOME", dir)
        .env_remove("XDG_CONFIG_HOME");
    fixture::run(&mut builder)
}

#[test]
fn aliases_and_search_registries_are_followed_and_the_name_is_shown() {
    if lacks("short_names", &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let registry = Registry::start(dir);
    let name = format!("127.0.0.1:{}/team/app", registry.port);
    let context = dir.join("context");
    let dockerfile = "FROM scratch\nCOPY Dockerfile /made\n";
    fixture::write_files(&context, &[("Dockerfile", dockerfile)]);
    let mut push = Command::new(fixture::program());
    push.args(["build", "--push", "-t", &format!("{name}:1"), "--root"]);
    push.arg(dir.join("store")).arg(&context);
    fixture::run(&mut push).ok();

    let conf = dir.join("registries.conf");
    let write = |text: &str| {
        let text = text.replace("HOST", &format!("127.0.0.1:{}", registry.port));
        fs::write(&conf, text).expect("write");
    };
    let next = dir.join("next");
    let build = |from: &str| {
        let dockerfile = format!("FROM {from}\nCOPY --from={from} /made /again\n");
        fixture::write_files(&next, &[("Dockerfile", &dockerfile)]);
        let shown = next.display().to_string();
        builder(dir, &conf, "build", &["--progress=plain", &shown])
    };
    write("[aliases]\n'short' = 'HOST/team/app'\n");
    let ran = build("short:1").ok();
    assert!(
        ran.stderr.contains(&format!("{name}:1@sha256:")),
        "{}",
        ran.stderr
    );
    let ran = builder(dir, &conf, "pull", &["short:1"]).ok();
    assert!(
        ran.stdout.ends_with(&format!("{name}:1\n")),
        "{}",
        ran.stdout
    );
    let ran = builder(dir, &conf, "pull", &["-a", "-q", "short"]).ok();
    assert_eq!(ran.stdout, format!("{name}:1\n"));
    let archive = format!("oci-archive:{}", dir.join("copied.tar").display());
    builder(dir, &conf, "copy", &["--all", "docker://short:1", &archive]).ok();
    let images = builder(
        dir,
        &conf,
        "images",
        &["--format", "{{.Repository}}:{{.Tag}}"],
    );
    assert_eq!(images.ok().stdout, format!("{name}:1\n"));

    // What was pulled is found by its short name without the registry; and a name in full is never an alias's.
    write(
        "[aliases]\n'short' = 'HOST/team/app'\n[[registry]]\nlocation = 'HOST'\nblocked = true\n",
    );
    build("short:1").ok();
    write(
        "[aliases]\n'short' = 'HOST/team/app'\n[[registry]]\nlocation = 'docker.io'\nblocked = true\n",
    );
    let ran = build("docker.io/library/short:1");
    assert!(
        ran.stderr.contains("docker.io/library/short:1 is blocked"),
        "{}",
        ran.stderr
    );

    // The first registry has no such image, the second does.
    let search = "unqualified-search-registries = ['HOST/none', 'HOST']\n";
    write(&format!("{search}short-name-mode = 'permissive'\n"));
    fs::remove_dir_all(dir.join("other-store")).expect("the store");
    let ran = builder(dir, &conf, "pull", &["team/app:1"]).ok();
    assert!(
        ran.stdout.ends_with(&format!("{name}:1\n")),
        "{}",
        ran.stdout
    );
    let ran = build("absent:1");
    assert_ne!(ran.code, Some(0));
    for expected in [
        "no search registry has `absent:1`",
        "/none/absent:1",
        "Dockerfile:",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    write(&format!("{search}short-name-mode = 'enforcing'\n"));
    let ran = build("absent:1");
    assert!(
        ran.stderr.contains("`absent:1` is a short name"),
        "{}",
        ran.stderr
    );
}
