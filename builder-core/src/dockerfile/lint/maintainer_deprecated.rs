//! MaintainerDeprecated: a label says who maintains an image.
//!
//! Bad: `MAINTAINER me@example.org`. Good: `LABEL org.opencontainers.image.authors="me@example.org"`.

use super::super::ast::{Dockerfile, Kind};
use super::{Finding, Rule, When, instructions};

pub(super) static RULE: Rule = Rule {
    name: "MaintainerDeprecated",
    summary: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    for instruction in instructions(file).filter(|one| matches!(one.kind, Kind::Maintainer(_))) {
        let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
        out.push(RULE.at(message, instruction.head.span));
    }
}
