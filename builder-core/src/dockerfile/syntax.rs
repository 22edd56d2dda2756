//! The layer below instructions: which words, flags and here-documents each line has.
//!
//! A [`Node`] knows its instruction only well enough to cut its arguments (BuildKit's `parser.Node`). Names may be
//! unknown, flags misspelt, FROM missing: [`parse`](super::parse) judges that.

use std::ops::Range;

use super::ast::{Directives, Heredoc, KeyValue};
use super::directives::Reader;
use super::lexer::{self, Joined, Lines, trim_newline};
use super::{ParseError, ParseErrorKind, Span, Text, heredoc, json, split};

/// A file, cut into nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    pub directives: Directives,
    pub nodes: Vec<Node>,
}

/// One instruction, or the trigger inside an ONBUILD.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The first word, as written.
    pub keyword: Text,
    /// `--name` or `--name=value`, quotes and backslashes taken away.
    pub flags: Vec<Text>,
    /// The arguments. A word of the JSON form is unescaped, any other is as written.
    pub arguments: Vec<Text>,
    /// The arguments are in the JSON form.
    pub json: bool,
    /// ENV and LABEL have these in place of `arguments`.
    pub pairs: Vec<KeyValue>,
    /// The trigger of an ONBUILD.
    pub trigger: Option<Box<Node>>,
    /// All here-documents of the line, in order; a trigger's belong to its ONBUILD.
    pub heredocs: Vec<Heredoc>,
    /// Everything, here-documents included.
    pub span: Span,
    /// 1-based, inclusive.
    pub lines: (u32, u32),
    /// The joined line.
    pub original: String,
    /// Comment lines directly above.
    pub comment: Vec<String>,
    /// The first blank line among the continuation lines.
    pub empty_continuation: Option<Span>,
}

/// Cuts a whole file.
///
/// # Errors
/// What no later step could make sense of: no instructions, an unclosed here-document, a JSON array of anything
/// but strings, a pair without a value, a directive given twice.
pub fn parse(text: &str) -> Result<File, ParseError> {
    read(text, Reader::new())
}

/// Cuts text that has no directives, such as an image's trigger.
pub(super) fn parse_with(text: &str, escape: char) -> Result<File, ParseError> {
    let mut reader = Reader::new();
    reader.found.escape = escape;
    reader.stop();
    read(text, reader)
}

fn read(text: &str, mut reader: Reader) -> Result<File, ParseError> {
    let start = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let mut lines = Lines::new(text, start);
    let mut nodes = Vec::new();
    let mut comment: Vec<String> = Vec::new();
    while let Some((at, raw)) = lines.next() {
        let content = trim_newline(raw);
        let inner = content.trim_start();
        let at = at + (content.len() - inner.len());
        if reader.take(at, inner)? {
            continue;
        }
        if let Some(remark) = inner.strip_prefix('#') {
            match remark.trim() {
                "" => comment.clear(),
                remark => comment.push(remark.to_owned()),
            }
            continue;
        }
        if inner.is_empty() {
            comment.clear();
            continue;
        }
        let escape = reader.found.escape;
        let logical = lexer::join((at, inner), &mut lines, escape);
        let whole = split::trim(&logical.line.text, 0..logical.line.text.len());
        if whole.is_empty() {
            // Continuation marks and nothing else: BuildKit calls this an unknown instruction without a name.
            let span = Span {
                start: at,
                end: at + inner.trim_end().len(),
            };
            let kind = ParseErrorKind::UnknownInstruction {
                name: String::new(),
                did_you_mean: None,
            };
            return Err(ParseError::new(kind, span));
        }
        let span = logical.line.span(whole.clone());
        let mut node = node(&logical.line, whole, escape)?;
        node.lines = logical.lines;
        node.comment = std::mem::take(&mut comment);
        node.empty_continuation = logical.empty_continuation;
        if node.takes_heredocs() {
            for mark in heredoc::marks(&logical.line.text, span)? {
                node.heredocs.push(heredoc::body(mark, &mut lines, span)?);
            }
            node.lines.1 = lines.count;
            if !node.heredocs.is_empty() {
                node.span.end = text[..lines.at]
                    .trim_end_matches(['\r', '\n'])
                    .len()
                    .max(span.end);
            }
        }
        nodes.push(node);
    }
    if nodes.is_empty() {
        let span = Span {
            start: text.len(),
            end: text.len(),
        };
        return Err(ParseError::new(ParseErrorKind::NoInstructions, span));
    }
    Ok(File {
        directives: reader.found,
        nodes,
    })
}

impl Node {
    /// The instruction's word in upper case.
    pub fn name(&self) -> String {
        self.keyword.raw.to_ascii_uppercase()
    }

    fn takes_heredocs(&self) -> bool {
        let node = match (&self.trigger, self.name().as_str()) {
            (Some(trigger), "ONBUILD") => trigger,
            _ => self,
        };
        !node.json && matches!(node.name().as_str(), "ADD" | "COPY" | "RUN")
    }
}

/// Makes a node of `range` of a logical line (no blanks at its ends).
fn node(line: &Joined, range: Range<usize>, escape: char) -> Result<Node, ParseError> {
    let (keyword, rest) = split::first(&line.text, range.clone());
    let text = |range: Range<usize>| Text {
        raw: line.text[range.clone()].to_owned(),
        span: line.span(range),
    };
    let (flags, rest) = split::flags(&line.text, rest.unwrap_or(range.end..range.end));
    let rest = split::trim(&line.text, rest);
    let mut node = Node {
        keyword: text(keyword),
        flags: flags
            .into_iter()
            .map(|flag| Text {
                raw: flag.text,
                span: line.span(flag.at),
            })
            .collect(),
        arguments: Vec::new(),
        json: false,
        pairs: Vec::new(),
        trigger: None,
        heredocs: Vec::new(),
        span: line.span(range.clone()),
        lines: (1, 1),
        original: line.text[range].to_owned(),
        comment: Vec::new(),
        empty_continuation: None,
    };
    let cut = Cut { line, escape };
    match node.name().as_str() {
        "ADD" | "COPY" | "VOLUME" => cut.words(&mut node, rest)?,
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => cut.command(&mut node, rest)?,
        "HEALTHCHECK" if !rest.is_empty() => {
            let blank = line.text[rest.clone()].find(char::is_whitespace);
            let end = blank.map_or(rest.end, |at| rest.start + at);
            node.arguments.push(text(rest.start..end));
            cut.command(&mut node, split::trim(&line.text, end..rest.end))?;
        }
        "EXPOSE" | "FROM" => {
            node.arguments = split::fields(&line.text, rest)
                .into_iter()
                .map(text)
                .collect()
        }
        "ARG" => {
            node.arguments = split::words(&line.text, rest, escape)
                .into_iter()
                .map(text)
                .collect()
        }
        "ENV" => node.pairs = cut.pairs("ENV", rest)?,
        "LABEL" => node.pairs = cut.pairs("LABEL", rest)?,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" if !rest.is_empty() => {
            node.arguments.push(text(rest))
        }
        "ONBUILD" if !rest.is_empty() => {
            let inner = split::first(&line.text, rest.clone()).0;
            match line.text[inner.clone()].to_ascii_uppercase().as_str() {
                // Refused here: a chain of them would nest without end.
                "ONBUILD" => {
                    return Err(ParseError::new(
                        ParseErrorKind::ChainedOnbuild,
                        line.span(inner),
                    ));
                }
                _ => node.trigger = Some(Box::new(self::node(line, rest, escape)?)),
            }
        }
        _ => {}
    }
    Ok(node)
}

struct Cut<'a> {
    line: &'a Joined,
    escape: char,
}

impl Cut<'_> {
    fn text(&self, range: Range<usize>) -> Text {
        Text {
            raw: self.line.text[range.clone()].to_owned(),
            span: self.line.span(range),
        }
    }

    /// Takes the JSON form; false where the text is none.
    fn json(&self, node: &mut Node, range: Range<usize>) -> Result<bool, ParseError> {
        let start = range.start;
        let place = |at: Range<usize>| self.line.span(start + at.start..start + at.end);
        match json::read(&self.line.text[range.clone()]) {
            json::Form::NotJson => Ok(false),
            json::Form::NotStrings(at) => {
                Err(ParseError::new(ParseErrorKind::NotStrings, place(at)))
            }
            json::Form::Strings(strings) => {
                node.json = true;
                node.arguments
                    .extend(strings.into_iter().map(|(raw, at)| Text {
                        raw,
                        span: place(at),
                    }));
                Ok(true)
            }
        }
    }

    /// The JSON form, or words between blanks.
    fn words(&self, node: &mut Node, range: Range<usize>) -> Result<(), ParseError> {
        if !self.json(node, range.clone())? {
            node.arguments = split::fields(&self.line.text, range)
                .into_iter()
                .map(|word| self.text(word))
                .collect();
        }
        Ok(())
    }

    /// The JSON form, or the whole text as one argument.
    fn command(&self, node: &mut Node, range: Range<usize>) -> Result<(), ParseError> {
        if !range.is_empty() && !self.json(node, range.clone())? {
            node.arguments.push(self.text(range));
        }
        Ok(())
    }

    /// `K=V K=V …`, or the old `K V` where the first word has no `=`.
    fn pairs(
        &self,
        instruction: &'static str,
        range: Range<usize>,
    ) -> Result<Vec<KeyValue>, ParseError> {
        let line = &self.line.text;
        let words = split::words(line, range.clone(), self.escape);
        let Some(first) = words.first() else {
            return Ok(Vec::new());
        };
        if !line[first.clone()].contains('=') {
            let (key, value) = split::first(line, range);
            let Some(value) = value else {
                let name = line[key.clone()].to_owned();
                let kind = ParseErrorKind::MissingValue { instruction, name };
                return Err(ParseError::new(kind, self.line.span(key)));
            };
            return Ok(vec![KeyValue {
                key: self.text(key),
                value: self.text(value),
                legacy: true,
            }]);
        }
        words
            .into_iter()
            .map(|word| match line[word.clone()].find('=') {
                Some(at) => Ok(KeyValue {
                    key: self.text(word.start..word.start + at),
                    value: self.text(word.start + at + 1..word.end),
                    legacy: false,
                }),
                None => {
                    let kind = ParseErrorKind::NotKeyValue {
                        word: line[word.clone()].to_owned(),
                    };
                    Err(ParseError::new(kind, self.line.span(word)))
                }
            })
            .collect()
    }
}
