//! ReservedStageName: `scratch` and `context` mean something else.
//!
//! Bad: `FROM debian AS scratch`. Good: `FROM debian AS base`.

use super::super::ast::Dockerfile;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "ReservedStageName",
    summary: "Reserved words should not be used as stage names",
    when: When::Always,
};

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        let name = alias.raw.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            out.push(RULE.at(message, alias.span));
        }
    }
}
