//! Tools that others wrote accept what comes out, and the program in the image runs.
//!
//! Each tool that is not installed is skipped by name.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture;
use crate::tree::Image;

const DOCKERFILE: &str = "\
FROM busybox AS build
RUN printf '#!/bin/sh\\necho \"hello from $(id -u) in $PWD, $GREETING\"\\n' > /hello && chmod 755 /hello
FROM busybox
RUN rm -r /opt/tree && mkdir /opt/tree && echo new > /opt/tree/n.txt && ln /opt/tree/n.txt /opt/hard
COPY --from=build --chown=app /hello /usr/bin/hello
ENV GREETING=well
WORKDIR /home/app
USER app
EXPOSE 8080
ENTRYPOINT [\"/usr/bin/hello\"]
";

/// An image in all four forms.
struct Built {
    temp: TempDir,
}

impl Built {
    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn built(test: &str) -> Option<Built> {
    let base = fixture::base(test)?;
    let built = Built {
        temp: fixture::temp_dir(),
    };
    let context = built.path("context");
    fixture::write_files(&context, &[("Dockerfile", DOCKERFILE)]);
    let mut command = fixture::build(base, &built.path("store"));
    command.args(["-t", "app:1", "-t", "registry.example/team/app:latest"]);
    for output in [
        "type=oci,dest={}/dir,tar=false",
        "type=oci,dest={}/oci.tar",
        "type=docker,dest={}/docker.tar",
        "type=local,dest={}/local",
    ] {
        command
            .arg("--output")
            .arg(output.replace("{}", &built.temp.path().display().to_string()));
    }
    fixture::run(command.arg(&context)).ok();
    Some(built)
}

/// Runs a tool that must succeed; its stdout.
#[track_caller]
pub(crate) fn tool(command: &mut Command) -> String {
    let ran = fixture::run(command);
    assert_eq!(
        ran.code,
        Some(0),
        "{command:?}\n{}{}",
        ran.stdout,
        ran.stderr
    );
    ran.stdout
}

pub(crate) fn lacks(test: &str, tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| !fixture::has(tool));
    if let Some(missing) = missing {
        fixture::skip(test, missing);
    }
    missing.is_some()
}

/// The `ref.name` of one image of a layout.
fn a_tag(layout: &Path) -> String {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index.json"))
            .expect("JSON");
    let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    tag.as_str()
        .unwrap_or_else(|| panic!("no ref.name in {index}"))
        .to_owned()
}

#[test]
fn skopeo_reads_all_forms_and_they_hold_the_same_layers() {
    if lacks("outputs/skopeo", &["skopeo"]) {
        return;
    }
    let Some(built) = built("outputs/skopeo") else {
        return;
    };
    let tag = a_tag(&built.path("dir"));
    let text = tool(
        Command::new("skopeo")
            .args(["inspect", "--config"])
            .arg(format!("oci:{}:{tag}", built.show("dir"))),
    );
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["config"]["User"], "app");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/hello");
    let want = Image::open(&built.path("dir"), Some(&tag)).diff_ids();
    for (form, source) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let layout = built.path(&format!("from-{form}"));
        // More than one name is in the archive: the first entry is the image either way.
        let from = if form == "docker-archive" {
            format!("{form}:{}:app:1", built.show(source))
        } else {
            format!("{form}:{}:{tag}", built.show(source))
        };
        tool(
            Command::new("skopeo")
                .args(["copy", "-q", "--insecure-policy"])
                .arg(from)
                .arg(format!("oci:{}:x", layout.display())),
        );
        assert_eq!(Image::open(&layout, None).diff_ids(), want, "{form}");
    }
}

#[test]
fn a_docker_archive_names_its_tags() {
    if lacks("outputs/docker-archive", &["tar"]) {
        return;
    }
    let Some(built) = built("outputs/docker-archive") else {
        return;
    };
    let text = tool(Command::new("tar").args(["-xOf", &built.show("docker.tar"), "manifest.json"]));
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    let tags: Vec<&str> = manifest[0]["RepoTags"]
        .as_array()
        .expect("RepoTags")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(tags.iter().any(|t| t.ends_with("app:1")), "{tags:?}");
    assert!(
        tags.contains(&"registry.example/team/app:latest"),
        "{tags:?}"
    );
}

#[test]
fn a_local_output_is_the_tree() {
    let Some(built) = built("outputs/local") else {
        return;
    };
    let local = built.path("local");
    assert_eq!(
        fs::read_to_string(local.join("opt/tree/n.txt")).expect("a file"),
        "new\n"
    );
    assert!(
        !local.join("opt/tree/a.txt").exists(),
        "a removed file is not there"
    );
    assert!(local.join("usr/bin/hello").is_file());
    assert_eq!(
        fs::read_link(local.join("rel-link")).expect("a symlink"),
        Path::new("data")
    );
}

#[test]
fn umoci_unpacks_it_and_runc_runs_it() {
    if lacks("outputs/umoci", &["umoci"]) {
        return;
    }
    let Some(built) = built("outputs/umoci") else {
        return;
    };
    let bundle = built.path("bundle");
    let mut unpack = Command::new("umoci");
    unpack.arg("unpack");
    if !fixture::is_root() {
        unpack.arg("--rootless");
    }
    tool(
        unpack
            .arg("--image")
            .arg(format!(
                "{}:{}",
                built.show("dir"),
                a_tag(&built.path("dir"))
            ))
            .arg(&bundle),
    );
    let tree = bundle.join("rootfs/opt/tree");
    let names: Vec<_> = fs::read_dir(tree)
        .expect("unpacked")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert_eq!(
        names,
        ["n.txt"],
        "an opaque directory hides the base's files"
    );

    if lacks("outputs/runc", &["runc"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip("outputs/runc", "root");
    }
    let file = bundle.join("config.json");
    let mut config: Value =
        serde_json::from_slice(&fs::read(&file).expect("config.json")).expect("JSON");
    config["process"]["terminal"] = Value::Bool(false);
    // Root without CAP_SYS_RESOURCE may not raise limits.
    config["process"]
        .as_object_mut()
        .expect("process")
        .remove("rlimits");
    fs::write(&file, config.to_string()).expect("write");
    let id = format!("builder-it-{}", std::process::id());
    let ran = fixture::run(
        Command::new("runc")
            .arg("--root")
            .arg(built.path("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id),
    );
    if ran.code != Some(0) && !ran.stdout.contains("hello") && ran.stderr.contains("cgroup") {
        return fixture::skip(
            "outputs/runc",
            &format!("cgroups that runc can use: {}", ran.stderr.trim()),
        );
    }
    assert_eq!(
        ran.stdout, "hello from 1000 in /home/app, well\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn podman_runs_it() {
    if lacks("outputs/podman", &["podman", "runc"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip("outputs/podman", "root");
    }
    let Some(built) = built("outputs/podman") else {
        return;
    };
    let podman = || {
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(built.path("podman"))
            .arg("--runroot")
            .arg(built.path("podman-run"));
        command.args([
            "--storage-driver",
            "vfs",
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
        ]);
        command
    };
    let loaded = tool(
        podman()
            .args(["load", "-q", "-i"])
            .arg(built.path("docker.tar")),
    );
    let name = loaded
        .lines()
        .filter_map(|l| l.split(": ").nth(1))
        .next()
        .unwrap_or("localhost/app:1")
        .trim()
        .to_owned();
    // Limits that can be had without CAP_SYS_RESOURCE, and the host's cgroups: works for root in a container.
    let limits = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        "--pids-limit=-1",
    ];
    let run = [
        "run",
        "--rm",
        "--cgroups=enabled",
        "--cgroupns=host",
        "--network=host",
    ]
    .iter()
    .chain(&limits);
    let ran = fixture::run(podman().args(run).arg(&name));
    if ran.code == Some(126) || ran.code == Some(127) || ran.code == Some(125) {
        return fixture::skip(
            "outputs/podman",
            &format!("a podman that can start containers: {}", ran.stderr.trim()),
        );
    }
    assert_eq!(
        ran.stdout, "hello from 1000 in /home/app, well\n",
        "{}",
        ran.stderr
    );
}

/// A registry of Debian's on a free loopback port; ends with the test.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Registry {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, "")
    }

    /// Starts one with more lines of configuration.
    pub(crate) fn start_with(dir: &Path, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n{more}",
            dir.join("registry").display()
        );
        fs::write(dir.join("registry.yml"), config).expect("write");
        let log = dir.join(format!("registry-{port}.log"));
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("registry.yml"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).expect("log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let registry = Self { child, port, log };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "docker-registry does not answer"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Registry {
    /// How often a blob was asked for since the start.
    pub(crate) fn gets(&self, digest: &str) -> usize {
        let log = fs::read_to_string(&self.log).expect("log");
        let of_it = format!("/blobs/{digest} ");
        let asked = log.lines().filter(|it| it.contains("\"GET /v2/"));
        asked.filter(|it| it.contains(&of_it)).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_registry_takes_it_and_a_build_stands_on_it() {
    if lacks("outputs/registry", &["docker-registry", "skopeo"]) {
        return;
    }
    let Some(built) = built("outputs/registry") else {
        return;
    };
    let registry = Registry::start(built.temp.path());
    let name = format!("127.0.0.1:{}/team/app:1", registry.port);
    let from = format!("oci:{}:{}", built.show("dir"), a_tag(&built.path("dir")));
    tool(
        Command::new("skopeo")
            .args([
                "copy",
                "-q",
                "--insecure-policy",
                "--dest-tls-verify=false",
                &from,
            ])
            .arg(format!("docker://{name}")),
    );

    // Plain HTTP on the loopback needs no flag, as in Docker; FROM, COPY --from and a named context all pull.
    let context = built.path("next");
    let text = format!(
        "FROM {name}\nUSER root\nRUN cat /opt/tree/n.txt > /ran\nCOPY --from={name} /usr/bin/hello /copied\nCOPY --from=named /opt/hard /named\n"
    );
    fixture::write_files(&context, &[("Dockerfile", &text)]);
    let mut command = Command::new(fixture::program());
    command
        .args(["build", "--root"])
        .arg(built.path("other-store"));
    command.args(["--build-context", &format!("named=docker-image://{name}")]);
    command.arg("--output").arg(format!(
        "type=oci,dest={},tar=false",
        built.show("next-out")
    ));
    fixture::run(command.arg(&context)).ok();
    let changes = Image::open(&built.path("next-out"), None)
        .changes_above(Some(&Image::open(&built.path("dir"), None)));
    let paths: Vec<&str> = changes
        .lines()
        .filter_map(|l| l.split(' ').next())
        .collect();
    assert_eq!(paths, ["copied", "named", "ran"], "{changes}");
}
