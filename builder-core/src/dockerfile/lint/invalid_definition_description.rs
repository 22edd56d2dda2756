//! InvalidDefinitionDescription: a comment above an ARG or a named stage describes it, so it starts with its name.

use super::super::Span;
use super::super::ast::{Dockerfile, Kind};
use super::super::diagnostic::Diagnostic;
use super::warning;

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for stage in &file.stages {
        if let Some(alias) = &stage.from.alias {
            let name = alias.raw.to_ascii_lowercase();
            one("FROM", &[&name], &stage.head.comment, stage.head.span, out);
        }
    }
    let all = file
        .global_args
        .iter()
        .chain(file.stages.iter().flat_map(|stage| &stage.instructions));
    for instruction in all {
        if let Kind::Arg(declarations) = &instruction.kind {
            let names: Vec<&str> = declarations
                .iter()
                .map(|one| one.name.raw.as_str())
                .collect();
            one(
                "ARG",
                &names,
                &instruction.head.comment,
                instruction.head.span,
                out,
            );
        }
    }
}

fn one(
    instruction: &str,
    names: &[&str],
    comment: &[String],
    span: Span,
    out: &mut Vec<Diagnostic>,
) {
    let Some(first) = comment.last().and_then(|line| line.split(' ').next()) else {
        return;
    };
    if names.contains(&first) {
        return;
    }
    let example = if let [name] = names {
        name
    } else {
        "<arg_key>"
    };
    let message =
        format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    out.push(warning("InvalidDefinitionDescription", message, span));
}
