//! Tools that others wrote pull and run what is pushed here, and what they push is pulled here.
//!
//! Each tool that is not installed, or cannot run a container on this machine, is skipped by name.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;
use crate::fixture;
use crate::outputs::{Registry, lacks, tool};

const DOCKERFILE: &str = "\
FROM busybox
RUN echo made > /made
ENV GREETING=well
ENTRYPOINT [\"/bin/sh\", \"-c\", \"echo $(cat /made), $GREETING\"]
";
const SAID: &str = "made, well\n";

/// A registry with our image, pushed as it was built: `gzip`, `zstd` and `plain`.
struct Pushed {
    temp: TempDir,
    registry: Registry,
}

impl Pushed {
    fn new(test: &str) -> Option<Self> {
        if lacks(test, &["docker-registry"]) {
            return None;
        }
        let base = fixture::base(test)?;
        let temp = fixture::temp_dir();
        let registry = Registry::start(temp.path());
        let pushed = Pushed { temp, registry };
        let context = pushed.temp.path().join("context");
        fixture::write_files(&context, &[("Dockerfile", DOCKERFILE)]);
        let mut command = fixture::build(base, &pushed.temp.path().join("store"));
        command.args(["--push", "-t", &pushed.name("gzip")]);
        for (tag, codec) in [("zstd", "zstd"), ("plain", "uncompressed")] {
            let name = pushed.name(tag);
            command.args([
                "-o",
                &format!("type=registry,name={name},compression={codec}"),
            ]);
        }
        fixture::run(command.arg(&context)).ok();
        Some(pushed)
    }

    fn name(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/team/app:{tag}", self.registry.port)
    }

    fn show(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    /// Pulls with our own command into an empty store; returns the image's id.
    fn pulled(&self, tag: &str) -> String {
        let builder = |args: &[&str]| {
            let mut command = Command::new(fixture::program());
            command
                .args(args)
                .arg("--root")
                .arg(self.show(&format!("pull-{tag}")));
            fixture::run(&mut command).ok().stdout
        };
        let name = self.name(tag);
        assert_eq!(builder(&["pull", "-q", &name]), format!("{name}\n"));
        builder(&["images", "-q", "--no-trunc"]).trim().to_owned()
    }
}

/// Says that a tool cannot start containers here; whether it could not.
fn cannot_run(test: &str, tool: &str, ran: &fixture::Ran) -> bool {
    let cannot =
        matches!(ran.code, Some(125..=127)) || ran.code == Some(1) && ran.stdout.is_empty();
    if cannot {
        let why = ran.stderr.lines().last().unwrap_or_default();
        fixture::skip(test, &format!("a {tool} that can start containers: {why}"));
    }
    cannot
}

#[test]
fn skopeo_takes_all_kinds_and_gives_them_back() {
    const TEST: &str = "peers/skopeo";
    if lacks(TEST, &["skopeo"]) {
        return;
    }
    let Some(pushed) = Pushed::new(TEST) else {
        return;
    };
    for tag in ["gzip", "zstd", "plain"] {
        let layout = format!("oci:{}:{tag}", pushed.show("layout"));
        let from = format!("docker://{}", pushed.name(tag));
        let copy = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false"];
        tool(Command::new("skopeo").args(copy).args([&from, &layout]));
        let back = ["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"];
        for (format, suffix) in [("oci", "oci"), ("v2s2", "docker")] {
            if tag == "zstd" && format == "v2s2" {
                continue;
            }
            let to = format!("docker://{}", pushed.name(&format!("{tag}-{suffix}")));
            let format = ["--format", format];
            tool(
                Command::new("skopeo")
                    .args(back)
                    .args(format)
                    .args([&layout, &to]),
            );
        }
        let id = pushed.pulled(&format!("{tag}-oci"));
        assert_eq!(id, pushed.pulled(tag), "{tag}");
        if tag != "zstd" {
            // Docker's media types, and the same config.
            assert_eq!(id, pushed.pulled(&format!("{tag}-docker")), "{tag}");
        }
    }
    let inspected = tool(
        Command::new("skopeo")
            .args(["inspect", "--tls-verify=false"])
            .arg(format!("docker://{}", pushed.name("gzip"))),
    );
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let tags = inspected["RepoTags"].as_array().expect("tags");
    assert!(tags.iter().any(|it| it == "zstd"), "{tags:?}");
}

/// podman or buildah with a storage of its own.
fn containers_tool(program: &str, pushed: &Pushed) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "--root",
            &pushed.show("storage"),
            "--runroot",
            &pushed.show("run"),
        ])
        .args(["--storage-driver", "vfs"]);
    if program == "podman" {
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
    }
    command
}

#[test]
fn podman_pulls_runs_and_pushes() {
    const TEST: &str = "peers/podman";
    if lacks(TEST, &["podman", "runc"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(TEST, "root");
    }
    let Some(pushed) = Pushed::new(TEST) else {
        return;
    };
    for tag in ["gzip", "zstd"] {
        let name = pushed.name(tag);
        let pull = ["pull", "-q", "--tls-verify=false", &name];
        tool(containers_tool("podman", &pushed).args(pull));
        let run = [
            "run",
            "--rm",
            "--cgroups=enabled",
            "--cgroupns=host",
            "--network=host",
        ];
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            "--pids-limit=-1",
        ];
        let ran = fixture::run(
            containers_tool("podman", &pushed)
                .args(run)
                .args(limits)
                .arg(&name),
        );
        if !cannot_run(TEST, "podman", &ran) {
            assert_eq!(ran.stdout, SAID, "{}", ran.stderr);
        }
        let theirs = pushed.name(&format!("{tag}-podman"));
        let push = ["push", "-q", "--tls-verify=false", &name, &theirs];
        tool(containers_tool("podman", &pushed).args(push));
        assert_eq!(pushed.pulled(&format!("{tag}-podman")), pushed.pulled(tag));
    }
}

#[test]
fn buildah_pulls_and_pushes() {
    const TEST: &str = "peers/buildah";
    if lacks(TEST, &["buildah"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(TEST, "root");
    }
    let Some(pushed) = Pushed::new(TEST) else {
        return;
    };
    let name = pushed.name("gzip");
    let pull = ["pull", "-q", "--tls-verify=false", &name];
    tool(containers_tool("buildah", &pushed).args(pull));
    for (format, tag) in [("oci", "buildah"), ("docker", "buildah-docker")] {
        let to = format!("docker://{}", pushed.name(tag));
        let push = [
            "push",
            "-q",
            "--tls-verify=false",
            "--format",
            format,
            &name,
            &to,
        ];
        tool(containers_tool("buildah", &pushed).args(push));
        assert!(pushed.pulled(tag).starts_with("sha256:"));
    }
    assert_eq!(pushed.pulled("buildah"), pushed.pulled("gzip"));
}

#[test]
fn docker_engine_pulls_runs_and_pushes() {
    const TEST: &str = "peers/docker";
    if lacks(TEST, &["dockerd", "docker"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(TEST, "root");
    }
    let Some(pushed) = Pushed::new(TEST) else {
        return;
    };
    let engine = match Engine::docker_in(pushed.temp.path()) {
        Ok(engine) => engine,
        Err(why) => return fixture::skip(TEST, &format!("a dockerd that starts: {why}")),
    };
    let name = pushed.name("gzip");
    tool(engine.docker().args(["pull", "-q", &name]));
    let inspected = tool(engine.docker().args(["inspect", "-f", "{{.Id}}", &name]));
    assert_eq!(inspected.trim(), pushed.pulled("gzip"));
    let ran = fixture::run(
        engine
            .docker()
            .args(["run", "--rm", "--network=host", &name]),
    );
    if !cannot_run(TEST, "docker", &ran) {
        assert_eq!(ran.stdout, SAID, "{}", ran.stderr);
    }
    // Docker's own media types come back.
    let theirs = pushed.name("docker");
    tool(engine.docker().args(["tag", &name, &theirs]));
    tool(engine.docker().args(["push", "-q", &theirs]));
    assert_eq!(pushed.pulled("docker"), pushed.pulled("gzip"));
    // And archives, both ways.
    let saved = pushed.show("saved.tar");
    let mut command = Command::new(fixture::program());
    command.args([
        "save",
        "-o",
        &saved,
        &name,
        "--root",
        &pushed.show("pull-gzip"),
    ]);
    fixture::run(&mut command).ok();
    tool(engine.docker().args(["rmi", "-f", &name, &theirs]));
    tool(engine.docker().args(["load", "-q", "-i", &saved]));
    let inspected = tool(engine.docker().args(["inspect", "-f", "{{.Id}}", &name]));
    assert_eq!(inspected.trim(), pushed.pulled("gzip"));
    let back = pushed.show("back.tar");
    tool(engine.docker().args(["save", "-o", &back, &name]));
    let mut command = Command::new(fixture::program());
    command.args(["load", "-i", &back, "--root", &pushed.show("loaded")]);
    let loaded = fixture::run(&mut command).ok().stdout;
    assert_eq!(loaded, format!("Loaded image: {name}\n"));
}

#[test]
fn logins_are_verified_kept_and_forgotten() {
    const TEST: &str = "peers/login";
    const PASSWORD: &str = "correct horse battery";
    if lacks(TEST, &["docker-registry"]) {
        return;
    }
    let temp = fixture::temp_dir();
    let path = |name: &str| temp.path().join(name).display().to_string();
    let hash = bcrypt::hash(PASSWORD, 4).expect("bcrypt");
    fs::write(path("users"), format!("ada:{hash}\n")).expect("write");
    let auth = format!(
        "auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
        path("users")
    );
    let registry = Registry::start_with(temp.path(), &auth);
    let host = format!("127.0.0.1:{}", registry.port);
    let builder = |args: &[&str], input: &str| {
        fs::write(path("input"), input).expect("write");
        let script = "exec \"$@\" < \"$INPUT\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(fixture::program())
            .args(args)
            .env("INPUT", path("input"))
            .env("HOME", temp.path())
            .env("BUILDER_ROOT", path("store"))
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("DOCKER_CONFIG")
            .env_remove("XDG_CONFIG_HOME");
        let ran = fixture::run(&mut command);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(
                !text.contains(PASSWORD) && !text.contains("hunter2"),
                "{text}"
            );
        }
        ran
    };
    let login = ["login", "-u", "ada", "--password-stdin", &host];
    let refused = builder(&login, "hunter2\n");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("does not take this user name and password"),
        "{}",
        refused.stderr
    );
    let file = temp.path().join(".config/containers/auth.json");
    assert!(!file.exists(), "what is refused is not kept");
    assert_eq!(
        builder(&login, &format!("{PASSWORD}\n")).ok().stdout,
        "Login Succeeded\n"
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("kept").permissions());
    assert_eq!(mode & 0o7777, 0o600);

    let name = format!("{host}/app:1");
    let Some(base) = fixture::base(TEST) else {
        return;
    };
    let from = format!("oci:{}:latest", base.display());
    builder(&["copy", &from, &format!("docker://{name}")], "").ok();
    builder(&["pull", "-q", &name], "").ok();
    builder(&["logout", &host], "").ok();
    let refused = builder(&["pull", &name], "");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("log in to"), "{}", refused.stderr);
    builder(
        &["pull", "-q", "--creds", &format!("ada:{PASSWORD}"), &name],
        "",
    )
    .ok();
    let refused = builder(&["push", "--creds", "ada:hunter2", &name], "");
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
}
