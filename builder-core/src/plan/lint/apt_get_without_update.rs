//! AptGetWithoutUpdate: packages are looked up in lists, which grow stale in the cache of an earlier step.
//!
//! Bad: `RUN apt-get update`, then `RUN apt-get install -y curl`. Good: `RUN apt-get update && apt-get install -y curl`.

use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::commands::{of, program, subcommand};
use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "AptGetWithoutUpdate",
    summary: "apt-get install should stand in the same RUN as apt-get update",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for step in facts.stages.iter().flat_map(|stage| &stage.steps) {
        let Kind::Run(run) = &step.instruction.kind else {
            continue;
        };
        for words in of(run) {
            let name = program(&words);
            if !matches!(name, "apt-get" | "apt" | "aptitude") {
                continue;
            }
            match subcommand(&words) {
                Some(("update", _)) => break,
                // Packages by path are in no list.
                Some(("install", rest)) if rest.iter().any(|it| is_listed(it)) => {
                    let message =
                        format!("`{name} install` without `{name} update` in the same RUN");
                    let hint = format!(
                        "write `RUN {name} update && {name} install …`: the lists of an earlier step are cached, \
                         and name versions that are gone"
                    );
                    out.push(RULE.at(message, step.instruction.head.span).hint(hint));
                    break;
                }
                _ => {}
            }
        }
    }
}

fn is_listed(word: &str) -> bool {
    !word.starts_with('-') && !word.contains('/')
}
