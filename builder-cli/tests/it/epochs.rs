//! `SOURCE_DATE_EPOCH=context` and `=NAME`: the time comes from what is named.

use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Ran};
use crate::web::{LAST_MODIFIED, Web};

/// When the commit was made, as git takes it and in seconds.
const COMMIT: (&str, u64) = ("2001-02-03T04:05:06Z", 981_173_106);

fn build(temp: &Path, epoch: &str, arguments: &[&str]) -> Ran {
    let out = temp.join("out");
    let _ = std::fs::remove_dir_all(&out);
    let mut command = Command::new(fixture::program());
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .arg("build")
        .arg("--root")
        .arg(temp.join("store"))
        .args(["--progress", "plain", "--build-arg"])
        .arg(format!("SOURCE_DATE_EPOCH={epoch}"))
        .arg("-o")
        .arg(&out)
        .args(arguments);
    fixture::run(&mut command)
}

#[test]
fn what_is_named_gives_the_time() {
    if !fixture::has("git") {
        fixture::skip("epochs", "git");
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let web = Web::start(dir);
    let dockerfile = format!(
        "FROM scratch AS fetched\nARG NAME=ctx\nADD {} /\n\nFROM scratch AS wrong\nCOPY here /\n\n\
         FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY here /at-$SOURCE_DATE_EPOCH\n",
        web.url("${NAME}.tar")
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("here", "here\n")];
    fixture::write_files(&dir.join("context"), &files);
    let mut command = Command::new("sh");
    command
        .args([
            "-ec",
            "tar -cf ctx.tar -C context . && cd context && git init -q -b main && git add . && \
             git -c user.email=a@example.com -c user.name=a commit -qm one",
        ])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", COMMIT.0)
        .env("GIT_AUTHOR_DATE", "2002-02-03T04:05:06Z");
    fixture::run(&mut command).ok();
    let local = dir.join("context").display().to_string();
    let git = format!("file://{local}/.git");
    let tar = web.url("ctx.tar");
    let (of_git, of_web) = (format!("from={git}"), format!("from={tar}"));
    let of_stage = format!("fetched={git}");
    let of_directory = format!("from={local}");
    let (commit, modified) = (COMMIT.1.to_string(), LAST_MODIFIED.1.to_string());
    for (epoch, arguments, expected) in [
        ("context", vec![&*local], ""),
        ("context", vec![&git], &*commit),
        ("context", vec![&tar], &modified),
        ("from", vec!["--build-context", &of_directory, &local], ""),
        ("from", vec!["--build-context", &of_git, &local], &commit),
        ("from", vec!["--build-context", &of_web, &local], &modified),
        ("fetched", vec![&local], &modified),
        // A named context is meant before a stage of its name.
        (
            "Fetched",
            vec!["--build-context", &of_stage, &local],
            &commit,
        ),
        ("0017", vec![&local], "17"),
    ] {
        build(dir, epoch, &arguments).ok();
        let path = dir.join("out").join(format!("at-{expected}"));
        assert!(path.exists(), "{epoch} {arguments:?}: {}", path.display());
    }
    for (epoch, expected) in [
        ("wrong", ["it has a COPY", "Dockerfile:6"]),
        (
            "fetchd",
            [
                "`fetchd` is no number of seconds",
                "did you mean `fetched`?",
            ],
        ),
    ] {
        let ran = build(dir, epoch, &[&local]);
        assert_ne!(ran.code, Some(0), "{epoch}");
        for expected in expected {
            assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        }
    }
}
