//! RedundantTargetPlatform: a stage is for the target platform unless it says otherwise.
//!
//! Bad: `FROM --platform=$TARGETPLATFORM debian`. Good: `FROM debian`.

use crate::dockerfile::Span;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "RedundantTargetPlatform",
    summary: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    when: When::Always,
};

const FLAG: &str = "--platform=";

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for stage in &facts.stages {
        let Some(word) = &stage.stage.from.platform else {
            continue;
        };
        if !matches!(word.raw.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            continue;
        }
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            word.raw
        );
        let finding = RULE.at(message, word.span);
        let before = facts.text.get(..word.span.start).unwrap_or_default();
        let after = facts.text.get(word.span.end..).unwrap_or_default();
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        // A build arg of this name would make it something else than the default.
        let default = !facts
            .surroundings
            .options
            .build_args
            .contains_key("TARGETPLATFORM");
        out.push(match before.strip_suffix(FLAG) {
            Some(before) if blanks > 0 && default => finding.edit(
                Span {
                    start: before.len(),
                    end: word.span.end + blanks,
                },
                "",
            ),
            _ => finding,
        });
    }
}
