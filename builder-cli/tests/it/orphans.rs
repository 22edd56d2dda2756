//! Nothing is left of a build: no process, no mount, no temporary directory, no cgroup; whether it ends by itself, by
//! Ctrl-C or by SIGTERM at a random moment. On every rung; `LONG=1` runs a thousand steps and interrupts twenty builds on
//! each.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture;
use crate::users::{Who, on_every_rung};

/// Processes that say, in their environment or command line, that they belong to this test.
fn of_this_test(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let path = entry.path();
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(path.join(name)).unwrap_or_default()).into_owned()
        };
        let command = read("cmdline");
        if command.contains(mark) || read("environ").contains(mark) {
            found.push(format!(
                "{}: {}",
                path.display(),
                command.replace('\0', " ")
            ));
        }
    }
    found
}

/// Directories of cgroups; where there are none, nothing.
fn cgroups() -> BTreeSet<PathBuf> {
    fn walk(dir: &Path, out: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                out.insert(entry.path());
                walk(&entry.path(), out);
            }
        }
    }
    let mut out = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), &mut out);
    // Others are those that a test makes as parents.
    let is_of_a_build = |name: &str| {
        let pid = name
            .strip_prefix("builder-")
            .and_then(|it| it.split('-').next());
        pid.is_some_and(|it| it.parse::<u32>().is_ok())
    };
    out.retain(|path| {
        path.iter()
            .any(|name| name.to_str().is_some_and(is_of_a_build))
    });
    out
}

/// Whether the process lives that a group is named after (`builder-PID-NUMBER`).
fn owner_runs(group: &Path) -> bool {
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    name.split('-')
        .nth(1)
        .is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

fn mounts(below: &Path) -> Vec<String> {
    let below = below.display().to_string();
    fs::read_to_string("/proc/self/mountinfo")
        .expect("mountinfo")
        .lines()
        .filter(|line| line.contains(&below))
        .map(str::to_owned)
        .collect()
}

/// Nothing of a build of `who` is left; processes get a moment to go.
fn assert_clean(who: &Who, mark: &str, before: &BTreeSet<PathBuf>, when: &str) {
    let start = Instant::now();
    let left = loop {
        let left = of_this_test(mark);
        if left.is_empty() || start.elapsed() > Duration::from_secs(20) {
            break left;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(left.is_empty(), "{}, {when}: {left:#?}", who.name);
    assert_eq!(mounts(&who.home), [""; 0], "{}, {when}", who.name);
    // Groups of other builds, as of the other tests here, are theirs while they run.
    let new: Vec<_> = cgroups()
        .difference(before)
        .filter(|group| !owner_runs(group))
        .cloned()
        .collect();
    assert!(new.is_empty(), "{}, {when}: {new:?}", who.name);
    let tmp = fs::read_dir(who.store().join("tmp"))
        .into_iter()
        .flatten()
        .flatten();
    let tmp: Vec<_> = tmp.map(|entry| entry.path()).collect();
    assert!(tmp.is_empty(), "{}, {when}: {tmp:?}", who.name);
}

/// Steps that leave children behind: some in a session of their own, some that ignore what asks them to end.
const STUBBORN: &str = "FROM busybox AS a\n\
    RUN (trap '' TERM INT HUP; sleep 600) & setsid sleep 600 & sleep 0.2\n\
    RUN trap '' TERM INT; for i in 1 2 3; do setsid sh -c 'sleep 600' & done; sleep 1\n\
    FROM busybox AS b\n\
    RUN --mount=type=cache,target=/c setsid sleep 600 & sleep 1; echo b > /b\n\
    RUN --network=none --mount=type=tmpfs,target=/t sleep 1\n\
    FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /b /b\nRUN sleep 600\n";

/// The first where `LONG` is set.
fn many(long: u32, short: u32) -> u32 {
    match std::env::var_os("LONG") {
        Some(_) => long,
        None => short,
    }
}

#[test]
fn interrupted_at_any_moment_nothing_is_left() {
    let Some(base) = fixture::base("orphans") else {
        return;
    };
    let temp = fixture::temp_dir();
    let before = cgroups();
    for who in on_every_rung("orphans", temp.path()) {
        let mark = format!("ORPHANS_OF={}", who.home.display());
        let context = who.home.join("context");
        let text = match who.name.contains("chroot") {
            true => STUBBORN.replace("--network=none ", ""), // refused there
            false => STUBBORN.to_owned(),
        };
        fixture::write_files(&context, &[("Dockerfile", &text)]);
        who.give(&context);
        for nth in 0..many(20, 6) {
            let signal = match nth % 2 {
                0 => Signal::INT,
                _ => Signal::TERM,
            };
            // A seed of the process's own; the moment is told when the test fails.
            let moment = Duration::from_millis(RandomState::new().hash_one(nth) % 1500);
            let mut command = who.build(base);
            command
                .env("ORPHANS_OF", &who.home)
                .arg("--no-cache")
                .arg(&context);
            let told = temp.path().join("stderr");
            let mut child = with_default_signals(&command)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&told).expect("create"))
                .spawn()
                .expect("start");
            std::thread::sleep(moment);
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).expect("kill");
            let status = child.wait().expect("wait");
            let when = format!("{signal:?} after {moment:?}");
            // Before the program listens a signal ends it as it ends any.
            let by_signal = std::os::unix::process::ExitStatusExt::signal(&status);
            assert!(
                status.code() == Some(130) || by_signal == Some(signal.as_raw()),
                "{}, {when}: {status}: {}",
                who.name,
                fs::read_to_string(&told).unwrap_or_default()
            );
            // Somebody who cannot clean up any more leaves that to the next build.
            if by_signal.is_some() {
                let ran = fixture::run(who.build(base).args(["--target", "nothing"]).arg(&context));
                assert_eq!(ran.code, Some(1), "{}", ran.stderr);
            }
            assert_clean(&who, &mark, &before, &when);
        }
    }
}

/// The same command, which a SIGINT ends also before it listens: a job in the background of a shell inherits that it is
/// ignored.
fn with_default_signals(command: &Command) -> Command {
    let mut out = Command::new("env");
    out.arg("--default-signal=INT,TERM")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => out.env(name, value),
            None => out.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        out.current_dir(directory);
    }
    out
}

#[test]
fn many_steps_leave_nothing() {
    let Some(base) = fixture::base("orphans") else {
        return;
    };
    let steps = many(1000, 100);
    let temp = fixture::temp_dir();
    let before = cgroups();
    for who in on_every_rung("orphans", temp.path()) {
        let mark = format!("ORPHANS_OF={}", who.home.display());
        let context = who.home.join("context");
        // Several chains: layers can be stacked to 500 only, and steps run at the same time.
        let mut text = String::new();
        for nth in 0..steps {
            if nth % 50 == 0 {
                text += &format!("FROM busybox AS s{}\n", nth / 50);
            }
            text += &format!("RUN sh -c 'sleep 600 & setsid sleep 600 & :' & : {nth}; true\n");
        }
        text += "FROM scratch\n";
        for stage in 0..steps / 50 {
            text += &format!("COPY --from=s{stage} /etc/passwd /p{stage}\n");
        }
        fixture::write_files(&context, &[("Dockerfile", &text)]);
        who.give(&context);
        let mut command = who.build(base);
        command.env("ORPHANS_OF", &who.home).arg(&context);
        fixture::run(&mut command).ok();
        assert_clean(&who, &mark, &before, "at the end");
    }
}
