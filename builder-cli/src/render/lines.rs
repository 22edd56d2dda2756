//! Bytes to lines, and lines to what a terminal may be shown.

/// Lines of one stream of one step: a line is given out when it is whole.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

/// A longer line is given out in pieces.
const MAX_BYTES: usize = 64 << 10;

impl Lines {
    /// Adds bytes, and calls `line` with each line that is whole now, without its ending.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                self.partial.pop();
                line(&self.partial);
                self.partial.clear();
            }
            while self.partial.len() >= MAX_BYTES {
                let rest = self.partial.split_off(MAX_BYTES);
                line(&self.partial);
                self.partial = rest;
            }
        }
    }

    /// Gives out what has no ending yet.
    pub(super) fn flush(&mut self, line: impl FnOnce(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial.clear();
        }
    }
}

/// What a terminal may be shown of a line: what was drawn last where it was drawn over, nothing that moves the cursor.
pub(super) fn visible(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    line.chars().map(picture).collect()
}

/// What a terminal may be shown of a text of several lines, none of it drawn over: an image's words are a stranger's.
pub(super) fn harmless(text: &str) -> String {
    let shown = |c| match c {
        '\n' => c,
        _ => picture(c),
    };
    text.chars().map(shown).collect()
}

/// As [`visible`], but colours (SGR sequences) stay, and end with the line.
pub(super) fn coloured(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let (mut rest, mut colours) = (line, false);
    while let Some(c) = rest.chars().next() {
        if let Some(sequence) = sgr(rest) {
            out.push_str(sequence);
            colours = true;
            rest = &rest[sequence.len()..];
            continue;
        }
        out.push(picture(c));
        rest = &rest[c.len_utf8()..];
    }
    if colours {
        out.push_str("\x1b[0m");
    }
    out
}

/// The sequence that sets colours and the like, if `text` starts with one.
fn sgr(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("\x1b[")?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':'))?;
    inner[end..].starts_with('m').then(|| &text[..end + 3])
}

fn picture(c: char) -> char {
    match c {
        '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('?'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// Cuts to `columns`; what is not ASCII may be two columns wide, and counts as such.
pub(super) fn cut(text: &str, columns: usize) -> String {
    let mut left = columns;
    let mut out = String::new();
    for c in text.chars() {
        // A tab would jump: one blank has a known width.
        let c = if c == '\t' { ' ' } else { c };
        let width = if c.is_ascii() { 1 } else { 2 };
        if width > left {
            break;
        }
        left -= width;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        for (pieces, expected) in [
            (&["a\nb\n"][..], &["a", "b"][..]),
            (&["a", "b\nc"], &["ab", "|c"]),
            (&["\n\n"], &["", ""]),
            (&["a\r\n"], &["a\r"]),
            (&[], &[]),
        ] {
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            for piece in pieces {
                lines.push(piece.as_bytes(), |line| {
                    out.push(String::from_utf8_lossy(line).into_owned());
                });
            }
            lines.flush(|line| out.push(format!("|{}", String::from_utf8_lossy(line))));
            assert_eq!(out, expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (mut lines, mut sizes) = (Lines::default(), Vec::new());
        lines.push(&vec![b'x'; MAX_BYTES * 2 + 5], |line| {
            sizes.push(line.len())
        });
        lines.flush(|line| sizes.push(line.len()));
        assert_eq!(sizes, [MAX_BYTES, MAX_BYTES, 5]);
    }

    #[test]
    fn terminals_are_shown_nothing_that_moves_the_cursor() {
        for (line, expected) in [
            (&b"a\tb"[..], "a\tb"),
            (b"\x1b[31mred", "\u{241b}[31mred"),
            (b"10%\r50%\r100%\r", "100%"),
            (b"\xff", "\u{fffd}"),
            ("a\u{202e}b".as_bytes(), "a\u{fffd}b"),
        ] {
            assert_eq!(visible(line), expected);
        }
        for (line, expected) in [
            (&b"a\tb"[..], "a\tb"),
            (b"\x1b[31mred", "\x1b[31mred\x1b[0m"),
            (b"\x1b[1;38:5:3mx\x1b[my", "\x1b[1;38:5:3mx\x1b[my\x1b[0m"),
            (b"\x1b[2J\x1b]0;t\x07", "\u{241b}[2J\u{241b}]0;t\u{2407}"),
            (b"\x1b[31", "\u{241b}[31"),
            (b"10%\r50%\r", "50%"),
        ] {
            assert_eq!(coloured(line), expected);
        }
        for (text, expected) in [
            ("a\tb\n한 é\n", "a\tb\n한 é\n"),
            (
                "\x1b]0;mine\x07\r\x1b[2J",
                "\u{241b}]0;mine\u{2407}\u{240d}\u{241b}[2J",
            ),
            ("\u{9b}31m\u{202e}\u{7f}", "\u{fffd}31m\u{fffd}\u{2421}"),
        ] {
            assert_eq!(harmless(text), expected);
        }
        for (text, columns, expected) in [("abc", 2, "ab"), ("한국", 3, "한"), ("a\tb", 9, "a b")]
        {
            assert_eq!(cut(text, columns), expected);
        }
    }
}
