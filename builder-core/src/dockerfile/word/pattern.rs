//! The patterns of `${v#p}`, `${v%p}` and `${v/p/w}`: `*`, `?` and backslash escapes.
//!
//! `*` and `?` do not cross a line end, as in the regular expressions that BuildKit makes of them. A pattern is
//! cut at its stars into pieces of fixed length, so matching needs no backtracking: the shortest match takes
//! every piece as early as it fits, the longest takes the last piece as late as it fits.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Char(char),
    /// Any character but a line end.
    Any,
}

impl Unit {
    fn fits(self, c: char) -> bool {
        match self {
            Unit::Char(own) => own == c,
            Unit::Any => c != '\n',
        }
    }
}

/// Pieces between stars: one piece is a pattern without stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Vec<Unit>>,
}

impl Pattern {
    /// None for a backslash before anything but `*`, `?`, `\`, `}` and `/`.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut pieces = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let unit = match c {
                '*' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '?' => Unit::Any,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Unit::Char(c),
                    _ => return None,
                },
                _ => Unit::Char(c),
            };
            pieces.last_mut()?.push(unit);
        }
        Some(Self { pieces })
    }

    /// Removes the shortest or longest match at the start.
    pub(super) fn strip_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = self.end_at(&value, 0, longest).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// Removes the shortest or longest match at the end.
    pub(super) fn strip_suffix(&self, value: &str, longest: bool) -> String {
        let mut pieces = self.pieces.clone();
        pieces.reverse();
        pieces.iter_mut().for_each(|piece| piece.reverse());
        let value: Vec<char> = value.chars().rev().collect();
        let end = Self { pieces }.end_at(&value, 0, longest).unwrap_or(0);
        value[end..].iter().rev().collect()
    }

    /// Replaces the first match, or all; none where the result would be longer than `max` bytes.
    ///
    /// As in Go's `ReplaceAllString`, `$0` in the replacement of all matches is the match, any other `$name` is
    /// empty, and `$$` is a dollar sign.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        max: usize,
    ) -> Option<String> {
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // No match starts between here and the next line end.
        let mut hopeless_until = 0;
        let mut last_match = None;
        while at <= value.len() {
            let found = (at >= hopeless_until)
                .then(|| self.end_at(&value, at, true))
                .flatten();
            match found {
                Some(end) if !(end == at && last_match == Some(at)) => {
                    if all {
                        template(&mut out, replacement, &value[at..end]);
                    } else {
                        out.push_str(replacement);
                        out.extend(&value[end..]);
                        return (out.len() <= max).then_some(out);
                    }
                    if out.len() > max {
                        return None;
                    }
                    last_match = Some(end);
                    if end > at {
                        at = end;
                        continue;
                    }
                }
                Some(_) => {}
                None if at >= hopeless_until
                    && self.pieces.len() > 1
                    && self.piece_at(0, &value, at) =>
                {
                    let line = value[at..].iter().position(|c| *c == '\n');
                    // The first piece may itself hold a line end: then nothing is known.
                    if !self.pieces[0].contains(&Unit::Char('\n')) {
                        hopeless_until = line.map_or(value.len() + 1, |line| at + line);
                    }
                }
                None => {}
            }
            out.extend(value.get(at));
            at += 1;
            if out.len() > max {
                return None;
            }
        }
        (out.len() <= max).then_some(out)
    }

    fn piece_at(&self, piece: usize, value: &[char], at: usize) -> bool {
        let piece = &self.pieces[piece];
        value
            .get(at..at + piece.len())
            .is_some_and(|text| piece.iter().zip(text).all(|(unit, c)| unit.fits(*c)))
    }

    /// Where the match that starts at `start` ends.
    fn end_at(&self, value: &[char], start: usize, longest: bool) -> Option<usize> {
        if !self.piece_at(0, value, start) {
            return None;
        }
        let mut at = start + self.pieces[0].len();
        for piece in 1..self.pieces.len() {
            // A star reaches to the end of its line.
            let reach = value[at..]
                .iter()
                .position(|c| *c == '\n')
                .map_or(value.len(), |line| at + line);
            let last = piece + 1 == self.pieces.len();
            let found = if last && longest {
                (at..=reach)
                    .rev()
                    .find(|at| self.piece_at(piece, value, *at))
            } else {
                (at..=reach).find(|at| self.piece_at(piece, value, *at))
            };
            at = found? + self.pieces[piece].len();
        }
        Some(at)
    }
}

/// Appends a replacement with its `$names` filled in.
fn template(out: &mut String, replacement: &str, matched: &[char]) {
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let (name, more) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some((name, more)) if !name.is_empty() && name.chars().all(word) => (name, more),
            _ => after.split_at(after.find(|c| !word(c)).unwrap_or(after.len())),
        };
        match name {
            "" => out.push('$'),
            "0" => out.extend(matched),
            _ => {}
        }
        rest = more;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn the_shortest_and_the_longest_match_are_removed() {
        for (pattern, value, shortest, longest) in [
            ("*x", "axbxc", "bxc", "c"),
            ("*", "abc", "abc", ""),
            ("a*b*c", "abcbc", "bc", ""),
            ("?", "é\n", "\n", "\n"),
            ("*b", "a\nb", "a\nb", "a\nb"),
            ("x", "abc", "abc", "abc"),
        ] {
            let pattern = Pattern::new(pattern).expect("a pattern");
            assert_eq!(pattern.strip_prefix(value, false), shortest, "{pattern:?}");
            assert_eq!(pattern.strip_prefix(value, true), longest, "{pattern:?}");
        }
    }

    #[test]
    fn an_empty_pattern_matches_between_characters() {
        let pattern = Pattern::new("").expect("a pattern");
        assert_eq!(
            pattern.replace("ab", "-", true, 99).as_deref(),
            Some("-a-b-")
        );
        assert_eq!(
            pattern.replace("ab", "-", false, 99).as_deref(),
            Some("-ab")
        );
        assert_eq!(
            Pattern::new("a*")
                .and_then(|p| p.replace("xab", "-", true, 99))
                .as_deref(),
            Some("x-")
        );
    }
}
