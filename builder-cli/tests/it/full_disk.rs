//! Disks that are full, read-only, or have no inodes left: the error says which place it is, and nothing half-written
//! stays where a result is expected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture;

/// A tmpfs that goes with its guard.
struct Small(PathBuf);

impl Small {
    fn mount(test: &str, path: PathBuf, options: &str) -> Option<Small> {
        fs::create_dir_all(&path).expect("mkdir");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "small"])
            .arg(&path)
            .output();
        if done.is_ok_and(|it| it.status.success()) {
            return Some(Small(path));
        }
        fixture::skip(test, "the right to mount a tmpfs");
        None
    }

    fn read_only(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status();
        assert!(done.expect("mount").success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A context whose image is larger than the small disks.
fn context(temp: &Path) -> PathBuf {
    let context = temp.join("context");
    let noise: String = (0..600_000_u64)
        .map(|n| format!("{:x}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let text = "FROM busybox\nCOPY noise /noise\nRUN cp /noise /more\n";
    fixture::write_files(&context, &[("Dockerfile", text), ("noise", &noise)]);
    context
}

#[test]
fn a_store_that_is_full_is_named_and_stays_valid() {
    let Some(base) = fixture::base("full_disk") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = context(temp.path());
    for (what, options) in [
        ("the base", "size=1m"),
        ("the copied file", "size=6m"),
        ("the step", "size=20m"),
        ("no inodes at all", "nr_inodes=12"),
        ("no inodes for the base", "nr_inodes=80"),
    ] {
        let Some(small) = Small::mount("full_disk", temp.path().join("small"), options) else {
            return;
        };
        let store = small.0.join("store");
        let out = temp.path().join("out.tar");
        let mut command = fixture::build(base, &store);
        command
            .arg("--output")
            .arg(format!("type=oci,dest={}", out.display()));
        let ran = fixture::run(command.arg(&context));
        assert_eq!(ran.code, Some(1), "{what}: {}", ran.stderr);
        let said = ["no space left on", "No space left on"]
            .iter()
            .any(|it| ran.stderr.contains(it));
        assert!(said, "{what}: {}", ran.stderr);
        assert!(!out.exists(), "{what}");
        // Every blob that is there is whole, and nothing is left over.
        for blob in fs::read_dir(store.join("blobs/sha256"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let bytes = fs::read(blob.path()).expect("read");
            assert_eq!(
                fixture::sha256(&bytes),
                blob.file_name().to_string_lossy(),
                "{what}"
            );
        }
        if store.join("tmp").is_dir() {
            assert_eq!(names(&store.join("tmp")), [""; 0], "{what}");
        }
    }
}

#[test]
fn an_output_that_is_full_is_named_and_the_earlier_one_stays() {
    let Some(base) = fixture::base("full_disk") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = context(temp.path());
    let store = temp.path().join("store");
    let Some(small) = Small::mount("full_disk", temp.path().join("small"), "size=2m") else {
        return;
    };
    for kind in ["oci", "docker", "tar"] {
        let out = small.0.join("out");
        fs::write(&out, "of earlier\n").expect("write");
        let mut command = fixture::build(base, &store);
        command
            .arg("-t")
            .arg("full:1")
            .arg("--output")
            .arg(format!("type={kind},dest={}", out.display()));
        let ran = fixture::run(command.arg(&context));
        assert_eq!(ran.code, Some(1), "{kind}: {}", ran.stderr);
        for word in ["space left", &out.display().to_string()] {
            assert!(ran.stderr.contains(word), "{kind}: {word}: {}", ran.stderr);
        }
        assert_eq!(
            fs::read_to_string(&out).expect("read"),
            "of earlier\n",
            "{kind}"
        );
        assert_eq!(names(&small.0), ["out"], "{kind}");
        fs::remove_file(&out).expect("remove");
    }
    for (kind, more) in [("oci", ",tar=false"), ("local", "")] {
        let out = small.0.join("directory");
        let mut command = fixture::build(base, &store);
        command
            .arg("--output")
            .arg(format!("type={kind},dest={}{more}", out.display()));
        let ran = fixture::run(command.arg(&context));
        assert_eq!(ran.code, Some(1), "{kind}: {}", ran.stderr);
        for word in ["space left", &out.display().to_string()] {
            assert!(ran.stderr.contains(word), "{kind}: {word}: {}", ran.stderr);
        }
        // A layout without an index is no image that anybody could take for one.
        assert!(!out.join("index.json").exists(), "{kind}");
        fs::remove_dir_all(&out).expect("remove");
    }
}

#[test]
fn places_that_are_read_only_are_named() {
    let Some(base) = fixture::base("full_disk") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = context(temp.path());
    let Some(small) = Small::mount("full_disk", temp.path().join("small"), "size=64m") else {
        return;
    };
    let store = small.0.join("store");
    fixture::run(fixture::build(base, &store).arg(&context)).ok();
    small.read_only();
    let ran = fixture::run(fixture::build(base, &store).arg(&context));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for word in ["read-only", &store.display().to_string()] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let good = temp.path().join("store");
    for output in ["type=oci,dest=", "type=tar,dest=", "type=local,dest="] {
        let out = small.0.join("out");
        let mut command = fixture::build(base, &good);
        command
            .arg("--output")
            .arg(format!("{output}{}", out.display()));
        let ran = fixture::run(command.arg(&context));
        assert_eq!(ran.code, Some(1), "{output}: {}", ran.stderr);
        for word in ["ead-only", &out.display().to_string()] {
            assert!(
                ran.stderr.contains(word),
                "{output}: {word}: {}",
                ran.stderr
            );
        }
    }
}

#[test]
fn two_builds_to_one_file_do_not_mix() {
    let Some(base) = fixture::base("full_disk") else {
        return;
    };
    let temp = fixture::temp_dir();
    let out = temp.path().join("out.tar");
    let store = temp.path().join("store");
    let contexts: Vec<PathBuf> = (0..2)
        .map(|nth| {
            let dir = temp.path().join(format!("context{nth}"));
            let noise = format!("{nth}").repeat(3_000_000);
            fixture::write_files(
                &dir,
                &[
                    ("Dockerfile", "FROM scratch\nCOPY noise /\n"),
                    ("noise", &noise),
                ],
            );
            dir
        })
        .collect();
    std::thread::scope(|scope| {
        for context in &contexts {
            let (out, store) = (&out, &store);
            scope.spawn(move || {
                for _ in 0..5 {
                    let mut command = fixture::build(base, store);
                    command
                        .arg("--output")
                        .arg(format!("type=tar,dest={}", out.display()));
                    fixture::run(command.arg(context)).ok();
                    let mut tar = tar::Archive::new(fs::File::open(out).expect("open"));
                    let mut whole = String::new();
                    for entry in tar.entries().expect("a tar") {
                        std::io::Read::read_to_string(&mut entry.expect("entry"), &mut whole)
                            .expect("read");
                    }
                    let first = whole.chars().next().expect("not empty");
                    assert!(whole.len() == 3_000_000 && whole.chars().all(|c| c == first));
                }
            });
        }
    });
    let left: Vec<String> = names(temp.path())
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
