//! A tree filled in.

use serde_json::Value;

use super::functions::{call, truth};
use super::parser::{Branch, Node, Operand, Pipeline};
use super::show::show;

/// How a field of the whole value is printed, where it is another text than that of its value.
pub(crate) type Shows = fn(path: &[String], value: &Value) -> Option<String>;

pub(super) struct Run<'a> {
    pub(super) root: &'a Value,
    /// A field that is not there is a mistake at any depth, else at the first alone.
    pub(super) strict: bool,
    pub(super) shows: Shows,
    /// The latest last.
    pub(super) variables: Vec<(String, Value)>,
}

impl Run<'_> {
    pub(super) fn nodes(
        &mut self,
        nodes: &[Node],
        dot: &Value,
        out: &mut String,
    ) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => *out += text,
                Node::Value(pipeline) => {
                    let value = self.value(pipeline, dot)?;
                    let known = self.declare(pipeline, &value);
                    if !known {
                        *out += &self.shown(pipeline, dot, &value);
                    }
                }
                Node::Branch {
                    kind,
                    over,
                    then,
                    otherwise,
                } => {
                    let known = self.variables.len();
                    let value = self.value(over, dot)?;
                    if *kind != Branch::Range {
                        self.declare(over, &value);
                    }
                    match kind {
                        _ if !truth(&value) => self.nodes(otherwise, dot, out)?,
                        Branch::If => self.nodes(then, dot, out)?,
                        Branch::With => self.nodes(then, &value, out)?,
                        Branch::Range => self.range(over, &value, then, out)?,
                    }
                    self.variables.truncate(known);
                }
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        value: &Value,
        then: &[Node],
        out: &mut String,
    ) -> Result<(), String> {
        let items: Vec<(Value, &Value)> = match value {
            Value::Array(items) => {
                let numbered = items.iter().enumerate();
                numbered.map(|(at, item)| (at.into(), item)).collect()
            }
            Value::Object(items) => {
                let mut items: Vec<_> = items.iter().collect();
                items.sort_by_key(|(key, _)| *key);
                let keyed = items.into_iter();
                keyed
                    .map(|(key, item)| (key.as_str().into(), item))
                    .collect()
            }
            _ => return Err("`range` needs a list or a map".to_owned()),
        };
        for (key, item) in items {
            let known = self.variables.len();
            match over.variables.as_slice() {
                [] => {}
                [one] => self.set(one, item.clone(), over.assigns),
                [first, second, ..] => {
                    self.set(first, key, over.assigns);
                    self.set(second, item.clone(), over.assigns);
                }
            }
            self.nodes(then, item, out)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    /// Sets the variables of a pipeline, and returns whether it has any.
    fn declare(&mut self, pipeline: &Pipeline, value: &Value) -> bool {
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assigns);
        }
        !pipeline.variables.is_empty()
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        let latest = self.variables.iter_mut().rev().find(|it| it.0 == name);
        match latest.filter(|_| assigns) {
            Some(known) => known.1 = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn shown(&self, pipeline: &Pipeline, dot: &Value, value: &Value) -> String {
        let path = match pipeline.commands.as_slice() {
            [command] => match command.as_slice() {
                [Operand::Field(path)] if std::ptr::eq(dot, self.root) => Some(path),
                [Operand::Variable(name, path)] if name.is_empty() => Some(path),
                _ => None,
            },
            _ => None,
        };
        let special = path.and_then(|path| (self.shows)(path, value));
        special.unwrap_or_else(|| show(value))
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipeline.commands {
            let found = match command.as_slice() {
                [Operand::Function(name), arguments @ ..] => {
                    self.function(name, arguments, piped.take(), dot)?
                }
                [value, ..] => self.operand(value, dot)?,
                [] => Value::Null,
            };
            piped = Some(found);
        }
        Ok(piped.unwrap_or_default())
    }

    /// What is piped is the last argument.
    fn function(
        &self,
        name: &str,
        arguments: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let count = arguments.len() + usize::from(piped.is_some());
        let mut values = Vec::with_capacity(count);
        let each = arguments.iter().map(|it| self.operand(it, dot));
        for value in each.chain(piped.map(Ok)) {
            let value = value?;
            // The first that decides is the answer; what stands behind it is not looked at.
            let decides = match name {
                "and" => !truth(&value),
                "or" => truth(&value),
                _ => false,
            };
            if decides || (matches!(name, "and" | "or") && values.len() + 1 == count) {
                return Ok(value);
            }
            values.push(value);
        }
        call(name, &values)
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(path) => self.field(dot, path, std::ptr::eq(dot, self.root)),
            Operand::Variable(name, path) if name.is_empty() => self.field(self.root, path, true),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|it| it.0 == *name);
                let (_, value) = known.ok_or_else(|| format!("`${name}` has no value here"))?;
                self.field(value, path, false)
            }
            Operand::Group(pipeline, path) => {
                let value = self.value(pipeline, dot)?;
                self.field(&value, path, false)
            }
            Operand::Function(word) => Err(format!("`{word}` stands where a value is expected")),
        }
    }

    fn field(&self, of: &Value, path: &[String], is_root: bool) -> Result<Value, String> {
        let mut value = of;
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
                None if (self.strict || depth == 0 && is_root)
                    && (self.shows)(path, &Value::Null).is_none() =>
                {
                    return Err(unknown(field, value));
                }
                None => return Ok(Value::Null),
            }
        }
        Ok(value.clone())
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
