//! `RUN --mount=type=ssh`: a step asks an agent, by whoever builds, on every rung that is to be had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture;
use crate::users::{self, Who};

/// An agent with one key, ended when dropped.
struct Agent {
    process: Child,
    socket: PathBuf,
    key: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Agent {
    fn start(who: &Who) -> Agent {
        let socket = who.home.join("agent");
        let process = who
            .command(Path::new("ssh-agent"))
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent");
        let start = Instant::now();
        while !socket.exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "no agent");
            std::thread::sleep(Duration::from_millis(5));
        }
        let key = who.home.join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.is_ok_and(|it| it.success()), "ssh-keygen");
        let agent = Agent {
            process,
            socket,
            key,
        };
        let added = agent.ssh_add().arg(&agent.key).status();
        assert!(added.is_ok_and(|it| it.success()), "ssh-add");
        agent
    }

    fn ssh_add(&self) -> Command {
        let mut command = Command::new("ssh-add");
        command.env("SSH_AUTH_SOCK", &self.socket).arg("-q");
        command
    }

    /// How many keys it has.
    fn keys(&self) -> usize {
        let listed = self.ssh_add().arg("-L").output().expect("ssh-add");
        String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|line| line.starts_with("ssh-ed25519"))
            .count()
    }
}

/// Compiles the probe; `None`, with a line on stderr, where that or an agent is not to be had.
fn probe(to: &Path) -> Option<()> {
    for tool in ["ssh-agent", "ssh-add", "ssh-keygen"] {
        if !fixture::has(tool) {
            fixture::skip("ssh", &format!("{tool} (Debian package openssh-client)"));
            return None;
        }
    }
    let done = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(to)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ssh/probe.c"))
        .status();
    if done.is_ok_and(|it| it.success()) {
        fixture::set_mode(to, 0o755);
        return Some(());
    }
    fixture::skip(
        "ssh",
        "a C compiler and a static C library (Debian packages gcc, libc6-dev)",
    );
    None
}

const ASKS: &str = "\
FROM busybox
RUN --mount=target=/c --mount=type=ssh echo at $SSH_AUTH_SOCK; /c/probe
USER 1000:1001
RUN --mount=target=/c --mount=type=ssh,target=/s/agent,mode=0640,uid=1000,gid=1001 \\
    stat -c 'is %a %u:%g %F' $SSH_AUTH_SOCK; /c/probe
RUN --mount=target=/c --mount=type=ssh,id=other echo optional; ! /c/probe
";

const TOLD: &[&str] = &[
    "at /run/buildkit/ssh_agent.0",
    "list 12 keys 1",
    "sign 14",
    "remove 5",
    "is 640 1000:1001 socket",
    "optional",
];

#[test]
fn a_step_asks_an_agent_and_changes_nothing_in_it() {
    let Some(base) = fixture::base("ssh") else {
        return;
    };
    let temp = fixture::temp_dir();
    let tool = temp.path().join("probe");
    if probe(&tool).is_none() {
        return;
    }
    for who in users::everybody("ssh", temp.path()) {
        let context = who.home.join("context");
        fs::create_dir(&context).expect("mkdir");
        fs::copy(&tool, context.join("probe")).expect("copy");
        fs::write(context.join("Dockerfile"), ASKS).expect("write");
        who.give(&context);
        let agent = Agent::start(&who);
        let rungs: &[&str] = match who.is_ordinary() {
            true => &["overlay", "copied"],
            false if fixture::is_root() => &["overlay", "copied", "chroot"],
            false => &["auto"],
        };
        for rung in rungs {
            let title = format!("{}, {rung}", who.name);
            let out = who.home.join(format!("out-{rung}"));
            let mut command = who.build(base);
            command.arg(format!("--isolation={rung}")).arg("--no-cache");
            command.args(["--ssh", "default", "--progress=plain", "-o"]);
            command.arg(&out).arg(&context);
            command.env("SSH_AUTH_SOCK", &agent.socket);
            let ran = fixture::run(&mut command);
            assert_eq!(ran.code, Some(0), "{title}: {}", ran.stderr);
            for line in TOLD {
                assert!(ran.stderr.contains(line), "{title}: {line}: {}", ran.stderr);
            }
            assert_eq!(ran.stderr.matches("sign 14").count(), 2, "{}", ran.stderr);
            for left in ["run/buildkit", "s", "c"] {
                assert!(!out.join(left).exists(), "{title}: /{left} is in the layer");
            }
        }
        assert_eq!(agent.keys(), 1, "{}: removed by a step", who.name);
        // which agent, and whether there is one, is in no key
        let mut again = who.build(base);
        again.args(["--progress=rawjson"]).arg(&context);
        again.arg(format!("--isolation={}", rungs[0]));
        let again = fixture::run(&mut again).ok();
        let steps = fixture::Steps::of(&again);
        assert_eq!(steps.reran(), Vec::<&str>::new(), "{}", who.name);
        let left = fs::read_dir(who.store().join("tmp")).expect("tmp");
        let left: Vec<_> = left.flatten().map(|it| it.file_name()).collect();
        assert!(
            !left
                .iter()
                .any(|name| name.to_string_lossy().starts_with("ssh-")),
            "{left:?}"
        );
    }
}

#[test]
fn what_is_no_agent_is_named() {
    let Some(base) = fixture::base("ssh errors") else {
        return;
    };
    let dir = fixture::temp_dir();
    let file = dir.path().join("key");
    fs::write(&file, "x").expect("write");
    let gone = dir.path().join("gone");
    drop(std::os::unix::net::UnixListener::bind(&gone).expect("bind"));
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh,id=git,required true\n";
    fs::write(dir.path().join("Dockerfile"), dockerfile).expect("write");
    let with = |path: &Path| format!("git={}", path.display());
    for (flag, code, expected) in [
        (
            None,
            1,
            vec!["`git` is required", "--ssh git", "Dockerfile:2"],
        ),
        (Some("git".to_owned()), 2, vec!["SSH_AUTH_SOCK is not set"]),
        (Some(with(&file)), 2, vec!["ssh-add", "--ssh git"]),
        (
            Some(with(&dir.path().join("no"))),
            2,
            vec!["cannot look at"],
        ),
        (
            Some(with(&gone)),
            1,
            vec!["does not answer", "Dockerfile:2"],
        ),
    ] {
        let mut command = fixture::build(base, &dir.path().join("store"));
        command.env_remove("SSH_AUTH_SOCK").arg("--progress=plain");
        if let Some(flag) = &flag {
            command.args(["--ssh", flag]);
        }
        let ran = fixture::run(command.arg(dir.path()));
        assert_eq!(ran.code, Some(code), "{flag:?}: {}", ran.stderr);
        for part in expected {
            assert!(
                ran.stderr.contains(part),
                "{flag:?}: {part}: {}",
                ran.stderr
            );
        }
    }
}
