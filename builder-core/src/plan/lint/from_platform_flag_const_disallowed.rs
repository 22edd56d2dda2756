//! FromPlatformFlagConstDisallowed: a stage fixed to one platform cannot be built for another.
//!
//! Bad: `FROM --platform=linux/amd64 debian`. Good: `FROM debian`, or a stage whose name tells: `… AS build-amd64`.

use crate::dockerfile::lint::{Finding, Rule, When};
use crate::image::Platform;

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    summary: "FROM --platform flag should not use a constant value",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for stage in &facts.stages {
        let (Some(word), Some(text)) = (&stage.stage.from.platform, &stage.platform) else {
            continue;
        };
        let build = &facts.surroundings.options.build_platform;
        let (false, Ok(platform)) = (word.raw.contains('$'), Platform::parse(text, build)) else {
            continue;
        };
        let alias = stage.stage.from.alias.as_ref();
        let name = alias.map_or(String::new(), |alias| alias.raw.to_lowercase());
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!("FROM --platform flag should not use constant value {text:?}");
            out.push(RULE.at(message, word.span));
        }
    }
}
