//! `testdata/call/<case>`: what `builder build --call=…` answers, as text and as JSON. `args` has the flags, `--call` first.
//! `BLESS=1` writes what is expected anew.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::{self, program};

fn call(dir: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .arg("build")
        .args(args)
        .arg("--root")
        .arg(dir.join("store"))
        .arg("--platform=linux/amd64")
        .arg(dir)
        .output()
        .expect("the command runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn calls_answer_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/call");
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in fs::read_dir(folder).expect("testdata/call") {
        let case = case.expect("a case").path();
        let dir = fixture::temp_dir();
        fs::copy(case.join("Dockerfile"), dir.path().join("Dockerfile")).expect("Dockerfile");
        let args = fs::read_to_string(case.join("args")).expect("args");
        let args: Vec<&str> = args.split_whitespace().collect();
        let json = format!("{},format=json", args[0]);
        let as_json = [&[json.as_str()], &args[1..]].concat();
        for (file, args) in [("text", &args), ("json", &as_json)] {
            let output = call(dir.path(), args);
            assert!(
                output.status.success(),
                "{}: {}",
                case.display(),
                told(&output)
            );
            let own = String::from_utf8(output.stdout).expect("text");
            let path = case.join(file);
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &own).expect("written");
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if own != expected {
                wrong.push(format!(
                    "--- {}\nis:\n{own}\nshould be:\n{expected}",
                    path.display()
                ));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 0, "no case");
}

#[test]
fn what_cannot_be_answered_is_told() {
    let dir = fixture::temp_dir();
    for (text, args, code, expected) in [
        (
            "FROM scratch\nCOPPY a b\n",
            &["--call=targets"][..],
            1,
            "did you mean `COPY`?",
        ),
        (
            "FROM scratch AS build\n",
            &["--call=outline", "--target=biuld"],
            1,
            "did you mean `build`?",
        ),
        (
            "FROM scratch\n",
            &["--call=outlin"],
            2,
            "build, check, outline and targets are",
        ),
        (
            "FROM scratch\n",
            &["--call=outline,format=yaml"],
            2,
            "text or json is expected",
        ),
        (
            "FROM scratch\n",
            &["--check", "--call=outline"],
            2,
            "--check is --call=check",
        ),
    ] {
        fs::write(dir.path().join("Dockerfile"), text).expect("written");
        let output = call(dir.path(), args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(told(&output).contains(expected), "{}", told(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_call_of_build_builds() {
    let dir = fixture::temp_dir();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    fs::write(dir.path().join("Dockerfile"), text).expect("written");
    let output = call(dir.path(), &["--call=build", "-q"]);
    if !output.status.success() && told(&output).contains("namespace") {
        fixture::skip("a_call_of_build_builds", "user namespaces");
        return;
    }
    assert!(output.status.success(), "{}", told(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("sha256:"));
}
