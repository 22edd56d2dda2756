//! ConsistentInstructionCasing: all instructions should be upper-case, or all lower-case, as most of them are.

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::{heads, warning};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
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
            out.push(warning("ConsistentInstructionCasing", message, word.span));
        }
    }
}
