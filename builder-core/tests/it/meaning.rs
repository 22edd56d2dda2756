//! What a Dockerfile says, places left out. Also part of `fuzz`.

use builder_core::dockerfile::Span;
use builder_core::dockerfile::ast::{Dockerfile, Instruction, Kind};

pub(crate) fn inside(text: &str, span: Span) -> bool {
    span.start <= span.end && text.get(span.start..span.end).is_some()
}

/// Every place of a value, as its debug form shows them.
pub(crate) fn spans(shown: &str) -> Vec<Span> {
    shown
        .split("Span { start: ")
        .skip(1)
        .filter_map(|part| {
            let (start, rest) = part.split_once(", end: ")?;
            Some(Span {
                start: start.parse().ok()?,
                end: rest.split_once(' ')?.0.parse().ok()?,
            })
        })
        .collect()
}

/// A file without its places, lines and original texts.
pub(crate) fn meaning(file: &Dockerfile) -> Vec<String> {
    fn kind(instruction: &Instruction) -> String {
        match &instruction.kind {
            Kind::Onbuild(onbuild) => format!("onbuild {}", kind(&onbuild.inner)),
            kind => without_spans(&format!("{kind:?}")),
        }
    }
    let mut out: Vec<_> = file.global_args.iter().map(kind).collect();
    for stage in &file.stages {
        out.push(without_spans(&format!("{:?}", stage.from)));
        out.extend(stage.instructions.iter().map(kind));
    }
    out
}

fn without_spans(shown: &str) -> String {
    let mut parts = shown.split("Span { start: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        out + part.split_once('}').map_or("", |(_, rest)| rest)
    })
}
