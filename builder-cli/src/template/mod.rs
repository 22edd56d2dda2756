//! `--format`: Go's templates, but for those that name others, with the functions that Docker adds.
//!
//! ```text
//! text ──lexer──▶ texts and tokens ──parser──▶ tree ──eval, functions──▶ values ──show──▶ text
//! ```
//!
//! | written                                     | means                                                |
//! |---------------------------------------------|------------------------------------------------------|
//! | `{{.A.B}}`, `{{.}}`, `{{$}}`                | a value; the whole one                               |
//! | `{{json .A}}`                               | as JSON                                              |
//! | `{{upper .A}}`, `lower`, `title`, `pad`, `truncate` | texts                                        |
//! | `{{join .A ", "}}`, `{{split .A ","}}`      | a list as text, a text as a list                     |
//! | `{{index .A 0 "b"}}`, `{{slice .A 1 3}}`, `len` | of a list, a map, a text                         |
//! | `{{eq .A "x" "y"}}`, `ne lt le gt ge`, `and or not` | comparisons                                  |
//! | `{{print .A}}`, `println`, `printf "%-9s" .A` | values as text                                     |
//! | `{{.A \| json}}`, `{{(index .A 0).B}}`      | the value on the left as last argument; parentheses  |
//! | `{{$x := .A}}`, `{{$x = .B}}`, `{{$x}}`     | variables                                            |
//! | `{{range .A}}…{{else}}…{{end}}`             | for each item, which is `.` then; `$k, $v := .A`     |
//! | `{{if .A}}…{{else if .B}}…{{else}}…{{end}}` | where it is neither empty nor false nor 0            |
//! | `{{with .A}}…{{else}}…{{end}}`              | the same, and it is `.` then                         |
//!
//! `{{-` and `-}}` trim. Anything else is refused by name. `\t` and `\n` mean what they mean in C.
//! Values are JSON. A field that is not there is equal to what is empty, as Docker's fields are there always.

mod eval;
mod functions;
mod lexer;
mod parser;
mod show;
#[cfg(test)]
mod tests;

use serde_json::Value;

use eval::Run;
pub(crate) use eval::Shows;
use parser::Node;

/// A template, read.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let nodes = parser::tree(lexer::pieces(&text)?)?;
        Ok(Template { nodes })
    }

    /// Fills the template in. `strict`: a field that is not there is a mistake at any depth, else at the first alone.
    pub(crate) fn fill(&self, value: &Value, strict: bool) -> Result<String, String> {
        self.fill_as(value, strict, |_, _| None)
    }

    /// Fills the template in; `shows` has the last word on how a field of `value` is printed.
    pub(crate) fn fill_as(
        &self,
        value: &Value,
        strict: bool,
        shows: Shows,
    ) -> Result<String, String> {
        let mut out = String::new();
        let mut run = Run {
            root: value,
            strict,
            shows,
            variables: Vec::new(),
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
                    let path = pipeline.field().and_then(|path| path.last());
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

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
