//! MultipleInstructionsDisallowed: of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last counts.
//!
//! Bad: `CMD ["a"]`, then `CMD ["b"]`. Good: `CMD ["b"]`.

use super::super::ast::{Dockerfile, Kind};
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    summary: "Multiple instructions of the same type should not be used in the same stage",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    for stage in &file.stages {
        for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let own = |kind: &Kind| {
                name == match kind {
                    Kind::Cmd(_) => "CMD",
                    Kind::Entrypoint(_) => "ENTRYPOINT",
                    Kind::Healthcheck(_) => "HEALTHCHECK",
                    _ => "",
                }
            };
            let all: Vec<_> = stage
                .instructions
                .iter()
                .filter(|one| own(&one.kind))
                .collect();
            // BuildKit points at those that are lost, not at the one that counts.
            for lost in all.iter().rev().skip(1) {
                let message = format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one \
                     will be used"
                );
                out.push(RULE.at(message, lost.head.span));
            }
        }
    }
}
