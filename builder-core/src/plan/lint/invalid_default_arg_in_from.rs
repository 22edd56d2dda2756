//! InvalidDefaultArgInFrom: a build without `--build-arg` should find a base, too.
//!
//! Bad: `ARG TAG`, then `FROM busybox:$TAG`. Good: `ARG TAG=latest`, or `FROM busybox:${TAG:-latest}`.

use crate::dockerfile::lint::{Finding, Rule, When};
use crate::image::Reference;

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    summary: "Default value for global ARG results in an empty or invalid base image name",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for stage in &facts.stages {
        let Some(image) = &stage.default_image else {
            continue;
        };
        if image.parse::<Reference>().is_err() {
            let word = &stage.stage.from.image;
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                word.raw
            );
            out.push(RULE.at(message, word.span));
        }
    }
}
