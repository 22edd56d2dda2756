//! Build args that BuildKit's frontend reads: each does what it says, or is told of.

use std::fs;

use crate::fixture::{self, Steps};

#[test]
fn what_the_frontend_reads_does_what_it_says() {
    let Some(base) = fixture::base("frontend-args") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    let out = temp.path().join("out");
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c hostname > /name; grep -c \"localhost $(hostname)\" \
        /etc/hosts >> /name; ls /c >> /name; touch /c/seen\n";
    fixture::write_files(&dir, &[("Dockerfile", dockerfile)]);
    let with = |args: &[&str]| {
        let _ = fs::remove_dir_all(&out);
        let mut command = fixture::build(base, &store);
        command.args(["--progress=rawjson", "-o"]).arg(&out);
        for arg in args {
            command.args(["--build-arg", arg]);
        }
        let ran = fixture::run(command.arg(&dir));
        if ran.code != Some(0) {
            return (ran.stderr, 0, Vec::new());
        }
        let steps = Steps::of(&ran);
        let name = fs::read_to_string(out.join("name")).expect("made");
        (name, steps.reran().len(), steps.warnings.clone())
    };
    let nothing: Vec<String> = Vec::new();
    let usual = ("buildkitsandbox\n1\n".to_owned(), 1, nothing.clone());
    assert_eq!(with(&[]), usual);
    // a cache mount of another name space is another
    const SPACE: &str = "BUILDKIT_CACHE_MOUNT_NS=other";
    assert_eq!(with(&[SPACE]), usual);
    let own = with(&["BUILDKIT_SANDBOX_HOSTNAME=own.host"]);
    assert_eq!(own, ("own.host\n1\nseen\n".to_owned(), 1, nothing.clone()));
    let again = with(&["BUILDKIT_SANDBOX_HOSTNAME=own.host"]);
    assert_eq!(again.1, 0);
    // the usual one is as if it were not said, and finds what the first build made
    assert_eq!(with(&["BUILDKIT_SANDBOX_HOSTNAME=buildkitsandbox"]).1, 0);
    let (told, ..) = with(&["BUILDKIT_SANDBOX_HOSTNAME=a b"]);
    assert!(told.contains("BUILDKIT_SANDBOX_HOSTNAME=a b"), "{told}");
    let (.., warnings) = with(&["BUILDKIT_MULTI_PLATFORM=1", "BUILDKIT_BUILD_NAME=n"]);
    let told = |name: &str| warnings.iter().any(|it| it.contains(name));
    assert!(
        told("BUILDKIT_MULTI_PLATFORM") && told("BUILDKIT_BUILD_NAME"),
        "{warnings:?}"
    );
}

#[test]
fn an_image_may_carry_its_cache_by_a_build_arg() {
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    fixture::write_files(
        &dir,
        &[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", "f\n")],
    );
    let carries = |value: &str| {
        let layout = temp.path().join(format!("o{value}"));
        let dest = format!("type=oci,tar=false,dest={}", layout.display());
        let mut command = std::process::Command::new(fixture::program());
        command
            .arg("build")
            .arg("--root")
            .arg(&store)
            .args(["-o", &dest]);
        command.args(["--build-arg", &format!("BUILDKIT_INLINE_CACHE={value}")]);
        fixture::run(command.arg(&dir)).ok();
        let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("blobs");
        let mut blobs = blobs.map(|it| fs::read(it.expect("blob").path()).expect("read"));
        blobs.any(|it| String::from_utf8_lossy(&it).contains("moby.buildkit.cache"))
    };
    assert!(carries("1"));
    assert!(!carries("0"));
}
