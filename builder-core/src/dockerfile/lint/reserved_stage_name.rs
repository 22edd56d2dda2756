//! ReservedStageName: `scratch` and `context` mean something else.

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::warning;

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for alias in file
        .stages
        .iter()
        .filter_map(|stage| stage.from.alias.as_ref())
    {
        let name = alias.raw.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            out.push(warning("ReservedStageName", message, alias.span));
        }
    }
}
