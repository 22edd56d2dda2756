//! ConsistentInstructionCasing: all instructions should be upper-case, or all lower-case, as most of them are.
//!
//! Bad: `FROM debian`, then `run make`. Good: `FROM debian`, then `RUN make`.

use super::super::ast::Dockerfile;
use super::{Finding, Rule, When, heads};

pub(super) static RULE: Rule = Rule {
    name: "ConsistentInstructionCasing",
    summary: "All commands within the Dockerfile should use the same casing (either upper or lower)",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
    let words = || heads(file).map(|head| &head.keyword);
    let lower = words()
        .filter(|word| word.raw == word.raw.to_ascii_lowercase())
        .count();
    let upper = words()
        .filter(|word| word.raw == word.raw.to_ascii_uppercase())
        .count();
    let lower_wins = lower > upper;
    for word in words() {
        let (right, casing) = match lower_wins {
            true => (word.raw.to_ascii_lowercase(), "lowercase"),
            false => (word.raw.to_ascii_uppercase(), "uppercase"),
        };
        if word.raw != right {
            let message = format!(
                "Command '{}' should match the case of the command majority ({casing})",
                word.raw
            );
            let finding = RULE.at(message, word.span);
            out.push(finding.edit_word(text, word, right));
        }
    }
}
