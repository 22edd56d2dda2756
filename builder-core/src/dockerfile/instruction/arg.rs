//! ARG: one or more names, each with or without a default.

use super::super::ast::ArgDecl;
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Span, Text};
use super::whole;

pub(super) fn read(node: &Node) -> Result<Vec<ArgDecl>, ParseError> {
    if node.arguments.is_empty() {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument { instruction: "ARG" },
        ));
    }
    node.arguments.iter().map(declaration).collect()
}

fn declaration(word: &Text) -> Result<ArgDecl, ParseError> {
    let Some((name, default)) = word.raw.split_once('=') else {
        return Ok(ArgDecl {
            name: word.clone(),
            default: None,
        });
    };
    if name.is_empty() {
        return Err(ParseError::new(
            ParseErrorKind::BlankName { instruction: "ARG" },
            word.span,
        ));
    }
    // A word that runs over a continuation line is longer in the file than its text: count from its ends.
    let Span { start, end } = word.span;
    let name = Text {
        raw: name.to_owned(),
        span: Span {
            start,
            end: start + name.len(),
        },
    };
    let default = Text {
        raw: default.to_owned(),
        span: Span {
            start: end - default.len(),
            end,
        },
    };
    let whole_words = end - start == word.raw.len();
    let place = |text: Text| {
        if whole_words {
            text
        } else {
            Text {
                span: word.span,
                ..text
            }
        }
    };
    Ok(ArgDecl {
        name: place(name),
        default: Some(place(default)),
    })
}
