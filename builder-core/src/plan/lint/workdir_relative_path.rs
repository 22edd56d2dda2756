//! WorkdirRelativePath: a path that starts from the base's own directory moves when the base changes.
//!
//! Bad: `FROM nginx`, then `WORKDIR html`. Good: `WORKDIR /usr/share/nginx/html`.

use std::collections::BTreeSet;

use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "WorkdirRelativePath",
    summary: "Relative workdir without an absolute workdir declared within the build can have unexpected results \
              if the base image changes",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    // Names of stages that have set a directory, themselves or by their base.
    let mut set: BTreeSet<String> = BTreeSet::new();
    for stage in &facts.stages {
        let base = stage.image.as_deref().unwrap_or_default().to_lowercase();
        let mut done = stage.on_stage && set.contains(&base);
        for step in &stage.steps {
            let (Kind::Workdir(word), [(path, _)]) = (&step.instruction.kind, &step.words[..])
            else {
                continue;
            };
            // The first alone: mending it mends those that follow.
            if !done && !path.starts_with('/') {
                let message = format!(
                    "Relative workdir {path:?} can have unexpected results if the base image changes"
                );
                out.push(RULE.at(message, word.span));
            }
            done = true;
        }
        if let Some(alias) = &stage.stage.from.alias {
            let name = alias.raw.to_lowercase();
            match done {
                true => set.insert(name),
                false => set.remove(&name),
            };
        }
    }
}
