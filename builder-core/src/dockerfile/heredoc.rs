//! Here-documents: finding `<<NAME` on a line, and reading the bodies below it.
//!
//! As in BuildKit, a whole line is first split into shell words (always with the backslash as escape); where that
//! fails, as for an unclosed quote, the line has no here-documents at all.

use super::ast::Heredoc;
use super::lexer::{Lines, trim_newline};
use super::word::{Lexer, WordError};
use super::{ParseError, ParseErrorKind, Span};

/// A `<<NAME` word, before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) expand: bool,
    pub(super) chomp: bool,
    pub(super) fd: u32,
}

fn lexer() -> Lexer {
    Lexer {
        skip_unset: true,
        ..Lexer::new('\\')
    }
}

/// Reads one word: `<<EOF`, `3<<-"EOF"`. None for a word that is no here-document.
///
/// # Errors
/// A name with an unclosed quote and the like.
pub(super) fn mark(word: &str) -> Result<Option<Mark>, WordError> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let none: &[(String, String)] = &[];
    let plain = lexer().expand_words(rest, &none.to_vec())?;
    let raw = Lexer {
        raw_quotes: true,
        ..lexer()
    }
    .expand_words(rest, &none.to_vec())?;
    let ([name], [raw]) = (plain.as_slice(), raw.as_slice()) else {
        return Ok(None);
    };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Mark {
        name: name.clone(),
        expand: quotes(name) == quotes(raw),
        chomp,
        fd: word[..digits]
            .parse()
            .unwrap_or(if digits == 0 { 0 } else { u32::MAX }),
    }))
}

/// All here-documents of a line, in order.
pub(super) fn marks(line: &str, span: Span) -> Result<Vec<Mark>, ParseError> {
    let mut out = Vec::new();
    if !line.contains("<<") {
        return Ok(out);
    }
    let raw = Lexer {
        raw_quotes: true,
        raw_escapes: true,
        ..lexer()
    };
    for word in raw.expand_words(line, &Vec::new()).unwrap_or_default() {
        out.extend(mark(&word).map_err(|error| {
            let kind = ParseErrorKind::HeredocName {
                word,
                reason: error.to_string(),
            };
            ParseError::new(kind, span)
        })?);
    }
    Ok(out)
}

/// Reads the body of `mark` from the lines that follow; `span` is the instruction's, for the error.
pub(super) fn body(mark: Mark, lines: &mut Lines<'_>, span: Span) -> Result<Heredoc, ParseError> {
    let start = lines.at;
    let mut content = String::new();
    loop {
        let Some((at, line)) = lines.next() else {
            return Err(ParseError::new(
                ParseErrorKind::UnclosedHeredoc {
                    delimiter: mark.name,
                },
                span,
            ));
        };
        let bare = trim_newline(line);
        let end = if mark.chomp {
            bare.trim_start_matches('\t')
        } else {
            bare
        };
        if end == mark.name {
            let Mark {
                name,
                expand,
                chomp,
                fd,
            } = mark;
            return Ok(Heredoc {
                name,
                content,
                expand,
                chomp,
                fd,
                span: Span { start, end: at },
            });
        }
        content.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_other_words() {
        let read = |word: &str| mark(word).ok().flatten();
        let plain = Mark {
            name: "EOF".into(),
            expand: true,
            chomp: false,
            fd: 0,
        };
        assert_eq!(read("<<EOF"), Some(plain.clone()));
        assert_eq!(read("<<  EOF"), Some(plain.clone()));
        assert_eq!(
            read("3<<-'EOF'"),
            Some(Mark {
                expand: false,
                chomp: true,
                fd: 3,
                ..plain.clone()
            })
        );
        assert_eq!(
            read("<<E\\'F"),
            Some(Mark {
                name: "E'F".into(),
                ..plain
            })
        );
        for word in ["<<", "<EOF", "<<<EOF", "a<<EOF", "<<a b", "<<''", "EOF"] {
            assert_eq!(read(word), None, "{word}");
        }
        assert!(mark("<<'EOF").is_err());
    }
}
