//! `builder check`: what is questionable in a Dockerfile, without a look at anything else.

use std::path::PathBuf;

use builder_core::dockerfile::diagnostic::{Diagnostic, line_column, render};
use builder_core::dockerfile::{self, lint};

use super::inputs::standard_input;
use crate::args::{CheckArgs, Format};
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: CheckArgs) -> Result<(), Failure> {
    let (name, text) = match args.file {
        Some(file) if file.as_os_str() == "-" => ("<stdin>".to_owned(), standard_input()?),
        Some(file) => read(file)?,
        None => read(args.context.join("Dockerfile"))?,
    };
    let (remarks, wrong) = match dockerfile::parse(&text) {
        Ok(file) => (lint::check(&file, &text), false),
        Err(error) => (vec![Diagnostic::from(&error)], true),
    };
    let remarks: Vec<Diagnostic> = remarks
        .into_iter()
        .filter(|remark| {
            !remark
                .code
                .is_some_and(|it| lint::EXPERIMENTAL.contains(&it))
        })
        .collect();
    let out: String = match args.format {
        Format::Text => remarks.iter().map(|it| render(it, &name, &text)).collect(),
        Format::Json => remarks.iter().map(|it| json(it, &name, &text)).collect(),
    };
    render::result(&out)?;
    match (wrong, remarks.is_empty()) {
        (true, _) => Err(Failure::Unreadable),
        (false, false) => Err(Failure::Remarks),
        (false, true) => Ok(()),
    }
}

fn read(path: PathBuf) -> Result<(String, String), Failure> {
    let path = path.strip_prefix(".").map(PathBuf::from).unwrap_or(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(error) => Err(Failure::Io(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// One line a remark.
fn json(remark: &Diagnostic, name: &str, text: &str) -> String {
    let (line, column) = line_column(text, remark.span.start);
    let value = serde_json::json!({
        "severity": format!("{:?}", remark.severity).to_lowercase(),
        "code": remark.code,
        "message": remark.message,
        "file": name,
        "line": line,
        "column": column,
        "hint": remark.hint,
    });
    format!("{value}\n")
}
