//! `builder check` and `builder build --check`: remarks in every format, exit codes, settings, mends.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::fixture::{self, program};

const QUESTIONABLE: &str = "from scratch AS Base\nENV key value\nCOPY . /\nCMD run\n";
const CLEAN: &str = "FROM scratch\nCOPY a /\n";
const MISTAKEN: &str = "FROM scratch\nENV key value\nCOPY --form=build a /\n";

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the command runs")
}

fn written(text: &str) -> tempfile::TempDir {
    let dir = fixture::temp_dir();
    fs::write(dir.path().join("Dockerfile"), text).expect("written");
    dir
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn exit_codes_tell_what_was_found() {
    for (text, args, code) in [
        (CLEAN, &["check"][..], 0),
        (QUESTIONABLE, &["check"], 3),
        (MISTAKEN, &["check"], 1),
        (CLEAN, &["check", "--skip=NoSuchRule"], 2),
        (CLEAN, &["check", "no/such/context"], 2),
        (CLEAN, &["check", "--format=xml"], 2),
        (QUESTIONABLE, &["check", "--skip=all"], 0),
        (CLEAN, &["check", "-f", "other"], 1),
        (CLEAN, &["build", "--root=store", "--check", "."], 0),
        (QUESTIONABLE, &["build", "--root=store", "--check", "."], 3),
        (MISTAKEN, &["build", "--root=store", "--check", "."], 1),
        (
            QUESTIONABLE,
            &["build", "--root=store", "--call=check", "."],
            3,
        ),
        (
            QUESTIONABLE,
            &[
                "build",
                "--root=store",
                "--check",
                "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all",
                ".",
            ],
            0,
        ),
    ] {
        let dir = written(text);
        let output = run(dir.path(), args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?} {text:?}: {output:?}"
        );
    }
}

#[test]
fn every_format_has_every_remark() {
    let dir = written(QUESTIONABLE);
    let text = out(&run(dir.path(), &["check"]));
    let rules = [
        "StageNameCasing",
        "FromAsCasing",
        "ConsistentInstructionCasing",
        "LegacyKeyValueFormat",
        "JSONArgsRecommended",
    ];
    for rule in rules {
        assert!(text.contains(rule), "{rule}: {text}");
    }
    assert!(text.contains("2 | ENV key value"), "{text}");

    let json = out(&run(dir.path(), &["check", "--format=json"]));
    let remarks: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let codes: Vec<&str> = remarks
        .iter()
        .filter_map(|it| it["code"].as_str())
        .collect();
    assert!(rules.iter().all(|rule| codes.contains(rule)), "{codes:?}");

    let github = out(&run(dir.path(), &["check", "--format=github"]));
    assert_eq!(github.lines().count(), remarks.len());
    assert!(
        github
            .lines()
            .all(|line| line.starts_with("::warning file=Dockerfile,line=")),
        "{github}"
    );

    let sarif: Value =
        serde_json::from_str(&out(&run(dir.path(), &["check", "--format=sarif"]))).expect("JSON");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), remarks.len());

    let called = ["build", "--root=store", "--call=check,format=json", "."];
    let called: Value = serde_json::from_str(&out(&run(dir.path(), &called))).expect("JSON");
    let warnings = called["warnings"].as_array().expect("warnings");
    assert_eq!(warnings.len(), remarks.len());
    assert_eq!(called["sources"][0]["filename"], "Dockerfile");
    assert!(called["buildError"].is_null());
}

#[test]
fn a_mistake_is_in_every_format() {
    let dir = written(MISTAKEN);
    for (args, expected) in [
        (&["check"][..], "did you mean `--from`?"),
        (&["check", "--format=json"], "\"severity\":\"error\""),
        (
            &["check", "--format=github"],
            "::error file=Dockerfile,line=3",
        ),
        (&["check", "--format=sarif"], "\"ruleId\": \"Mistake\""),
        (
            &["build", "--root=store", "--call=check,format=json", "."],
            "\"buildError\": {",
        ),
    ] {
        let output = run(dir.path(), args);
        assert!(out(&output).contains(expected), "{args:?}: {output:?}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn settings_quiet_rules_and_ask_for_others() {
    let text = "# check=skip=FromAsCasing\nFROM scratch as base\nCOPY .env /\n";
    let dir = written(text);
    for (args, speaks, quiet) in [
        (&["check"][..], "SecretInLayer", "FromAsCasing"),
        (&["check", "--skip=secretinlayer"], "", "SecretInLayer"),
        (
            &[
                "check",
                "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=SecretInLayer",
            ],
            "FromAsCasing",
            "SecretInLayer",
        ),
    ] {
        let output = run(dir.path(), args);
        assert!(out(&output).contains(speaks), "{args:?}: {output:?}");
        assert!(!out(&output).contains(quiet), "{args:?}: {output:?}");
    }
    let dir = written("FROM debian\n");
    assert_eq!(out(&run(dir.path(), &["check"])), "");
    let asked = out(&run(dir.path(), &["check", "--enable=UnpinnedBase"]));
    assert!(asked.contains("UnpinnedBase"), "{asked}");
    let rules = out(&run(dir.path(), &["check", "--rules"]));
    assert_eq!(rules.lines().count(), 25, "{rules}");
}

#[test]
fn mends_are_made_once_and_change_no_plan() {
    let text = "# escape=`\nfrom scratch as Base\nENV key a value `\n\n  of words\nEXPOSE 80/TCP\n\
                FROM base\nMAINTAINER me\nCMD a 'b'\n";
    let dir = written(text);
    let path = dir.path().join("Dockerfile");
    let plan = || out(&run(dir.path(), &["plan", "--root=store", "."]));
    let before = plan();
    assert!(before.contains("key=a value   of words"), "{before}");
    run(dir.path(), &["check", "--fix"]);
    let once = fs::read_to_string(&path).expect("read");
    assert_ne!(once, text);
    assert_eq!(plan(), before, "{once}");
    let again = run(dir.path(), &["check", "--fix"]);
    assert_eq!(fs::read_to_string(&path).expect("read"), once, "{again:?}");
    // What no edit can mend is still told.
    assert_eq!(again.status.code(), Some(3));
    assert!(out(&again).contains("JSONArgsRecommended"), "{again:?}");

    // A clean file is not written to, a mistaken one neither.
    for text in [CLEAN, "FROM scratch\nRUNN x\n"] {
        let dir = written(text);
        let path = dir.path().join("Dockerfile");
        let mut mode = fs::metadata(&path).expect("there").permissions();
        mode.set_readonly(true);
        fs::set_permissions(&path, mode).expect("set");
        let time = || {
            fs::metadata(&path)
                .and_then(|it| it.modified())
                .expect("a time")
        };
        let before = time();
        run(dir.path(), &["check", "--fix"]);
        assert_eq!(time(), before);
    }
}

#[test]
fn a_dockerfile_from_standard_input_is_checked_but_not_mended() {
    let dir = fixture::temp_dir();
    for (args, code) in [
        (&["check", "-f", "-"][..], 3),
        (&["check", "--fix", "-f", "-"], 2),
    ] {
        let mut child = Command::new(program())
            .args(args)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(QUESTIONABLE.as_bytes()).expect("written");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
}
