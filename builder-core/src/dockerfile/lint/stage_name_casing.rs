//! StageNameCasing: stage names should be lower-case.

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::warning;

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        if alias.raw.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let message = format!("Stage name '{}' should be lowercase", alias.raw);
            out.push(warning("StageNameCasing", message, alias.span));
        }
    }
}
