//! Cutting a logical line into its keyword, its flags and its words.
//!
//! Three ways of cutting, as BuildKit has them: [`words`] minds quotes and keeps them (ENV, LABEL, ARG),
//! [`fields`] only looks at blanks (COPY, FROM, EXPOSE), and [`flags`] takes quotes away (`--flag="a b"`).
//! All work on ranges of the line, so that every word knows where it stands.

use std::ops::Range;

/// The blanks between words; others (a no-break space, say) are part of a word.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// `range` of `line` without the blanks of any kind at its ends.
pub(super) fn trim(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    let end = range.end - (text.len() - text.trim_end().len());
    start..end.max(start)
}

/// The first word of `range`, and what follows its blanks.
pub(super) fn first(line: &str, range: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    let text = &line[range.clone()];
    match text.find(BLANKS) {
        None => (range, None),
        Some(end) => {
            let rest = text[end..].trim_start_matches(BLANKS);
            (
                range.start..range.start + end,
                Some(range.end - rest.len()..range.end),
            )
        }
    }
}

/// The words between blanks; none where `range` is empty.
pub(super) fn fields(line: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest.filter(|range| !range.is_empty()) {
        let (word, more) = first(line, range);
        out.push(word);
        rest = more;
    }
    out
}

/// The words between blanks outside quotes; quotes and escapes stay in them. A lone escape character at the very
/// end is dropped.
pub(super) fn words(line: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut end = range.end;
    let mut chars = line[range.clone()]
        .char_indices()
        .map(|(at, c)| (range.start + at, c))
        .peekable();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                out.extend(start.take().map(|start| start..at));
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') && chars.next().is_none() {
            end = at;
        }
    }
    out.extend(
        start
            .map(|start| start..end)
            .filter(|word| !word.is_empty()),
    );
    out
}

/// A flag, its quotes and backslashes taken away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawFlag {
    /// With the dashes: `--from=build`.
    pub(super) text: String,
    pub(super) at: Range<usize>,
}

/// The `--flags` at the start of `range`, and what follows them. A `--` alone ends them.
pub(super) fn flags(line: &str, range: Range<usize>) -> (Vec<RawFlag>, Range<usize>) {
    let mut out = Vec::new();
    let mut at = range.start;
    loop {
        at = range.end - line[at..range.end].trim_start().len();
        if !line[at..range.end].starts_with("--") {
            return (out, at..range.end);
        }
        let (flag, end) = flag(line, at..range.end);
        if flag == "--" {
            return (out, end..range.end);
        }
        out.push(RawFlag {
            text: flag,
            at: at..end,
        });
        at = end;
    }
}

/// The flag that `range` starts with, and where it ends. The backslash escapes here whatever the file's escape is.
fn flag(line: &str, range: Range<usize>) -> (String, usize) {
    let mut flag = String::new();
    let mut quote: Option<char> = None;
    let mut chars = line[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => return (flag, range.start + at),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => flag.extend(chars.next().map(|(_, c)| c)),
            _ => flag.push(c),
        }
    }
    (flag, range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_quotes() {
        for (text, expected) in [
            ("a b  c", &["a", "b", "c"][..]),
            ("a=\"b c\" d", &["a=\"b c\"", "d"]),
            ("a='b \\' c", &["a='b \\'", "c"]),
            ("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]),
            ("a\\ b c", &["a\\ b", "c"]),
            ("a\\", &["a"]),
            ("a=\"b\\", &["a=\"b"]),
            ("a \\", &["a"]),
            ("'' b", &["''", "b"]),
            ("", &[]),
        ] {
            let found: Vec<_> = words(text, 0..text.len(), '\\')
                .into_iter()
                .map(|range| &text[range])
                .collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn flags_lose_their_quotes() {
        for (text, expected, rest) in [
            ("a b", &[][..], "a b"),
            ("--a=b  --c x", &["--a=b", "--c"], "x"),
            ("--a=\"b c\" x", &["--a=b c"], "x"),
            ("--a='b\\'c' x", &["--a=b'c"], "x"),
            ("--a=b\\ c x", &["--a=b c"], "x"),
            ("--a -- --b", &["--a"], " --b"),
            ("-- x", &[], " x"),
            ("--é=ü x", &["--é=ü"], "x"),
            ("--a", &["--a"], ""),
            ("--a=\\", &["--a="], ""),
        ] {
            let (found, range) = flags(text, 0..text.len());
            let found: Vec<_> = found.iter().map(|flag| flag.text.as_str()).collect();
            assert_eq!(
                (found.as_slice(), &text[range]),
                (expected, rest),
                "{text:?}"
            );
        }
    }
}
