//! MAINTAINER, STOPSIGNAL, USER and WORKDIR: the rest of the line is the argument.

use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Text};
use super::whole;

pub(super) fn read(instruction: &'static str, node: &Node) -> Result<Text, ParseError> {
    match node.arguments.as_slice() {
        [text] => Ok(text.clone()),
        _ => Err(whole(
            node,
            ParseErrorKind::NeedsOneArgument { instruction },
        )),
    }
}
