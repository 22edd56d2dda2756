//! A miss says what changed: in the events, with `--explain`, and afterwards with `builder explain`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{self, Ran, Steps};

const DOCKERFILE: &str = "\
FROM busybox
ARG FLAVOUR=plain
ENV COLOUR=red
COPY --chown=1:2 src /src
RUN --mount=type=bind,source=tools,target=/tools sh /tools/make.sh > /made
RUN echo $COLOUR
";

const FILES: [(&str, &str); 4] = [
    ("Dockerfile", DOCKERFILE),
    ("src/a", "a\n"),
    ("src/b", "b\n"),
    ("tools/make.sh", "echo made\n"),
];

struct Case {
    what: &'static str,
    edit: fn(&Path),
    args: &'static [&'static str],
    /// The first reason of the first step that missed.
    reason: &'static str,
}

fn replace(dir: &Path, from: &str, to: &str) {
    let path = dir.join("Dockerfile");
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "the edit finds `{from}`");
    fs::write(path, text.replace(from, to)).expect("write");
}

fn symlink(dir: &Path, target: &str) {
    let path = dir.join("src/link");
    let _ = fs::remove_file(&path);
    std::os::unix::fs::symlink(target, path).expect("symlink");
}

/// Each goes on from the one before.
const CASES: &[Case] = &[
    Case {
        what: "content",
        edit: |dir| fs::write(dir.join("src/a"), "A\n").expect("write"),
        args: &[],
        reason: "src/a changed (content)",
    },
    Case {
        what: "mode",
        edit: |dir| fixture::set_mode(&dir.join("src/a"), 0o600),
        args: &[],
        reason: "src/a changed (mode 644 → 600)",
    },
    Case {
        what: "a new file",
        edit: |dir| symlink(dir, "a"),
        args: &[],
        reason: "src/link is new",
    },
    Case {
        what: "a link's target",
        edit: |dir| symlink(dir, "b"),
        args: &[],
        reason: "src/link changed (link target `a` → `b`)",
    },
    Case {
        what: "a file's type",
        edit: |dir| {
            fs::remove_file(dir.join("src/link")).expect("remove");
            fs::create_dir(dir.join("src/link")).expect("mkdir");
            fixture::set_mode(&dir.join("src/link"), 0o755);
        },
        args: &[],
        reason: "src/link changed (link target, mode, type symlink → directory)",
    },
    Case {
        what: "a file is gone",
        edit: |dir| fs::remove_file(dir.join("src/b")).expect("remove"),
        args: &[],
        reason: "src/b is gone",
    },
    Case {
        what: "an argument of COPY",
        edit: |dir| replace(dir, "--chown=1:2", "--chown=1:3"),
        args: &[],
        reason: "chown changed from `1:2` to `1:3`",
    },
    Case {
        what: "a mounted file",
        edit: |dir| fs::write(dir.join("tools/make.sh"), "echo other\n").expect("write"),
        args: &[],
        reason: "tools/make.sh changed (content)",
    },
    Case {
        what: "a mount",
        edit: |dir| replace(dir, "target=/tools", "target=/tools,rw=false"),
        args: &["--build-arg", "FLAVOUR=rich"],
        reason: "build arg FLAVOUR changed from `plain` to `rich`",
    },
    Case {
        what: "an argument's default",
        edit: |dir| replace(dir, "FLAVOUR=plain", "FLAVOUR=poor"),
        args: &[],
        // compared with the last build of the same args, not with the one in between
        reason: "build arg FLAVOUR changed from `plain` to `poor`",
    },
    Case {
        what: "other args again",
        edit: |_| {},
        args: &["--build-arg", "FLAVOUR=gold"],
        reason: "build arg FLAVOUR changed from `poor` to `gold`",
    },
    Case {
        what: "a mounted file, after a build with other args",
        edit: |dir| fs::write(dir.join("tools/make.sh"), "echo third\n").expect("write"),
        args: &[],
        reason: "tools/make.sh changed (content)",
    },
    Case {
        what: "the same, with those args",
        edit: |_| {},
        args: &["--build-arg", "FLAVOUR=gold"],
        reason: "tools/make.sh changed (content)",
    },
    Case {
        what: "without them: found",
        edit: |_| {},
        args: &[],
        reason: "",
    },
    Case {
        what: "a variable",
        edit: |dir| replace(dir, "COLOUR=red", "COLOUR=blue"),
        args: &[],
        reason: "variable COLOUR changed from `red` to `blue`",
    },
    Case {
        what: "a command",
        edit: |dir| replace(dir, "echo $COLOUR", "echo $COLOUR!"),
        args: &[],
        reason: "command changed from `/bin/sh -c echo $COLOUR` to `/bin/sh -c echo $COLOUR!`",
    },
    Case {
        what: "a step between others",
        edit: |dir| replace(dir, "RUN echo", "RUN touch /between\nRUN echo"),
        args: &[],
        reason: "first build of this step: no earlier record of it",
    },
    Case {
        what: "a step that goes again: the rest was built so before",
        edit: |dir| replace(dir, "RUN touch /between\n", ""),
        args: &[],
        reason: "",
    },
    Case {
        what: "forced",
        edit: |_| {},
        args: &["--no-cache-filter=0"],
        reason: "the cache is off for it",
    },
];

fn build(base: &Path, store: &Path, dir: &Path) -> Command {
    let mut command = fixture::build(base, store);
    command.arg("--progress=rawjson").arg(dir);
    command
}

fn reasons(ran: &Ran) -> Vec<(u64, String, Value)> {
    let missed = ran
        .events()
        .into_iter()
        .filter(|it| it["event"] == "missed");
    let mut missed: Vec<_> = missed
        .map(|it| {
            let reason = it["reason"].as_str().unwrap_or_default().to_owned();
            (
                it["vertex"].as_u64().unwrap_or_default(),
                reason,
                it["changes"].clone(),
            )
        })
        .collect();
    missed.sort_by_key(|(vertex, ..)| *vertex);
    missed
}

#[test]
fn a_miss_says_what_changed() {
    let Some(base) = fixture::base("explain") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    fixture::write_files(&dir, &FILES);
    for (path, _) in FILES {
        fixture::set_mode(&dir.join(path), 0o644);
    }
    let first = fixture::run(&mut build(base, &store, &dir)).ok();
    for (_, reason, _) in reasons(&first) {
        assert_eq!(
            reason,
            "first build of this step: the project has no earlier record"
        );
    }
    let mut wrong = Vec::new();
    for case in CASES {
        (case.edit)(&dir);
        let ran = fixture::run(build(base, &store, &dir).args(case.args)).ok();
        let reasons = reasons(&ran);
        let have = reasons.first().map_or("", |(_, reason, _)| reason.as_str());
        let first = have
            .split(", the step before changed")
            .next()
            .unwrap_or(have);
        if first != case.reason {
            wrong.push(format!("{}: `{have}`, not `{}`", case.what, case.reason));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn another_base_is_named_with_its_digests() {
    let Some(base) = fixture::base("explain") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, other, store) = (
        temp.path().join("one"),
        temp.path().join("other"),
        temp.path().join("store"),
    );
    fixture::write_files(&dir, &[("Dockerfile", "FROM base\nRUN true\n")]);
    fixture::write_files(
        &other,
        &[("Dockerfile", "FROM busybox\nRUN touch /other\n")],
    );
    let layout = temp.path().join("other.oci");
    let dest = format!("type=oci,dest={},tar=false", layout.display());
    fixture::run(build(base, &store, &other).args(["-t", "o:1", "-o", &dest])).ok();
    let with = |layout: String| {
        let context = format!("base=oci-layout://{layout}");
        fixture::run(build(base, &store, &dir).args(["--build-context", &context])).ok()
    };
    with(format!("{}:latest", base.display()));
    let ran = with(layout.display().to_string());
    let (_, reason, changes) = reasons(&ran).remove(0);
    assert!(
        reason.starts_with("the base image changed from `base@sha256:"),
        "{reason}"
    );
    assert_eq!(changes[0]["kind"], "base");
    assert_ne!(changes[0]["old"], changes[0]["new"]);
}

#[test]
fn the_last_build_is_explained_afterwards() {
    let Some(base) = fixture::base("explain") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    fixture::write_files(&dir, &FILES);
    fixture::run(&mut build(base, &store, &dir)).ok();
    fs::write(dir.join("src/a"), "A\n").expect("write");
    let mut plain = fixture::build(base, &store);
    plain.args(["--progress=quiet", "--explain"]).arg(&dir);
    let told = fixture::run(&mut plain).ok().stderr;
    let explain = |args: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.arg("explain").arg("--root").arg(&store).args(args);
        fixture::run(&mut command).ok().stdout
    };
    let text = explain(&[]);
    assert!(told.ends_with(&text), "{told}\n{text}");
    assert_eq!(text, explain(&[&dir.display().to_string()]));
    let expected = "\
ran               [2/4] COPY --chown=1:2 src /src
                    src/a changed (content)
ran               [3/4] RUN --mount=type=bind,source=tools,target=/tools sh /tools/make.sh > /made
                    the step before changed
ran               [4/4] RUN echo red
                    the step before changed
";
    assert_eq!(text, expected);
    // A build that finds everything is the last one, too.
    fixture::run(&mut build(base, &store, &dir)).ok();
    let json: Value = serde_json::from_str(&explain(&["--format=json"])).expect("JSON");
    let steps = json["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 3);
    assert!(
        steps.iter().all(|step| step["came"] == "definition"),
        "{json:#}"
    );
}

const THREE_STAGES: &str = "\
FROM busybox AS one
RUN date +%N > /dev/null && echo 1 > /one
FROM busybox AS two
COPY f /f
RUN cat /f \\
    > /two
FROM busybox
COPY --from=one /one /one
COPY --from=two /two /two
RUN cat /one /two > /all
";

#[test]
fn what_is_forced_runs_and_its_children_stay_cached() {
    let Some(base) = fixture::base("explain") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    fixture::write_files(&dir, &[("Dockerfile", THREE_STAGES), ("f", "f\n")]);
    fixture::run(&mut build(base, &store, &dir)).ok();
    const ONE: &str = "RUN date +%N > /dev/null && echo 1 > /one";
    const CAT: &str = "RUN cat /f     > /two";
    let mut ids = std::collections::BTreeSet::new();
    for (args, reruns) in [
        (&["--no-cache-filter=one"][..], &[ONE][..]),
        (&["--no-cache-filter=TWO"], &["COPY f /f", CAT]),
        (&["--no-cache-filter", "one,two"], &[ONE, "COPY f /f", CAT]),
        (&["--no-cache-filter=0"], &[]),
        (&["--no-cache=2"], &[ONE]),
        // in the middle of an instruction
        (&["--no-cache=6"], &[CAT]),
        (
            &["--no-cache=1-4,8"],
            &[ONE, "COPY f /f", "COPY --from=one /one /one"],
        ),
        (&["--no-cache=100"], &[]),
        (&["--no-cache=false"], &[]),
    ] {
        let iid = temp.path().join("iid");
        let ran = fixture::run(
            build(base, &store, &dir)
                .args(args)
                .arg("--iidfile")
                .arg(&iid),
        )
        .ok();
        let steps = Steps::of(&ran);
        assert_eq!(steps.reran(), reruns, "{args:?}");
        ids.insert(fs::read_to_string(&iid).expect("iidfile"));
        let unmet = matches!(args, ["--no-cache-filter=0" | "--no-cache=100"]);
        let told = steps
            .warnings
            .iter()
            .any(|it| it.contains("without the cache"));
        assert_eq!(told, unmet, "{args:?}: {:?}", steps.warnings);
    }
    assert_eq!(ids.len(), 1, "the earlier layers stay: {ids:?}");
    let all = fixture::run(build(base, &store, &dir).arg("--no-cache")).ok();
    assert_eq!(Steps::of(&all).reran().len(), 6);
    let all = fixture::run(build(base, &store, &dir).arg("--no-cache-filter=")).ok();
    assert_eq!(Steps::of(&all).reran().len(), 6);
    for (bad, told) in [
        ("--no-cache=0", "--no-cache=0"),
        ("--no-cache=5-3", "--no-cache=5-3"),
        ("--no-cache=x", "--no-cache=x"),
        (
            "--no-cache-filter=one,",
            "--no-cache-filter: names of stages",
        ),
    ] {
        let ran = fixture::run(build(base, &store, &dir).arg(bad));
        assert_eq!(ran.code, Some(2), "{bad}");
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
}
