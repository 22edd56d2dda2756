//! DuplicateStageName: of two stages of one name, only the later can be named.
//!
//! Bad: `FROM debian AS a`, then `FROM alpine AS a`. Good: `FROM debian AS a`, then `FROM alpine AS b`.

use std::collections::BTreeSet;

use super::super::ast::Dockerfile;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "DuplicateStageName",
    summary: "Stage names should be unique",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        let name = alias.raw.to_ascii_lowercase();
        if seen.contains(&name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            out.push(RULE.at(message, alias.span));
        }
        seen.insert(name);
    }
}
