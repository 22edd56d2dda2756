//! JSONArgsRecommended: a shell between the runtime and the program takes its signals.
//!
//! Bad: `CMD my-cmd start`. Good: `CMD ["my-cmd", "start"]`.

use std::collections::BTreeSet;

use crate::dockerfile::ast::{Command, Kind};
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "JSONArgsRecommended",
    summary: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    // Names of stages that have set a shell, themselves or by their base.
    let mut set: BTreeSet<String> = BTreeSet::new();
    for stage in &facts.stages {
        let base = stage.image.as_deref().unwrap_or_default().to_lowercase();
        let of_base = stage
            .base
            .is_some_and(|it| !it.config.config.shell.is_empty());
        // An author who sets the shell wants it.
        let mut shell_set = of_base || (stage.on_stage && set.contains(&base));
        for step in &stage.steps {
            let (name, command) = match &step.instruction.kind {
                Kind::Cmd(command) => ("CMD", command),
                Kind::Entrypoint(command) => ("ENTRYPOINT", command),
                Kind::Shell(_) => {
                    shell_set = true;
                    continue;
                }
                _ => continue,
            };
            if !shell_set && matches!(command, Command::Shell { .. }) {
                let message = format!(
                    "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                );
                out.push(RULE.at(message, step.instruction.head.span));
            }
        }
        if let Some(alias) = &stage.stage.from.alias {
            let name = alias.raw.to_lowercase();
            match shell_set {
                true => set.insert(name),
                false => set.remove(&name),
            };
        }
    }
}
