//! Nodes to stages.

use super::ast::{Dockerfile, From, Head, Instruction, Kind, Stage};
use super::instruction::{self, Read};
use super::syntax::{self, Node};
use super::{ParseError, ParseErrorKind, Span};

/// Reads a whole Dockerfile.
///
/// # Errors
/// The first mistake, with its place: see [`ParseErrorKind`].
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let syntax::File { directives, nodes } = syntax::parse(text)?;
    let mut file = Dockerfile {
        directives,
        global_args: Vec::new(),
        stages: Vec::new(),
    };
    for node in nodes {
        let name = node.name();
        let keyword = node.keyword.span;
        match (read(node, file.directives.escape)?, file.stages.last_mut()) {
            (Done::Stage(from, head), _) => {
                file.stages.push(Stage {
                    from,
                    head,
                    instructions: Vec::new(),
                });
            }
            (Done::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Done::Instruction(instruction), None) => match instruction.kind {
                Kind::Arg(_) => file.global_args.push(instruction),
                _ => {
                    let instruction = instruction::known(&name).unwrap_or_default();
                    return Err(ParseError::new(
                        ParseErrorKind::BeforeFrom { instruction },
                        keyword,
                    ));
                }
            },
        }
    }
    if file.stages.is_empty() {
        let end = text.trim_end().len();
        return Err(ParseError::new(
            ParseErrorKind::NoStages,
            Span { start: end, end },
        ));
    }
    Ok(file)
}

/// Reads one instruction, such as an ONBUILD trigger out of a base image's config; here-document bodies may
/// follow it. Spans are offsets into `text`.
///
/// # Errors
/// As [`parse`]; also for FROM, and for more than one instruction.
pub fn parse_instruction(text: &str, escape: char) -> Result<Instruction, ParseError> {
    let mut nodes = syntax::parse_with(text, escape)?.nodes;
    if nodes.len() > 1 {
        let kind = ParseErrorKind::TriggerCount { found: nodes.len() };
        return Err(ParseError::new(kind, nodes.swap_remove(1).span));
    }
    let Some(node) = nodes.pop() else {
        return Err(ParseError::new(
            ParseErrorKind::NoInstructions,
            Span::default(),
        ));
    };
    let keyword = node.keyword.span;
    match read(node, escape)? {
        Done::Instruction(instruction) => Ok(instruction),
        Done::Stage(..) => {
            let kind = ParseErrorKind::OnbuildTrigger {
                instruction: "FROM",
            };
            Err(ParseError::new(kind, keyword))
        }
    }
}

enum Done {
    Stage(From, Head),
    Instruction(Instruction),
}

fn read(node: Node, escape: char) -> Result<Done, ParseError> {
    let read = instruction::read(&node, escape)?;
    let head = head(node);
    Ok(match read {
        Read::From(from) => Done::Stage(from, head),
        Read::Kind(kind) => Done::Instruction(Instruction { head, kind }),
    })
}

pub(super) fn head(node: Node) -> Head {
    let Node {
        keyword,
        span,
        lines,
        original,
        comment,
        ..
    } = node;
    Head {
        span,
        keyword,
        lines,
        original,
        comment,
    }
}
