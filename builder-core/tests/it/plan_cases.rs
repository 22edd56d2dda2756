//! `testdata/plan/<case>`: a Dockerfile, and its plan as text or the message that refuses it. `BLESS=1` writes what is
//! expected anew.
//!
//! Every base is a made-up image with one layer, whose config is `base.json` of the case where it has one. A first line
//! `# options: KEY=VALUE …` gives `target`, `platform`, and anything else as a build arg.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use builder_core::digest::{DiffId, Digest};
use builder_core::dockerfile::diagnostic::{Diagnostic, render};
use builder_core::dockerfile::parse;
use builder_core::image::{ImageConfig, Platform};
use builder_core::plan::{BaseInfo, PlanOptions, Step, step, to_json, to_text};

fn options(text: &str) -> PlanOptions {
    let platform = Platform::new("linux", "amd64", None);
    let mut options = PlanOptions {
        platform: platform.clone(),
        build_platform: platform.clone(),
        ..PlanOptions::default()
    };
    let first = text.lines().next().unwrap_or_default();
    let words = first.strip_prefix("# options: ").unwrap_or_default();
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').expect("KEY=VALUE");
        match key {
            "platform" => {
                options.platform = Platform::parse(value, &platform).expect("a platform");
                options.platform_given = true;
            }
            "target" => options.target = Some(value.to_owned()),
            _ => {
                options.build_args.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    options
}

fn base(case: &Path) -> ImageConfig {
    let mut config = match fs::read(case.join("base.json")) {
        Ok(bytes) => ImageConfig::parse(&bytes).expect("base.json"),
        Err(_) => ImageConfig::scratch(&Platform::new("linux", "amd64", None)),
    };
    config.diff_ids = vec![DiffId(Digest::of(b"the base's layer"))];
    config
}

fn shown(case: &Path, text: &str) -> String {
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => return render(&Diagnostic::from(&error), "Dockerfile", text),
    };
    let mut known = BTreeMap::new();
    loop {
        match step(&file, &options(text), &known) {
            Ok(Step::Ready(plan)) => {
                // Both forms come from the same plan; the text is what is compared.
                assert!(to_json(&plan)["vertices"].is_array());
                return to_text(&plan);
            }
            Ok(Step::NeedBases(missing)) => {
                for (base_name, _) in missing {
                    let config = base(case);
                    let pinned = format!("{}@sha256:…", base_name.describe());
                    let info = BaseInfo {
                        digest: Digest::of(base_name.describe().as_bytes()),
                        config,
                        layers: Vec::new(),
                        pinned,
                    };
                    known.insert(base_name, info);
                }
            }
            Err(error) => return render(&Diagnostic::from(&error), "Dockerfile", text),
        }
    }
}

#[test]
fn dockerfiles_are_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/plan");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .expect("testdata/plan")
        .map(|case| case.expect("a case").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let text = fs::read_to_string(case.join("Dockerfile")).expect("Dockerfile");
        let own = shown(&case, &text);
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
}

/// Variables that are made of one another, and steps that all see them, end in an error and not in all of the memory.
#[test]
fn a_plan_has_a_largest_size() {
    let double = "ENV a=$a$a\n".repeat(18);
    let global = double.replace("ENV", "ARG");
    for (text, expected) in [
        (
            format!(
                "FROM scratch\nENV a=0123456789\n{}",
                "ENV a=$a$a\n".repeat(40)
            ),
            "longer than",
        ),
        (
            format!(
                "FROM scratch\nENV a=0123456789\n{double}{}",
                "RUN x\n".repeat(200)
            ),
            "the plan is larger than",
        ),
        (
            format!(
                "ARG a=0123456789\n{global}{}FROM scratch\n",
                "ARG b=$a\n".repeat(200)
            ),
            "the plan is larger than",
        ),
    ] {
        let file = builder_core::dockerfile::parse(&text).expect("a Dockerfile");
        let options = builder_core::plan::PlanOptions::default();
        match builder_core::plan::step(&file, &options, &std::collections::BTreeMap::new()) {
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            Ok(_) => panic!("it plans"),
        }
    }
}
