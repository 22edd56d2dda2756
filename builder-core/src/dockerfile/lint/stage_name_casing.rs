//! StageNameCasing: stage names should be lower-case.
//!
//! Bad: `FROM debian AS Build`. Good: `FROM debian AS build`.

use super::super::ast::Dockerfile;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "StageNameCasing",
    summary: "Stage names should be lowercase",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        if alias.raw.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let message = format!("Stage name '{}' should be lowercase", alias.raw);
            let finding = RULE.at(message, alias.span);
            // ARG TARGETSTAGE has the name as written.
            out.push(match text.contains("TARGETSTAGE") {
                true => finding,
                false => finding.edit_word(text, alias, alias.raw.to_ascii_lowercase()),
            });
        }
    }
}
