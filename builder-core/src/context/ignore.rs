//! Ignore files: which paths of a context a build does not see. And [`Glob`], for one part of a COPY source.
//!
//! Behaves as `moby/patternmatcher`: patterns are read in order and the last that decides wins; a pattern that
//! matches a directory decides about everything below it; `!` takes back; `**` is any number of directories.
//! Each pattern is compiled once. Paths are bytes, cut at `/`, relative, without `.` parts.
//!
//! A walk asks [`Patterns::matches_with_parent`] with what its directory gave: work for a path then does not
//! grow with its depth, and nothing is allocated for up to 64 patterns.
//!
//! Departures: `**` also crosses a line end in a name, `\d` is the letter `d` (upstream hands it to its regular
//! expressions), and a backwards range such as `[z-a]` is refused when it is read, not when it is first used.

use std::collections::BTreeSet;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    #[error("pattern `!` takes nothing back")]
    BareExclusion,
    #[error("syntax error in pattern `{pattern}`")]
    Syntax { pattern: String },
}

/// Reader of ignore files.
#[derive(Debug, Clone, Copy)]
pub struct Ignore;

impl Ignore {
    /// The patterns of an ignore file: no comments, no blank lines, paths cleaned, no leading slash, `!` in front.
    ///
    /// Bytes that are not UTF-8 are replaced.
    pub fn read(bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let mut out = Vec::new();
        for line in text.split('\n') {
            let pattern = line.trim();
            if line.starts_with('#') || pattern.is_empty() {
                continue;
            }
            let (mark, path) = match pattern.strip_prefix('!') {
                Some(path) => ("!", path.trim()),
                None => ("", pattern),
            };
            let path = if path.is_empty() {
                String::new()
            } else {
                clean(path)
            };
            let path = path
                .strip_prefix('/')
                .filter(|rest| !rest.is_empty())
                .unwrap_or(&path);
            out.push(format!("{mark}{path}"));
        }
        out
    }
}

/// A list of patterns, compiled.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    exceptions: bool,
}

/// What is known of a directory: which patterns matched it or a directory above it.
///
/// The default is the root of a walk, which nothing matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentMatch {
    first: u64,
    more: Vec<u64>,
}

impl ParentMatch {
    fn get(&self, at: usize) -> bool {
        let word = if at < 64 {
            self.first
        } else {
            self.more.get(at / 64 - 1).copied().unwrap_or(0)
        };
        word >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: usize) {
        let bit = 1 << (at % 64);
        if at < 64 {
            self.first |= bit;
            return;
        }
        if self.more.len() < at / 64 {
            self.more.resize(at / 64, 0);
        }
        self.more[at / 64 - 1] |= bit;
    }
}

impl Patterns {
    /// Compiles patterns; those of blanks only are left out.
    ///
    /// # Errors
    /// The first pattern that is malformed.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let mut out = Self::default();
        for text in patterns
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            let cleaned = clean(text);
            let (exception, path) = match cleaned.strip_prefix('!') {
                Some("") => return Err(PatternError::BareExclusion),
                Some(path) => (true, path),
                None => (false, cleaned.as_str()),
            };
            let syntax = || PatternError::Syntax {
                pattern: path.to_owned(),
            };
            let matcher = Matcher::compile(path).ok_or_else(syntax)?;
            out.exceptions |= exception;
            out.patterns.push(Pattern { exception, matcher });
        }
        Ok(out)
    }

    /// Whether `path`, or a directory above it, is ignored. The context itself (`.`) never is.
    ///
    /// # Errors
    /// None today: malformed patterns are refused by [`new`](Self::new).
    pub fn matches(&self, path: &str) -> Result<bool, PatternError> {
        let path = clean(path);
        let path = path.as_bytes();
        if path == b"." {
            return Ok(false);
        }
        let mut matched = false;
        for pattern in self.patterns.iter() {
            if pattern.exception != matched {
                continue;
            }
            let parents = path
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'/')
                .map(|(at, _)| &path[..at]);
            if pattern.matcher.matches(path)
                || parents
                    .into_iter()
                    .any(|parent| pattern.matcher.matches(parent))
            {
                matched = !pattern.exception;
            }
        }
        Ok(matched)
    }

    /// Whether `path` is ignored, given what its directory's look came to (the default for a path at the root).
    /// Also what the look at `path` came to, for the paths below it.
    pub fn matches_with_parent(&self, path: &[u8], parent: &ParentMatch) -> (bool, ParentMatch) {
        let mut own = ParentMatch::default();
        let mut matched = false;
        for (at, pattern) in self.patterns.iter().enumerate() {
            let match_here =
                parent.get(at) || (pattern.exception == matched && pattern.matcher.matches(path));
            if match_here {
                own.set(at);
                matched = !pattern.exception;
            }
        }
        (matched, own)
    }

    /// Whether any pattern starts with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether a `!` pattern could match something below `dir`: where not, a walk may skip an ignored `dir`.
    pub fn may_reinclude_below(&self, dir: &[u8]) -> bool {
        let mut prefix = dir.to_vec();
        prefix.push(b'/');
        self.patterns
            .iter()
            .any(|pattern| pattern.exception && pattern.matcher.reaches(&prefix))
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    exception: bool,
    matcher: Matcher,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matcher {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    /// `**/name`: the path ends so; a leading slash also stands for the path's start.
    Suffix(Vec<u8>),
    Tokens {
        /// Every match starts so.
        prefix: Vec<u8>,
        /// Every match holds this: most paths are told apart by it alone.
        needle: Vec<u8>,
        tokens: Vec<Token>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
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
struct Class {
    negated: bool,
    ranges: Vec<(u32, u32)>,
}

impl Class {
    fn fits(&self, unit: u32) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&unit))
            != self.negated
    }

    /// Reads on behind `[`, by the rules of Go's `filepath.Match`.
    fn read(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
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

impl Matcher {
    /// None where the pattern is malformed.
    fn compile(pattern: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut special = false;
        let (mut prefix_form, mut suffix_form) = (false, false);
        let mut chars = pattern.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    let _ = chars.next_if_eq(&'/');
                    let last = chars.peek().is_none();
                    if last {
                        tokens.push(Token::Rest);
                        prefix_form = !special && !suffix_form;
                    } else {
                        tokens.extend([Token::Dirs, Token::Within]);
                    }
                    special |= !first && !prefix_form;
                    suffix_form |= first;
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::Any),
                '[' => tokens.push(Token::Class(Class::read(&mut chars)?)),
                '\\' => tokens.push(Token::Char(u32::from(chars.next()?))),
                _ => tokens.push(Token::Char(u32::from(c))),
            }
            special |= matches!(
                tokens.last(),
                Some(Token::Star | Token::Any | Token::Class(_))
            ) || c == '\\';
            first = false;
        }
        let backwards = |token: &Token| match token {
            Token::Class(class) => class.ranges.iter().any(|(low, high)| low > high),
            _ => false,
        };
        if tokens.iter().any(backwards) {
            return None;
        }
        Some(match (special, suffix_form, prefix_form) {
            (false, true, _) => Self::Suffix(pattern.as_bytes()[2..].to_vec()),
            (false, false, true) => Self::Prefix(literal(&tokens)),
            (false, false, false) => Self::Exact(pattern.as_bytes().to_vec()),
            (true, ..) => Self::Tokens {
                prefix: literal(&tokens),
                needle: longest_literal(&tokens),
                tokens,
            },
        })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(own) => path == own,
            Self::Prefix(own) => path.starts_with(own),
            Self::Suffix(own) => path.ends_with(own) || own.strip_prefix(b"/") == Some(path),
            Self::Tokens {
                prefix,
                needle,
                tokens,
            } => {
                path.starts_with(prefix)
                    && (needle.is_empty() || path.windows(needle.len()).any(|part| part == needle))
                    && run(tokens, path).contains(&tokens.len())
            }
        }
    }

    /// Whether a longer path that starts with `prefix` could match.
    fn reaches(&self, prefix: &[u8]) -> bool {
        match self {
            Self::Exact(own) => own.starts_with(prefix),
            Self::Prefix(own) => own.starts_with(prefix) || prefix.starts_with(own),
            Self::Suffix(_) => true,
            Self::Tokens { tokens, .. } => run(tokens, prefix)
                .iter()
                .any(|state| *state < tokens.len()),
        }
    }
}

/// The bytes that the leading characters stand for.
fn literal(tokens: &[Token]) -> Vec<u8> {
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
fn longest_literal(tokens: &[Token]) -> Vec<u8> {
    let runs = tokens.split(|token| !matches!(token, Token::Char(_)));
    runs.map(literal).max_by_key(Vec::len).unwrap_or_default()
}

/// A path as characters; a byte that is part of none is a unit of its own, beyond them.
fn units(path: &[u8]) -> impl Iterator<Item = u32> {
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

/// Where in `tokens` a reader can be after all of `path`: the end, if the path matches.
fn run(tokens: &[Token], path: &[u8]) -> BTreeSet<usize> {
    let mut now = BTreeSet::new();
    enter(tokens, 0, &mut now);
    for unit in units(path) {
        let slash = unit == u32::from('/');
        let mut next = BTreeSet::new();
        for &at in &now {
            match tokens.get(at) {
                Some(Token::Char(own)) if *own == unit => enter(tokens, at + 1, &mut next),
                Some(Token::Any) if !slash => enter(tokens, at + 1, &mut next),
                Some(Token::Class(class)) if class.fits(unit) => enter(tokens, at + 1, &mut next),
                Some(Token::Star) if !slash => enter(tokens, at, &mut next),
                Some(Token::Rest) => enter(tokens, at, &mut next),
                Some(Token::Dirs) => {
                    next.insert(at + 1);
                    if slash {
                        enter(tokens, at + 2, &mut next);
                    }
                }
                Some(Token::Within) => {
                    next.insert(at);
                    if slash {
                        enter(tokens, at + 1, &mut next);
                    }
                }
                _ => {}
            }
        }
        now = next;
        if now.is_empty() {
            break;
        }
    }
    now
}

/// Adds `at` and what can be reached from it without reading.
fn enter(tokens: &[Token], mut at: usize, states: &mut BTreeSet<usize>) {
    while states.insert(at) {
        match tokens.get(at) {
            Some(Token::Star | Token::Rest) => at += 1,
            Some(Token::Dirs) => at += 2,
            _ => return,
        }
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
        Ok(Self { tokens, text })
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        name.starts_with(self.text.as_bytes())
            && run(&self.tokens, name).contains(&self.tokens.len())
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

/// The shortest path of the same meaning, as Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Patterns {
        let list: Vec<String> = text.split('\n').map(str::to_owned).collect();
        Patterns::new(&list).expect("patterns")
    }

    #[test]
    fn a_walk_and_a_look_agree() {
        for list in [
            "docs\n!docs/api",
            "**\n!a/b",
            "*.o\n!keep/*.o\nkeep/x.o",
            "a/**\n!a/*/c",
            "**/x",
        ] {
            let patterns = patterns(list);
            for path in [
                "docs/x",
                "docs/api/x",
                "a/b/c",
                "a/b/x",
                "keep/x.o",
                "keep/y.o",
                "x.o",
                "a/x/y",
            ] {
                let mut parent = ParentMatch::default();
                let mut matched = false;
                for end in path
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .chain([path.len()])
                {
                    (matched, parent) =
                        patterns.matches_with_parent(&path.as_bytes()[..end], &parent);
                }
                assert_eq!(Ok(matched), patterns.matches(path), "{list:?} {path}");
            }
        }
    }

    #[test]
    fn directories_that_nothing_comes_back_from_are_known() {
        for (list, dir, may) in [
            ("**\n!a/b/c", "a", true),
            ("**\n!a/b/c", "a/b", true),
            ("**\n!a/b/c", "a/b/c", false),
            ("**\n!a/b/c", "x", false),
            ("**\n!*/b", "x", true),
            ("**\n!*/b", "x/b", false),
            ("**\n!a/*.c", "b", false),
            ("**\n!**/b", "x/y", true),
            ("**\n!a/**", "a/b", true),
            ("**\n!a/**", "b", false),
            ("a", "a", false),
        ] {
            assert_eq!(
                patterns(list).may_reinclude_below(dir.as_bytes()),
                may,
                "{list:?} {dir}"
            );
        }
    }

    #[test]
    fn more_patterns_than_bits_in_a_word_are_kept() {
        let list: Vec<String> = (0..200).map(|n| format!("dir{n}")).collect();
        let patterns = Patterns::new(&list).expect("patterns");
        for n in [0, 63, 64, 199] {
            let (matched, parent) =
                patterns.matches_with_parent(format!("dir{n}").as_bytes(), &ParentMatch::default());
            assert!(
                matched && patterns.matches_with_parent(b"dirx/y", &parent).0,
                "{n}"
            );
        }
        assert!(
            !patterns
                .matches_with_parent(b"dir200", &ParentMatch::default())
                .0
        );
    }

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
}
