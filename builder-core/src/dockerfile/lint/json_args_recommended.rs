//! JSONArgsRecommended: a shell between the runtime and the program takes its signals.
//!
//! Bad: `CMD my-cmd start`. Good: `CMD ["my-cmd", "start"]`.

use super::super::ast::{Command, Dockerfile, Kind};
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "JSONArgsRecommended",
    summary: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    for stage in &file.stages {
        // An author who sets the shell wants it.
        let mut shell_set = false;
        for instruction in &stage.instructions {
            let (name, command) = match &instruction.kind {
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
                out.push(RULE.at(message, instruction.head.span));
            }
        }
    }
}
