//! LegacyKeyValueFormat: `ENV K V` takes everything up to the end of the line.
//!
//! Bad: `ENV DIR /my dir`. Good: `ENV DIR="/my dir"`.

use super::super::Span;
use super::super::ast::{Dockerfile, KeyValue, Kind};
use super::{Finding, Rule, When, instructions};

pub(super) static RULE: Rule = Rule {
    name: "LegacyKeyValueFormat",
    summary: "Legacy key/value format with whitespace separator should not be used",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
    for instruction in instructions(file) {
        let (name, pairs) = match &instruction.kind {
            Kind::Env(pairs) => ("ENV", pairs),
            Kind::Label(pairs) => ("LABEL", pairs),
            _ => continue,
        };
        if pairs.iter().any(|pair| pair.legacy) {
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            let mut finding = RULE.at(message, instruction.head.span);
            for pair in pairs.iter().filter(|pair| pair.legacy) {
                finding = mend(finding, pair, text);
            }
            out.push(finding);
        }
    }
}

/// Puts `="…"` in, where the value means the same in quotes: no quotes, no escapes, one line.
fn mend(finding: Finding, pair: &KeyValue, text: &str) -> Finding {
    let (key, value) = (&pair.key, &pair.value);
    let whole = Span {
        start: key.span.start,
        end: value.span.end,
    };
    let plain = |c: char| c.is_alphanumeric() || " _-./:,@%+=${}".contains(c);
    let blank = text.get(key.span.end..value.span.start);
    let as_read = text.get(value.span.start..value.span.end) == Some(value.raw.as_str());
    let one_line = blank.is_some_and(|it| it.chars().all(|c| c == ' ' || c == '\t'));
    if !as_read || !one_line || !value.raw.chars().all(plain) {
        return finding;
    }
    let quoted = match value.raw.contains(' ') {
        true => format!("{}=\"{}\"", key.raw, value.raw),
        false => format!("{}={}", key.raw, value.raw),
    };
    finding.edit(whole, quoted)
}
