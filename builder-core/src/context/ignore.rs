//! Ignore files: which paths of a context a build does not see.
//!
//! Behaves as `moby/patternmatcher`: patterns are read in order and the last that decides wins; a pattern that
//! matches a directory decides about everything below it; `!` takes back; `**` is any number of directories.
//! Each pattern is compiled once. Paths are bytes, cut at `/`, relative, without `.` parts.
//!
//! Work is bounded by the pattern's length times the path's, whatever the pattern holds.
//!
//! A walk asks [`Patterns::matches_with_parent`] with what its directory gave: work for a path then does not
//! grow with its depth, and nothing is allocated for up to 64 patterns.
//!
//! Departures: `**` also crosses a line end in a name, `\d` is the letter `d` (upstream hands it to its regular
//! expressions), and a backwards range such as `[z-a]` is refused when it is read, not when it is first used.

pub use super::glob::Glob;
use super::glob::{Class, Reader, SLASH, Token, literal, longest_literal, simplified, units};

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
            if pattern.matcher.matches_here_or_above(path) {
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
                tokens: simplified(tokens),
            },
        })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(own) => path == own,
            Self::Prefix(own) => path.starts_with(own),
            Self::Suffix(own) => path.ends_with(own) || own.strip_prefix(b"/") == Some(path),
            Self::Tokens { tokens, .. } => {
                self.may_match(path) && Reader::new(tokens).read_all(path).matches()
            }
        }
    }

    /// Whether `path` or a directory above it matches; the path is read once.
    fn matches_here_or_above(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(own) => path
                .strip_prefix(own.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
            Self::Prefix(_) => self.matches(path),
            Self::Suffix(_) => {
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                let ends = slashes.map(|(at, _)| at).chain([path.len()]);
                ends.into_iter().any(|end| self.matches(&path[..end]))
            }
            Self::Tokens { tokens, .. } => {
                if !self.may_match(path) {
                    return false;
                }
                let mut reader = Reader::new(tokens);
                for unit in units(path) {
                    if unit == SLASH && reader.matches() {
                        return true;
                    }
                    if !reader.read(unit) {
                        return false;
                    }
                }
                reader.matches()
            }
        }
    }

    /// Whether `path` holds what every match, and so what lies below one, holds.
    fn may_match(&self, path: &[u8]) -> bool {
        match self {
            Self::Tokens { prefix, needle, .. } => {
                path.starts_with(prefix)
                    && (needle.is_empty() || path.windows(needle.len()).any(|part| part == needle))
            }
            _ => true,
        }
    }

    /// Whether a longer path that starts with `prefix` could match.
    fn reaches(&self, prefix: &[u8]) -> bool {
        match self {
            Self::Exact(own) => own.starts_with(prefix),
            Self::Prefix(own) => own.starts_with(prefix) || prefix.starts_with(own),
            Self::Suffix(_) => true,
            Self::Tokens { tokens, .. } => Reader::new(tokens).read_all(prefix).goes_on(),
        }
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
}
