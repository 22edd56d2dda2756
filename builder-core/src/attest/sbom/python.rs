//! What pip and its kind installed: a header as of mail, beside the modules.

use super::files::{Files, MAX_METADATA_BYTES, text};
use super::package::{Kind, Package};
use crate::context::Node;

pub(super) fn packages(files: &mut Files<'_>, path: &str, node: &Node) -> Option<Package> {
    if !is_metadata(path) {
        return None;
    }
    let bytes = files.read_node(node, MAX_METADATA_BYTES)?;
    let found = parse(&text(bytes), path);
    if found.is_none() {
        files.warn(path, "it names no package and version");
    }
    found
}

fn is_metadata(path: &str) -> bool {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "METADATA" => directory.ends_with(".dist-info"),
        "PKG-INFO" => directory.ends_with(".egg-info") || directory.ends_with(".egg/EGG-INFO"),
        _ => name.ends_with(".egg-info"),
    }
}

fn parse(text: &str, path: &str) -> Option<Package> {
    let mut package = Package::new(Kind::Pypi, "", "", path);
    let (mut expression, mut license) = (String::new(), String::new());
    for line in text.lines().take_while(|line| !line.trim().is_empty()) {
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((field, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().to_owned();
        match field.to_ascii_lowercase().as_str() {
            "name" => package.name = value,
            "version" => package.version = value,
            "license-expression" => expression = value,
            "license" => license = value,
            "home-page" => package.homepage = value,
            "author" => package.supplier = value,
            _ => {}
        }
    }
    let license = if expression.is_empty() {
        license
    } else {
        expression
    };
    let known = !matches!(license.as_str(), "" | "UNKNOWN");
    // Some put the whole text there.
    if known && license.len() <= 100 {
        package.licenses = vec![license];
    }
    (!package.name.is_empty() && !package.version.is_empty()).then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (path, expected) in [
            ("usr/lib/python3/dist-packages/six-1.egg-info", true),
            ("a/six-1.dist-info/METADATA", true),
            ("a/six.egg-info/PKG-INFO", true),
            ("a/six.egg/EGG-INFO/PKG-INFO", true),
            ("a/METADATA", false),
            ("a/six-1.dist-info/RECORD", false),
            ("a/six.egg-info/requires.txt", false),
        ] {
            assert_eq!(is_metadata(path), expected, "{path}");
        }
    }

    #[test]
    fn headers() {
        let text = "Metadata-Version: 2.4\nName: Jinja2\nVersion: 3.1.4\nLicense: x\n more\n\
            License-Expression: BSD-3-Clause\n\nName: no\n";
        let found = parse(text, "x").expect("a package");
        assert_eq!(
            (found.name.as_str(), found.version.as_str()),
            ("Jinja2", "3.1.4")
        );
        assert_eq!(found.licenses, ["BSD-3-Clause"]);
        assert_eq!(parse("Name: a\n", "x"), None);
    }
}
