//! Patterns as rows of tokens, and how far along them a reader of a path can be. And [`Glob`], for one part of a COPY source.
//!
//! A reader keeps all places at once, so work is at most one look at each token for each character of the path,
//! however many wildcards follow each other.

use super::ignore::PatternError;

pub(super) const SLASH: u32 = '/' as u32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Char(u32),
    /// `?`.
    Any,
    /// `*`.
    Star,
    /// `**` at the end.
    Rest,
    /// `**` elsewhere: nothing, or anything up to a slash. Always followed by `Within`.
    Dirs,
    Within,
    Class(Class),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    pub(super) ranges: Vec<(u32, u32)>,
}

impl Class {
    fn fits(&self, unit: u32) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&unit))
            != self.negated
    }

    /// Reads on behind `[`, by the rules of Go's `filepath.Match`.
    pub(super) fn read(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
        let negated = chars.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
                return Some(Self { negated, ranges });
            }
            let low = Self::bound(chars)?;
            let high = if chars.next_if_eq(&'-').is_some() {
                Self::bound(chars)?
            } else {
                low
            };
            ranges.push((low, high));
        }
    }

    fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<u32> {
        match chars.next()? {
            '-' | ']' => None,
            '\\' => chars.next().map(u32::from),
            c => Some(u32::from(c)),
        }
    }
}

/// The bytes that the leading characters stand for.
pub(super) fn literal(tokens: &[Token]) -> Vec<u8> {
    let mut out = String::new();
    for token in tokens {
        match token {
            Token::Char(unit) => out.extend(char::from_u32(*unit)),
            _ => break,
        }
    }
    out.into_bytes()
}

/// The longest run of characters that stand for themselves.
pub(super) fn longest_literal(tokens: &[Token]) -> Vec<u8> {
    let runs = tokens.split(|token| !matches!(token, Token::Char(_)));
    runs.map(literal).max_by_key(Vec::len).unwrap_or_default()
}

/// A path as characters; a byte that is part of none is a unit of its own, beyond them.
pub(super) fn units(path: &[u8]) -> impl Iterator<Item = u32> {
    path.utf8_chunks().flat_map(|chunk| {
        let chars = chunk.valid().chars().map(u32::from);
        chars.chain(
            chunk
                .invalid()
                .iter()
                .map(|byte| 0x11_0000 + u32::from(*byte)),
        )
    })
}

/// Joins wildcards that follow each other and mean no more than one of them.
pub(super) fn simplified(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Star if out.last() == Some(&Token::Star) => continue,
            Token::Within if out.ends_with(&[Token::Dirs, Token::Within, Token::Dirs]) => {
                out.pop();
                continue;
            }
            Token::Rest => {
                while let Some(Token::Star | Token::Dirs | Token::Within) = out.last() {
                    out.pop();
                }
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

/// All places in a row of tokens at which a reader can be.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    tokens: &'t [Token],
    now: Places,
    next: Places,
}

/// A set that is listed and emptied in the time of what is in it.
#[derive(Debug)]
struct Places {
    list: Vec<usize>,
    has: Vec<bool>,
}

impl Places {
    fn new(count: usize) -> Self {
        Self {
            list: Vec::new(),
            has: vec![false; count],
        }
    }

    fn insert(&mut self, at: usize) -> bool {
        let new = !std::mem::replace(&mut self.has[at], true);
        if new {
            self.list.push(at);
        }
        new
    }

    /// Adds `at` and what can be reached from it without reading.
    fn enter(&mut self, tokens: &[Token], mut at: usize) {
        while self.insert(at) {
            match tokens.get(at) {
                Some(Token::Star | Token::Rest) => at += 1,
                Some(Token::Dirs) => at += 2,
                _ => return,
            }
        }
    }

    fn clear(&mut self) {
        for at in self.list.drain(..) {
            self.has[at] = false;
        }
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(tokens: &'t [Token]) -> Self {
        let count = tokens.len() + 1;
        let mut now = Places::new(count);
        now.enter(tokens, 0);
        Self {
            tokens,
            now,
            next: Places::new(count),
        }
    }

    /// Reads a path, or as much of it as can be part of a match.
    pub(super) fn read_all(mut self, path: &[u8]) -> Self {
        for unit in units(path) {
            if !self.read(unit) {
                break;
            }
        }
        self
    }

    /// Reads one unit; false where no match is possible any more.
    pub(super) fn read(&mut self, unit: u32) -> bool {
        let Self { tokens, now, next } = self;
        let slash = unit == SLASH;
        for &at in &now.list {
            match tokens.get(at) {
                Some(Token::Char(own)) if *own == unit => next.enter(tokens, at + 1),
                Some(Token::Any) if !slash => next.enter(tokens, at + 1),
                Some(Token::Class(class)) if class.fits(unit) => next.enter(tokens, at + 1),
                Some(Token::Star) if !slash => next.enter(tokens, at),
                Some(Token::Rest) => next.enter(tokens, at),
                Some(Token::Dirs) => {
                    next.insert(at + 1);
                    if slash {
                        next.enter(tokens, at + 2);
                    }
                }
                Some(Token::Within) => {
                    next.insert(at);
                    if slash {
                        next.enter(tokens, at + 1);
                    }
                }
                _ => {}
            }
        }
        now.clear();
        std::mem::swap(now, next);
        !self.now.list.is_empty()
    }

    /// Whether what has been read is a match.
    pub(super) fn matches(&self) -> bool {
        self.now.has[self.tokens.len()]
    }

    /// Whether it could become one by reading on.
    pub(super) fn goes_on(&self) -> bool {
        self.now.list.iter().any(|at| *at < self.tokens.len())
    }
}

/// One part of a path pattern, matched as Go's `filepath.Match` does: `*`, `?`, `[a-z]`, `[^x]`, `\c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    text: String,
}

impl Glob {
    /// # Errors
    /// A bracket without an end, an empty range, a backslash at the end.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' => Some(Token::Star),
                '?' => Some(Token::Any),
                '[' => Class::read(&mut chars).map(Token::Class),
                '\\' => chars.next().map(|c| Token::Char(u32::from(c))),
                _ => Some(Token::Char(u32::from(c))),
            };
            tokens.push(token.ok_or_else(|| PatternError::Syntax {
                pattern: pattern.to_owned(),
            })?);
        }
        let text = String::from_utf8_lossy(&literal(&tokens)).into_owned();
        let tokens = simplified(tokens);
        Ok(Self { tokens, text })
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        name.starts_with(self.text.as_bytes()) && Reader::new(&self.tokens).read_all(name).matches()
    }

    /// Whether it matches one name only: [`literal`](Self::literal) then gives that name.
    pub fn is_literal(&self) -> bool {
        self.tokens
            .iter()
            .all(|token| matches!(token, Token::Char(_)))
    }

    /// The characters before the first wildcard, escapes taken away.
    pub fn literal(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_one_name() {
        for (pattern, name, matched) in [
            ("*.rs", &b"main.rs"[..], true),
            ("*.rs", b"a/main.rs", false),
            ("a?c", "aéc".as_bytes(), true),
            ("a?c", b"a\xffc", true),
            ("[^a-c]x", b"dx", true),
            ("[^a-c]x", b"bx", false),
            ("\\*", b"*", true),
            ("\\*", b"x", false),
            ("[z-a]", b"m", false),
            ("**", b"x", true),
        ] {
            assert_eq!(
                Glob::new(pattern).map(|glob| glob.matches(name)),
                Ok(matched),
                "{pattern}"
            );
        }
        assert!(Glob::new("[a").is_err() && Glob::new("a\\").is_err());
        assert!(Glob::new("a\\*b").is_ok_and(|glob| glob.is_literal() && glob.literal() == "a*b"));
    }

    #[test]
    fn rows_of_wildcards_become_one() {
        use Token::{Dirs, Rest, Star, Within};
        for (tokens, expected) in [
            (vec![Star, Star, Star], vec![Star]),
            (
                vec![Dirs, Within, Dirs, Within, Dirs, Within, Star],
                vec![Dirs, Within, Star],
            ),
            (vec![Dirs, Within, Star, Dirs, Within, Rest], vec![Rest]),
            (
                vec![Dirs, Within, Star, Dirs, Within, Star],
                vec![Dirs, Within, Star, Dirs, Within, Star],
            ),
        ] {
            assert_eq!(simplified(tokens.clone()), expected, "{tokens:?}");
        }
    }
}
