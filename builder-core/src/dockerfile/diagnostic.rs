//! What is said about a Dockerfile, and how it looks beside its text. Pure: who prints it is the caller's business.

use std::fmt::Write;
use std::ops::Range;

use super::userinfo::{places, without_userinfo};
use super::{ParseError, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

/// One remark, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The name of the rule that speaks, for a warning.
    pub code: Option<&'static str>,
    /// Lower-case, no final stop; a rule's message is as BuildKit words it.
    pub message: String,
    pub span: Span,
    pub hint: Option<String>,
}

impl From<&ParseError> for Diagnostic {
    fn from(error: &ParseError) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            message: error.to_string(),
            span: error.span,
            hint: error.hint(),
        }
    }
}

/// The line and the column of a byte offset, both from 1; columns count characters.
///
/// An offset beyond the text is its end; one inside a character is the character's start.
pub fn line_column(text: &str, offset: usize) -> (u32, u32) {
    let offset = floor(text, offset);
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[..start].matches('\n').count() + 1;
    let column = text[start..offset]
        .chars()
        .filter(|c| *c != '\u{feff}')
        .count()
        + 1;
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The widest excerpt, in columns.
const MAX_WIDTH: usize = 120;
/// A tab is shown as this many blanks.
const TAB: &str = "    ";

/// The remark as text, with the line it is about:
///
/// ```text
/// error: unknown instruction `RUNN`
///  --> Dockerfile:2
/// 2 | RUNN true
///   | ^^^^
/// hint: did you mean `RUN`?
/// ```
///
/// A remark about several lines marks the first and shows the last. Control characters are made visible, tabs
/// become blanks, users and passwords of addresses are left out, and of a long line the part around the mark is shown. Ends
/// with a newline.
pub fn render(diagnostic: &Diagnostic, file_name: &str, text: &str) -> String {
    let Diagnostic {
        severity,
        code,
        message,
        span,
        hint,
    } = diagnostic;
    let mut out = String::from(match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    });
    if let Some(code) = code {
        let _ = write!(out, "[{code}]");
    }
    let (start, end) = (
        floor(text, span.start),
        floor(text, span.end.max(span.start)),
    );
    let line = line_column(text, start).0;
    // An end behind a line ending is the end of that line.
    let last_byte = end.saturating_sub(1).max(start);
    let last = line_column(text, last_byte).0;
    let gutter = last.max(line).to_string().len();
    let _ = writeln!(
        out,
        ": {}\n{:gutter$}--> {}:{line}",
        visible(message),
        "",
        visible(file_name)
    );

    let (line_start, content) = line_at(text, start);
    let shown = Excerpt::new(
        content,
        start.saturating_sub(line_start),
        end.saturating_sub(line_start),
    );
    let _ = writeln!(
        out,
        "{}",
        format!("{line:>gutter$} | {}", shown.text).trim_end()
    );
    let _ = writeln!(
        out,
        "{:gutter$} | {:before$}{}",
        "",
        "",
        "^".repeat(shown.marked),
        before = shown.before
    );
    if last > line {
        if last > line + 1 {
            out.push_str("...\n");
        }
        let content = line_at(text, floor(text, last_byte)).1;
        let shown = Excerpt::new(content, 0, 0);
        let _ = writeln!(
            out,
            "{}",
            format!("{last:>gutter$} | {}", shown.text).trim_end()
        );
    }
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {}", visible(hint));
    }
    out
}

/// The line around an offset, without its ending, and where it starts.
fn line_at(text: &str, offset: usize) -> (usize, &str) {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    (start, text[start..end].trim_end_matches('\r'))
}

/// One line as it is shown.
struct Excerpt {
    text: String,
    /// Columns before the mark.
    before: usize,
    /// Columns under the mark, at least one.
    marked: usize,
}

impl Excerpt {
    /// `from` and `to` are byte offsets into `line`; either may lie beyond it.
    fn new(line: &str, from: usize, to: usize) -> Self {
        let (from, to) = (floor(line, from), floor(line, to));
        let hidden = places(line);
        let shift = |offset: usize| {
            let gone = |it: &Range<usize>| offset.min(it.end) - offset.min(it.start);
            offset - hidden.iter().map(gone).sum::<usize>()
        };
        let (from, to) = (shift(from), shift(to));
        let line = &without_userinfo(line);
        // Of a very long line only what may be seen is looked at.
        let show = |part: &str| {
            let near = part.chars().take(4 * MAX_WIDTH).map(picture);
            near.collect::<Vec<String>>()
        };
        let head = line[..from].chars().rev().take(4 * MAX_WIDTH);
        let mut head: Vec<String> = head.map(picture).collect();
        head.reverse();
        let mut body = show(&line[from..to.max(from)]);
        let mut tail = show(&line[to.max(from)..]);
        let columns = |cells: &[String]| cells.iter().map(|cell| width(cell)).sum::<usize>();
        if columns(&head) + columns(&body) + columns(&tail) > MAX_WIDTH {
            // The mark first, then what stands before it, then what follows.
            cut(&mut body, MAX_WIDTH / 2, false);
            cut(&mut head, MAX_WIDTH / 4, true);
            let left = MAX_WIDTH - columns(&head) - columns(&body);
            cut(&mut tail, left, false);
        }
        Self {
            before: columns(&head),
            marked: columns(&body).max(1),
            text: head.concat() + &body.concat() + &tail.concat(),
        }
    }
}

/// Shortens to `max` columns, at the front or at the end, with a `…` in place of what is gone.
fn cut(cells: &mut Vec<String>, max: usize, front: bool) {
    let total: usize = cells.iter().map(|cell| width(cell)).sum();
    if total <= max {
        return;
    }
    let mut kept = 1;
    let fits = |cell: &&String| {
        kept += width(cell);
        kept <= max
    };
    *cells = if front {
        let mut back: Vec<String> = cells.iter().rev().take_while(fits).cloned().collect();
        back.push("…".into());
        back.reverse();
        back
    } else {
        cells
            .iter()
            .take_while(fits)
            .cloned()
            .chain(["…".to_owned()])
            .collect()
    };
}

fn visible(text: &str) -> String {
    without_userinfo(text).chars().map(picture).collect()
}

/// A character that can be printed without moving the cursor or turning the text around.
fn picture(c: char) -> String {
    match c {
        '\t' => TAB.to_owned(),
        '\u{feff}' => String::new(),
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('?').into(),
        '\x7f' => '\u{2421}'.into(),
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' => char::REPLACEMENT_CHARACTER.into(),
        _ => c.into(),
    }
}

/// Columns on a terminal: two for East Asian wide characters and pictures, one for the rest.
fn width(cell: &str) -> usize {
    cell.chars()
        .map(|c| match u32::from(c) {
            0x300..=0x36f => 0,
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
            0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: (usize, usize)) -> String {
        let span = Span {
            start: span.0,
            end: span.1,
        };
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            code: Some("Rule"),
            message: "m".into(),
            span,
            hint: None,
        };
        render(&diagnostic, "f", text)
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        for (offset, place) in [
            (0, (1, 1)),
            (2, (1, 2)),
            (3, (1, 3)),
            (4, (2, 1)),
            (99, (2, 3)),
        ] {
            assert_eq!(line_column("aé\nbc", offset), place, "{offset}");
        }
    }

    #[test]
    fn excerpts_stay_in_line() {
        for (text, span, expected) in [
            ("ab cd", (3, 5), "1 | ab cd\n  |    ^^\n"),
            ("\tab", (1, 3), "1 |     ab\n  |     ^^\n"),
            ("한 x", (4, 5), "1 | 한 x\n  |    ^\n"),
            ("a\x1bb", (1, 2), "1 | a␛b\n  |  ^\n"),
            ("a", (1, 1), "1 | a\n  |  ^\n"),
            ("", (0, 0), "1 |\n  | ^\n"),
            ("a \\\nb", (0, 5), "1 | a \\\n  | ^^^\n2 | b\n"),
            ("a\nb\nc\n", (0, 6), "1 | a\n  | ^\n...\n3 | c\n"),
        ] {
            assert_eq!(
                shown(text, span),
                format!("warning[Rule]: m\n --> f:1\n{expected}"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn passwords_of_addresses_are_left_out() {
        let text = "ADD http://me:pw@a/b /c";
        let all = "warning[Rule]: m\n --> f:1\n1 | ADD http://a/b /c\n  | ";
        for (span, marks) in [
            ((4, 20), "    ^^^^^^^^^^"),
            ((21, 23), "               ^^"),
            ((0, 3), "^^^"),
            ((12, 14), "           ^"),
            ((14, 20), "           ^^^"),
        ] {
            assert_eq!(shown(text, span), format!("{all}{marks}\n"), "{span:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let shown = shown(&text, (500, 504));
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[2].contains("aHEREb") && lines[2].chars().count() <= MAX_WIDTH + 4);
        assert_eq!(
            lines[2].chars().position(|c| c == 'H'),
            lines[3].chars().position(|c| c == '^')
        );
    }
}
