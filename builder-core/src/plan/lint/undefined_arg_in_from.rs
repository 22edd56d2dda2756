//! UndefinedArgInFrom: FROM sees the ARGs that stand before the first FROM, and the automatic platform ones.
//!
//! Bad: `FROM debian:$VERSION`. Good: `ARG VERSION=13` first.

use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "UndefinedArgInFrom",
    summary: "FROM command must use declared ARGs",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for unset in facts.stages.iter().flat_map(|stage| &stage.undeclared) {
        let mut message = format!("FROM argument '{}' is not declared", unset.name);
        if let Some(near) = &unset.near {
            message.push_str(&format!(" (did you mean {near}?)"));
        }
        out.push(RULE.at(message, unset.span));
    }
}
