//! What the commands for images print: `testdata/cli/<name>.txt` holds command lines and their answers.
//!
//! ```text
//! $ builder images -q
//! 0c2d3b1f9a77
//! [code 0]
//! ```
//!
//! `$ shape builder …` has the shape of the JSON that a command prints in place of its text: each path with the types that
//! stand there, for what differs from machine to machine. Standard error comes after standard output, each line marked `! `. The lines of a file run in order in one store with
//! one image and one context, the same on every machine; `$TMP` stands for the test's directory. `BLESS=1` rewrites the
//! answers, `CASE=x` takes the files alone whose name has that in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture;

/// Writes an archive as `docker save` does, with an image of one file.
fn archive(dir: &Path) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(6);
    header.set_mode(0o644);
    let appended = layer.append_data(&mut header, "hello.txt", &b"hello\n"[..]);
    appended.expect("append");
    let layer = layer.into_inner().expect("layer");
    let config = json!({
        "created": "2020-01-02T03:04:05Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=1"], "Cmd": ["sh"], "Labels": {"of": "tests"}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", fixture::sha256(&layer))]},
        "history": [
            {"created": "2020-01-02T03:04:05Z", "created_by": "COPY hello.txt / # a comment that is long enough to be cut", "comment": "made by hand"},
            {"created": "2020-01-02T03:04:05Z", "created_by": "CMD [\"sh\"]", "empty_layer": true}
        ]
    })
    .to_string();
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": ["app:1", "registry.example/team/app:1"],
        "Layers": ["layer.tar"]
    }])
    .to_string();
    let mut all = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("config.json", config.as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        all.append_data(&mut header, name, bytes).expect("append");
    }
    let path = dir.join("app.tar");
    fs::write(&path, all.into_inner().expect("archive")).expect("write");
    path
}

/// Writes a context that builds everywhere, and has something to be remarked on.
fn context(dir: &Path) {
    let dockerfile = "FROM scratch AS files\nCOPY a /a\nFROM scratch as last\nARG WORD=x\n\
        COPY --from=files /a /copied\nCOPY dir/ /dir/\nCMD [\"/a\"]\n";
    let files = [
        ("context/Dockerfile", dockerfile),
        ("context/a", "a\n"),
        ("context/dir/b", "b\n"),
    ];
    fixture::write_files(dir, &files);
    for path in ["context/a", "context/dir/b"] {
        fixture::set_mode(&dir.join(path), 0o644);
    }
    fixture::set_mode(&dir.join("context/dir"), 0o755);
}

/// Splits a command line at blanks; `'…'` holds blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn answer(line: &str, temp: &TempDir) -> String {
    let dir = temp.path().display().to_string();
    let shaped = line.strip_prefix("shape ");
    let args = words(&shaped.unwrap_or(line).replace("$TMP", &dir));
    let mut command = Command::new(fixture::program());
    command
        .args(&args[1..])
        .env_clear()
        .env("HOME", temp.path())
        .env("BUILDER_ROOT", temp.path().join("store"))
        .env("SOURCE_DATE_EPOCH", "1577934245")
        .env("COLUMNS", "100")
        .current_dir(temp.path());
    let ran = fixture::run(&mut command);
    let mut text = match shaped {
        Some(_) => shape(&ran.stdout),
        None => ran.stdout,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in ran.stderr.lines() {
        text += &format!("! {line}\n");
    }
    let code = ran.code.map_or("none".to_owned(), |it| it.to_string());
    text += &format!("[code {code}]\n");
    ages(&text.replace(&dir, "$TMP"))
}

/// Tells of one or several JSON documents which paths they have, and of which types.
fn shape(text: &str) -> String {
    fn walk(path: &str, value: &Value, paths: &mut BTreeMap<String, BTreeSet<&'static str>>) {
        let mut add = |kind| {
            paths.entry(path.to_owned()).or_default().insert(kind);
        };
        match value {
            Value::Null => add("null"),
            Value::Bool(_) => add("boolean"),
            Value::Number(_) => add("number"),
            Value::String(_) => add("string"),
            Value::Array(items) => {
                add("list");
                items
                    .iter()
                    .for_each(|it| walk(&format!("{path}[]"), it, paths));
            }
            Value::Object(fields) => {
                let fields = fields.iter();
                fields.for_each(|(key, it)| walk(&format!("{path}.{key}"), it, paths));
            }
        }
    }
    let mut paths = BTreeMap::new();
    for document in serde_json::Deserializer::from_str(text).into_iter() {
        walk("", &document.expect("JSON"), &mut paths);
    }
    let line = |(path, kinds): (&String, &BTreeSet<&str>)| {
        let kinds: Vec<&str> = kinds.iter().copied().collect();
        format!("{path}: {}\n", kinds.join(" or "))
    };
    paths.iter().map(line).collect()
}

/// `6 years ago` depends on the day, `DONE 0.1s` and the rung on the machine: digits before these marks become `N`.
fn ages(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("! isolation: ") {
            return "! isolation: (this machine's)\n".to_owned();
        }
        let (mut line, end) = match line.strip_suffix('\n') {
            Some(line) => (line.to_owned(), "\n"),
            None => (line.to_owned(), ""),
        };
        if let Some(at) = line.find(" DONE ") {
            line.replace_range(at.., " DONE Ns");
        }
        let mut out = String::new();
        let mut rest = line.as_str();
        while let Some(at) = rest.find(" years ago") {
            let digits = rest[..at]
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .len();
            out += &rest[..digits];
            out += "N years ago";
            rest = &rest[at + " years ago".len()..];
        }
        format!("{out}{rest}{end}")
    };
    text.split_inclusive('\n').map(line).collect()
}

#[test]
fn commands_answer_as_recorded() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cli");
    let bless = std::env::var_os("BLESS").is_some();
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("testdata/cli")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    let wanted = std::env::var("CASE").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&wanted));
    let mut wrong = Vec::new();
    for file in files {
        let temp = fixture::temp_dir();
        archive(temp.path());
        context(temp.path());
        let recorded = fs::read_to_string(&file).expect("a case");
        let mut now = String::new();
        for line in recorded.lines() {
            if line.starts_with("$ builder") || line.starts_with("$ shape builder") {
                now += &format!("{line}\n{}", answer(line.trim_start_matches("$ "), &temp));
            } else if line.starts_with('#') {
                now += &format!("{line}\n");
            }
        }
        if bless {
            fs::write(&file, &now).expect("write");
        } else if now != recorded {
            wrong.push(format!("{}\n--- is now\n{now}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A command that is added is recorded, too.
#[test]
fn each_command_has_its_help_recorded() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cli");
    let read = |name| fs::read_to_string(dir.join(name)).expect("a case");
    let recorded = read("help.txt") + &read("help-build.txt");
    let ran = fixture::run(Command::new(fixture::program()).arg("--help")).ok();
    let (_, list) = ran.stdout.split_once("Commands:\n").expect("commands");
    let (list, _) = list.split_once("\n\n").expect("an end");
    let names = list.lines().filter_map(|line| {
        let indented = line.strip_prefix("  ")?;
        (!indented.starts_with(' ')).then(|| indented.split(' ').next())?
    });
    let names: Vec<&str> = names.filter(|it| *it != "help").collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let line = format!("$ builder {name} --help\n");
        assert!(recorded.contains(&line), "no `{line}` in testdata/cli");
    }
}

#[test]
fn shapes_have_each_path_once() {
    let text = r#"{"a": [{"b": 1}, {"b": null, "c": {}}]} {"a": [], "d": "x"}"#;
    assert_eq!(
        shape(text),
        ".a: list\n.a[].b: null or number\n.d: string\n"
    );
}

#[test]
fn ages_are_left_out() {
    assert_eq!(
        ages("a 6 years ago b 12 years ago"),
        "a N years ago b N years ago"
    );
    assert_eq!(ages("! #0 DONE 0.1s\nx"), "! #0 DONE Ns\nx");
    assert_eq!(words("a 'b c' d"), ["a", "b c", "d"]);
}
