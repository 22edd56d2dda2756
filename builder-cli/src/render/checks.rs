//! Remarks of checks: for people, for programs, for a workflow.

use std::fmt::Write;

use builder_core::build::Checked;
use builder_core::dockerfile::diagnostic::{Diagnostic, Severity, line_column, render};
use builder_core::dockerfile::lint::{Edit, When};
use builder_core::plan;

use super::sarif;
use crate::args::Report;

/// All that checks came to, the mistake that stops a build last.
pub(crate) fn report(checked: &Checked, report: Report) -> String {
    if report == Report::Sarif {
        return sarif::log(checked);
    }
    let remarks = checked.findings.iter();
    let all = remarks
        .map(|it| (&it.diagnostic, it.edits.as_slice()))
        .chain(checked.error.iter().map(|it| (it, &[][..])));
    all.map(|(remark, edits)| match report {
        Report::Json => json(remark, edits, checked),
        Report::Github => github(remark, checked),
        _ => render(remark, &checked.file, &checked.text),
    })
    .collect()
}

/// All rules, a line each.
pub(crate) fn rules() -> String {
    let mut out = String::new();
    for rule in plan::lint::rules() {
        let when = match rule.when {
            When::Always => "",
            When::Experimental => " (experimental)",
            When::Asked => " (off)",
        };
        let _ = writeln!(out, "{}{when}: {}", rule.name, rule.summary);
    }
    out
}

/// One line a remark.
fn json(remark: &Diagnostic, edits: &[Edit], checked: &Checked) -> String {
    let text = &checked.text;
    let (line, column) = line_column(text, remark.span.start);
    let (end_line, end_column) = line_column(text, remark.span.end);
    let edits: Vec<_> = edits
        .iter()
        .map(|edit| {
            serde_json::json!({ "start": edit.span.start, "end": edit.span.end, "text": edit.text })
        })
        .collect();
    let value = serde_json::json!({
        "severity": severity(remark.severity),
        "code": remark.code,
        "message": remark.message,
        "file": checked.file,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "hint": remark.hint,
        "edits": edits,
    });
    format!("{value}\n")
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// A workflow command: `::warning file=Dockerfile,line=2,…::message`.
fn github(remark: &Diagnostic, checked: &Checked) -> String {
    let text = &checked.text;
    let (line, column) = line_column(text, remark.span.start);
    let (end_line, end_column) = line_column(text, remark.span.end);
    let message = match &remark.hint {
        Some(hint) => format!("{}\nhint: {hint}", remark.message),
        None => remark.message.clone(),
    };
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = format!(
        "::{} file={},line={line},endLine={end_line}",
        severity(remark.severity),
        property(&checked.file)
    );
    // Columns are for remarks about one line alone.
    if line == end_line {
        let _ = write!(out, ",col={column},endColumn={end_column}");
    }
    let title = remark.code.unwrap_or("Dockerfile");
    let _ = writeln!(out, ",title={}::{}", property(title), data(&message));
    out
}

#[cfg(test)]
pub(super) mod tests {
    use builder_core::dockerfile::lint::Settings;
    use builder_core::{Build, Context};

    use super::*;

    /// Checks a text in an empty context.
    pub(crate) fn checked(text: &str) -> Checked {
        let dir = tempfile::tempdir().expect("a directory");
        let build = Build::new(Context::dir(dir.path())).dockerfile_text("a,b/Dockerfile", text);
        build.check(&Settings::default()).expect("checks")
    }

    const TEXT: &str = "FROM scratch AS Base\nENV a b\nCOPY . .\nRUN npm ci\n";

    #[test]
    fn annotations_escape_what_they_must() {
        let out = report(&checked(TEXT), Report::Github);
        assert_eq!(
            out,
            "::warning file=a%2Cb/Dockerfile,line=1,endLine=1,col=17,endColumn=21,title=StageNameCasing::\
             Stage name 'Base' should be lowercase\n\
             ::warning file=a%2Cb/Dockerfile,line=2,endLine=2,col=1,endColumn=8,title=LegacyKeyValueFormat::\
             \"ENV key=value\" should be used instead of legacy \"ENV key value\" format\n\
             ::warning file=a%2Cb/Dockerfile,line=3,endLine=3,col=1,endColumn=9,title=CopyBeforeInstall::\
             Everything is copied here, so a slow step below runs again at each change%0Ahint: better: \
             `COPY package.json package-lock.json ./`, then `RUN npm ci`, then `COPY . .`\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let out = report(&checked(TEXT), Report::Json);
        let first: serde_json::Value =
            serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["code"], "StageNameCasing");
        assert_eq!(first["edits"][0]["text"], "base");
        assert_eq!(out.lines().count(), 3);
    }
}
