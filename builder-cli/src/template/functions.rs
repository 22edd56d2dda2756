//! The functions of templates: Go's own, and those that Docker adds.

use std::cmp::Ordering;

use serde_json::Value;

use super::parser::supported;
use super::show::{formatted, show};

pub(super) const FUNCTIONS: [&str; 23] = [
    "json", "upper", "lower", "title", "pad", "truncate", "join", "split", "len", "index", "slice",
    "print", "println", "printf", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
];

pub(super) fn known(word: &str) -> Result<(), String> {
    match FUNCTIONS.contains(&word) {
        true => Ok(()),
        false => Err(format!("`{word}` is not supported: {} are", supported())),
    }
}

/// Calls one; `and` and `or` are the evaluator's, which looks at no more arguments than needed.
pub(super) fn call(function: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(format!("`{function}` needs a text")),
    };
    let count = |value: &Value| {
        let count = value.as_u64().and_then(|it| usize::try_from(it).ok());
        count.ok_or_else(|| format!("`{function}` needs a number that is not negative"))
    };
    match (function, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("title", [value]) => Ok(title(&text(value)?).into()),
        ("pad", [value, before, after]) => {
            let text = text(value)?;
            let blanks = |it: &Value| Ok::<_, String>(" ".repeat(count(it)?.min(MAX_BLANKS)));
            match text.is_empty() {
                true => Ok(text.into()),
                false => Ok((blanks(before)? + &text + &blanks(after)?).into()),
            }
        }
        ("print", values) => Ok(print(values).into()),
        ("println", values) => {
            let texts: Vec<String> = values.iter().map(show).collect();
            Ok(format!("{}\n", texts.join(" ")).into())
        }
        ("printf", [Value::String(format), values @ ..]) => Ok(formatted(format, values)?.into()),
        ("len", [Value::Array(items)]) => Ok(items.len().into()),
        ("len", [Value::Object(items)]) => Ok(items.len().into()),
        ("len", [Value::String(text)]) => Ok(text.len().into()),
        ("len", [Value::Null]) => Ok(0.into()),
        ("join", [Value::Array(items), Value::String(with)]) => {
            let texts: Vec<String> = items.iter().map(show).collect();
            Ok(texts.join(with).into())
        }
        ("join", [Value::Null, _]) => Ok("".into()),
        ("split", [Value::String(text), Value::String(at)]) => {
            Ok(text.split(at.as_str()).map(Value::from).collect())
        }
        ("truncate", [value, length]) => {
            let (text, length) = (text(value)?, count(length)?);
            Ok(text.chars().take(length).collect::<String>().into())
        }
        ("index", [value, keys @ ..]) => index(value, keys),
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => {
            let bounds = bounds.iter().map(count).collect::<Result<Vec<_>, _>>()?;
            slice(value, &bounds)
        }
        ("not", [value]) => Ok((!truth(value)).into()),
        ("eq", [value, others @ ..]) if !others.is_empty() => {
            for other in others {
                if equal(function, value, other)? {
                    return Ok(true.into());
                }
            }
            Ok(false.into())
        }
        ("ne", [one, other]) => Ok((!equal(function, one, other)?).into()),
        ("lt", [one, other]) => Ok(order(function, one, other)?.is_lt().into()),
        ("le", [one, other]) => Ok(order(function, one, other)?.is_le().into()),
        ("gt", [one, other]) => Ok(order(function, one, other)?.is_gt().into()),
        ("ge", [one, other]) => Ok(order(function, one, other)?.is_ge().into()),
        _ => Err(format!("`{function}` does not take these arguments")),
    }
}

/// More blanks are a slip.
const MAX_BLANKS: usize = 10_000;

/// With a blank between two values neither of which is a text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            out.push(' ');
        }
        out += &show(value);
    }
    out
}

fn title(text: &str) -> String {
    let mut starts = true;
    let mut out = String::new();
    for c in text.chars() {
        match starts {
            true => out.extend(c.to_uppercase()),
            false => out.push(c),
        }
        starts = !(c.is_alphanumeric() || matches!(c, '_' | '\''));
    }
    out
}

/// A key that a map has not is the empty text, as Docker's maps are of texts; an item that a list has not is a mistake.
fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value;
    for key in keys {
        let found = match (value, key) {
            (Value::Object(_) | Value::Null, Value::String(key)) => value.get(key),
            (Value::Array(_), Value::Number(at)) => {
                let at = at.as_u64().and_then(|it| usize::try_from(it).ok());
                let found = at.and_then(|at| value.get(at));
                Some(found.ok_or_else(|| format!("`index`: there is no item {key}"))?)
            }
            (Value::Null, Value::Number(_)) => {
                return Err(format!("`index`: there is no item {key}"));
            }
            _ => return Err(format!("`index`: {key} is no key of what is there")),
        };
        match found {
            Some(found) => value = found,
            None => return Ok("".into()),
        }
    }
    Ok(value.clone())
}

fn slice(value: &Value, bounds: &[usize]) -> Result<Value, String> {
    let wrong = || format!("`slice`: {bounds:?} is not inside");
    let range = |length: usize| {
        let from = bounds.first().copied().unwrap_or(0);
        from..bounds.get(1).copied().unwrap_or(length)
    };
    match value {
        Value::String(text) => {
            let part = text.get(range(text.len())).ok_or_else(wrong)?;
            Ok(part.into())
        }
        Value::Array(items) => {
            let part = items.get(range(items.len())).ok_or_else(wrong)?;
            Ok(part.to_vec().into())
        }
        _ => Err("`slice` needs a text or a list".to_owned()),
    }
}

/// What is not there equals what is empty: Docker's fields are there always.
fn equal(function: &str, one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Null, it) | (it, Value::Null) => Ok(!truth(it)),
        (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
        _ => Ok(order(function, one, other)?.is_eq()),
    }
}

fn order(function: &str, one: &Value, other: &Value) -> Result<Ordering, String> {
    let found = match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64().partial_cmp(&other.as_f64()),
        },
        _ => None,
    };
    found.ok_or_else(|| format!("`{function}` compares two texts or two numbers"))
}

pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::Number(it) => it.as_f64() != Some(0.0),
        Value::String(it) => !it.is_empty(),
        Value::Array(it) => !it.is_empty(),
        Value::Object(it) => !it.is_empty(),
    }
}
