//! ENV and LABEL: pairs of a name and a value.

use super::super::ast::KeyValue;
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind};
use super::whole;

pub(super) fn read(instruction: &'static str, node: &Node) -> Result<Vec<KeyValue>, ParseError> {
    if node.pairs.is_empty() {
        return Err(whole(node, ParseErrorKind::NeedsArgument { instruction }));
    }
    if let Some(blank) = node.pairs.iter().find(|pair| pair.key.raw.is_empty()) {
        let span = super::super::Span {
            start: blank.key.span.start,
            end: blank.value.span.end,
        };
        return Err(ParseError::new(
            ParseErrorKind::BlankName { instruction },
            span,
        ));
    }
    Ok(node.pairs.clone())
}
