//! Limits of steps, and what a way of running steps lacks: told before any step runs; control groups that are made go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{self, Ran};

fn command(base: &Path, dir: &Path, dockerfile: &str, args: &[&str]) -> Command {
    let context = dir.join("context");
    fs::create_dir_all(&context).expect("mkdir");
    fs::write(dir.join("Dockerfile"), dockerfile).expect("write");
    let mut command = fixture::build(base, &dir.join("store"));
    command.args(args).arg("--progress=plain");
    command.arg("-f").arg(dir.join("Dockerfile")).arg(&context);
    command
}

fn built(base: &Path, dir: &Path, dockerfile: &str, args: &[&str]) -> Ran {
    fixture::run(&mut command(base, dir, dockerfile, args))
}

/// The groups of a name, in each hierarchy.
fn groups(name: &str) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let inner = fs::read_dir(&root).into_iter().flatten().flatten();
    let mounts = inner.map(|it| it.path()).chain([root]);
    let places = mounts.map(|mount| mount.join(name));
    places.filter(|place| place.exists()).collect()
}

#[test]
fn a_parent_of_control_groups_is_made_and_goes() {
    let Some(base) = fixture::base("limits") else {
        return;
    };
    if !fixture::has_cgroups() {
        return fixture::skip("limits", "control groups that can be written");
    }
    let name = format!("builder-test-of-{}", std::process::id());
    let file = "FROM busybox AS a\nRUN echo one; sleep 0.2\nFROM busybox AS b\nRUN echo two; sleep 0.4\nRUN echo three\n\
        FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n";
    for parent in [name.clone(), format!("/{name}/in/side")] {
        let parent = format!("--cgroup-parent={parent}");
        // two builds at a time: who ends first leaves the other its groups
        let dirs = [fixture::temp_dir(), fixture::temp_dir()];
        std::thread::scope(|scope| {
            for dir in &dirs {
                let parent = parent.as_str();
                scope.spawn(move || {
                    let limits = [parent, "--pids-limit=50", "--cpuset-cpus=0"];
                    built(base, dir.path(), file, &limits).ok();
                });
            }
        });
        // a build that did not make them does not remove them: the other was still there, or was not
        let left = groups(&name);
        let last = fixture::temp_dir();
        for group in left {
            remove(&group);
        }
        built(base, last.path(), "FROM busybox\nRUN true\n", &[&parent]).ok();
        assert_eq!(groups(&name), Vec::<PathBuf>::new(), "{parent}");
        // what was there stays
        let there = groups("").into_iter().map(|mount| mount.join(&name));
        let there: Vec<PathBuf> = there.filter(|it| fs::create_dir(it).is_ok()).collect();
        built(
            base,
            last.path(),
            "FROM busybox\nRUN echo again\n",
            &[&parent],
        )
        .ok();
        for group in &there {
            let inner = fs::read_dir(group).expect("a group").flatten();
            let inner = inner.filter(|it| it.path().is_dir()).count();
            assert_eq!(inner, 0, "{}", group.display());
            remove(group);
        }
    }
}

/// Removes a group and those in it.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

#[test]
fn a_limit_that_is_not_to_be_had_is_told_before_any_step() {
    let Some(base) = fixture::base("limits") else {
        return;
    };
    let file = "FROM busybox\nRUN echo it began\nRUN echo it went on\n";
    let mut rows = vec![(
        "--ulimit=nofile=4000000000",
        "--ulimit nofile=4000000000",
        "Dockerfile:2",
    )];
    if fixture::has_cgroups() {
        rows.push((
            "--cpuset-cpus=4000",
            "--cpuset-cpus=4000: not all",
            "Dockerfile:2",
        ));
        rows.push((
            "--cpuset-mems=4000",
            "--cpuset-mems=4000: not all",
            "Dockerfile:2",
        ));
    } else {
        fixture::skip("limits/cpuset", "control groups that can be written");
    }
    for (flag, message, line) in rows {
        let dir = fixture::temp_dir();
        let ran = built(base, dir.path(), file, &[flag]);
        assert_eq!(ran.code, Some(1), "{flag}: {}", ran.stderr);
        for part in [message, line] {
            assert!(ran.stderr.contains(part), "{flag}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("] it began"), "{flag}: {}", ran.stderr);
        assert!(
            !ran.stderr.contains("it went on\n#"),
            "{flag}: {}",
            ran.stderr
        );
        // a build that finds every step asks for none; `--ulimit` shapes what steps make, and so is in their keys
        if !flag.starts_with("--ulimit") {
            built(base, dir.path(), file, &[]).ok();
            built(base, dir.path(), file, &[flag]).ok();
        }
    }
}

#[test]
fn what_a_way_of_running_steps_lacks_is_told_before_any_step() {
    let Some(base) = fixture::base("limits") else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip("limits/lacks", "root, for chroot");
    }
    for (isolation, flag, args, message, line) in [
        (
            "chroot",
            "--network=none",
            &[][..],
            "RUN --network=none needs",
            "Dockerfile:3",
        ),
        (
            "chroot",
            "--security=insecure",
            &["--allow=security.insecure"],
            "RUN --security=insecure gives",
            "Dockerfile:3",
        ),
        (
            "chroot",
            "--mount=type=tmpfs,size=1m,target=/m",
            &[],
            "`size` of a tmpfs needs",
            "Dockerfile:3",
        ),
        (
            "chroot",
            "",
            &["--shm-size=1m"],
            "--shm-size needs",
            "Dockerfile:2",
        ),
        ("none", "", &[], "no RUN can be run here", "Dockerfile:2"),
    ] {
        let dir = fixture::temp_dir();
        let isolation = format!("--isolation={isolation}");
        let mut args = args.to_vec();
        args.push(&isolation);
        let file = |first: &str| format!("FROM busybox\nRUN {first}\nRUN {flag} echo x > /y\n");
        let ran = built(
            base,
            dir.path(),
            &file("echo x > /began && mkdir /tmp/of-test"),
            &args,
        );
        let what = format!("{isolation} {flag}: {}", ran.stderr);
        assert_eq!(ran.code, Some(1), "{what}");
        assert!(
            ran.stderr.contains(message) && ran.stderr.contains(line),
            "{what}"
        );
        let logs = dir.path().join("store");
        let mut logs_command = Command::new(fixture::program());
        logs_command
            .arg("--root")
            .arg(logs)
            .args(["explain", "--format=json"]);
        let explained = fixture::run(&mut logs_command);
        assert!(
            !explained.stdout.contains("\"ran\""),
            "{what}\n{}",
            explained.stdout
        );
        if !isolation.ends_with("chroot") || flag.is_empty() {
            continue;
        }
        // found by what the step sees: the first step runs in its other form, and makes the same
        let allowed: Vec<&str> = args[..args.len() - 1].to_vec();
        built(base, dir.path(), &file("echo x > /began"), &allowed).ok();
        built(base, dir.path(), &file("echo x > /began; true"), &args).ok();
    }
}
