//! FROM: an image, and the name of the stage.

use super::super::ast::From;
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind};
use super::flags::Flags;
use super::whole;

pub(super) const FLAGS: &[&str] = &["platform", "after"];

pub(super) fn read(node: &Node, flags: &Flags) -> Result<From, ParseError> {
    let (image, alias) = match node.arguments.as_slice() {
        [image] => (image, None),
        [image, keyword, alias] if keyword.raw.eq_ignore_ascii_case("as") => (image, Some(alias)),
        other => {
            return Err(whole(
                node,
                ParseErrorKind::FromArguments { found: other.len() },
            ));
        }
    };
    if let Some(alias) = alias.filter(|alias| !is_stage_name(&alias.raw)) {
        let name = alias.raw.clone();
        return Err(ParseError::new(
            ParseErrorKind::StageName { name },
            alias.span,
        ));
    }
    Ok(From {
        image: image.clone(),
        alias: alias.cloned(),
        platform: flags.text("platform"),
        after: flags.list("after"),
    })
}

/// A letter, then letters, digits, `-`, `_` and `.`; the case does not matter.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
