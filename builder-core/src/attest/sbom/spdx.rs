//! The document: SPDX 2.3 as JSON (spdx.github.io/spdx-spec/v2.3).
//!
//! What a document says depends on the image alone but for `created`, which is `SOURCE_DATE_EPOCH` where that is set: the
//! same image then has the same document, its namespace included.

use serde_json::{Value, json};

use super::license::{self, References};
use super::package::{Kind, Package};
use super::scan::Scanned;
use crate::attest::Attestation;
use crate::digest::{DiffId, Digest};
use crate::image::Platform;

const PREDICATE_TYPE: &str = "https://spdx.dev/Document";
const IMAGE: &str = "SPDXRef-Image";
const NONE: &str = "NOASSERTION";

/// What is known of the image besides its packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Empty where it has none.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// Who writes: `name-version`.
    pub tool: String,
    pub platform: Platform,
    pub layers: Vec<DiffId>,
}

/// Returns the document as an attestation.
pub fn attestation(scanned: &Scanned, about: &About) -> Attestation {
    Attestation {
        predicate_type: PREDICATE_TYPE,
        predicate: document(scanned, about),
        file: "sbom.spdx.json".to_owned(),
    }
}

/// Returns the document.
pub fn document(scanned: &Scanned, about: &About) -> Value {
    let name = match about.name.as_str() {
        "" => "image",
        name => name,
    };
    let layers: Vec<String> = about.layers.iter().map(|it| it.0.to_string()).collect();
    let mut references = References::new();
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": name,
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "primaryPackagePurpose": "CONTAINER",
        "comment": format!("{} with the layers {}", about.platform, layers.join(" ")),
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": IMAGE,
    })];
    for package in &scanned.packages {
        let id = id(package);
        let purl = package.purl(&scanned.os);
        packages.push(told(package, &id, &purl, &mut references));
        relationships.push(json!({
            "spdxElementId": IMAGE,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id,
        }));
    }
    let explained = references.iter().map(
        |(id, text)| json!({"licenseId": id, "name": text.lines().next(), "extractedText": text}),
    );
    let mut creation = json!({
        "created": about.created,
        "creators": [format!("Tool: {}", about.tool)],
    });
    if !scanned.warnings.is_empty() {
        creation["comment"] = json!(scanned.warnings.join("\n"));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": "",
        "creationInfo": creation,
        "packages": packages,
        "relationships": relationships,
        "hasExtractedLicensingInfos": explained.collect::<Vec<_>>(),
    });
    // Unlike any other document's, and the same for the same.
    let digest = Digest::of(document.to_string().as_bytes()).hex();
    let namespace = format!("https://spdx.org/spdxdocs/{}-{digest}", id_text(name));
    document["documentNamespace"] = json!(namespace);
    document
}

fn told(package: &Package, id: &str, purl: &str, references: &mut References) -> Value {
    let mut told = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "supplier": supplier(package),
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "sourceInfo": format!("found in /{}", package.found_in),
        "licenseConcluded": NONE,
        "licenseDeclared": license::declared(&package.licenses, references),
        "copyrightText": NONE,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    });
    if is_address(&package.homepage) {
        told["homepage"] = json!(package.homepage);
    }
    told
}

/// Who it is from: a person with an address, or a vendor.
fn supplier(package: &Package) -> String {
    let text = package
        .supplier
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let (name, address) = match text.split_once('<') {
        Some((name, address)) => (name.trim(), address.trim_end_matches('>').trim()),
        None => (text.as_str(), ""),
    };
    let name = name.replace(['(', ')', '"'], "");
    let name = name.trim();
    if name.is_empty() {
        return NONE.to_owned();
    }
    let kind = if package.kind == Kind::Rpm {
        "Organization"
    } else {
        "Person"
    };
    let is_mail = |it: &str| {
        let parts = it.split_once('@');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        parts.is_some_and(|(user, host)| {
            !user.is_empty()
                && host.contains('.')
                && user.chars().all(plain)
                && host.chars().all(plain)
        })
    };
    match is_mail(address) {
        true => format!("{kind}: {name} ({address})"),
        false => format!("{kind}: {name}"),
    }
}

fn is_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_graphic() && !b"<>\"{}|\\^`#".contains(&b);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(plain))
}

/// Names a package within the document; where it was found tells two of one name apart.
fn id(package: &Package) -> String {
    let Package {
        kind,
        name,
        version,
        architecture,
        found_in,
        ..
    } = package;
    let whole = [kind.word(), name, version, architecture, found_in].join("\0");
    let digest = &Digest::of(whole.as_bytes()).hex()[..16];
    format!("SPDXRef-Package-{}-{}-{digest}", kind.word(), id_text(name))
}

/// Letters, digits, dots and dashes are all that an identifier may have.
fn id_text(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let each = text.chars().map(|c| if allowed(c) { c } else { '-' });
    each.take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppliers() {
        for (kind, text, expected) in [
            (Kind::Deb, "A B <a@b.org>", "Person: A B (a@b.org)"),
            (Kind::Deb, "A (the \"B\") <a at b>", "Person: A the B"),
            (Kind::Rpm, "Fedora Project", "Organization: Fedora Project"),
            (Kind::Npm, "", "NOASSERTION"),
            (Kind::Npm, "<a@b.org>", "NOASSERTION"),
        ] {
            let mut package = Package::new(kind, "a", "1", "x");
            package.supplier = text.to_owned();
            assert_eq!(supplier(&package), expected, "{text}");
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("https://a.org/b?c", true),
            ("http://", false),
            ("a.org", false),
            ("https://a b", false),
        ] {
            assert_eq!(is_address(text), expected, "{text}");
        }
    }
}
