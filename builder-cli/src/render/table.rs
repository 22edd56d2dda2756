//! Rows of a list: as a table, as JSON lines, or as a template says.

use serde_json::Value;

use crate::exit::Failure;
use crate::template::Template;

/// Shows `rows`, objects with the same fields. `columns` are those of the table that is shown by default.
pub(crate) fn show(
    rows: &[Value],
    columns: &[&str],
    format: Option<&str>,
) -> Result<String, Failure> {
    let format = format.unwrap_or("table");
    if format == "json" {
        return Ok(rows.iter().map(|row| format!("{row}\n")).collect());
    }
    let wrong = |why: String| Failure::usage(format!("--format {format}: {why}"));
    if let Some(rest) = format.strip_prefix("table") {
        let template = match rest.trim_start() {
            "" => columns
                .iter()
                .map(|it| format!("{{{{.{it}}}}}"))
                .collect::<Vec<_>>()
                .join("\t"),
            given => given.to_owned(),
        };
        let template = Template::parse(&template).map_err(wrong)?;
        let mut lines = vec![template.heads()];
        for row in rows {
            let line = template.fill(row, true).map_err(wrong)?;
            lines.push(line.split('\t').map(str::to_owned).collect());
        }
        return Ok(aligned(&lines));
    }
    let template = Template::parse(format).map_err(wrong)?;
    // A mistake in a name is one with an empty list too, which has nothing to compare it with.
    let mut out = String::new();
    for row in rows {
        out += &template.fill(row, true).map_err(wrong)?;
        out.push('\n');
    }
    Ok(out)
}

/// Columns three blanks apart, as Docker has them.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (at, cell) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(known) => *known = (*known).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let pad = width + 3 - cell.chars().count();
            text += cell;
            text += &" ".repeat(pad);
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_shown() {
        let rows = [
            json!({"ID": "a", "Size": "1B"}),
            json!({"ID": "bcd", "Size": "2kB"}),
        ];
        for (format, expected) in [
            (None, "IMAGE ID   SIZE\na          1B\nbcd        2kB\n"),
            (Some("table {{.Size}}"), "SIZE\n1B\n2kB\n"),
            (Some("{{.ID}}={{.Size}}"), "a=1B\nbcd=2kB\n"),
            (
                Some("json"),
                "{\"ID\":\"a\",\"Size\":\"1B\"}\n{\"ID\":\"bcd\",\"Size\":\"2kB\"}\n",
            ),
        ] {
            let shown = show(&rows, &["ID", "Size"], format);
            assert_eq!(shown.expect("shown"), expected);
        }
        let wrong = show(&rows, &[], Some("{{.Name}}"));
        assert!(matches!(wrong, Err(Failure::Usage(it)) if it.contains("there are: ID, Size")));
    }
}
