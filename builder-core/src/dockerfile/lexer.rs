//! Physical lines joined into logical ones, with a map back to the text.

use super::Span;
use std::ops::Range;

/// A logical line: continuation lines joined, comment and blank lines within them dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) text: String,
    /// (offset in `text`, offset in the file), ascending, never empty.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    fn source(&self, at: usize) -> usize {
        let piece = self
            .pieces
            .partition_point(|(start, _)| *start <= at)
            .saturating_sub(1);
        let (start, file) = self.pieces[piece];
        file + (at - start)
    }

    /// Where bytes `range` of `text` stand in the file; continuation lines in between are covered.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        if range.is_empty() {
            let at = self.source(range.start);
            return Span { start: at, end: at };
        }
        Span {
            start: self.source(range.start),
            end: self.source(range.end - 1) + 1,
        }
    }
}

/// Hands out physical lines; each keeps its line ending.
#[derive(Debug, Clone)]
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Offset of the next line.
    pub(super) at: usize,
    /// How many lines were handed out.
    pub(super) count: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Self { text, at, count: 0 }
    }

    /// The next line and its offset.
    pub(super) fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let at = self.at;
        self.at += line.len();
        self.count += 1;
        Some((at, line))
    }
}

/// What one logical line came with.
#[derive(Debug)]
pub(super) struct Logical {
    pub(super) line: Joined,
    /// 1-based, inclusive.
    pub(super) lines: (u32, u32),
    /// Where the first blank line among the continuation lines stands.
    pub(super) empty_continuation: Option<Span>,
}

/// Joins the instruction that starts with `first` (offset, text without indentation and line ending), taking
/// what it needs from `lines`.
pub(super) fn join(first: (usize, &str), lines: &mut Lines<'_>, escape: char) -> Logical {
    let start = lines.count;
    let (body, mut open) = split_continuation(first.1, escape);
    let mut line = Joined {
        text: body.to_owned(),
        pieces: vec![(0, first.0)],
    };
    let mut empty_continuation = None;
    while open {
        let Some((at, raw)) = lines.next() else { break };
        let content = trim_newline(raw);
        let inner = content.trim_start();
        if inner.starts_with('#') {
            continue;
        }
        if inner.is_empty() {
            empty_continuation.get_or_insert(Span {
                start: at,
                end: at + content.len(),
            });
            continue;
        }
        let (body, more) = split_continuation(content, escape);
        open = more;
        if !body.is_empty() {
            line.pieces.push((line.text.len(), at));
            line.text.push_str(body);
        }
    }
    Logical {
        line,
        lines: (start, lines.count),
        empty_continuation,
    }
}

/// The line without its continuation mark, and whether it had one: the escape character, blanks behind it, and
/// no second escape character before it.
fn split_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(body) if !body.ends_with(escape) => (body, true),
        _ => (line, false),
    }
}

/// Whether a line that ends so would go on in the next one.
pub(super) fn continues(line: &str, escape: char) -> bool {
    split_continuation(line, escape).1
}

pub(super) fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> Logical {
        let mut lines = Lines::new(text, 0);
        let (at, first) = lines.next().unwrap_or((0, ""));
        join((at, trim_newline(first)), &mut lines, '\\')
    }

    #[test]
    fn lines_are_joined() {
        for (text, expected, last) in [
            ("a b", "a b", 1),
            ("a \\\nb\nc", "a b", 2),
            ("a \\  \n b\n", "a  b", 2),
            ("a\\\\\nb", "a\\\\", 1),
            ("a \\\n# x\n\n  # y\nb", "a b", 5),
            ("a \\\r\nb\r\n", "a b", 2),
            ("a \\", "a ", 1),
            ("\\\n\\\nb", "b", 3),
        ] {
            let logical = joined(text);
            assert_eq!(
                (logical.line.text.as_str(), logical.lines.1),
                (expected, last),
                "{text:?}"
            );
        }
    }

    #[test]
    fn spans_lead_back_to_the_file() {
        let logical = joined("ab \\\n# no\n cd é");
        assert_eq!(logical.line.text, "ab  cd é");
        assert_eq!(logical.line.span(0..2), Span { start: 0, end: 2 });
        assert_eq!(logical.line.span(4..6), Span { start: 11, end: 13 });
        assert_eq!(logical.line.span(7..9), Span { start: 14, end: 16 });
        assert_eq!(logical.line.span(9..9), Span { start: 16, end: 16 });
        assert_eq!(logical.line.span(0..6), Span { start: 0, end: 13 });
    }
}
