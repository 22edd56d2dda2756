//! Remarks as SARIF 2.1.0 (OASIS), which code scanning reads.
//!
//! Columns are from 1 and count UTF-16 code units, SARIF's default; a region ends before its last column. A mend is a
//! `fix` with one replacement an edit.

use builder_core::build::Checked;
use builder_core::dockerfile::Span;
use builder_core::dockerfile::diagnostic::Diagnostic;
use builder_core::dockerfile::lint::{Edit, When};
use builder_core::plan;
use serde_json::{Value, json};

use super::checks::severity;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What mistakes that stop a build are called: SARIF has a rule for each result.
const MISTAKE: &str = "Mistake";

/// One log with one run.
pub(super) fn log(checked: &Checked) -> String {
    let mut rules: Vec<Value> = plan::lint::rules()
        .map(|rule| {
            json!({
                "id": rule.name,
                "name": rule.name,
                "shortDescription": { "text": rule.summary },
                "defaultConfiguration": {
                    "enabled": rule.when == When::Always,
                    "level": "warning",
                },
            })
        })
        .collect();
    rules.push(json!({
        "id": MISTAKE,
        "name": MISTAKE,
        "shortDescription": { "text": "The Dockerfile cannot be built" },
        "defaultConfiguration": { "enabled": true, "level": "error" },
    }));
    let index = |id: &str| rules.iter().position(|rule| rule["id"] == id);
    let findings = checked.findings.iter();
    let results: Vec<Value> = findings
        .map(|it| (&it.diagnostic, it.edits.as_slice()))
        .chain(checked.error.iter().map(|it| (it, &[][..])))
        .map(|(remark, edits)| {
            let id = remark.code.unwrap_or(MISTAKE);
            result(checked, remark, edits, id, index(id))
        })
        .collect();
    let value = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "builder",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "utf16CodeUnits",
            "results": results,
        }],
    });
    format!("{value:#}\n")
}

fn result(
    checked: &Checked,
    remark: &Diagnostic,
    edits: &[Edit],
    id: &str,
    index: Option<usize>,
) -> Value {
    let text = match &remark.hint {
        Some(hint) => format!("{}\nhint: {hint}", remark.message),
        None => remark.message.clone(),
    };
    let artifact = json!({ "uri": uri(&checked.file) });
    let mut out = json!({
        "ruleId": id,
        "ruleIndex": index,
        "level": severity(remark.severity),
        "message": { "text": text },
        "locations": [{ "physicalLocation": {
            "artifactLocation": artifact,
            "region": region(&checked.text, remark.span),
        }}],
    });
    if !edits.is_empty() {
        let replacements: Vec<Value> = edits
            .iter()
            .map(|edit| {
                json!({
                    "deletedRegion": region(&checked.text, edit.span),
                    "insertedContent": { "text": edit.text },
                })
            })
            .collect();
        out["fixes"] = json!([{
            "description": { "text": remark.message },
            "artifactChanges": [{ "artifactLocation": artifact, "replacements": replacements }],
        }]);
    }
    out
}

fn region(text: &str, span: Span) -> Value {
    let (start_line, start_column) = place(text, span.start);
    let (end_line, end_column) = place(text, span.end.max(span.start));
    json!({
        "startLine": start_line,
        "startColumn": start_column,
        "endLine": end_line,
        "endColumn": end_column,
    })
}

/// Line and column of an offset, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].encode_utf16().count() + 1)
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    path.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::checks::tests::checked;
    use super::*;

    /// The fields that the schema of SARIF 2.1.0 requires, and what it says of their values.
    #[test]
    fn logs_have_what_the_schema_requires() {
        for text in [
            "FROM scratch AS Bäse\nENV a b\nCOPY id_rsa /\n",
            "FROM scratch\n",
            "FROM scratch\nRUNN x\n",
            "FROM scratch\nRUN a \\\n\n b\n",
        ] {
            let checked = checked(text);
            let log: Value = serde_json::from_str(&log(&checked)).expect("JSON");
            assert_eq!(log["version"], "2.1.0");
            let [run] = log["runs"].as_array().expect("runs").as_slice() else {
                panic!("one run");
            };
            let driver = &run["tool"]["driver"];
            assert!(driver["name"].is_string());
            let rules = driver["rules"].as_array().expect("rules");
            let mut ids: Vec<&str> = rules.iter().filter_map(|it| it["id"].as_str()).collect();
            assert_eq!(ids.len(), rules.len(), "each rule has an id");
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), rules.len(), "ids are unique");
            let results = run["results"].as_array().expect("results");
            let expected = checked.findings.len() + usize::from(checked.error.is_some());
            assert_eq!(results.len(), expected, "{text}");
            for result in results {
                assert!(result["message"]["text"].is_string());
                let level = result["level"].as_str().expect("a level");
                assert!(["none", "note", "warning", "error"].contains(&level));
                let index = result["ruleIndex"].as_u64().expect("an index");
                assert_eq!(
                    rules[usize::try_from(index).expect("small")]["id"],
                    result["ruleId"]
                );
                let location = &result["locations"][0]["physicalLocation"];
                let uri = location["artifactLocation"]["uri"].as_str().expect("a URI");
                assert_eq!(uri, "a%2Cb/Dockerfile");
                is_region(&location["region"]);
                for fix in result["fixes"].as_array().into_iter().flatten() {
                    for change in fix["artifactChanges"].as_array().expect("changes") {
                        assert!(change["artifactLocation"].is_object());
                        let replacements = change["replacements"].as_array().expect("some");
                        assert!(!replacements.is_empty());
                        for it in replacements {
                            is_region(&it["deletedRegion"]);
                        }
                    }
                }
            }
        }
    }

    fn is_region(region: &Value) {
        let get = |name: &str| region[name].as_u64().expect("a number");
        let start = (get("startLine"), get("startColumn"));
        let end = (get("endLine"), get("endColumn"));
        assert!(start >= (1, 1) && start <= end, "{region}");
    }

    #[test]
    fn columns_are_utf_16() {
        assert_eq!(place("a\n\u{1f980}b", 6), (2, 3));
    }
}
