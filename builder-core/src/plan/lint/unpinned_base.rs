//! UnpinnedBase: a tag is another image tomorrow. Off unless asked for by name.
//!
//! Bad: `FROM debian:13`. Good: `FROM debian:13@sha256:…`.

use crate::dockerfile::lint::{Finding, Rule, When};
use crate::image::Reference;

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "UnpinnedBase",
    summary: "Base images should be named by digest",
    when: When::Asked,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for stage in facts.stages.iter().filter(|stage| !stage.on_stage) {
        let image = stage.image.as_deref().unwrap_or_default();
        let named = facts.surroundings.options.context(image).is_some();
        let (false, Ok(reference)) = (named || image == "scratch", image.parse::<Reference>())
        else {
            continue;
        };
        if reference.digest().is_some() {
            continue;
        }
        let message = format!("Base image '{image}' is not pinned to a digest");
        let hint = match stage.base {
            Some(base) => format!("today it is {image}@{}", base.digest),
            None => format!("write {image}@sha256:…"),
        };
        out.push(RULE.at(message, stage.stage.from.image.span).hint(hint));
    }
}
