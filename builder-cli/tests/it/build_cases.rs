//! Every folder of `testdata/build/` is a build: what it must make, and that a second build does nothing.
//!
//! ```text
//! testdata/build/<case>/
//!   Dockerfile      FROM busybox is the base of `fixture`
//!   context/        the build context; empty where absent; may hold the Dockerfile itself
//!   tree            what the image changes above its base (all of it where the base is scratch)
//!   config.json     the image config's own fields, and `history`: [created_by, has a layer] above the base
//!   case.toml       what else the build is given, see `Case`
//! ```
//!
//! A case that must fail has `expect_fail` in its case.toml and neither tree nor config.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::fixture::{self, Steps};
use crate::tree::Image;

/// A case's `case.toml`; every field may be left out.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Case {
    /// More arguments of `builder build`; `{dir}` stands for the case's own folder.
    args: Vec<String>,
    env: BTreeMap<String, String>,
    /// `base`, where the result does not stand on the fixture's base: `scratch`.
    from: Option<String>,
    /// The build exits with 1 and its stderr has each of these texts.
    expect_fail: Vec<String>,
    /// Each of these texts is in some warning.
    expect_warning: Vec<String>,
    /// None of these texts is anywhere in the image's layers' names.
    absent: Vec<String>,
    /// What of the context git does not keep.
    empty_dirs: Vec<String>,
    symlinks: BTreeMap<String, String>,
    hard_links: BTreeMap<String, String>,
    modes: BTreeMap<String, String>,
    /// `wide-ids`: uid 70000 is mapped here; `cgroups`: groups of memory, processors and processes can be made.
    needs: Vec<String>,
}

impl Case {
    pub(crate) fn load(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("case.toml")).unwrap_or_default();
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}/case.toml: {e}", dir.display()))
    }

    pub(crate) fn fails(&self) -> bool {
        !self.expect_fail.is_empty()
    }

    /// The feature that this machine lacks for the case.
    pub(crate) fn lacks(&self) -> Option<&str> {
        self.needs
            .iter()
            .map(String::as_str)
            .find(|need| match *need {
                "wide-ids" => !fixture::maps_id(70_000),
                "cgroups" => !fixture::has_cgroups(),
                other => panic!("case.toml: unknown need `{other}`"),
            })
    }

    /// Whether an ordinary user with 65,536 subordinate ids can build it.
    pub(crate) fn fits_ordinary_user(&self) -> bool {
        self.needs.is_empty()
    }

    /// Writes the context to `to`, with all that git does not keep.
    pub(crate) fn write_context(&self, dir: &Path, to: &Path) {
        fs::create_dir_all(to).expect("mkdir");
        if dir.join("context").is_dir() {
            fixture::copy_tree(&dir.join("context"), to);
        }
        for empty in &self.empty_dirs {
            fs::create_dir_all(to.join(empty)).expect("mkdir");
        }
        for (path, target) in &self.symlinks {
            std::os::unix::fs::symlink(target, to.join(path)).expect("symlink");
        }
        for (path, target) in &self.hard_links {
            fs::hard_link(to.join(target), to.join(path)).expect("link");
        }
        for (path, mode) in &self.modes {
            fixture::set_mode(
                &to.join(path),
                u32::from_str_radix(mode, 8).expect("an octal mode"),
            );
        }
    }

    /// Adds the case's arguments, its Dockerfile and its context to `builder build`.
    pub(crate) fn arguments(&self, dir: &Path, context: &Path, command: &mut Command) {
        for arg in &self.args {
            command.arg(arg.replace("{dir}", &dir.display().to_string()));
        }
        command.envs(&self.env);
        if dir.join("Dockerfile").is_file() {
            command.arg("-f").arg(dir.join("Dockerfile"));
        }
        command.arg(context);
    }
}

/// The folders of `testdata/build/`, by name; `CASE` picks some.
pub(crate) fn all() -> Vec<PathBuf> {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = fs::read_dir(fixture::cases_dir())
        .expect("testdata/build")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.is_dir() && name(path).contains(&wanted))
        .collect();
    dirs.sort();
    dirs
}

pub(crate) fn name(dir: &Path) -> String {
    dir.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn every_case_makes_its_tree_and_config_and_is_cached_the_second_time() {
    let Some(base) = fixture::base("build_cases") else {
        return;
    };
    let base_image = Image::open(base, Some("latest"));
    let dirs = all();
    assert!(
        dirs.len() >= 48 || std::env::var_os("CASE").is_some(),
        "only {} cases",
        dirs.len()
    );
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(dir) = dirs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = std::panic::catch_unwind(|| check(dir, base, &base_image));
                    let why = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(panic) => panic
                            .downcast_ref::<String>()
                            .cloned()
                            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                            .unwrap_or_default(),
                    };
                    failures
                        .lock()
                        .expect("lock")
                        .push(format!("── {} ──\n{why}", name(dir)));
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("lock");
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        dirs.len(),
        failures.join("\n")
    );
}

/// Builds the case twice and compares; `Err` is the text for the person who reads the failure.
fn check(dir: &Path, base: &Path, base_image: &Image) -> Result<(), String> {
    let case = Case::load(dir);
    if let Some(need) = case.lacks() {
        fixture::skip(&format!("build_cases/{}", name(dir)), need);
        return Ok(());
    }
    let temp = fixture::temp_dir();
    let (store, context) = (temp.path().join("store"), temp.path().join("context"));
    case.write_context(dir, &context);
    let build = |progress: &str, nth: u32| {
        let mut command = fixture::build(base, &store);
        command.arg(format!("--progress={progress}"));
        command
            .arg("--iidfile")
            .arg(temp.path().join(format!("iid{nth}")));
        command.arg("--output").arg(format!(
            "type=oci,dest={}/out{nth},tar=false",
            temp.path().display()
        ));
        case.arguments(dir, &context, &mut command);
        fixture::run(&mut command)
    };

    if case.fails() {
        let ran = build("plain", 1);
        let missing: Vec<_> = case
            .expect_fail
            .iter()
            .filter(|text| !ran.stderr.contains(*text))
            .collect();
        return if ran.code != Some(1) {
            Err(format!("exit code {:?}, not 1\n{}", ran.code, ran.stderr))
        } else if !missing.is_empty() {
            Err(format!("stderr lacks {missing:?}:\n{}", ran.stderr))
        } else {
            Ok(())
        };
    }

    let first = build("rawjson", 1);
    if first.code != Some(0) {
        return Err(format!("exit code {:?}\n{}", first.code, first.stderr));
    }
    let image = Image::open(&temp.path().join("out1"), None);
    let below = (case.from.as_deref() != Some("scratch")).then_some(base_image);
    compare(&dir.join("tree"), &image.changes_above(below))?;
    compare(&dir.join("config.json"), &config_text(&image.config, below))?;
    let names = image.entry_names(below.map_or(0, |b| b.diff_ids().len()));
    for absent in &case.absent {
        if let Some(name) = names.iter().find(|name| name.contains(absent)) {
            return Err(format!("a layer has `{name}`"));
        }
    }
    let warnings = Steps::of(&first).warnings;
    for text in &case.expect_warning {
        if !warnings.iter().any(|w| w.contains(text)) {
            return Err(format!("no warning has `{text}`: {warnings:?}"));
        }
    }

    let second = build("rawjson", 2);
    if second.code != Some(0) {
        return Err(format!(
            "second build: exit code {:?}\n{}",
            second.code, second.stderr
        ));
    }
    let steps = Steps::of(&second);
    let layers = steps
        .names
        .values()
        .map(|step| step.strip_prefix("ONBUILD ").unwrap_or(step))
        .filter(|step| ["RUN", "COPY", "ADD"].iter().any(|i| step.starts_with(i)));
    let written = image.config["history"].as_array().into_iter().flatten();
    let written = written.filter(|h| {
        let by = h["created_by"].as_str().unwrap_or_default();
        ["RUN", "COPY", "ADD"].iter().any(|i| by.starts_with(i))
    });
    if layers.count() < written.count() {
        return Err(format!("the planned event lacks steps: {:?}", steps.names));
    }
    if !steps.reran().is_empty() {
        return Err(format!(
            "second build: not cached: {:?}\n{}",
            steps.reran(),
            second.stderr
        ));
    }
    let run_again: Vec<_> = steps
        .started
        .iter()
        .filter_map(|id| steps.names.get(id))
        .filter(|s| s.starts_with("RUN"))
        .collect();
    if !run_again.is_empty() {
        return Err(format!("second build: started {run_again:?}"));
    }
    let digest =
        |nth: u32| fs::read_to_string(temp.path().join(format!("iid{nth}"))).unwrap_or_default();
    if digest(1) != digest(2) || !digest(1).starts_with("sha256:") {
        return Err(format!(
            "the second image is another: {:?}, {:?}",
            digest(1),
            digest(2)
        ));
    }
    Ok(())
}

/// The part of a config that a case pins: no times, and the base's history left out.
fn config_text(config: &Value, base: Option<&Image>) -> String {
    let mut own = config["config"].as_object().cloned().unwrap_or_default();
    // Set by the reference for a CMD, and without meaning on Linux; old fields of Docker's are left out if empty.
    own.remove("ArgsEscaped");
    own.retain(|_, value| {
        !(value.is_null()
            || value == ""
            || value == false
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty))
    });
    let below = base.map_or(0, |base| {
        base.config["history"].as_array().map_or(0, Vec::len)
    });
    let history: Vec<Value> = config["history"]
        .as_array()
        .into_iter()
        .flatten()
        .skip(below)
        .map(|h| {
            json!([
                h["created_by"],
                if h["empty_layer"] == true {
                    ""
                } else {
                    "layer"
                }
            ])
        })
        .collect();
    let mut fields: BTreeMap<String, Value> =
        own.into_iter().map(|(k, v)| (k, sorted(v))).collect();
    if let Some(author) = config.get("author").filter(|a| *a != "") {
        fields.insert("author".to_owned(), author.clone());
    }
    let mut text = String::from("{\n");
    for (key, value) in &fields {
        text += &format!("  {key:?}: {value},\n");
    }
    text += "  \"history\": [";
    for (nth, entry) in history.iter().enumerate() {
        text += &format!("{}\n    {entry}", if nth == 0 { "" } else { "," });
    }
    text + "\n  ]\n}\n"
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map.into_iter().collect();
            Value::Object(map.into_iter().collect())
        }
        other => other,
    }
}

/// Compares with a file of the case, or rewrites it under `BLESS=1`.
fn compare(file: &Path, have: &str) -> Result<(), String> {
    if std::env::var_os("BLESS").is_some() {
        return fs::write(file, have).map_err(|e| e.to_string());
    }
    let want = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if want == have {
        return Ok(());
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (want.lines().collect(), have.lines().collect());
    let mut diff = format!("{} differs (- expected, + built):\n", name(file));
    for line in old.iter().filter(|line| !new.contains(line)) {
        diff += &format!("- {line}\n");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        diff += &format!("+ {line}\n");
    }
    Err(diff)
}
