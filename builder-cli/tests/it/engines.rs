//! Loading into engines: Docker's and Podman's own, and one of the test that answers as it likes.
//!
//! What goes up is counted by a relay in front of the engine's socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::engine::Engine;
use crate::fixture::{self, Ran};
use crate::outputs::lacks;

/// Passes bytes on between a socket of its own and the engine's, and counts those that go up.
struct Relay {
    socket: PathBuf,
    up: Arc<AtomicU64>,
}

impl Relay {
    fn start(dir: &Path, engine: PathBuf) -> Self {
        let relay = Relay {
            socket: dir.join("relay.sock"),
            up: Arc::default(),
        };
        let listener = UnixListener::bind(&relay.socket).expect("a socket");
        let up = Arc::clone(&relay.up);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(engine) = UnixStream::connect(&engine) else {
                    continue;
                };
                let (from, to) = (client.try_clone().expect("clone"), engine.try_clone());
                let (to, up) = (to.expect("clone"), Arc::clone(&up));
                thread::spawn(move || pass(from, to, &up));
                thread::spawn(move || pass(engine, client, &AtomicU64::new(0)));
            }
        });
        relay
    }

    /// Returns what went up since the last time.
    fn taken(&self) -> u64 {
        self.up.swap(0, Ordering::SeqCst)
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, count: &AtomicU64) {
    let mut buffer = [0; 65536];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        count.fetch_add(read as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

const DOCKERFILE: &str = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\nCOPY a.txt /\n\
                          CMD [\"cat\", \"/a.txt\"]\n";

/// Builds with `a.txt` as it is and loads the image.
fn load(base: &Path, dir: &Path, text: &str, host: &Path) -> Ran {
    let context = dir.join("context");
    fixture::write_files(&context, &[("Dockerfile", DOCKERFILE), ("a.txt", text)]);
    let mut command = fixture::build(base, &dir.join("store"));
    command
        .args([
            "--load",
            "--progress=plain",
            "-t",
            "app:1",
            "-t",
            "x.example/b:2",
        ])
        .arg(&context)
        .env("DOCKER_HOST", format!("unix://{}", host.display()));
    fixture::run(&mut command).ok()
}

/// A first load sends every layer; one after a change the layer that changed, and a load of nothing new none.
fn a_change_sends_one_layer(base: &Path, dir: &Path, engine: &Engine) {
    let relay = Relay::start(dir, engine.socket.clone());
    let ran = load(base, dir, "one\n", &relay.socket);
    assert!(ran.stderr.contains("3 of 3 layers sent"), "{}", ran.stderr);
    assert!(relay.taken() > 3_000_000);
    let ran = load(base, dir, "two\n", &relay.socket);
    assert!(ran.stderr.contains("1 of 3 layers sent"), "{}", ran.stderr);
    let sent = relay.taken();
    assert!(sent < 64_000, "{sent} bytes went up");
    let ran = load(base, dir, "two\n", &relay.socket);
    assert!(ran.stderr.contains("0 of 3 layers sent"), "{}", ran.stderr);
}

#[test]
fn docker_is_sent_what_it_lacks_and_runs_it() {
    let name = "engines/docker";
    if lacks(name, &["dockerd", "docker", "kill"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(name, "root");
    }
    let Some(base) = fixture::base(name) else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let engine = match Engine::docker_in(dir) {
        Ok(engine) => engine,
        Err(why) => return fixture::skip(name, &format!("a dockerd that starts: {why}")),
    };
    a_change_sends_one_layer(base, dir, &engine);
    let docker = |arguments: &[&str]| fixture::run(engine.docker().args(arguments));
    for image in ["app:1", "x.example/b:2"] {
        let ran = docker(&["run", "--rm", "--network=none", image]);
        if ran.code == Some(125) || ran.code == Some(127) {
            let why = format!("a Docker that can start containers: {}", ran.stderr.trim());
            return fixture::skip(name, &why);
        }
        assert_eq!(ran.stdout, "two\n", "{}", ran.stderr);
    }
    // What Docker has lost is sent again.
    docker(&["rmi", "-f", "app:1", "x.example/b:2"]).ok();
    docker(&["image", "prune", "-af"]).ok();
    let ran = load(base, dir, "two\n", &engine.socket);
    assert!(ran.stderr.contains("3 of 3 layers sent"), "{}", ran.stderr);
}

#[test]
fn podman_is_sent_what_it_lacks_and_runs_it() {
    let name = "engines/podman";
    if lacks(name, &["podman", "runc", "kill"]) {
        return;
    }
    if !fixture::is_root() {
        return fixture::skip(name, "root");
    }
    let Some(base) = fixture::base(name) else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let podman = || {
        let mut command = Command::new("podman");
        command.arg("--root").arg(dir.join("podman"));
        command.arg("--runroot").arg(dir.join("podman-run"));
        command.args(["--storage-driver=vfs", "--runtime=runc"]);
        command.arg("--cgroup-manager=cgroupfs");
        command
    };
    let socket = dir.join("podman.sock");
    let mut service = podman();
    service.args(["system", "service", "--time=0"]);
    service.arg(format!("unix://{}", socket.display()));
    let engine = match Engine::start(&mut service, socket, &dir.join("log")) {
        Ok(engine) => engine,
        Err(why) => return fixture::skip(name, &format!("a podman that serves: {why}")),
    };
    a_change_sends_one_layer(base, dir, &engine);
    for image in ["docker.io/library/app:1", "x.example/b:2"] {
        let mut command = podman();
        command.args(["run", "--rm", "--cgroups=enabled", "--cgroupns=host"]);
        command.args(["--network=host", "--pids-limit=-1"]);
        command.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
        let ran = fixture::run(command.arg(image));
        if matches!(ran.code, Some(125..=127)) {
            let why = format!("a podman that can start containers: {}", ran.stderr.trim());
            return fixture::skip(name, &why);
        }
        assert_eq!(ran.stdout, "two\n", "{}", ran.stderr);
    }
}

/// Answers requests one by one: `answer` gets the head and the body.
pub(crate) fn fake(
    socket: &Path,
    requests: usize,
    answer: impl Fn(&str, &str) -> String + Send + 'static,
) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).expect("a socket");
    thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut bytes = Vec::new();
            let mut buffer = [0; 65536];
            loop {
                let text = String::from_utf8_lossy(&bytes);
                let end = match text.starts_with("POST /images/load") {
                    true => "\r\n0\r\n\r\n",
                    false => "\r\n\r\n",
                };
                if text.ends_with(end) {
                    break;
                }
                let read = stream.read(&mut buffer).expect("bytes");
                assert_ne!(read, 0, "the request has no end");
                bytes.extend_from_slice(&buffer[..read]);
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", answer(head, body));
            stream.write_all(answer.as_bytes()).expect("answer");
            let line = head.lines().next().unwrap_or_default();
            seen.push(format!("{line} {}", body.len()));
        }
        seen
    })
}

fn scratch(dir: &Path, arguments: &[&str], host: &str) -> Ran {
    let context = dir.join("context");
    let big = "a".repeat(300_000);
    let dockerfile = "FROM scratch\nCOPY big /\nCOPY Dockerfile /\n";
    fixture::write_files(&context, &[("Dockerfile", dockerfile), ("big", &big)]);
    let mut command = Command::new(fixture::program());
    command
        .args(["build", "--progress=plain", "--root"])
        .arg(dir.join("store"));
    command
        .args(arguments)
        .arg(&context)
        .env("DOCKER_HOST", host);
    fixture::run(&mut command)
}

#[test]
fn an_engine_that_says_no_is_heard_and_one_that_lost_a_layer_gets_all() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let meta = dir.join("out");
    let layout = format!("type=oci,tar=false,dest={}", meta.display());
    scratch(dir, &["-o", &layout], "").ok();
    let layers = crate::tree::Image::open(&meta, None).diff_ids();
    for (case, arguments, says, error) in [
        (
            "names",
            &["--load", "-t", "a:1"][..],
            "{\"stream\":\"Loaded a:1\"}",
            None,
        ),
        (
            "refused",
            &["-o", "type=docker,name=b:2"],
            "{\"error\":\"no space left\"}",
            Some("no space left"),
        ),
    ] {
        let socket = dir.join(format!("{case}.sock"));
        // version, info, list, one image, the load; and once more where it was refused
        let requests = if error.is_some() { 6 } else { 5 };
        let held = layers.clone();
        let engine = fake(&socket, requests, move |head, _| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            match path {
                "/images/json" => r#"[{"Id":"sha256:1"}]"#.to_owned(),
                "/images/a:1/json" | "/images/b:2/json" => {
                    serde_json::json!({"RootFS": {"Layers": held}}).to_string()
                }
                path if path.starts_with("/images/load") => says.to_owned(),
                _ => "{}".to_owned(),
            }
        });
        let ran = scratch(dir, arguments, &format!("unix://{}", socket.display()));
        match error {
            None => assert!(ran.ok().stderr.contains("Loaded a:1 (0 of 2 layers sent)")),
            Some(error) => {
                assert_ne!(ran.code, Some(0));
                assert!(ran.stderr.contains(error), "{}", ran.stderr);
            }
        }
        let seen = engine.join().expect("the engine");
        let sizes: Vec<u64> = seen
            .iter()
            .filter(|it| it.starts_with("POST /images/load"))
            .filter_map(|it| it.rsplit(' ').next()?.parse().ok())
            .collect();
        assert!(sizes[0] < 100_000, "{case}: {seen:?}");
        assert!(
            sizes.get(1).is_none_or(|it| *it > 300_000),
            "{case}: {seen:?}"
        );
    }
    for (host, expected) in [
        ("unix:///no/such.sock", "no engine listens there"),
        ("ssh://host", "unix:// or tcp:// is expected"),
    ] {
        let ran = scratch(dir, &["--load"], host);
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}
