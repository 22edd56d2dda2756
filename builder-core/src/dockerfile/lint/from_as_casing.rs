//! FromAsCasing: `AS` should be cased as its `FROM`.

use super::super::ast::Dockerfile;
use super::super::diagnostic::Diagnostic;
use super::warning;

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for stage in file
        .stages
        .iter()
        .filter(|stage| stage.from.alias.is_some())
    {
        let from = &stage.head.keyword.raw;
        // The word before the alias; the alias is the last word of the line.
        let Some(keyword) = stage.head.original.split_whitespace().rev().nth(1) else {
            continue;
        };
        let matches = if *from == from.to_ascii_lowercase() {
            keyword == keyword.to_ascii_lowercase()
        } else {
            // A FROM of mixed case is another rule's business.
            *from != from.to_ascii_uppercase() || keyword == keyword.to_ascii_uppercase()
        };
        if !matches {
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            out.push(warning("FromAsCasing", message, stage.head.span));
        }
    }
}
