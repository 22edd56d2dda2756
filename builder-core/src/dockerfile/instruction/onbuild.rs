//! ONBUILD: an instruction kept for the images built from this one.

use super::super::ast::{Instruction, Onbuild};
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, parser};
use super::{Read, whole};

pub(super) fn read(node: &Node, escape: char) -> Result<Onbuild, ParseError> {
    let Some(trigger) = &node.trigger else {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument {
                instruction: "ONBUILD",
            },
        ));
    };
    let mut inner = (**trigger).clone();
    let refused = |instruction| {
        Err(ParseError::new(
            ParseErrorKind::OnbuildTrigger { instruction },
            trigger.keyword.span,
        ))
    };
    match inner.name().as_str() {
        "FROM" => return refused("FROM"),
        "MAINTAINER" => return refused("MAINTAINER"),
        _ => {}
    }
    inner.heredocs = node.heredocs.clone();
    inner.lines = node.lines;
    inner.span.end = inner.span.end.max(node.span.end);
    let mut text = inner.original.clone();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    let kind = match super::read(&inner, escape)? {
        Read::Kind(kind) => kind,
        Read::From(_) => return refused("FROM"),
    };
    Ok(Onbuild {
        inner: Instruction {
            head: parser::head(inner),
            kind,
        },
        text,
    })
}
