//! `testdata/dockerfile/err/<case>`: the message a mistake gives. `testdata/dockerfile/ok/<case>`: the canonical
//! text of a file. `BLESS=1` writes what is expected anew.

use std::fs;
use std::path::{Path, PathBuf};

use builder_core::dockerfile::diagnostic::{Diagnostic, render};
use builder_core::dockerfile::parse;

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/dockerfile")
        .join(kind);
    let mut cases: Vec<_> = fs::read_dir(folder)
        .expect(kind)
        .map(|case| case.expect("a case").path())
        .collect();
    cases.sort();
    cases
}

fn check(kind: &str, shown: impl Fn(&str) -> String) -> usize {
    let mut wrong = Vec::new();
    let cases = cases(kind);
    for case in &cases {
        let text = fs::read_to_string(case.join("Dockerfile")).expect("Dockerfile");
        let own = shown(&text);
        if std::env::var_os("BLESS").is_some() {
            fs::write(case.join("expected"), &own).expect("expected");
        }
        let expected = fs::read_to_string(case.join("expected")).unwrap_or_default();
        if own != expected {
            wrong.push(format!(
                "--- {}\nis:\n{own}\nshould be:\n{expected}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cases.len()
}

#[test]
fn mistakes_are_shown_in_place() {
    let count = check("err", |text| match parse(text) {
        Ok(_) => "no mistake found\n".to_owned(),
        Err(error) => render(&Diagnostic::from(&error), "Dockerfile", text),
    });
    assert!(count >= 40, "{count} cases");
}

#[test]
fn files_are_read() {
    check("ok", |text| match parse(text) {
        Ok(file) => file.to_string(),
        Err(error) => render(&Diagnostic::from(&error), "Dockerfile", text),
    });
}
