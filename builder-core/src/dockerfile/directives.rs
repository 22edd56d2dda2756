//! The parser directives: `# name=value` lines at the very top of a file.
//!
//! The first line that is none ends them: an instruction, a blank line, another comment, an unknown name. A first line
//! `#!program` is skipped; below it `escape` has no effect, as in BuildKit.

use super::ast::Directives;
use super::{ParseError, ParseErrorKind, Span, Text};

/// Reads directives line by line until the first line that is none.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) found: Directives,
    escape_seen: bool,
    place: Place,
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FirstLine,
    Below,
    BelowShebang,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            found: Directives {
                syntax: None,
                escape: '\\',
                check: None,
            },
            escape_seen: false,
            place: Place::FirstLine,
            done: false,
        }
    }

    /// No directives from here on.
    pub(super) fn stop(&mut self) {
        self.done = true;
    }

    /// Takes a line (no indentation, no line ending) at offset `at`; says whether it is a directive.
    pub(super) fn take(&mut self, at: usize, line: &str) -> Result<bool, ParseError> {
        if self.done {
            return Ok(false);
        }
        if self.place == Place::FirstLine {
            self.place = Place::Below;
            if line.starts_with("#!") {
                self.place = Place::BelowShebang;
                return Ok(true);
            }
        }
        let Some((name, value)) = split(line) else {
            self.done = true;
            return Ok(false);
        };
        let start = at + (value.as_ptr() as usize - line.as_ptr() as usize);
        let text = Text {
            raw: value.to_owned(),
            span: Span {
                start,
                end: start + value.len(),
            },
        };
        let whole = Span {
            start: at,
            end: at + line.trim_end().len(),
        };
        let twice = |name| {
            Err(ParseError::new(
                ParseErrorKind::RepeatedDirective { name },
                whole,
            ))
        };
        match name.to_ascii_lowercase().as_str() {
            "syntax" if self.found.syntax.is_some() => return twice("syntax"),
            "check" if self.found.check.is_some() => return twice("check"),
            "escape" if self.escape_seen => return twice("escape"),
            "syntax" => self.found.syntax = Some(text),
            "check" => self.found.check = Some(text),
            "escape" if self.place == Place::BelowShebang => self.escape_seen = true,
            "escape" => {
                self.escape_seen = true;
                self.found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let value = value.to_owned();
                        return Err(ParseError::new(
                            ParseErrorKind::EscapeDirective { value },
                            text.span,
                        ));
                    }
                };
            }
            _ => {
                self.done = true;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// `# name = value`, the name a letter and then letters and digits.
fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim());
    let named = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shebang_may_stand_above() {
        let mut reader = Reader::new();
        for (at, line) in [
            (0, "#!/usr/bin/env x"),
            (17, "# check=skip=all"),
            (40, "# escape=`"),
            (51, "# syntax=a/b"),
        ] {
            assert_eq!(reader.take(at, line), Ok(true), "{line}");
        }
        assert!(reader.found.check.is_some() && reader.found.syntax.is_some());
        assert_eq!(reader.found.escape, '\\');
        assert_eq!(reader.take(70, "#!late"), Ok(false));
    }

    #[test]
    fn directives_are_read_from_the_top() {
        let mut reader = Reader::new();
        assert_eq!(
            reader.take(0, "# syntax = docker/dockerfile:1 x "),
            Ok(true)
        );
        assert_eq!(reader.take(40, "#Escape=`"), Ok(true));
        assert_eq!(reader.take(50, "# other=1"), Ok(false));
        assert_eq!(reader.take(60, "# check=skip=all"), Ok(false));
        assert_eq!(
            reader.found.syntax.as_ref().map(|text| text.raw.as_str()),
            Some("docker/dockerfile:1 x")
        );
        assert_eq!(
            reader.found.syntax.as_ref().map(|text| text.span),
            Some(Span { start: 11, end: 32 })
        );
        assert_eq!(reader.found.escape, '`');
        assert_eq!(reader.found.check, None);
    }

    #[test]
    fn a_directive_given_twice_is_refused() {
        let mut reader = Reader::new();
        assert_eq!(reader.take(0, "# escape=\\"), Ok(true));
        assert!(reader.take(11, "# escape=\\").is_err());
    }
}
