//! SHELL: the program that reads shell forms.

use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind};
use super::whole;

pub(super) fn read(node: &Node) -> Result<Vec<String>, ParseError> {
    if node.arguments.is_empty() {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument {
                instruction: "SHELL",
            },
        ));
    }
    if !node.json {
        return Err(ParseError::new(
            ParseErrorKind::ShellNotJson,
            node.arguments[0].span,
        ));
    }
    Ok(node.arguments.iter().map(|text| text.raw.clone()).collect())
}
