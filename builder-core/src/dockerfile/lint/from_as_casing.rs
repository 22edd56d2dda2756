//! FromAsCasing: `AS` should be cased as its `FROM`.
//!
//! Bad: `FROM debian as build`. Good: `FROM debian AS build`.

use super::super::Span;
use super::super::ast::Dockerfile;
use super::{Finding, Rule, When};

pub(super) static RULE: Rule = Rule {
    name: "FromAsCasing",
    summary: "The 'as' keyword should match the case of the 'from' keyword",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
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
            let finding = RULE.at(message, stage.head.span);
            let right = match *from == from.to_ascii_lowercase() {
                true => keyword.to_ascii_lowercase(),
                false => keyword.to_ascii_uppercase(),
            };
            let place = stage.from.alias.as_ref().and_then(|alias| {
                let before = text.get(..alias.span.start)?.trim_end_matches([' ', '\t']);
                let start = before.strip_suffix(keyword)?.len();
                let end = before.len();
                Some(Span { start, end })
            });
            out.push(match place {
                Some(span) => finding.edit(span, right),
                None => finding,
            });
        }
    }
}
