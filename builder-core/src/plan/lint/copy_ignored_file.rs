//! CopyIgnoredFile: the ignore file keeps a file out of the context, so COPY will not find it.
//!
//! Bad: `COPY .env .`, with `.env` in `.dockerignore`. Good: one of the two.

use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "CopyIgnoredFile",
    summary: "Attempting to Copy file that is excluded by .dockerignore",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let Some(ignored) = facts.surroundings.ignored else {
        return;
    };
    for step in facts.stages.iter().flat_map(|stage| &stage.steps) {
        let (command, copy) = match &step.instruction.kind {
            Kind::Copy(copy) => ("Copy", copy),
            Kind::Add(copy) => ("Add", copy),
            _ => continue,
        };
        if copy.from.is_some() {
            continue;
        }
        for (source, span) in step.words.iter().filter(|(it, _)| !it.contains("://")) {
            let path = source.trim_start_matches('/').trim_start_matches("./");
            let path = path.trim_end_matches('/');
            if !path.is_empty() && path != "." && ignored(path) {
                let message = format!(
                    "Attempting to {command} file {path:?} that is excluded by .dockerignore"
                );
                out.push(RULE.at(message, *span));
            }
        }
    }
}
