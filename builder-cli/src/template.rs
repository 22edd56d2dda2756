//! `--format`: the part of Go's templates that people use with Docker.
//!
//! | written                          | means                                                   |
//! |----------------------------------|---------------------------------------------------------|
//! | `{{.A.B}}`, `{{.}}`              | a value                                                 |
//! | `{{json .A}}`                    | as JSON                                                 |
//! | `{{upper .A}}`, `lower`, `len`   | a text in capitals, in small letters; a length          |
//! | `{{index .A 0 "b"}}`             | an item of a list or a map                              |
//! | `{{join .A ", "}}`, `{{split .A ","}}` | a list as text, a text as a list                  |
//! | `{{truncate .A 12}}`, `{{println .A}}` | the first characters; a value and a line feed     |
//! | `{{.A \| json}}`                 | the value on the left as last argument                  |
//! | `{{range .A}}…{{else}}…{{end}}`  | for each item, which is `.` then                        |
//! | `{{if .A}}…{{else}}…{{end}}`     | where it is neither empty nor false nor 0               |
//!
//! `{{-` and `-}}` trim. Anything else is refused by name. `\t` and `\n` mean what they mean in C.

use serde_json::Value;

/// A template, read.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Text(String),
    Value(Pipeline),
    Branch {
        range: bool,
        over: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

type Pipeline = Vec<Vec<Term>>;

#[derive(Debug, Clone)]
enum Term {
    Path(Vec<String>),
    Literal(Value),
    Word(String),
}

const FUNCTIONS: [&str; 9] = [
    "json", "upper", "lower", "len", "index", "join", "split", "truncate", "println",
];

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        let mut trim = false;
        loop {
            let (before, after) = match rest.split_once("{{") {
                Some((before, after)) => (before, Some(after)),
                None => (rest, None),
            };
            let mut before = if trim { before.trim_start() } else { before };
            if after.is_some_and(|it| it.starts_with("- ")) {
                before = before.trim_end();
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some(after) = after else { break };
            let (action, behind) = after.split_once("}}").ok_or("`{{` is not closed")?;
            trim = action.ends_with(" -");
            let action = action.strip_prefix("- ").unwrap_or(action);
            let action = action.strip_suffix(" -").unwrap_or(action).trim();
            parts.push(Part::Action(action.to_owned()));
            rest = behind;
        }
        let mut parts = parts.into_iter();
        let (nodes, end) = nodes(&mut parts)?;
        match end {
            None => Ok(Template { nodes }),
            Some(end) => Err(format!("`{{{{{end}}}}}` closes nothing")),
        }
    }

    /// Fills the template in. `strict`: a field that is not there is a mistake at any depth, else at the first alone.
    pub(crate) fn fill(&self, value: &Value, strict: bool) -> Result<String, String> {
        let mut out = String::new();
        let run = Run {
            root: value,
            strict,
        };
        run.nodes(&self.nodes, value, &mut out)?;
        Ok(out)
    }

    /// Returns the heads of a table: each field's last name.
    pub(crate) fn heads(&self) -> Vec<String> {
        let mut out = String::new();
        for node in &self.nodes {
            match node {
                Node::Text(text) => out += text,
                Node::Value(pipeline) => {
                    let path = pipeline.iter().flatten().find_map(|term| match term {
                        Term::Path(path) => path.last(),
                        _ => None,
                    });
                    out += &path.map(|it| head(it)).unwrap_or_default();
                }
                Node::Branch { .. } => {}
            }
        }
        out.split('\t').map(str::to_owned).collect()
    }
}

/// `CreatedSince` is headed `CREATED`, as with Docker; `CreatedBy` is `CREATED BY`.
fn head(field: &str) -> String {
    match field {
        "ID" => return "IMAGE ID".to_owned(),
        "CreatedSince" => return "CREATED".to_owned(),
        _ => {}
    }
    let mut out = String::new();
    for c in field.chars() {
        if c.is_ascii_uppercase() && out.ends_with(|it: char| it.is_ascii_lowercase()) {
            out.push(' ');
        }
        out.push(c);
    }
    out.to_uppercase()
}

enum Part {
    Text(String),
    Action(String),
}

/// Reads up to the action that ends a branch, which is returned.
fn nodes(parts: &mut std::vec::IntoIter<Part>) -> Result<(Vec<Node>, Option<String>), String> {
    let mut list = Vec::new();
    while let Some(part) = parts.next() {
        let action = match part {
            Part::Text(text) => {
                list.push(Node::Text(text));
                continue;
            }
            Part::Action(action) => action,
        };
        let (word, rest) = action
            .split_once(char::is_whitespace)
            .unwrap_or((&action, ""));
        match word {
            "end" | "else" if rest.trim().is_empty() => return Ok((list, Some(action))),
            "range" | "if" => {
                let over = pipeline(rest)?;
                let (then, end) = nodes(parts)?;
                let (otherwise, end) = match end.as_deref() {
                    Some("else") => nodes(parts)?,
                    _ => (Vec::new(), end),
                };
                if end.as_deref() != Some("end") {
                    return Err(format!("`{{{{{word}}}}}` has no `{{{{end}}}}`"));
                }
                let range = word == "range";
                list.push(Node::Branch {
                    range,
                    over,
                    then,
                    otherwise,
                });
            }
            _ if action.starts_with("/*") => {}
            _ => list.push(Node::Value(pipeline(&action)?)),
        }
    }
    Ok((list, None))
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let mut commands = vec![Vec::new()];
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let term = match c {
            c if c.is_whitespace() => continue,
            '|' => {
                commands.push(Vec::new());
                continue;
            }
            '"' | '`' => {
                let mut literal = String::new();
                loop {
                    match chars.next() {
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) if c == '"' => literal.extend(chars.next().map(|(_, c)| c)),
                        Some((_, c)) => literal.push(c),
                        None => return Err(format!("`{text}`: a quote is not closed")),
                    }
                }
                Term::Literal(Value::String(literal))
            }
            _ => {
                let mut end = at + c.len_utf8();
                while let Some((next, c)) = chars.peek().copied() {
                    if c.is_whitespace() || c == '|' {
                        break;
                    }
                    end = next + c.len_utf8();
                    chars.next();
                }
                term(&text[at..end])?
            }
        };
        if let Some(command) = commands.last_mut() {
            command.push(term);
        }
    }
    for command in &commands {
        match command.first() {
            None => return Err("`{{}}` is empty".to_owned()),
            Some(Term::Word(word)) if !FUNCTIONS.contains(&word.as_str()) => {
                return Err(format!(
                    "`{word}` is not supported: {}, range and if are",
                    FUNCTIONS.join(", ")
                ));
            }
            _ => {}
        }
    }
    Ok(commands)
}

fn term(text: &str) -> Result<Term, String> {
    if let Some(path) = text.strip_prefix('.') {
        let fields = path.split('.').filter(|_| !path.is_empty());
        let fields: Vec<String> = fields.map(str::to_owned).collect();
        return match fields.iter().all(|it| is_name(it)) {
            true => Ok(Term::Path(fields)),
            false => Err(format!("`{text}` is no field")),
        };
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    match is_name(text) {
        true => Ok(Term::Word(text.to_owned())),
        false => Err(format!("`{text}` is not supported in a template")),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

struct Run<'a> {
    root: &'a Value,
    strict: bool,
}

impl Run<'_> {
    fn nodes(&self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => *out += text,
                Node::Value(pipeline) => *out += &show(&self.value(pipeline, dot)?),
                Node::Branch {
                    range,
                    over,
                    then,
                    otherwise,
                } => {
                    let value = self.value(over, dot)?;
                    match &value {
                        value if !truth(value) => self.nodes(otherwise, dot, out)?,
                        _ if !range => self.nodes(then, dot, out)?,
                        Value::Array(items) => {
                            items
                                .iter()
                                .try_for_each(|item| self.nodes(then, item, out))?;
                        }
                        Value::Object(items) => {
                            items
                                .values()
                                .try_for_each(|item| self.nodes(then, item, out))?;
                        }
                        _ => return Err("`range` needs a list".to_owned()),
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in pipeline {
            let (first, rest) = command.split_first().ok_or("`{{}}` is empty")?;
            let mut arguments = Vec::new();
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(piped.take());
            piped = Some(match first {
                Term::Word(function) => call(function, &arguments)?,
                term if arguments.is_empty() => self.term(term, dot)?,
                _ => return Err("a value takes no arguments".to_owned()),
            });
        }
        Ok(piped.unwrap_or_default())
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, String> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Word(word) => Err(format!("`{word}` stands where a value is expected")),
            Term::Path(path) => {
                let mut value = dot;
                for (depth, field) in path.iter().enumerate() {
                    match value.get(field) {
                        Some(found) => value = found,
                        None if !matches!(value, Value::Object(_) | Value::Null) => {
                            let parent = path[..depth].join(".");
                            return Err(format!(
                                "there is no field `.{}`: `.{parent}` is {}",
                                path[..=depth].join("."),
                                kind(value)
                            ));
                        }
                        None if self.strict || depth == 0 && std::ptr::eq(dot, self.root) => {
                            return Err(unknown(field, value));
                        }
                        None => return Ok(Value::Null),
                    }
                }
                Ok(value.clone())
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list: `index` and `range` are for its items",
        Value::Object(_) => "a map",
    }
}

fn unknown(field: &str, value: &Value) -> String {
    let known: Vec<&str> = value
        .as_object()
        .map(|it| it.keys().map(String::as_str).collect())
        .unwrap_or_default();
    format!(
        "there is no field `.{field}`; there are: {}",
        known.join(", ")
    )
}

fn call(function: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("`{function}` needs a text")),
    };
    match (function, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("println", values) => {
            let texts: Vec<String> = values.iter().map(show).collect();
            Ok(format!("{}\n", texts.join(" ")).into())
        }
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
        ("truncate", [Value::String(text), Value::Number(length)]) => {
            let length = usize::try_from(length.as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
            Ok(text.chars().take(length).collect::<String>().into())
        }
        ("index", [value, keys @ ..]) => {
            let mut value = value;
            for key in keys {
                let found = match key {
                    Value::String(key) => value.get(key),
                    Value::Number(at) => {
                        let at = at.as_u64().and_then(|it| usize::try_from(it).ok());
                        let found = at.and_then(|at| value.get(at));
                        if found.is_none() {
                            return Err(format!("`index`: there is no item {key}"));
                        }
                        found
                    }
                    _ => None,
                };
                match found {
                    Some(found) => value = found,
                    None => return Ok(Value::Null),
                }
            }
            Ok(value.clone())
        }
        _ => Err(format!("`{function}` does not take these arguments")),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::Number(it) => it.as_f64() != Some(0.0),
        Value::String(it) => !it.is_empty(),
        Value::Array(it) => !it.is_empty(),
        Value::Object(it) => !it.is_empty(),
    }
}

/// As Go prints a value.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(items) => {
            let mut items: Vec<String> = items
                .iter()
                .map(|(k, v)| format!("{k}:{}", show(v)))
                .collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let value = json!({"ID": "abc", "Tags": ["a:1", "b:2"], "Size": 12, "Config": {"Env": ["A=1"], "Labels": {"k": "v"}}});
        for (text, expected) in [
            ("{{.ID}}", "abc"),
            (r"{{.ID}}\t{{.Size}}\n", "abc\t12\n"),
            (
                "{{json .Tags}} {{json .}}",
                &format!("[\"a:1\",\"b:2\"] {value}"),
            ),
            ("{{.Tags}} {{.Config.Labels}}", "[a:1 b:2] map[k:v]"),
            ("{{upper .ID}}{{.ID | upper | lower}}", "ABCabc"),
            ("{{len .Tags}}{{len .ID}}", "23"),
            ("{{index .Tags 1}} {{index .Config.Labels \"k\"}}", "b:2 v"),
            ("{{join .Tags \", \"}}", "a:1, b:2"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range .Config.Nothing}}x{{else}}none{{end}}", "none"),
            ("{{if .Tags}}yes{{else}}no{{end}}", "yes"),
            ("a {{- .ID -}} b", "aabcb"),
            (
                "{{.Config.Nothing}} {{json .Config.Nothing}}",
                "<no value> null",
            ),
            ("{{truncate .ID 2}}{{println .Size}}", "ab12\n"),
            ("{{/* not */}}plain", "plain"),
            ("{{index (split) 0}}", ""),
        ] {
            let filled = Template::parse(text).and_then(|it| it.fill(&value, false));
            match filled {
                Ok(filled) => assert_eq!(filled, expected, "{text}"),
                Err(why) => assert!(expected.is_empty(), "{text}: {why}"),
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let value = json!({"ID": "abc", "Config": {}, "Tags": ["a"]});
        for (text, strict, expected) in [
            (
                "{{.Id}}",
                false,
                "no field `.Id`; there are: ID, Config, Tags",
            ),
            ("{{.Config.Env}}", true, "no field `.Env`"),
            ("{{.ID.x}}", false, "no field `.ID.x`: `.ID` is a text"),
            (
                "{{range .Tags}}{{.x}}{{end}}",
                false,
                "no field `.x`: `.` is a text",
            ),
            ("{{json .Tags.x}}", false, "`.Tags` is a list"),
            ("{{with .ID}}x{{end}}", false, "`with` is not supported"),
            ("{{eq .ID 1}}", false, "`eq` is not supported"),
            ("{{$x := .ID}}", false, "`$x`"),
            ("{{.ID", false, "not closed"),
            ("{{range .ID}}x", false, "has no `{{end}}`"),
            ("{{end}}", false, "closes nothing"),
            ("{{}}", false, "is empty"),
            ("{{upper .Config}}", false, "needs a text"),
            ("{{index .ID 7}}", false, "no item 7"),
            ("{{(len .ID)}}", false, "`(len`"),
            ("{{\"x}}", false, "quote"),
        ] {
            let filled = Template::parse(text).and_then(|it| it.fill(&value, strict));
            let why = filled.expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn heads_of_a_table() {
        let template =
            Template::parse(r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}} x").expect("template");
        assert_eq!(template.heads(), ["IMAGE ID", "CREATED", "CREATED BY x"]);
    }
}
