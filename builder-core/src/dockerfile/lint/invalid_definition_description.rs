//! InvalidDefinitionDescription: a comment above an ARG or a named stage describes it, so it starts with its name.
//!
//! Bad: `# a compiler` above `FROM gcc AS build`. Good: `# build compiles` above `FROM gcc AS build`.

use super::super::Span;
use super::super::ast::{Dockerfile, Kind};
use super::settings::is_setting;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "InvalidDefinitionDescription",
    summary: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`",
    when: When::Experimental,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
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

fn one(instruction: &str, names: &[&str], comment: &[String], span: Span, out: &mut Vec<Finding>) {
    let Some(first) = comment
        .iter()
        .rev()
        .find(|it| !is_setting(it))
        .and_then(|line| line.split(' ').next())
    else {
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
    out.push(RULE.at(message, span));
}
