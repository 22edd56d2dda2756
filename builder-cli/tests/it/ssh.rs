//! `RUN --mount=type=ssh`: a step asks an agent, by whoever builds, on every rung that is to be had; keys from files.

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

/// Puts an OpenSSH program and its libraries beside the Dockerfile, as no image of a test has it.
fn carry(program: &str, to: &Path) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join(program))
        .find(|path| path.exists());
    let Some(found) = found else { return false };
    let Ok(linked) = Command::new("ldd").arg(&found).output() else {
        return false;
    };
    let text = String::from_utf8_lossy(&linked.stdout).into_owned();
    let libraries = text
        .split_whitespace()
        .filter(|it| it.starts_with('/') && Path::new(it).exists());
    for file in libraries.map(Path::new).chain([found.as_path()]) {
        let name = file.file_name().expect("a name").to_string_lossy();
        let name = match name.starts_with("ld-linux") {
            true => "ld.so".into(),
            false => name,
        };
        fs::copy(file, to.join(&*name)).expect("copy");
    }
    to.join("ld.so").exists()
}

/// Kinds of keys, as `ssh-keygen` makes them, in all forms that are read.
const KEYS: &[(&str, &[&str])] = &[
    ("ed25519", &["-t", "ed25519", "-C", "a comment"]),
    ("rsa", &["-t", "rsa", "-b", "2048"]),
    ("rsa4096", &["-t", "rsa", "-b", "4096"]),
    ("rsa-pem", &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
    ("rsa-pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
    ("p256", &["-t", "ecdsa", "-b", "256"]),
    ("p256-pem", &["-t", "ecdsa", "-b", "256", "-m", "PEM"]),
    ("p256-pkcs8", &["-t", "ecdsa", "-b", "256", "-m", "PKCS8"]),
    ("p384", &["-t", "ecdsa", "-b", "384"]),
    ("p384-pem", &["-t", "ecdsa", "-b", "384", "-m", "PEM"]),
];

/// `ssh-keygen`, for a key at `path`.
fn make_key(path: &Path, args: &[&str], passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", passphrase, "-f"])
        .arg(path)
        .args(args)
        .status();
    assert!(made.is_ok_and(|it| it.success()), "ssh-keygen {args:?}");
}

#[test]
fn a_step_signs_with_key_files_and_sees_none() {
    let Some(base) = fixture::base("ssh key files") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = temp.path().join("context");
    fs::create_dir(&context).expect("mkdir");
    if !fixture::has("ssh-keygen") || !carry("ssh-add", &context) {
        return fixture::skip(
            "ssh key files",
            "ssh-add, ssh-keygen and ldd (Debian package openssh-client)",
        );
    }
    let mut files = Vec::new();
    for (name, args) in KEYS {
        let path = temp.path().join(name);
        make_key(&path, args, "");
        let public = format!("{name}.pub");
        fs::copy(path.with_extension("pub"), context.join(&public)).expect("copy");
        files.push(path);
    }
    // `-T` signs with the agent and checks what came with the public key
    let dockerfile = "\
FROM busybox
ENV SSH_ADD='/c/ld.so --library-path /c /c/ssh-add'
RUN --mount=target=/c --mount=type=ssh,required \\
    echo listed $($SSH_ADD -L | wc -l); $SSH_ADD -L | grep 'a comment'; \\
    for key in /c/*.pub; do $SSH_ADD -T $key && echo usable ${key##*/}; done; \\
    $SSH_ADD -D || echo refused
";
    fs::write(context.join("Dockerfile"), dockerfile).expect("write");
    let store = temp.path().join("store");
    let list: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
    let mut command = fixture::build(base, &store);
    command.arg(format!("--ssh=default={}", list.join(",")));
    let ran = fixture::run(command.arg("--progress=plain").arg(&context));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut expected = vec![format!("listed {}", KEYS.len()), "a comment".to_owned()];
    expected.extend(KEYS.iter().map(|(name, _)| format!("usable {name}.pub")));
    expected.push("refused".to_owned());
    for line in expected {
        assert!(ran.stderr.contains(&line), "{line}: {}", ran.stderr);
    }
    // no line of any key is in the store
    for file in &files {
        let text = fs::read_to_string(file).expect("read");
        let line = text.lines().nth(3).expect("a fourth line");
        let found = Command::new("grep")
            .args(["-rlF", "-e", line])
            .arg(&store)
            .output();
        assert_eq!(found.expect("grep").stdout, b"", "{}", file.display());
    }
}

#[test]
fn a_failed_step_gets_its_agents_again() {
    let Some(base) = fixture::base("ssh debug") else {
        return;
    };
    if !fixture::has("ssh-keygen") {
        return fixture::skip("ssh debug", "ssh-keygen (Debian package openssh-client)");
    }
    let temp = fixture::temp_dir();
    let context = temp.path().join("context");
    fs::create_dir(&context).expect("mkdir");
    let key = temp.path().join("key");
    make_key(&key, &["-t", "ed25519"], "");
    let file = "FROM busybox\nRUN --mount=type=ssh,mode=0640 test -S $SSH_AUTH_SOCK && false\n";
    fs::write(context.join("Dockerfile"), file).expect("write");
    let store = temp.path().join("store");
    let source = format!("--ssh=default={}", key.display());
    let ran = fixture::run(fixture::build(base, &store).arg(&source).arg(&context));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let look = "test -S $SSH_AUTH_SOCK && stat -c %a $SSH_AUTH_SOCK";
    for (given, code, stdout, told) in [
        (Some(source.as_str()), 0, "640\n", false),
        (None, 1, "", true),
    ] {
        let mut command = Command::new(fixture::program());
        command.arg("--root").arg(&store).arg("debug").args(given);
        let ran = fixture::run(command.args(["sh", "-c", look]));
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(code), stdout),
            "{}",
            ran.stderr
        );
        let without = ran
            .stderr
            .contains("without its ssh agents: default; --ssh gives them");
        assert_eq!(without, told, "{}", ran.stderr);
    }
    let left = fs::read_dir(store.join("tmp")).expect("tmp").flatten();
    let left: Vec<_> = left.map(|it| it.file_name()).collect();
    let is_ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("ssh-");
    assert!(!left.iter().any(is_ours), "{left:?}");
}

#[test]
fn a_key_that_cannot_be_used_is_refused_before_anything_runs() {
    if !fixture::has("ssh-keygen") {
        return fixture::skip(
            "ssh keys refused",
            "ssh-keygen (Debian package openssh-client)",
        );
    }
    let temp = fixture::temp_dir();
    fs::write(temp.path().join("Dockerfile"), "FROM scratch\n").expect("write");
    let kinds: &[(&str, &[&str], &str, &[&str])] = &[
        (
            "locked",
            &["-t", "ed25519"],
            "secret",
            &["passphrase", "ssh-add"],
        ),
        (
            "locked-pem",
            &["-t", "rsa", "-m", "PEM"],
            "secret",
            &["passphrase", "ssh-add"],
        ),
        (
            "locked-pkcs8",
            &["-t", "rsa", "-m", "PKCS8"],
            "secret",
            &["passphrase"],
        ),
        (
            "p521",
            &["-t", "ecdsa", "-b", "521"],
            "",
            &["nistp521", "ssh-add"],
        ),
        (
            "p521-pem",
            &["-t", "ecdsa", "-b", "521", "-m", "PEM"],
            "",
            &["P-256", "ssh-add"],
        ),
        (
            "small",
            &["-t", "rsa", "-b", "1024"],
            "",
            &["2048", "ssh-add"],
        ),
        (
            "small-pem",
            &["-t", "rsa", "-b", "1024", "-m", "PEM"],
            "",
            &["2048"],
        ),
    ];
    let refuse = |path: &Path, parts: &[&str]| {
        let mut command = fixture::build(temp.path(), &temp.path().join("store"));
        command.arg(format!("--ssh=git={}", path.display()));
        let ran = fixture::run(command.arg(temp.path()));
        assert_eq!(ran.code, Some(2), "{}: {}", path.display(), ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    };
    for (name, args, passphrase, parts) in kinds {
        let path = temp.path().join(name);
        make_key(&path, args, passphrase);
        refuse(&path, parts);
        refuse(&path.with_extension("pub"), &["public key"]);
    }
    refuse(
        &temp.path().join("Dockerfile"),
        &["is not the file of a private key"],
    );
    refuse(temp.path(), &["cannot read"]);
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
        (
            Some(with(&file)),
            2,
            vec!["is not the file of a private key"],
        ),
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
