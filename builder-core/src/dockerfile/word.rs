//! Shell words: quotes, escapes and `$variables` of one word, as BuildKit's `shell.Lex` reads them.
//!
//! `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?w} ${v?w} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/w} ${v//p/w}`;
//! patterns know `*` and `?` (neither crosses a line end) and backslash escapes, no brackets.
//! Positional and special parameters (`$1`, `$@`) are read as names, which nobody sets.
//!
//! Work and memory are bounded: [`MAX_OUTPUT`] bytes out, [`MAX_DEPTH`] braces deep.

mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

use pattern::Pattern;

/// The longest result of an expansion, in bytes.
pub const MAX_OUTPUT: usize = 4 << 20;
/// How deep `${a:-${b:-…}}` may nest.
pub const MAX_DEPTH: usize = 100;

/// Where variables' values come from.
pub trait Env {
    fn get(&self, name: &str) -> Option<String>;
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

/// Later entries win.
impl Env for [(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

/// Later entries win.
impl Env for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<String> {
        Env::get(self.as_slice(), name)
    }
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    pub text: String,
    /// The names that were looked up and not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    #[error("unclosed {quote} quote")]
    UnclosedQuote {
        /// `single` or `double`.
        quote: &'static str,
    },
    #[error("missing `{expected}` of a `${{…}}`")]
    Unclosed { expected: char },
    #[error("bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier `{modifier}` in `${{{name}…}}`")]
    Modifier { name: String, modifier: String },
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern `{pattern}`: invalid escape")]
    Pattern { pattern: String },
    #[error("the result is longer than {MAX_OUTPUT} bytes")]
    TooLong,
    #[error("`${{…}}` is nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// How words are read. All switches off is the usual reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    /// The file's escape character.
    pub escape: char,
    /// Keep quotes.
    pub raw_quotes: bool,
    /// Keep escape characters.
    pub raw_escapes: bool,
    /// Treat quotes as any other character.
    pub skip_process_quotes: bool,
    /// Leave a variable that is not set as it is written.
    pub skip_unset: bool,
}

impl Lexer {
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_process_quotes: false,
            skip_unset: false,
        }
    }

    /// Expands `word`; the result is one word, blanks and all.
    ///
    /// # Errors
    /// An unclosed quote or brace, an unknown modifier, a `:?` that fires, a result over [`MAX_OUTPUT`].
    pub fn expand(&self, word: &str, env: &dyn Env) -> Result<Expanded, WordError> {
        let mut run = Run::new(self, word, env);
        let (text, _) = run.until(None, self.raw_escapes)?;
        Ok(Expanded {
            text,
            unmatched: run.unmatched,
        })
    }

    /// Expands `word` and splits the result at blanks that no quotes protect.
    ///
    /// # Errors
    /// As [`expand`](Self::expand).
    pub fn expand_words(&self, word: &str, env: &dyn Env) -> Result<Vec<String>, WordError> {
        let (_, words) = Run::new(self, word, env).until(None, self.raw_escapes)?;
        Ok(words.finish())
    }
}

struct Run<'a> {
    lexer: &'a Lexer,
    chars: Peekable<Chars<'a>>,
    env: &'a dyn Env,
    raw_escapes: bool,
    unmatched: BTreeSet<String>,
    depth: usize,
}

/// Words while they are collected.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// A character that may be a blank between words.
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

fn append(out: &mut String, text: &str) -> Result<(), WordError> {
    if out.len() + text.len() > MAX_OUTPUT {
        return Err(WordError::TooLong);
    }
    out.push_str(text);
    Ok(())
}

impl<'a> Run<'a> {
    fn new(lexer: &'a Lexer, word: &'a str, env: &'a dyn Env) -> Self {
        Self {
            lexer,
            chars: word.chars().peekable(),
            env,
            raw_escapes: lexer.raw_escapes,
            unmatched: BTreeSet::new(),
            depth: 0,
        }
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = self.env.get(name);
        if value.is_none() {
            self.unmatched.insert(name.to_owned());
        }
        value
    }

    /// Reads up to `stop` (and past it), or to the end where `stop` is none.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Words), WordError> {
        if self.depth > MAX_DEPTH {
            return Err(WordError::TooDeep);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.text(stop);
        self.raw_escapes = outer;
        self.depth -= 1;
        result
    }

    fn text(&mut self, stop: Option<char>) -> Result<(String, Words), WordError> {
        let mut out = String::new();
        let mut words = Words::default();
        let mut one = [0; 4];
        while let Some(&c) = self.chars.peek() {
            if stop == Some(c) {
                self.chars.next();
                return Ok((out, words));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    append(&mut out, &value)?;
                    value.chars().for_each(|c| words.push(c));
                }
                '\'' | '"' if !self.lexer.skip_process_quotes => {
                    let value = if c == '"' {
                        self.double_quote()?
                    } else {
                        self.single_quote()?
                    };
                    append(&mut out, &value)?;
                    append(&mut words.word, &value)?;
                }
                '<' => {
                    let value = self.heredoc_mark();
                    append(&mut out, &value)?;
                    words.word.push_str(&value);
                }
                _ => {
                    self.chars.next();
                    if c != self.lexer.escape {
                        append(&mut out, c.encode_utf8(&mut one))?;
                        words.push(c);
                        continue;
                    }
                    if self.raw_escapes {
                        out.push(c);
                        words.word.push(c);
                    }
                    let Some(escaped) = self.chars.next() else {
                        break;
                    };
                    append(&mut out, escaped.encode_utf8(&mut one))?;
                    words.word.push(escaped);
                }
            }
        }
        match stop {
            Some(expected) => Err(WordError::Unclosed { expected }),
            None => Ok((out, words)),
        }
    }

    /// `<`, or `<<` with the blanks behind it, so that `<< EOF` is one word.
    fn heredoc_mark(&mut self) -> String {
        self.chars.next();
        let mut out = String::from('<');
        if self.chars.next_if_eq(&'<').is_some() {
            out.push('<');
            while let Some(blank) = self.chars.next_if(|c| c.is_whitespace()) {
                out.push(blank);
            }
        }
        out
    }

    fn single_quote(&mut self) -> Result<String, WordError> {
        let mut out = String::new();
        self.chars.next();
        let raw = self.lexer.raw_quotes;
        out.extend(raw.then_some('\''));
        loop {
            match self.chars.next() {
                None => return Err(WordError::UnclosedQuote { quote: "single" }),
                Some('\'') => {
                    out.extend(raw.then_some('\''));
                    return Ok(out);
                }
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quote(&mut self) -> Result<String, WordError> {
        let mut out = String::new();
        let mut one = [0; 4];
        self.chars.next();
        let raw = self.lexer.raw_quotes;
        out.extend(raw.then_some('"'));
        loop {
            match self.chars.peek().copied() {
                None => return Err(WordError::UnclosedQuote { quote: "double" }),
                Some('"') => {
                    self.chars.next();
                    out.extend(raw.then_some('"'));
                    return Ok(out);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    append(&mut out, &value)?;
                }
                Some(mut c) => {
                    self.chars.next();
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            out.push(c);
                        }
                        match self.chars.peek().copied() {
                            None => continue,
                            Some(next)
                                if next == '"' || next == '$' || next == self.lexer.escape =>
                            {
                                self.chars.next();
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    append(&mut out, c.encode_utf8(&mut one))?;
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, WordError> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.get(&name) {
                None if self.lexer.skip_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(WordError::Unclosed { expected: '}' }),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(WordError::Unclosed { expected: '}' }),
            Some('}') => Ok(match self.get(&name) {
                None if self.lexer.skip_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.chars.next() {
                None => Err(WordError::Unclosed { expected: '}' }),
                Some(operator) => self.modified(name, true, operator),
            },
            Some(operator @ ('+' | '-' | '?' | '#' | '%')) => self.modified(name, false, operator),
            Some('/') => self.replaced(name),
            Some(other) => Err(WordError::Modifier {
                name,
                modifier: other.into(),
            }),
        }
    }

    /// `${name:-word}` and its like, from behind the operator.
    fn modified(
        &mut self,
        name: String,
        null_is_unset: bool,
        operator: char,
    ) -> Result<String, WordError> {
        let strip = matches!(operator, '#' | '%');
        let (word, _) = self.until(Some('}'), strip)?;
        let value = self.get(&name);
        let colon = if null_is_unset { ":" } else { "" };
        if self.lexer.skip_unset && value.is_none() {
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let usable = value
            .as_ref()
            .filter(|value| !(null_is_unset && value.is_empty()));
        match operator {
            '-' => Ok(usable.cloned().unwrap_or(word)),
            '+' => Ok(usable.map(|_| word).unwrap_or_default()),
            '?' => match usable {
                Some(value) => Ok(value.clone()),
                None => {
                    let state = if value.is_none() { "unset" } else { "empty" };
                    let message = if word.is_empty() {
                        format!("is not allowed to be {state}")
                    } else {
                        word
                    };
                    Err(WordError::Required { name, message })
                }
            },
            '#' | '%' if !null_is_unset => {
                let (longest, text) = match word.strip_prefix(operator) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::new(text).ok_or_else(|| WordError::Pattern {
                    pattern: text.to_owned(),
                })?;
                let value = value.unwrap_or_default();
                Ok(match operator {
                    '#' => pattern.strip_prefix(&value, longest),
                    _ => pattern.strip_suffix(&value, longest),
                })
            }
            _ => Err(WordError::Modifier {
                name,
                modifier: format!("{colon}{operator}"),
            }),
        }
    }

    /// `${name/pattern/text}` and `${name//pattern/text}`, from behind the first slash.
    fn replaced(&mut self, name: String) -> Result<String, WordError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let (text, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.get(&name);
        if self.lexer.skip_unset && value.is_none() {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{text}/{replacement}}}"));
        }
        let pattern = Pattern::new(&text).ok_or(WordError::Pattern { pattern: text })?;
        pattern
            .replace(&value.unwrap_or_default(), &replacement, all, MAX_OUTPUT)
            .ok_or(WordError::TooLong)
    }

    /// A name: letters, digits and `_`; or digits alone; or one special parameter; or nothing.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Vec<(String, String)> {
        [
            ("A", "x"),
            ("A", "a"),
            ("EMPTY", ""),
            ("P", "one/two/three"),
            ("BIG", &"b".repeat(1 << 20)),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    #[test]
    fn words_expand() {
        for (word, expected) in [
            ("$A ${A} '$A' \"$A\" \\$A", "a a $A a $A"),
            ("${NO:-${A}}${NO-b}${EMPTY-c}${EMPTY:-d}", "abd"),
            ("${A:+y}${EMPTY:+n}${EMPTY+e}", "ye"),
            (
                "${P#*/}|${P##*/}|${P%/*}|${P%%/*}",
                "two/three|three|one/two|one",
            ),
            (
                "${P/\\//:}|${P//\\//:}|${P//t*/}",
                "one:two/three|one:two:three|one/",
            ),
            ("${P//t?/X}|${P//o/[$0]}", "one/Xo/Xree|[]ne/tw[]/three"),
            ("a < b << c", "a < b << c"),
            ("$", "$"),
            ("$(x)", "$(x)"),
        ] {
            assert_eq!(
                Lexer::new('\\').expand(word, &env()).map(|done| done.text),
                Ok(expected.into()),
                "{word}"
            );
        }
    }

    #[test]
    fn unset_names_are_told_or_left() {
        let mut lexer = Lexer::new('`');
        let done = lexer
            .expand("$X ${Y:-y} $A `$Z", &env())
            .unwrap_or_default();
        assert_eq!(done.text, " y a $Z");
        assert_eq!(
            done.unmatched,
            BTreeSet::from(["X".to_owned(), "Y".to_owned()])
        );
        lexer.skip_unset = true;
        let word = "$X ${X} ${X:-y} ${X//a/b} ${X:1}$A";
        assert_eq!(
            lexer.expand(word, &env()).map(|done| done.text),
            Ok("$X ${X} ${X:-y} ${X//a/b} ${X:1}a".into())
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (word, error) in [
            ("'a", WordError::UnclosedQuote { quote: "single" }),
            ("\"a", WordError::UnclosedQuote { quote: "double" }),
            ("${A", WordError::Unclosed { expected: '}' }),
            ("${}", WordError::BadSubstitution),
            (
                "${A,,}",
                WordError::Modifier {
                    name: "A".into(),
                    modifier: ",".into(),
                },
            ),
            (
                "${A:#x}",
                WordError::Modifier {
                    name: "A".into(),
                    modifier: ":#".into(),
                },
            ),
            (
                "${NO?}",
                WordError::Required {
                    name: "NO".into(),
                    message: "is not allowed to be unset".into(),
                },
            ),
            (
                "${EMPTY:?why}",
                WordError::Required {
                    name: "EMPTY".into(),
                    message: "why".into(),
                },
            ),
            (
                "${A#\\x}",
                WordError::Pattern {
                    pattern: "\\x".into(),
                },
            ),
            ("$BIG$BIG$BIG$BIG$BIG", WordError::TooLong),
            ("${BIG//b/$BIG}", WordError::TooLong),
            (&"${x:-".repeat(5000), WordError::TooDeep),
        ] {
            assert_eq!(
                Lexer::new('\\').expand(word, &env()),
                Err(error),
                "{word:.40}"
            );
        }
    }
}
