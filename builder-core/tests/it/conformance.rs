//! Third-party data (see the README beside it): every row must give what its authors say.
//!
//! The data is no part of this repository: `BUILDER_CONFORMANCE`, else `../shared/conformance` beside the
//! workspace. Where there is none, each test says that it is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use builder_core::context::ignore::{Ignore, Patterns};
use builder_core::dockerfile::ast::{Heredoc, Kind};
use builder_core::dockerfile::syntax::{self, Node};
use builder_core::dockerfile::word::Lexer;
use builder_core::dockerfile::{self, ast};
use serde_json::Value;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("BUILDER_CONFORMANCE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance")
        });
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no conformance data (set BUILDER_CONFORMANCE to its folder)");
    None
}

fn rows(name: &str) -> Vec<Vec<String>> {
    let Some(folder) = data() else {
        return Vec::new();
    };
    let text = fs::read_to_string(folder.join(name)).expect(name);
    text.lines()
        .filter(|line| !line.starts_with("# ") && !line.is_empty())
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn string(json: &str) -> String {
    serde_json::from_str(json).expect(json)
}

fn env(json: &str) -> BTreeMap<String, String> {
    let pairs: Vec<String> = serde_json::from_str(json).expect(json);
    pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// All mistakes at once, so that one run shows them.
fn report(wrong: Vec<String>) {
    assert!(
        wrong.is_empty(),
        "{} row(s):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// As Go's `%q`, for what the data holds.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out + "\""
}

fn dump(node: &Node) -> String {
    let mut out = format!("({}", node.keyword.raw.to_lowercase());
    if !node.flags.is_empty() {
        let flags: Vec<_> = node.flags.iter().map(|flag| quote(&flag.raw)).collect();
        out.push_str(&format!(" [{}]", flags.join(" ")));
    }
    for argument in &node.arguments {
        out.push_str(&format!(" {}", quote(&argument.raw)));
    }
    for pair in &node.pairs {
        let separator = if pair.legacy { "" } else { "=" };
        out.push_str(&format!(
            " {} {} {}",
            quote(&pair.key.raw),
            quote(&pair.value.raw),
            quote(separator)
        ));
    }
    if let Some(trigger) = &node.trigger {
        out.push_str(&format!(" {}", dump(trigger)));
    }
    out + ")"
}

#[test]
fn syntax_trees() {
    let Some(folder) = data() else { return };
    let mut wrong = Vec::new();
    let mut seen = 0;
    for case in fs::read_dir(folder.join("parser/testfiles")).expect("testfiles") {
        let case = case.expect("a case").path();
        let text = fs::read_to_string(case.join("Dockerfile")).expect("Dockerfile");
        let expected = fs::read_to_string(case.join("result")).expect("result");
        seen += 1;
        match syntax::parse(&text) {
            Err(error) => wrong.push(format!("{}: {error}", case.display())),
            Ok(file) => {
                let dumps: Vec<_> = file.nodes.iter().map(dump).collect();
                for (own, line) in dumps.iter().map(String::as_str).zip(expected.lines()) {
                    if own != line {
                        wrong.push(format!(
                            "{}:\n  is     {own}\n  should {line}",
                            case.display()
                        ));
                    }
                }
                if dumps.len() != expected.lines().count() {
                    wrong.push(format!("{}: {} nodes", case.display(), dumps.len()));
                }
            }
        }
    }
    assert!(seen >= 32);
    report(wrong);
}

#[test]
fn refused_files() {
    let Some(folder) = data() else { return };
    for case in fs::read_dir(folder.join("parser/testfiles-negative")).expect("testfiles-negative")
    {
        let path = case.expect("a case").path().join("Dockerfile");
        let text = fs::read_to_string(&path).expect("Dockerfile");
        assert!(syntax::parse(&text).is_err(), "{}", path.display());
        assert!(dockerfile::parse(&text).is_err(), "{}", path.display());
    }
}

#[test]
fn line_numbers() {
    let Some(folder) = data() else { return };
    let text =
        fs::read_to_string(folder.join("parser/testfile-line/Dockerfile")).expect("Dockerfile");
    let lines: Vec<_> = syntax::parse(&text)
        .expect("nodes")
        .nodes
        .iter()
        .map(|node| node.lines)
        .collect();
    assert_eq!(lines, [(5, 5), (11, 12), (17, 31)]);
}

#[test]
fn heredocs() {
    let Some(folder) = data() else { return };
    let cases: Value =
        serde_json::from_slice(&fs::read(folder.join("heredocs.json")).expect("heredocs.json"))
            .expect("JSON");
    let text = cases["dockerfile"].as_str().expect("dockerfile");
    let nodes = syntax::parse(text).expect("nodes").nodes;
    let expected = cases["per_instruction_after_from"]
        .as_array()
        .expect("a list");
    assert_eq!(nodes.len() - 1, expected.len());
    for (node, expected) in nodes[1..].iter().zip(expected) {
        let own: Vec<Value> = node
            .heredocs
            .iter()
            .map(|Heredoc { name, content, expand, chomp, fd, .. }| {
                serde_json::json!({"name": name, "content": content, "expand": expand, "chomp": chomp, "fd": fd})
            })
            .collect();
        let expected = expected.as_array().cloned().unwrap_or_default();
        assert_eq!(own, expected, "{}", node.original);
    }
}

#[test]
fn json_form() {
    let mut wrong = Vec::new();
    for row in rows("json-form.tsv") {
        let text = format!("FROM scratch\nCMD {}\n", string(&row[0]));
        let own = match dockerfile::parse(&text) {
            Err(_) => None,
            Ok(file) => match file.stages[0].instructions[0].kind.clone() {
                Kind::Cmd(ast::Command::Exec(words)) => Some(words),
                other => panic!("{other:?}"),
            },
        };
        if own != serde_json::from_str(&row[1]).ok() {
            wrong.push(format!("{row:?}: {own:?}"));
        }
    }
    report(wrong);
}

#[test]
fn shell_words() {
    let mut wrong = Vec::new();
    for row in rows("shell-words.tsv") {
        let own = Lexer::new('\\')
            .expand_words(&string(&row[1]), &env(&row[0]))
            .ok();
        if own != serde_json::from_str(&row[2]).ok() {
            wrong.push(format!("{row:?}: {own:?}"));
        }
    }
    report(wrong);
}

#[test]
fn envs() {
    let mut wrong = Vec::new();
    for row in rows("envs.tsv") {
        let own = Lexer::new('\\')
            .expand(&string(&row[1]), &env(&row[0]))
            .ok()
            .map(|done| done.text);
        if own != serde_json::from_str(&row[2]).ok() {
            wrong.push(format!("{row:?}: {own:?}"));
        }
    }
    report(wrong);
}

#[test]
fn dockerignore() {
    let mut wrong = Vec::new();
    for row in rows("dockerignore.tsv") {
        let list: Vec<String> = row[0]
            .split('⏎')
            .filter(|pattern| !pattern.is_empty())
            .map(str::to_owned)
            .collect();
        let own = match Patterns::new(&list).and_then(|patterns| patterns.matches(&row[1])) {
            Ok(true) => "match",
            Ok(false) => "nomatch",
            Err(_) => "error",
        };
        if own != row[2] {
            wrong.push(format!("{row:?}: {own}"));
        }
    }
    report(wrong);
}

#[test]
fn dockerignore_reader() {
    let Some(folder) = data() else { return };
    let cases: Value = serde_json::from_slice(
        &fs::read(folder.join("dockerignore-reader.json")).expect("the file"),
    )
    .expect("JSON");
    for case in cases.as_array().expect("a list") {
        let own = Ignore::read(case["content"].as_str().expect("content").as_bytes());
        assert_eq!(serde_json::json!(own), case["patterns"]);
    }
}
