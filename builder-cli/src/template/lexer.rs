//! A template's text as pieces: what is printed as it stands, and actions as tokens.

use serde_json::Value;

use super::is_name_char;

#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    /// With the text between the braces, for messages.
    Action(Vec<Token>, String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.A.B`; none: `.`.
    Field(Vec<String>),
    /// `.A` right behind a closing parenthesis.
    Chain(Vec<String>),
    /// `$x.A`.
    Variable(String, Vec<String>),
    Literal(Value),
    Word(String),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// Cuts a template into pieces; comments are gone, and so are the blanks that `{{-` and `-}}` trim.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let (mut rest, mut trim) = (text, false);
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let marked = after.and_then(|it| it.strip_prefix('-'));
        let marked = marked.filter(|it| it.starts_with(char::is_whitespace));
        let mut before = if trim { before.trim_start() } else { before };
        if marked.is_some() {
            before = before.trim_end();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let Some(inside) = marked.or(after) else {
            return Ok(pieces);
        };
        let comment = inside.trim_start().strip_prefix("/*");
        (rest, trim) = match comment {
            Some(comment) => end_of_comment(comment)?,
            None => {
                let action = action(inside)?;
                let closing = if action.trim { 3 } else { 2 };
                let length = inside.len() - action.behind.len() - closing;
                let shown = inside[..length].trim().to_owned();
                pieces.push(Piece::Action(action.tokens, shown));
                (action.behind, action.trim)
            }
        };
    }
}

fn end_of_comment(comment: &str) -> Result<(&str, bool), String> {
    let (_, after) = comment.split_once("*/").ok_or("a comment is not closed")?;
    let after = after.trim_start();
    let trimmed = after.strip_prefix("-}}").map(|it| (it, true));
    let ended = trimmed.or_else(|| after.strip_prefix("}}").map(|it| (it, false)));
    ended.ok_or_else(|| "a comment stands alone between its braces".to_owned())
}

struct Action<'a> {
    tokens: Vec<Token>,
    /// The blanks that follow are not printed.
    trim: bool,
    behind: &'a str,
}

fn action(text: &str) -> Result<Action<'_>, String> {
    const OPEN: &str = "`{{` is not closed";
    const SIGNS: [(&str, Token); 6] = [
        ("|", Token::Pipe),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
        (":=", Token::Declare),
        ("=", Token::Assign),
    ];
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        let next = rest.trim_start();
        let spaced = next.len() < rest.len();
        rest = next;
        let c = rest.chars().next().ok_or(OPEN)?;
        let ended = match spaced {
            true => rest.strip_prefix("-}}").map(|it| (it, true)),
            false => None,
        };
        if let Some((behind, trim)) = ended.or(rest.strip_prefix("}}").map(|it| (it, false))) {
            return Ok(Action {
                tokens,
                trim,
                behind,
            });
        }
        if let Some((sign, token)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            tokens.push(token.clone());
            rest = &rest[sign.len()..];
            continue;
        }
        let (token, behind) = match c {
            '"' => quoted(&rest[1..])?,
            '`' => {
                let end = rest[1..].split_once('`');
                let (literal, behind) = end.ok_or("a quote is not closed")?;
                (Token::Literal(literal.into()), behind)
            }
            '.' => {
                let (path, behind) = path(rest)?;
                match tokens.last() {
                    Some(Token::Close) if !spaced => (Token::Chain(path), behind),
                    _ => (Token::Field(path), behind),
                }
            }
            '$' => {
                let (name, behind) = name(&rest[1..]);
                let (path, behind) = match behind.starts_with('.') {
                    true => path(behind)?,
                    false => (Vec::new(), behind),
                };
                (Token::Variable(name.to_owned(), path), behind)
            }
            _ => word(rest)?,
        };
        tokens.push(token);
        rest = behind;
    }
}

/// Splits off the characters of a name; there may be none.
fn name(text: &str) -> (&str, &str) {
    let end = text.find(|c| !is_name_char(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Reads `.A.B`.
fn path(text: &str) -> Result<(Vec<String>, &str), String> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (field, behind) = name(after);
        if field.is_empty() {
            // A dot alone is the value itself.
            return match fields.is_empty() && !behind.starts_with('.') {
                true => Ok((fields, behind)),
                false => Err(format!(
                    "`{}` is no field",
                    &text[..text.len() - behind.len()]
                )),
            };
        }
        fields.push(field.to_owned());
        rest = behind;
    }
    Ok((fields, rest))
}

fn word(text: &str) -> Result<(Token, &str), String> {
    let is_number = |c: char| is_name_char(c) || matches!(c, '.' | '+' | '-');
    let digits = text.trim_start_matches(['+', '-']);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
        let (number, behind) = text.split_at(end);
        let whole = number.parse::<i64>().map(Value::from).ok();
        let real = || number.parse::<f64>().ok().map(Value::from);
        return match whole.or_else(real) {
            Some(value) => Ok((Token::Literal(value), behind)),
            None => Err(format!("`{number}` is no number")),
        };
    }
    let (found, behind) = name(text);
    let literal = match found {
        "" => {
            let c: String = text.chars().take(1).collect();
            return Err(format!("`{c}` is not supported in a template"));
        }
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Null,
        _ => return Ok((Token::Word(found.to_owned()), behind)),
    };
    Ok((Token::Literal(literal), behind))
}

/// Reads up to the closing quote, with Go's escapes.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut literal = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or("a quote is not closed")? {
            '"' => return Ok((Token::Literal(literal.into()), chars.as_str())),
            '\\' => {
                let escape = chars.next().ok_or("a quote is not closed")?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                let code: String = chars.by_ref().take(digits).collect();
                let wrong = || format!("`\\{escape}{code}` is not supported in a text");
                literal.push(match escape {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '"' | '\\' => escape,
                    'x' | 'u' | 'U' if code.len() == digits => {
                        let code = u32::from_str_radix(&code, 16).ok();
                        // A byte above is half a character.
                        let code = code.filter(|it| escape != 'x' || *it < 0x80);
                        code.and_then(char::from_u32).ok_or_else(wrong)?
                    }
                    _ => return Err(wrong()),
                });
            }
            c => literal.push(c),
        }
    }
}
