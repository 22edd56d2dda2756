//! DuplicateStageName: of two stages of one name, only the later can be named.

use std::collections::BTreeSet;

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::warning;

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        let name = alias.raw.to_ascii_lowercase();
        if seen.contains(&name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            out.push(warning("DuplicateStageName", message, alias.span));
        }
        seen.insert(name);
    }
}
