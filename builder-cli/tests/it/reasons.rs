//! What of a step's surroundings makes it run again, and the words that say so; a table for each platform.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{self, Ran};

fn build(base: &Path, store: &Path, dir: &Path) -> Command {
    let mut command = fixture::build(base, store);
    command.arg("--progress=rawjson").arg(dir);
    command
}

fn reasons(ran: &Ran) -> Vec<String> {
    let events = ran.events();
    let missed = events.iter().filter(|it| it["event"] == "missed");
    let reason = |it: &Value| it["reason"].as_str().unwrap_or_default().to_owned();
    missed.map(reason).collect()
}

#[test]
fn limits_that_a_step_can_ask_for_are_in_its_key() {
    let Some(base) = fixture::base("reasons/limits") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    let out = temp.path().join("out");
    let dockerfile = "FROM busybox\nRUN ulimit -n > /n; df -k /dev/shm | tail -n 1 > /shm\n";
    fixture::write_files(&dir, &[("Dockerfile", dockerfile)]);
    let with = |args: &[&str]| {
        let _ = fs::remove_dir_all(&out);
        let mut command = build(base, &store, &dir);
        reasons(&fixture::run(command.args(args).arg("-o").arg(&out)).ok())
    };
    with(&[]);
    let nothing: [&str; 0] = [];
    for (args, expected) in [
        (
            &["--ulimit=nofile=100:100", "--shm-size=10m"][..],
            &["--ulimit nofile is new, --shm-size is new"][..],
        ),
        (
            &["--ulimit=nofile=90:100", "--shm-size=10m"],
            &["--ulimit nofile changed from `100:100` to `90:100`"],
        ),
        (&["--shm-size=10m"], &["--ulimit nofile is gone"]),
        (&["--memory-swap=-1", "--shm-size=0"], &nothing),
        (&["--ulimit=nofile=100:100", "--shm-size=10m"], &nothing),
    ] {
        assert_eq!(with(args), expected, "{args:?}");
    }
    let read = |path: &str| fs::read_to_string(out.join(path)).expect("made");
    assert_eq!(read("n"), "100\n");
    assert!(read("shm").contains(" 10240 "), "{}", read("shm"));
}

#[test]
fn reasons_are_in_the_words_of_the_dockerfile() {
    let Some(base) = fixture::base("reasons/words") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    let other = temp.path().join("other");
    fixture::write_files(&dir, &[("f", "f\n")]);
    fixture::write_files(&other, &[("g", "g\n")]);
    let dockerfile = |copy: &str, run: &str| {
        let text = format!("FROM busybox\n{copy}\nRUN {run} true\n");
        fs::write(dir.join("Dockerfile"), text).expect("write");
    };
    let context = format!("other={}", other.display());
    let with = |args: &[&str]| {
        let mut command = build(base, &store, &dir);
        let command = command.args(["--build-context", &context]).args(args);
        reasons(&fixture::run(command).ok())
    };
    let copy = "COPY --link f /f";
    dockerfile(copy, "");
    with(&[]);
    for (run, expected) in [
        ("--network=none", "network changed from `default` to `none`"),
        (
            "--mount=type=tmpfs,target=/t",
            "network changed from `none` to `default`, mount /t is new",
        ),
        (
            "--mount=type=tmpfs,target=/t,size=1m",
            "mount /t changed from `type=tmpfs` to `type=tmpfs,size=1048576`",
        ),
        (
            "--mount=type=secret,id=s,target=/t",
            "mount /t changed from `type=tmpfs,size=1048576` to \
             `type=secret,id=s,required=false,mode=0400,uid=0,gid=0`",
        ),
    ] {
        dockerfile(copy, run);
        let told = with(&[]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(expected), "{told:?}");
    }
    // what stands before `COPY --link` is no reason for it
    let linked = "RUN echo 1 > /1\nCOPY --link f /f";
    dockerfile(linked, "");
    with(&[]);
    dockerfile("RUN echo 2 > /1\nCOPY --link f /f", "");
    fs::write(dir.join("f"), "F\n").expect("write");
    let told = with(&[]);
    assert!(
        told.iter().any(|it| it == "f changed (content)"),
        "{told:?}"
    );
    // files of a named context
    let run = "--mount=type=bind,from=other,target=/o";
    dockerfile("COPY --from=other g /g", run);
    with(&[]);
    fs::write(other.join("g"), "G\n").expect("write");
    let told = with(&[]);
    assert_eq!(told[0], "g of context other changed (content)");
    assert!(
        told[1].starts_with("g of context other changed (content)"),
        "{told:?}"
    );
    // the time that layers are clamped to, compared with the build before
    dockerfile("COPY f /f", "");
    let mut before = None;
    for seconds in ["1", "2", "5", "6"] {
        let told = with(&["--build-arg", &format!("SOURCE_DATE_EPOCH={seconds}")]);
        if let Some(before) = before {
            let expected = format!("SOURCE_DATE_EPOCH changed from `{before}` to `{seconds}`");
            assert_eq!(told[0], expected);
        }
        before = Some(seconds);
    }
}

#[test]
fn a_new_base_is_named_by_the_steps_that_run_for_it() {
    let Some(base) = fixture::base("reasons/base") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    let text = "FROM base\nCOPY f /new/f\nRUN cat /new/f\n";
    fixture::write_files(&dir, &[("Dockerfile", text), ("f", "f\n")]);
    let made = |name: &str| {
        let from = temp.path().join(name);
        let text = format!("FROM busybox\nRUN echo {name} > /else\n");
        fixture::write_files(&from, &[("Dockerfile", &text)]);
        let layout = temp.path().join(format!("{name}.oci"));
        let dest = format!("type=oci,dest={},tar=false", layout.display());
        fixture::run(build(base, &store, &from).args(["-t", "o:1", "-o", &dest])).ok();
        format!("base=oci-layout://{}", layout.display())
    };
    let with = |context: &str| {
        reasons(&fixture::run(build(base, &store, &dir).args(["--build-context", context])).ok())
    };
    let (one, two) = (made("one"), made("two"));
    with(&one);
    let told = with(&two);
    assert_eq!(told.len(), 1, "the COPY is put on the new base: {told:?}");
    let expected = "the base image changed from `";
    assert!(told[0].starts_with(expected), "{told:?}");
    assert!(told[0].contains("sha256:"), "{told:?}");
    assert!(told[0].ends_with(", the step before changed"), "{told:?}");
}

/// Nothing of a foreign platform can run here; its files can be put into place.
const PLATFORMS: &str = "--platform=linux/amd64,linux/arm64";

#[test]
fn each_platform_has_its_table() {
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    let write = |text: &str| {
        fixture::write_files(&dir, &[("Dockerfile", text), ("f", "f\n")]);
    };
    let builder = |command: &str, args: &[&str]| {
        let mut it = Command::new(fixture::program());
        it.arg(command).arg("--root").arg(&store).args(args);
        it.arg(&dir);
        fixture::run(&mut it)
    };
    let built = |args: &[&str]| {
        let quiet = ["--progress=quiet", "--explain"];
        builder("build", &[&quiet, args].concat())
    };
    let explained = |args: &[&str]| builder("explain", args).ok().stdout;
    write("FROM scratch\nCOPY f /one\n");
    let first = "first build of this step: the project has no earlier record";
    let ran = format!("ran               [1/1] COPY f /one\n{:20}{first}\n", "");
    let told = built(&[PLATFORMS]).ok().stderr;
    assert!(
        told.ends_with(&format!(
            "linux/amd64\n{ran}linux/arm64\ncached            [1/1] COPY f /one\n"
        )) || told.ends_with(&format!("linux/amd64\n{ran}linux/arm64\n{ran}")),
        "{told}"
    );
    let cached = "cached            [1/1] COPY f /one\n";
    let both = format!("linux/amd64\n{cached}linux/arm64\n{cached}");
    let told = built(&[PLATFORMS]).ok().stderr;
    assert!(told.ends_with(&both), "{told}");
    assert_eq!(explained(&[]), both);
    let json: Value = serde_json::from_str(&explained(&["--format=json"])).expect("JSON");
    assert_eq!(json["platforms"][1]["platform"], "linux/arm64", "{json:#}");
    assert_eq!(json["platforms"][1]["steps"][0]["came"], "definition");
    let project = json["project"].as_str().expect("project");
    assert!(project.ends_with("Dockerfile"), "{project}");
    // the last one of all, whatever its kind
    let mut newest = Command::new(fixture::program());
    newest.arg("explain").arg("--root").arg(&store);
    assert_eq!(fixture::run(&mut newest).ok().stdout, both);
    // one platform, and then a build of both that fails at the second
    built(&[]).ok();
    assert_eq!(explained(&[]), cached);
    write(
        "FROM scratch AS amd64\nCOPY f /one\nFROM scratch AS arm64\nCOPY none /two\nFROM $TARGETARCH\n",
    );
    let text = fs::read_to_string(dir.join("Dockerfile")).expect("read");
    write(&format!("ARG TARGETARCH\n{text}"));
    let failed = built(&[PLATFORMS]);
    assert_ne!(failed.code, Some(0));
    assert!(!failed.stderr.contains(cached), "{}", failed.stderr);
    assert!(
        failed
            .stderr
            .contains("linux/amd64\ncached            [amd64 1/1] COPY f /one\n"),
        "{}",
        failed.stderr
    );
    // a build that fails before its first step has no table, and certainly not that of the one before
    write("FROM scratch\nADD http://127.0.0.1:1/x /x\n");
    let failed = built(&[]);
    assert_ne!(failed.code, Some(0));
    assert!(!failed.stderr.contains("cached"), "{}", failed.stderr);
}
