//! Every folder of `testdata/differential/`, built by us and by Debian's buildah on one base: the trees are the same.
//!
//! Compared are path, type, mode, owner, link, size, content and extended attributes of what lies above the base.
//! Where they are meant to differ, `DIFFER` says why.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture;
use crate::tree::Image;

const TEST: &str = "differential";

/// Case, start of a line of what buildah alone has, why: a mount point is nothing that a step made.
const DIFFER: &[(&str, &str, &str)] = &[
    ("*", "etc/hostname file 0755 0:0 0", "its mount point"),
    ("*", "etc/resolv.conf file 0755 0:0 0", "its mount point"),
    ("*", "run dir 0755", "the mount point of run/.containerenv"),
    ("cache-mounts", "cache dir", "a mount's target"),
    ("cache-mounts", "scratch dir", "a mount's target"),
    ("secrets", "deep", "a mount's target"),
    ("secrets", "run/secrets dir", "a mount's target"),
];

/// buildah with a storage of its own, on overlays as ours: a hard link of a layer below breaks where it is written to.
fn buildah(dir: &Path) -> Command {
    let mut command = Command::new("buildah");
    for (flag, name) in [("--root", "storage"), ("--runroot", "run")] {
        command.arg(flag).arg(dir.join(name));
    }
    command.args(["--storage-driver", "overlay"]);
    command
}

/// Flags with which buildah runs a step here, the same namespaces as ours before none; `None` where it cannot.
fn isolation(dir: &Path) -> Option<Vec<&'static str>> {
    // limits that need no CAP_SYS_RESOURCE
    let limits = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
    ];
    let probe = dir.join("probe");
    fs::create_dir_all(&probe).expect("mkdir");
    fs::write(probe.join("Dockerfile"), "FROM busybox\nRUN true\n").expect("write");
    let ways: [&[&str]; 2] = [
        &["--isolation", "oci", "--runtime", "runc"],
        &["--isolation", "chroot"],
    ];
    ways.into_iter().find_map(|way| {
        let mut command = buildah(dir);
        command.arg("bud").args(way).args(limits);
        let ran = fixture::run(command.args(["--network", "host"]).arg(&probe));
        (ran.code == Some(0)).then(|| [way, &limits[..]].concat())
    })
}

fn flags(command: &mut Command) -> &mut Command {
    command
        .args(["--secret", "id=token,env=TOKEN", "--build-arg", "ONE=given"])
        .env("TOKEN", "a secret of 24 bytes ...")
}

/// What a listing has and the other has not.
fn only_in(one: &str, other: &str) -> Vec<String> {
    one.lines()
        .filter(|line| !other.lines().any(|it| it == *line))
        .map(str::to_owned)
        .collect()
}

#[test]
fn buildah_makes_the_same_trees() {
    let Some(base) = fixture::base(TEST) else {
        return;
    };
    if !fixture::has("buildah") {
        return fixture::skip(TEST, "buildah (Debian package buildah)");
    }
    if !fixture::is_root() {
        return fixture::skip(TEST, "root, for buildah's storage");
    }
    let temp = fixture::temp_dir();
    // its name comes from the path, and has small letters only
    std::os::unix::fs::symlink(base, temp.path().join("layout")).expect("symlink");
    let mut pull = buildah(temp.path());
    pull.args(["pull", "-q", "oci:layout:latest"])
        .current_dir(temp.path());
    let pulled = fixture::run(&mut pull);
    let image = pulled.ok().stdout;
    fixture::run(buildah(temp.path()).args(["tag", image.trim(), "localhost/busybox"])).ok();
    let Some(way) = isolation(temp.path()) else {
        return fixture::skip(
            TEST,
            "a machine on which buildah can run a step on overlays",
        );
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/differential");
    let wanted = std::env::var("CASE").unwrap_or_default();
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("testdata/differential")
        .map(|entry| entry.expect("entry").file_name().into_string())
        .map(|name| name.expect("UTF-8"))
        .filter(|name| name.contains(&wanted))
        .collect();
    names.sort();
    assert!(names.len() >= 20 || !wanted.is_empty(), "{names:?}");
    let open_base = Image::open(base, Some("latest"));
    let mut wrong = String::new();
    for name in &names {
        let context = temp.path().join("contexts").join(name);
        fixture::copy_tree(&folder.join(name), &context);
        let (ours, theirs) = (temp.path().join("ours"), temp.path().join("theirs"));
        for out in [&ours, &theirs] {
            let _ = fs::remove_dir_all(out);
        }
        let mut command = fixture::build(base, &temp.path().join("store"));
        command.arg("-o");
        command.arg(format!("type=oci,dest={},tar=false", ours.display()));
        let built = fixture::run(flags(&mut command).arg(&context));

        let mut command = buildah(temp.path());
        // as Docker does: each instruction is a layer, and ONBUILD is kept
        command.args(["bud", "--layers", "--format", "docker"]);
        command.args(["--network", "host", "-t", "theirs"]);
        let theirs_built = fixture::run(flags(command.args(&way)).arg(&context));
        if let Some(failed) = [built, theirs_built].iter().find(|it| it.code != Some(0)) {
            wrong += &format!("── {name} ──\n{}", failed.stderr);
            continue;
        }
        let mut push = buildah(temp.path());
        push.args(["push", "-q", "--format", "oci", "theirs"]);
        fixture::run(push.arg(format!("oci:{}:latest", theirs.display()))).ok();

        let [ours, theirs] =
            [&ours, &theirs].map(|out| Image::open(out, None).changes_above(Some(&open_base)));
        assert!(!ours.is_empty(), "{name}");
        let meant = |line: &String| {
            let of_case = |it: &&(&str, &str, &str)| it.0 == "*" || it.0 == name;
            DIFFER
                .iter()
                .filter(of_case)
                .any(|it| line.starts_with(it.1))
        };
        let mine = only_in(&ours, &theirs);
        let mut others = only_in(&theirs, &ours);
        others.retain(|line| !meant(line));
        if !mine.is_empty() || !others.is_empty() {
            wrong += &format!("── {name} ──\nonly ours:\n  {}\n", mine.join("\n  "));
            wrong += &format!("only buildah's:\n  {}\n", others.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "with {}:\n{wrong}", way[1]);
}
