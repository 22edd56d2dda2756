//! `testdata/check/<case>`: what checks say about a Dockerfile, as it is shown, and the file with all mends made where it
//! has any. `BLESS=1` writes what is expected anew.
//!
//! A case may have an ignore file; `base.json`, the config of every base (else nothing is known of bases); and
//! `settings`, which come on top of the file's own. Mending twice is mending once, and the plan stays the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use builder_core::context::ignore::{Ignore, Patterns};
use builder_core::digest::{DiffId, Digest};
use builder_core::dockerfile::diagnostic::render;
use builder_core::dockerfile::lint::{Finding, Settings, fix};
use builder_core::dockerfile::{ast::Dockerfile, parse};
use builder_core::image::{ImageConfig, Platform};
use builder_core::plan::lint::{Surroundings, check, rules};
use builder_core::plan::{Base, BaseInfo, PlanOptions, Step, step, to_text};

fn options() -> PlanOptions {
    let platform = Platform::new("linux", "amd64", None);
    PlanOptions {
        platform: platform.clone(),
        build_platform: platform,
        ..PlanOptions::default()
    }
}

/// Plans on made-up bases; returns the plan as text, and the bases.
fn planned(text: &str, config: &ImageConfig) -> (String, BTreeMap<Base, BaseInfo>) {
    let file = parse(text).expect("a Dockerfile");
    let mut known = BTreeMap::new();
    loop {
        match step(&file, &options(), &known) {
            Ok(Step::Ready(plan)) => return (to_text(&plan), known),
            Ok(Step::NeedBases(missing)) => known.extend(missing.into_keys().map(|base| {
                let info = BaseInfo {
                    digest: Digest::of(base.describe().as_bytes()),
                    config: config.clone(),
                    layers: Vec::new(),
                    pinned: format!("{}@sha256:…", base.describe()),
                };
                (base, info)
            })),
            // A file that checks speak about need not be one that can be built.
            Err(error) => return (error.to_string(), known),
        }
    }
}

fn config(case: &Path) -> (ImageConfig, bool) {
    let given = fs::read(case.join("base.json")).ok();
    let mut config = match &given {
        Some(bytes) => ImageConfig::parse(bytes).expect("base.json"),
        None => ImageConfig::scratch(&Platform::new("linux", "amd64", None)),
    };
    config.diff_ids = vec![DiffId(Digest::of(b"the base's layer"))];
    (config, given.is_some())
}

/// What is said, the text with all mends, and the rules that spoke.
fn checked(case: &Path, text: &str) -> (String, String, BTreeSet<&'static str>) {
    let (config, has_base) = config(case);
    let (plan, known) = planned(text, &config);
    let known = if has_base { known } else { BTreeMap::new() };
    let more = fs::read_to_string(case.join("settings")).unwrap_or_default();
    let more = Settings::parse(more.trim()).expect("settings");
    let patterns = fs::read(case.join(".dockerignore"))
        .ok()
        .map(|bytes| Patterns::new(&Ignore::read(&bytes)).expect("patterns"))
        .filter(|patterns| !patterns.has_exceptions());
    let ignored = |path: &str| {
        patterns
            .as_ref()
            .is_some_and(|it| it.matches(path) == Ok(true))
    };
    let options = options();
    let surroundings = Surroundings {
        options: &options,
        known: &known,
        ignored: patterns.is_some().then_some(&ignored),
    };
    let all: &dyn Fn(&Dockerfile, &str) -> Vec<Finding> = &|file, text| {
        let settings = Settings::of(file).expect("the directive").with(&more);
        settings.keep(file, check(file, text, &surroundings))
    };
    let findings = all(&parse(text).expect("a Dockerfile"), text);
    let said = findings
        .iter()
        .map(|it| render(&it.diagnostic, "Dockerfile", text))
        .collect();
    let fixed = fix(text, all).expect("a Dockerfile");
    assert_eq!(fix(&fixed, all), Ok(fixed.clone()), "{}", case.display());
    assert_eq!(planned(&fixed, &config).0, plan, "{}", case.display());
    let left = all(&parse(&fixed).expect("a Dockerfile"), &fixed);
    assert!(left.iter().all(|it| it.edits.is_empty()), "{left:?}");
    (
        said,
        fixed,
        findings.iter().map(|it| it.rule.name).collect(),
    )
}

#[test]
fn checks_say_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/check");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("testdata/check")
        .map(|case| case.expect("a case").path())
        .collect();
    cases.sort();
    let (mut wrong, mut spoke) = (Vec::new(), BTreeSet::new());
    for case in &cases {
        let text = fs::read_to_string(case.join("Dockerfile")).expect("Dockerfile");
        let (said, fixed, names) = checked(case, &text);
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        // `<Rule>` fires, `<Rule>-quiet` and `<Rule>-skipped` do not.
        let (rule, how) = name.split_once('-').unwrap_or((&name, ""));
        if rules().any(|it| it.name == rule) {
            let quiet = how.starts_with("quiet") || how.starts_with("skipped");
            assert_eq!(names.contains(rule), !quiet, "{name}: {said}");
        }
        spoke.extend(names);
        let fixed = (fixed != text).then_some(fixed);
        for (file, own) in [("expected", Some(said)), ("fixed", fixed)] {
            let path = case.join(file);
            if std::env::var_os("BLESS").is_some() {
                match &own {
                    Some(own) => fs::write(&path, own).expect("written"),
                    None => drop(fs::remove_file(&path)),
                }
            }
            let expected = fs::read_to_string(&path).ok();
            if own != expected {
                wrong.push(format!(
                    "--- {}\nis:\n{}\nshould be:\n{}",
                    path.display(),
                    own.unwrap_or_default(),
                    expected.unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for rule in rules() {
        assert!(spoke.contains(rule.name), "no case for {}", rule.name);
        let quiet = format!("{}-quiet", rule.name);
        assert!(
            cases.iter().any(|it| it.ends_with(&quiet)),
            "no case {quiet}"
        );
    }
}

/// Every Dockerfile of `testdata`: mends change no plan, and nothing panics.
#[test]
fn mends_change_no_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let (config, _) = config(&root);
    let options = options();
    let known = BTreeMap::new();
    let surroundings = Surroundings {
        options: &options,
        known: &known,
        ignored: None,
    };
    let all: &dyn Fn(&Dockerfile, &str) -> Vec<Finding> =
        &|file, text| check(file, text, &surroundings);
    let mut mended = 0;
    for kind in ["build", "plan", "dockerfile/ok", "check"] {
        for case in fs::read_dir(root.join(kind)).expect(kind) {
            let path = case.expect("a case").path().join("Dockerfile");
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let Ok(fixed) = fix(&text, all) else { continue };
            let (before, after) = (planned(&text, &config).0, planned(&fixed, &config).0);
            assert_eq!(before, after, "{}", path.display());
            mended += usize::from(fixed != text);
        }
    }
    assert!(mended >= 8, "{mended} were mended");
}
