//! NoEmptyContinuation: a blank line inside an instruction is accepted, for now.
//!
//! Bad: a blank line after `RUN make \`. Good: the next word right after `RUN make \`.

use super::super::Span;
use super::super::ast::Dockerfile;
use super::super::syntax;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "NoEmptyContinuation",
    summary: "Empty continuation lines will become errors in a future release",
    when: When::Always,
};

pub(super) fn check(_: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
    let nodes = syntax::parse(text)
        .map(|file| file.nodes)
        .unwrap_or_default();
    for span in nodes.iter().filter_map(|node| node.empty_continuation) {
        let blank = text.get(span.start..).unwrap_or_default();
        let blank: usize = blank
            .split_inclusive('\n')
            .take_while(|line| line.trim().is_empty())
            .map(str::len)
            .sum();
        let whole = Span {
            start: span.start,
            end: span.start + blank,
        };
        out.push(RULE.at("Empty continuation line", span).edit(whole, ""));
    }
}
