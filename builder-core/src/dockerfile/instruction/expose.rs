//! EXPOSE: ports, read after expansion.

use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Text};
use super::whole;

pub(super) fn read(node: &Node) -> Result<Vec<Text>, ParseError> {
    if node.arguments.is_empty() {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument {
                instruction: "EXPOSE",
            },
        ));
    }
    Ok(node.arguments.clone())
}
