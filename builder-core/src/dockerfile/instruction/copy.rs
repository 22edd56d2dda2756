//! COPY, and what ADD shares with it: sources, here-documents, destination.

use super::super::ast::{Copy, Heredoc};
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Text, heredoc};
use super::flags::Flags;
use super::whole;

pub(super) const FLAGS: &[&str] = &["from", "chown", "chmod", "link", "parents", "exclude"];

pub(super) fn read(node: &Node, flags: &Flags) -> Result<Copy, ParseError> {
    let mut copy = places("COPY", node)?;
    copy.from = flags.text("from");
    copy.chown = flags.text("chown");
    copy.chmod = flags.text("chmod");
    copy.link = flags.bool("link").unwrap_or(false);
    copy.parents = flags.bool("parents").unwrap_or(false);
    copy.exclude = flags.list("exclude");
    Ok(copy)
}

/// Sources and destination; the flags are left at their defaults.
pub(super) fn places(instruction: &'static str, node: &Node) -> Result<Copy, ParseError> {
    let found = node.arguments.len();
    let Some((dest, words)) = node
        .arguments
        .split_last()
        .filter(|(_, words)| !words.is_empty())
    else {
        return Err(whole(
            node,
            ParseErrorKind::NeedsDestination { instruction, found },
        ));
    };
    if mark(dest).is_some() {
        return Err(ParseError::new(
            ParseErrorKind::HeredocDestination { instruction },
            dest.span,
        ));
    }
    let (mut sources, mut heredocs) = (Vec::new(), Vec::<Heredoc>::new());
    for word in words {
        let Some(mark) = mark(word) else {
            sources.push(word.clone());
            continue;
        };
        // Of two bodies under one name, the last is used for both, as in BuildKit.
        let Some(body) = node
            .heredocs
            .iter()
            .rev()
            .find(|heredoc| heredoc.name == mark.name)
        else {
            return Err(ParseError::new(
                ParseErrorKind::UnreadHeredoc {
                    delimiter: mark.name,
                },
                word.span,
            ));
        };
        heredocs.push(body.clone());
    }
    if let Some(stray) = node
        .heredocs
        .iter()
        .find(|own| heredocs.iter().all(|used| used.name != own.name))
    {
        let delimiter = stray.name.clone();
        return Err(whole(
            node,
            ParseErrorKind::StrayHeredoc {
                instruction,
                delimiter,
            },
        ));
    }
    Ok(Copy {
        sources,
        heredocs,
        dest: dest.clone(),
        from: None,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: None,
        unpack: None,
    })
}

fn mark(word: &Text) -> Option<heredoc::Mark> {
    heredoc::mark(&word.raw).ok().flatten()
}
