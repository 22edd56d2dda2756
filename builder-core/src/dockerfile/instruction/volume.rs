//! VOLUME: paths, as words or in the JSON form.

use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Text};
use super::whole;

pub(super) fn read(node: &Node) -> Result<Vec<Text>, ParseError> {
    if node.arguments.is_empty() {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument {
                instruction: "VOLUME",
            },
        ));
    }
    node.arguments
        .iter()
        .map(|text| match text.raw.trim() {
            "" => Err(ParseError::new(ParseErrorKind::EmptyVolume, text.span)),
            path => Ok(Text {
                raw: path.to_owned(),
                span: text.span,
            }),
        })
        .collect()
}
