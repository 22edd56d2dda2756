//! What can be told of a file before it is planned.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::froms;
use crate::dockerfile::ast::{Dockerfile, Instruction, Kind};
use crate::dockerfile::instruction::mount::{MountKind, parse_mount};

/// Whether the target will want files of the main context, as far as the file shows it: a stage that only a variable names is
/// not gone into. Who believes it lists the files while bases are looked up.
pub fn takes_context(file: &Dockerfile, target: Option<&str>) -> bool {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        names.insert(index.to_string(), index);
        if let Some(alias) = &stage.from.alias {
            names.insert(alias.raw.to_lowercase(), index);
        }
    }
    let stage = |name: &str| names.get(&name.to_lowercase()).copied();
    let mut ahead: Vec<usize> = match target {
        Some(name) => stage(name).into_iter().collect(),
        None => file.stages.len().checked_sub(1).into_iter().collect(),
    };
    let mut seen = BTreeSet::new();
    while let Some(index) = ahead.pop() {
        if !seen.insert(index) {
            continue;
        }
        let it = &file.stages[index];
        if it.instructions.iter().any(takes) {
            return true;
        }
        let copied = it.instructions.iter().flat_map(froms);
        let after = it.from.after.iter().cloned();
        let named = copied.chain(after).chain([it.from.image.clone()]);
        ahead.extend(named.filter_map(|text| stage(&text.raw)));
    }
    false
}

fn takes(instruction: &Instruction) -> bool {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.is_none() && !copy.sources.is_empty(),
        Kind::Add(add) => add.sources.iter().any(|it| !it.raw.contains("://")),
        Kind::Run(run) => run.mounts.iter().any(|mount| {
            let parsed = parse_mount(&mount.raw, mount.span);
            parsed.is_ok_and(|it| matches!(it.kind, MountKind::Bind { from: None, .. }))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_the_context_is_wanted_shows_early() {
        for (text, target, expected) in [
            ("FROM a\nRUN x\n", None, false),
            ("FROM a\nCOPY . .\n", None, true),
            ("FROM a\nCOPY <<E /f\nx\nE\n", None, false),
            ("FROM a\nADD https://b/c /\n", None, false),
            ("FROM a\nADD c /\n", None, true),
            ("FROM a\nRUN --mount=target=/src x\n", None, true),
            (
                "FROM a\nRUN --mount=type=cache,target=/src x\n",
                None,
                false,
            ),
            ("FROM a\nRUN --mount=from=b,target=/src x\n", None, false),
            ("FROM a AS b\nCOPY x .\nFROM c\nRUN x\n", None, false),
            (
                "FROM a AS b\nCOPY x .\nFROM c\nCOPY --from=B x .\n",
                None,
                true,
            ),
            (
                "FROM a AS b\nCOPY x .\nFROM c\nCOPY --from=0 x .\n",
                None,
                true,
            ),
            ("FROM a AS b\nCOPY x .\nFROM b\nRUN x\n", None, true),
            ("FROM a AS b\nRUN x\nFROM c\nCOPY x .\n", Some("b"), false),
            (
                "FROM a AS b\nRUN x\nFROM c\nCOPY x .\n",
                Some("nope"),
                false,
            ),
        ] {
            let file = crate::dockerfile::parse(text).expect("a Dockerfile");
            assert_eq!(takes_context(&file, target), expected, "{text}");
        }
    }
}
