//! Which room may name which: the table of the crate's header, held against the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Room, and the rooms it may name. A new arrow is a decision: it is made here, and in the header of `lib.rs`.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "build",
        &[
            "attest",
            "cache",
            "context",
            "digest",
            "dockerfile",
            "export",
            "image",
            "layer",
            "plan",
            "progress",
            "registry",
            "sandbox",
            "share",
            "snapshot",
            "solve",
            "source",
            "store",
        ],
    ),
    (
        "images",
        &[
            "digest", "export", "image", "layer", "progress", "registry", "store",
        ],
    ),
    (
        "solve",
        &[
            "cache",
            "context",
            "digest",
            "dockerfile",
            "export",
            "image",
            "layer",
            "owner",
            "plan",
            "progress",
            "registry",
            "sandbox",
            "share",
            "snapshot",
            "source",
            "store",
        ],
    ),
    (
        "share",
        &[
            "cache", "digest", "export", "image", "layer", "progress", "registry", "store",
        ],
    ),
    (
        "export",
        &[
            "context", "digest", "image", "layer", "progress", "registry", "store",
        ],
    ),
    (
        "attest",
        &["context", "digest", "dockerfile", "image", "plan", "source"],
    ),
    ("source", &["digest", "image", "layer", "registry", "store"]),
    ("registry", &["digest", "image", "progress", "store"]),
    ("cache", &["digest", "image", "progress", "store"]),
    ("snapshot", &["digest", "layer", "owner", "sys"]),
    ("sandbox", &["owner", "sys"]),
    ("context", &["digest", "layer", "progress", "sys"]),
    ("layer", &["digest", "image", "owner", "sys"]),
    ("store", &["digest", "image", "sys"]),
    ("plan", &["digest", "dockerfile", "image"]),
    ("dockerfile", &[]),
    ("image", &["digest"]),
    ("digest", &[]),
    ("owner", &[]),
    ("progress", &[]),
    ("sys", &[]),
];

/// Returns every room that a text names as `crate::room`.
fn named(text: &str) -> BTreeSet<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|name| ROOMS.iter().any(|(room, _)| room == name))
        .collect()
}

fn visit(path: &Path, seen: &mut dyn FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a room") {
            visit(&entry.expect("an entry").path(), seen);
        }
    } else if path.extension().is_some_and(|it| it == "rs") {
        seen(path, &fs::read_to_string(path).expect("source"));
    }
}

#[test]
fn rooms_name_only_rooms_further_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut files = 0;
    for (room, may) in ROOMS {
        let mut look = |path: &Path, text: &str| {
            files += 1;
            for name in named(text) {
                if name != *room && !may.contains(&name) {
                    wrong.push(format!("{} names `{name}`", path.display()));
                }
            }
        };
        visit(&src.join(room), &mut look);
        let alone = src.join(format!("{room}.rs"));
        if alone.exists() {
            visit(&alone, &mut look);
        }
    }
    assert!(files > 50, "only {files} files were looked at");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).expect("src") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        let room = name.trim_end_matches(".rs");
        assert!(
            room == "lib" || ROOMS.iter().any(|(known, _)| *known == room),
            "`{room}` is not in the table of rooms"
        );
    }
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    visit(&src, &mut |path, text| {
        let in_sys = path.components().any(|part| part.as_os_str() == "sys");
        let has = text
            .lines()
            .any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
        if has && !in_sys {
            wrong.push(path.display().to_string());
        }
    });
    assert!(wrong.is_empty(), "unsafe outside sys: {wrong:?}");
}
