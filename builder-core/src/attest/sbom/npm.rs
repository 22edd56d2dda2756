//! What npm and its kind installed: a `package.json` in each directory of a `node_modules`.

use serde_json::Value;

use super::files::{Files, MAX_METADATA_BYTES};
use super::package::{Kind, Package};
use crate::context::Node;

pub(super) fn packages(files: &mut Files<'_>, path: &str, node: &Node) -> Option<Package> {
    if !is_installed(path) {
        return None;
    }
    let bytes = files.read_node(node, MAX_METADATA_BYTES)?;
    match serde_json::from_slice(&bytes) {
        // Tests of packages, and links to parts of one, have neither.
        Ok(document) => parse(&document, path),
        Err(error) => {
            files.warn(path, &error.to_string());
            None
        }
    }
}

/// Whether `path` is `…node_modules/NAME/package.json` or `…node_modules/@SCOPE/NAME/package.json`.
fn is_installed(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    if parts.next() != Some("package.json") {
        return false;
    }
    parts.next();
    match parts.next() {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

fn parse(document: &Value, path: &str) -> Option<Package> {
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (name, version) = (text("name"), text("version"));
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let mut package = Package::new(Kind::Npm, name, version, path);
    package.homepage = text("homepage").to_owned();
    package.licenses = licenses(document);
    package.supplier = match document.get("author") {
        Some(Value::String(author)) => author.clone(),
        Some(author) => author["name"].as_str().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    Some(package)
}

/// `"license": "MIT"`, or the forms of before: `{"type": "MIT"}`, and a list of those.
fn licenses(document: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        other => other["type"].as_str().map(str::to_owned),
    };
    match (document.get("license"), document.get("licenses")) {
        (Some(one_of), _) => one(one_of).into_iter().collect(),
        (None, Some(Value::Array(all))) => all.iter().filter_map(one).collect(),
        (None, Some(other)) => one(other).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places() {
        for (path, expected) in [
            ("usr/lib/node_modules/npm/package.json", true),
            ("a/node_modules/@x/y/package.json", true),
            ("a/node_modules/y/test/package.json", false),
            ("a/package.json", false),
            ("node_modules/package.json", false),
        ] {
            assert_eq!(is_installed(path), expected, "{path}");
        }
    }

    #[test]
    fn documents() {
        for (document, expected) in [
            (
                json!({"name": "a", "version": "1", "license": "MIT"}),
                Some(vec!["MIT"]),
            ),
            (
                json!({"name": "a", "version": "1", "license": {"type": "ISC"}}),
                Some(vec!["ISC"]),
            ),
            (
                json!({"name": "a", "version": "1", "licenses": [{"type": "MIT"}, "ISC"]}),
                Some(vec!["MIT", "ISC"]),
            ),
            (json!({"name": "a", "version": "1"}), Some(vec![])),
            (json!({"name": "a"}), None),
            (json!([1]), None),
            (json!({"name": 1, "version": {}}), None),
        ] {
            let found = parse(&document, "x").map(|it| it.licenses);
            let expected: Option<Vec<String>> =
                expected.map(|it| it.into_iter().map(str::to_owned).collect());
            assert_eq!(found, expected, "{document}");
        }
    }
}
