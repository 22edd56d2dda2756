//! Answers to `--call`: tables for people; JSON with the keys of BuildKit's subrequests, so that what reads those reads this.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use builder_core::build::{Checked, Listing};
use builder_core::dockerfile::Span;
use builder_core::dockerfile::diagnostic::line_column;
use builder_core::plan::{self, Need, Outline, Target};
use serde_json::{Map, Value, json};

pub(crate) fn targets_text(listing: &Listing<Vec<Target>>) -> String {
    let mut rows = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in &listing.found {
        let name = target.name.as_deref().unwrap_or_default();
        let name = match (name, target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push([name, target.description.clone().unwrap_or_default()]);
    }
    table(&rows)
}

pub(crate) fn targets_json(listing: &Listing<Vec<Target>>) -> String {
    let targets: Vec<Value> = listing
        .found
        .iter()
        .map(|target| {
            object([
                ("name", json!(target.name)),
                ("default", json!(target.default)),
                ("description", json!(target.description)),
                ("base", json!(target.base)),
                ("platform", json!(target.platform)),
                ("location", location(&listing.text, target.span)),
            ])
        })
        .collect();
    written(&json!({ "targets": targets, "sources": [STANDARD.encode(&listing.text)] }))
}

pub(crate) fn outline_text(listing: &Listing<Outline>) -> String {
    let outline = &listing.found;
    let own = |text: &str| text.to_owned();
    let required = |need: &Need| own(if need.required { "true" } else { "" });
    let mut out = String::new();
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        let mut rows = vec![[own("TARGET:"), own(name)]];
        rows.extend(
            outline
                .description
                .iter()
                .map(|it| [own("DESCRIPTION:"), own(it)]),
        );
        out += &table(&rows);
    }
    let args = outline.args.iter().map(|arg| {
        let value = arg.value.clone().unwrap_or_default();
        [
            arg.name.clone(),
            value,
            arg.description.clone().unwrap_or_default(),
        ]
    });
    out += &section(["BUILD ARG", "VALUE", "DESCRIPTION"], args, &out);
    let needs = |all: &[Need]| -> Vec<_> {
        all.iter()
            .map(|need| [need.id.clone(), required(need)])
            .collect()
    };
    out += &section(["SECRET", "REQUIRED"], needs(&outline.secrets), &out);
    out += &section(["SSH", "REQUIRED"], needs(&outline.ssh), &out);
    let caches = outline
        .caches
        .iter()
        .map(|cache| [cache.id.clone(), cache.target.clone()]);
    out += &section(["CACHE MOUNT", "TARGET"], caches, &out);
    out
}

pub(crate) fn outline_json(listing: &Listing<Outline>) -> String {
    let outline = &listing.found;
    let place = |span| location(&listing.text, span);
    let list = |all: Vec<Value>| match all.is_empty() {
        true => Value::Null,
        false => Value::Array(all),
    };
    let needs = |all: &[Need]| {
        let each = all.iter().map(|need| {
            object([
                ("name", json!(need.id)),
                ("required", json!(need.required)),
                ("location", place(need.span)),
            ])
        });
        list(each.collect())
    };
    let args = outline.args.iter().map(|arg| {
        object([
            ("name", json!(arg.name)),
            ("description", json!(arg.description)),
            ("value", json!(arg.value)),
            ("location", place(arg.span)),
        ])
    });
    let caches = outline
        .caches
        .iter()
        .map(|cache| json!({ "ID": cache.id, "location": place(cache.span) }));
    written(&object([
        ("name", json!(outline.name)),
        ("description", json!(outline.description)),
        ("args", list(args.collect())),
        ("secrets", needs(&outline.secrets)),
        ("ssh", needs(&outline.ssh)),
        ("cache", list(caches.collect())),
        ("sources", json!([STANDARD.encode(&listing.text)])),
    ]))
}

/// What checks say.
pub(crate) fn check_json(checked: &Checked) -> String {
    let place = |span| location(&checked.text, span);
    let warnings: Vec<Value> = checked
        .findings
        .iter()
        .map(|it| {
            let rule = plan::lint::rules().find(|rule| rule.name == it.rule.name);
            object([
                ("ruleName", json!(it.rule.name)),
                ("description", json!(rule.map(|rule| rule.summary))),
                ("detail", json!(it.diagnostic.message)),
                ("location", place(it.diagnostic.span)),
            ])
        })
        .collect();
    let error = checked
        .error
        .as_ref()
        .map(|it| json!({ "message": it.message, "location": place(it.span) }));
    written(&object([
        ("warnings", json!(warnings)),
        (
            "sources",
            json!([{
                "filename": checked.file,
                "language": "Dockerfile",
                "data": STANDARD.encode(&checked.text),
            }]),
        ),
        ("buildError", json!(error)),
    ]))
}

fn written(value: &Value) -> String {
    format!("{value:#}\n")
}

/// An object without the fields that say nothing.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let said = fields.into_iter().filter(|(_, value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
    Value::Object(
        said.map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn location(text: &str, span: Span) -> Value {
    let (start, _) = line_column(text, span.start);
    let (end, _) = line_column(text, span.end.max(span.start));
    json!({ "ranges": [{ "start": { "line": start }, "end": { "line": end } }] })
}

/// A table under a heading, apart from what is `before` it; nothing where there are no rows.
fn section<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    before: &str,
) -> String {
    let mut all = vec![heading.map(str::to_owned)];
    all.extend(rows);
    match (all.len(), before.is_empty()) {
        (1, _) => String::new(),
        (_, true) => table(&all),
        (_, false) => format!("\n{}", table(&all)),
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + 3
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
