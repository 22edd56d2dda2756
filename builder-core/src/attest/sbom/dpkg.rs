//! Debian's packages: paragraphs of `Field: value`, a value going on in lines that are indented.

use std::collections::BTreeSet;

use super::files::{Files, MAX_DATABASE_BYTES, MAX_METADATA_BYTES};
use super::package::{Kind, Package};
use crate::context::NodeKind;

const STATUS: &str = "var/lib/dpkg/status";
/// One file a package, where dpkg itself is not in the image.
const STATUS_DIR: &str = "var/lib/dpkg/status.d";

pub(super) fn packages(files: &mut Files<'_>) -> Vec<Package> {
    let mut found = Vec::new();
    if let Some(text) = files.text(STATUS, MAX_DATABASE_BYTES) {
        read(files, STATUS, &text, &mut found);
    }
    for node in files.list(STATUS_DIR) {
        let path = String::from_utf8_lossy(&node.path).into_owned();
        if node.kind != NodeKind::File || path.ends_with(".md5sums") {
            continue;
        }
        if let Some(bytes) = files.read_node(&node, MAX_METADATA_BYTES) {
            read(files, &path, &super::files::text(bytes), &mut found);
        }
    }
    for package in &mut found {
        let path = format!("usr/share/doc/{}/copyright", package.name);
        if let Some(text) = files.text(&path, MAX_METADATA_BYTES) {
            package.licenses = licenses(&text);
        }
    }
    found
}

fn read(files: &mut Files<'_>, path: &str, text: &str, found: &mut Vec<Package>) {
    let (packages, broken) = parse(text, path);
    found.extend(packages);
    if broken > 0 {
        let why = format!("{broken} paragraphs name no package and version");
        files.warn(path, &why);
    }
}

/// Reads the packages that are there, configured or not; returns also how many paragraphs make no sense.
fn parse(text: &str, path: &str) -> (Vec<Package>, usize) {
    let (mut found, mut broken) = (Vec::new(), 0);
    let mut lines = text.lines().peekable();
    while lines.peek().is_some() {
        let paragraph = lines.by_ref().take_while(|line| !line.trim().is_empty());
        let mut package = Package::new(Kind::Deb, "", "", path);
        let (mut any, mut there) = (false, true);
        for line in paragraph {
            any = true;
            if line.starts_with([' ', '\t']) {
                continue;
            }
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim().to_owned();
            match field.to_ascii_lowercase().as_str() {
                "package" => package.name = value,
                "version" => package.version = value,
                "architecture" => package.architecture = value,
                "maintainer" => package.supplier = value,
                "homepage" => package.homepage = value,
                "source" => package.upstream = source(&value),
                // The third word is the state: without files there is no package.
                "status" => {
                    let state = value.split_whitespace().nth(2).unwrap_or_default();
                    there = !matches!(state, "not-installed" | "config-files");
                }
                _ => {}
            }
        }
        match (
            any && there,
            package.name.is_empty() || package.version.is_empty(),
        ) {
            (true, false) => found.push(package),
            (true, true) => broken += 1,
            (false, _) => {}
        }
    }
    (found, broken)
}

/// Reads `glibc` or `gcc-12 (12.2.0-14)`.
fn source(value: &str) -> String {
    match value.split_once(" (") {
        Some((name, version)) => format!("{name}@{}", version.trim_end_matches(')')),
        None => value.to_owned(),
    }
}

/// Returns the licences that a machine-readable `copyright` names; none where it is free text.
fn licenses(text: &str) -> Vec<String> {
    let head = text.lines().take(20);
    let is_dep5 = |line: &str| line.starts_with("Format:") && line.contains("copyright-format");
    if !head.clone().any(is_dep5) {
        return Vec::new();
    }
    let named = text
        .lines()
        .filter_map(|line| line.strip_prefix("License:"));
    let named: BTreeSet<&str> = named.map(str::trim).filter(|it| !it.is_empty()).collect();
    named.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        for (status, expected) in [
            ("install ok installed", true),
            ("hold ok installed", true),
            ("install ok half-configured", true),
            ("install ok unpacked", true),
            ("install ok triggers-pending", true),
            ("deinstall ok config-files", false),
            ("unknown ok not-installed", false),
        ] {
            let text = format!("Package: a\nStatus: {status}\nVersion: 1\n");
            assert_eq!(parse(&text, "x").0.len() == 1, expected, "{status}");
        }
    }

    #[test]
    fn paragraphs() {
        let text = "Package: a\nVersion: 1:2-3\nDescription: x\n Package: no\n .\nSource: b (2-3)\n\n\n\
            Package: c\n\nVERSION: 1\npackage: d\nArchitecture: all";
        let (found, broken) = parse(text, "x");
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_str(), it.version.as_str(), it.upstream.as_str()))
            .collect();
        assert_eq!(told, [("a", "1:2-3", "b@2-3"), ("d", "1", "")]);
        assert_eq!(broken, 1);
    }

    #[test]
    fn copyrights() {
        let head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";
        for (text, expected) in [
            (
                format!("{head}Files: *\nLicense: GPL-2+\n text\nLicense: Expat\n"),
                vec!["Expat", "GPL-2+"],
            ),
            ("License: GPL\n".to_owned(), vec![]),
        ] {
            assert_eq!(licenses(&text), expected, "{text}");
        }
    }
}
