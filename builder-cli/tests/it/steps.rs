//! RUN beyond what a case can show: secrets found nowhere, binds without copies, caches between processes, a failed
//! step looked at.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::{self, Ran};

fn built(base: &Path, dir: &Path, dockerfile: &str, args: &[&str]) -> Ran {
    let context = dir.join("context");
    fs::create_dir_all(&context).expect("mkdir");
    fs::write(dir.join("Dockerfile"), dockerfile).expect("write");
    let mut command = fixture::build(base, &dir.join("store"));
    command.args(args).arg("-f").arg(dir.join("Dockerfile"));
    command.env("TOKEN", "s3cret-of-the-test").arg(&context);
    fixture::run(&mut command)
}

fn other(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(fixture::program());
    command.arg(args[0]).arg("--root").arg(dir.join("store"));
    command.args(&args[1..]).env("TOKEN", "s3cret-of-the-test");
    command
}

/// Every file below `dir` that holds `text`.
fn holders(dir: &Path, text: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("type");
        if kind.is_dir() {
            holders(&path, text, found);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(path.display().to_string());
            }
        }
    }
}

const TELLS: &str = "\
FROM busybox
RUN --mount=type=secret,id=t,env=T --mount=type=secret,id=t,target=/t \
    echo all $T; printf s3cret-of; sleep 0.2; printf -- '-the-test\\n'; cat /t >&2; echo $T$T
";

#[test]
fn a_secrets_value_is_nowhere() {
    let Some(base) = fixture::base("steps") else {
        return;
    };
    let secret = "s3cret-of-the-test";
    for (fails, ending) in [
        (false, ""),
        (true, "RUN --mount=type=secret,id=t,env=T echo $T; exit 3\n"),
    ] {
        for progress in ["plain", "rawjson"] {
            let dir = fixture::temp_dir();
            let file = format!("{TELLS}{ending}");
            let flags = ["--secret", "id=t,env=TOKEN", "--progress", progress];
            let ran = built(base, dir.path(), &file, &flags);
            assert_eq!(ran.code, Some(i32::from(fails)), "{}", ran.stderr);
            assert!(ran.stderr.contains("all ***"), "{}", ran.stderr);
            let logs = fixture::run(&mut other(dir.path(), &["logs"])).ok();
            let json = fixture::run(&mut other(dir.path(), &["logs", "--format", "json"])).ok();
            assert!(logs.stdout.contains("all ***\n"), "{}", logs.stdout);
            for (what, text) in [
                ("standard output", &ran.stdout),
                ("standard error", &ran.stderr),
                ("the logs", &logs.stdout),
                ("the logs as JSON", &json.stdout),
            ] {
                assert!(!text.contains(secret), "{progress}: {what}: {text}");
            }
            let mut found = Vec::new();
            holders(&dir.path().join("store"), secret.as_bytes(), &mut found);
            assert!(found.is_empty(), "{progress}: {found:?}");
        }
    }
}

#[test]
fn a_bind_mount_of_many_files_copies_none() {
    let Some(base) = fixture::base("steps") else {
        return;
    };
    let dir = fixture::temp_dir();
    let context = dir.path().join("context");
    let mut inodes = Vec::new();
    for at in 0..20_000 {
        let file = context.join(format!("d{}/f{at}", at % 100));
        if at < 100 {
            fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
        }
        fs::write(&file, format!("{at}\n")).expect("write");
        inodes.push(fs::metadata(&file).expect("stat").ino());
    }
    inodes.sort_unstable();
    let expected: String = inodes.iter().map(|inode| format!("{inode}\n")).collect();
    let file = "FROM busybox\n\
        RUN --mount=target=/src find /src -name 'f*' -type f -exec stat -c %i {} + | sort -n > /inodes\n";
    for ignore in ["", "*.o\nsecret\n"] {
        // with an ignore file that leaves something out, it is an overlay: the same files all the same
        fs::write(context.join("secret"), "x").expect("write");
        fs::write(context.join(".dockerignore"), ignore).expect("write");
        let out = dir.path().join("out");
        let flags = ["-o", out.to_str().expect("UTF-8")];
        built(base, dir.path(), file, &flags).ok();
        let seen = fs::read_to_string(out.join("inodes")).expect("inodes");
        assert!(
            seen == expected,
            "other files than the context's: {} bytes",
            seen.len()
        );
        fs::remove_dir_all(out).expect("remove");
    }
}

#[test]
fn the_store_is_in_no_view_of_a_context() {
    let Some(base) = fixture::base("steps") else {
        return;
    };
    let rungs: &[&str] = match fixture::is_root() {
        true => &["overlay", "copied", "chroot"],
        false => &["auto"],
    };
    for rung in rungs {
        let dir = fixture::temp_dir();
        let context = dir.path().join("context");
        fs::create_dir_all(context.join("sub")).expect("mkdir");
        fs::write(context.join("sub/file"), "x").expect("write");
        let list = "cd /c && find . ! -name . | sort";
        let text = format!(
            "FROM busybox\n\
             RUN --mount=target=/c {list} > /plain\n\
             RUN --mount=target=/c,rw {list} > /rw && echo y > /c/written\n\
             RUN --mount=target=/c --mount=type=tmpfs,target=/c/sub {list} > /covered\n\
             RUN --mount=target=/c,from=named {list} > /named\n"
        );
        fs::write(dir.path().join("Dockerfile"), text).expect("write");
        let out = dir.path().join("out");
        let mut command = fixture::build(base, Path::new("./store"));
        command.current_dir(&context).arg("-f").arg("../Dockerfile");
        command.args(["--build-context", "named=."]);
        command.arg(format!("--isolation={rung}")).arg("-o");
        fixture::run(command.arg(&out).arg(".")).ok();
        for (file, expected) in [
            ("plain", "./sub\n./sub/file\n"),
            ("rw", "./sub\n./sub/file\n"),
            ("covered", "./sub\n"),
            ("named", "./sub\n./sub/file\n"),
        ] {
            let seen = fs::read_to_string(out.join(file)).expect(file);
            assert_eq!(seen, expected, "{rung}: {file}");
        }
        assert!(!context.join("written").exists(), "{rung}");
    }
}

#[test]
fn a_locked_cache_is_one_builds_at_a_time() {
    let Some(base) = fixture::base("steps") else {
        return;
    };
    let dir = fixture::temp_dir();
    let run = |name: &str, sharing: &str| {
        let place = dir.path().join(name);
        fs::create_dir_all(place.join("context")).expect("mkdir");
        let file = format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,id=x,sharing={sharing} \
             mkdir /c/in && sleep 0.3 && rmdir /c/in && echo {name}\n"
        );
        fs::write(place.join("Dockerfile"), file).expect("write");
        let mut command = fixture::build(base, &dir.path().join("store"));
        command.arg("-f").arg(place.join("Dockerfile"));
        command.arg(place.join("context"));
        command
    };
    for sharing in ["locked", "private"] {
        let names = ["a", "b", "c", "d"].map(|name| format!("{sharing}-{name}"));
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| fixture::run(&mut run(name, sharing)).ok());
            }
        });
    }
}

#[test]
fn a_failed_step_can_be_looked_at_until_the_next_build() {
    let Some(base) = fixture::base("steps") else {
        return;
    };
    let dir = fixture::temp_dir();
    let file = "FROM busybox\nENV WHO=step\nWORKDIR /w\nRUN mkdir -m 777 /o\nUSER app\n\
        RUN --mount=type=secret,id=t,target=/t,uid=1000 --mount=type=tmpfs,target=/m \
        touch /o/half-done && echo last && exit 7\n";
    let ran = built(base, dir.path(), file, &["--secret", "id=t,env=TOKEN"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("builder debug"), "{}", ran.stderr);

    let look = "id -un; pwd; echo $WHO; ls /o; stat -f -c %T /m; cat /t";
    let flags = ["debug", "--secret", "id=t,env=TOKEN", "sh", "-c", look];
    let ran = fixture::run(&mut other(dir.path(), &flags)).ok();
    assert_eq!(
        ran.stdout,
        "app\n/w\nstep\nhalf-done\ntmpfs\ns3cret-of-the-test"
    );

    let ran = fixture::run(&mut other(
        dir.path(),
        &["debug", "sh", "-c", "cat /t; exit 9"],
    ));
    assert_eq!(ran.code, Some(9));
    assert!(
        ran.stderr.contains("without its secrets: t"),
        "{}",
        ran.stderr
    );

    let mut shell = other(dir.path(), &["debug"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("builder debug");
    let mut input = shell.stdin.take().expect("piped");
    input
        .write_all(b"echo typed $WHO\nexit 4\n")
        .expect("write");
    drop(input);
    let done = shell.wait_with_output().expect("the shell ends");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.contains("typed step"), "{text}");
    assert_eq!(done.status.code(), Some(4));

    built(base, dir.path(), "FROM busybox\nRUN true\n", &[]).ok();
    let ran = fixture::run(&mut other(dir.path(), &["debug", "true"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no step is kept"), "{}", ran.stderr);
}
