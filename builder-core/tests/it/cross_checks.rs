//! What other crates read of the same input. Where they are known to read less, what they cannot read is counted and
//! printed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use builder_core::context::ignore::Patterns;
use builder_core::context::{IgnoreFile, LocalTree, Tree};
use builder_core::dockerfile::syntax;

fn dockerfiles(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            dockerfiles(&path, out);
        } else if path.file_name().is_some_and(|name| name == "Dockerfile") {
            out.push(path);
        }
    }
}

/// Instructions as `dockerfile-parser` finds them, by keyword; `None` where it cannot read the file.
fn theirs(text: &str) -> Option<Vec<String>> {
    let file = dockerfile_parser::Dockerfile::parse(text).ok()?;
    let words = file.instructions.iter().map(|instruction| {
        let span = instruction.span();
        let source = &text[span.start..span.end];
        let word = source.split_whitespace().next().unwrap_or_default();
        word.to_uppercase()
    });
    Some(words.collect())
}

#[test]
fn dockerfile_parser_finds_the_same_instructions() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in [
        "testdata/build",
        "testdata/plan",
        "testdata/dockerfile/ok",
        "examples",
    ] {
        dockerfiles(&top.join(folder), &mut files);
    }
    let (mut same, mut unread, mut wrong) = (0, Vec::new(), Vec::new());
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let Ok(ours) = syntax::parse(&text) else {
            continue;
        };
        // It has no heredocs: it takes their lines for instructions, or stops at them.
        let heredocs = ours.nodes.iter().any(|node| !node.heredocs.is_empty());
        // Nor another escape character.
        let escape = text.to_lowercase().contains("escape=");
        let name = path.display().to_string();
        match theirs(&text) {
            Some(_) if heredocs || escape => unread.push(name),
            None => unread.push(name),
            Some(theirs) => {
                let ours: Vec<String> = ours.nodes.iter().map(syntax::Node::name).collect();
                if ours == theirs {
                    same += 1;
                } else {
                    wrong.push(format!("{name}: ours {ours:?}, theirs {theirs:?}"));
                }
            }
        }
    }
    let count = unread.len();
    let _ = writeln!(
        std::io::stderr(),
        "dockerfile-parser: {same} files read alike, {count} it cannot read"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 60, "only {same} files were compared");
}

/// Makes a tree of some depth and returns it.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for path in [
        "a.txt",
        "docs/a.md",
        "docs/api/b.md",
        "src/main.rs",
        "src/docs/c.md",
        "target/debug/x",
        "node_modules/p/index.js",
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, "x").expect("a file");
    }
    std::os::unix::fs::symlink("a.txt", dir.path().join("link")).expect("a link");
    dir
}

fn ours(dir: &Path, patterns: &[&str]) -> BTreeSet<String> {
    let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
    let ignore = IgnoreFile {
        name: ".dockerignore".to_owned(),
        patterns: Patterns::new(&patterns).expect("patterns"),
    };
    let tree = LocalTree::walk(dir, Some(ignore), "the build context", None).expect("a walk");
    let nodes = tree.walk(b"").expect("nodes");
    nodes
        .into_iter()
        .map(|node| String::from_utf8_lossy(&node.path).into_owned())
        .collect()
}

#[test]
fn walkdir_lists_the_same_files() {
    let dir = tree();
    let theirs: BTreeSet<String> = walkdir::WalkDir::new(dir.path())
        .min_depth(1)
        .into_iter()
        .map(|entry| {
            let entry = entry.expect("an entry");
            let relative = entry.path().strip_prefix(dir.path()).expect("inside");
            relative.display().to_string()
        })
        .collect();
    assert_eq!(ours(dir.path(), &[]), theirs);
}

/// Git's patterns mean the same as Docker's where both are anchored at the root.
#[test]
fn ignore_leaves_out_the_same_files_where_its_rules_are_dockers() {
    let dir = tree();
    for patterns in [
        &["docs"][..],
        &["target", "node_modules"],
        &["src/docs", "*.txt"],
        &["docs/**/b.md"],
    ] {
        let mut builder = ignore::WalkBuilder::new(dir.path());
        builder.standard_filters(false);
        let mut overrides = ignore::overrides::OverrideBuilder::new(dir.path());
        for pattern in patterns {
            // An override's `!` leaves out.
            overrides.add(&format!("!/{pattern}")).expect("a pattern");
        }
        builder.overrides(overrides.build().expect("overrides"));
        let theirs: BTreeSet<String> = builder
            .build()
            .map(|entry| entry.expect("an entry").into_path())
            .filter(|path| path != dir.path())
            .map(|path| {
                let relative = path.strip_prefix(dir.path()).expect("inside");
                relative.display().to_string()
            })
            .collect();
        assert_eq!(ours(dir.path(), patterns), theirs, "{patterns:?}");
    }
}
