//! UndefinedVar: a variable that no ARG, no ENV and no base image sets is empty.
//!
//! Bad: `ARG DIR=/srv`, then `COPY . $DIRR`. Good: `COPY . $DIR`.
//!
//! Of a base whose config is not at hand nobody knows what it sets; a name is then told only where a near one is set,
//! or where a global ARG has it that this stage does not declare.

use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "UndefinedVar",
    summary: "Variables should be defined before their use",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let steps = facts.stages.iter().flat_map(|stage| &stage.steps);
    for unset in steps.flat_map(|step| &step.unset) {
        if unset.maybe && unset.near.is_none() && !unset.global {
            continue;
        }
        let name = &unset.name;
        let mut message = format!("Usage of undefined variable '${name}'");
        if let Some(near) = &unset.near {
            message.push_str(&format!(" (did you mean ${near}?)"));
        }
        let finding = RULE.at(message, unset.span);
        out.push(match unset.global {
            true => finding.hint(format!(
                "an ARG before FROM is seen by FROM alone: add `ARG {name}` to this stage"
            )),
            false => finding,
        });
    }
}
