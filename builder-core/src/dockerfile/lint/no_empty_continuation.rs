//! NoEmptyContinuation: a blank line inside an instruction is accepted, for now.

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::super::syntax;
use super::warning;

pub(super) fn check(_: &Dockerfile, text: &str, out: &mut Vec<Diagnostic>) {
    let nodes = syntax::parse(text)
        .map(|file| file.nodes)
        .unwrap_or_default();
    for span in nodes.iter().filter_map(|node| node.empty_continuation) {
        out.push(warning(
            "NoEmptyContinuation",
            "Empty continuation line".into(),
            span,
        ));
    }
}
