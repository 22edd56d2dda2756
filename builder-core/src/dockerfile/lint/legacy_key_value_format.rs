//! LegacyKeyValueFormat: `ENV K V` takes everything up to the end of the line.

use super::super::ast::{Dockerfile, Kind};
use super::super::diagnostic::Diagnostic;
use super::{instructions, warning};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for instruction in instructions(file) {
        let (name, pairs) = match &instruction.kind {
            Kind::Env(pairs) => ("ENV", pairs),
            Kind::Label(pairs) => ("LABEL", pairs),
            _ => continue,
        };
        if pairs.iter().any(|pair| pair.legacy) {
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            out.push(warning(
                "LegacyKeyValueFormat",
                message,
                instruction.head.span,
            ));
        }
    }
}
