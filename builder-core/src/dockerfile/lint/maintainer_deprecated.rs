//! MaintainerDeprecated: a label says who maintains an image.

use super::super::ast::{Dockerfile, Kind};
use super::super::diagnostic::Diagnostic;
use super::{instructions, warning};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for instruction in instructions(file).filter(|one| matches!(one.kind, Kind::Maintainer(_))) {
        let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
        out.push(warning(
            "MaintainerDeprecated",
            message,
            instruction.head.span,
        ));
    }
}
