//! Package URLs (the purl specification, ECMA-427): `pkg:TYPE/NAMESPACE/NAME@VERSION?KEY=VALUE`.

use std::collections::BTreeMap;

use crate::image::{Platform, Reference};

/// A package URL in its parts, not yet encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Purl {
    pub(super) kind: &'static str,
    /// Its parts are separated by slashes.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    /// Those without a value are left out.
    pub(super) qualifiers: BTreeMap<&'static str, String>,
}

impl std::fmt::Display for Purl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        for part in self.namespace.split('/').filter(|it| !it.is_empty()) {
            write!(f, "{}/", encoded(part))?;
        }
        f.write_str(&encoded(&self.name))?;
        if !self.version.is_empty() {
            write!(f, "@{}", encoded(&self.version))?;
        }
        let given = self
            .qualifiers
            .iter()
            .filter(|(_, value)| !value.is_empty());
        for (at, (key, value)) in given.enumerate() {
            let sign = if at == 0 { '?' } else { '&' };
            write!(f, "{sign}{key}={}", encoded(value))?;
        }
        Ok(())
    }
}

/// Percent-encodes all but what the specification leaves as it is: letters, digits, `.-_~` and the colon.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Names an image as `pkg:docker/NAME@TAG?platform=…`, the digest as a qualifier where the name has one.
pub(super) fn of_image(name: &Reference, platform: &Platform) -> String {
    let whole = name.familiar();
    let bare = whole.split_once('@').map_or(&whole[..], |(bare, _)| bare);
    let bare = match bare.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => bare,
    };
    let (namespace, last) = bare.rsplit_once('/').unwrap_or(("", bare));
    let digest = name.digest().map(|it| it.to_string());
    Purl {
        kind: "docker",
        namespace: namespace.to_owned(),
        name: last.to_owned(),
        version: name.tag().unwrap_or_default().to_owned(),
        qualifiers: BTreeMap::from([
            ("digest", digest.unwrap_or_default()),
            ("platform", platform.to_string()),
        ]),
    }
    .to_string()
}

/// Names an image that is no registry's as `pkg:oci/NAME@DIGEST?platform=…`.
pub(super) fn of_layout(name: &str, digest: &str, platform: &Platform) -> String {
    Purl {
        kind: "oci",
        name: name.to_lowercase(),
        version: digest.to_owned(),
        qualifiers: BTreeMap::from([("platform", platform.to_string())]),
        ..Purl::default()
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let hex = "a".repeat(64);
        for (name, expected) in [
            (
                "alpine",
                "pkg:docker/alpine@latest?platform=linux%2Famd64".to_owned(),
            ),
            (
                "r.example:5000/a/b:1",
                "pkg:docker/r.example:5000/a/b@1?platform=linux%2Famd64".to_owned(),
            ),
            (
                &format!("ghcr.io/a/b@sha256:{hex}"),
                format!("pkg:docker/ghcr.io/a/b?digest=sha256:{hex}&platform=linux%2Famd64"),
            ),
        ] {
            let reference = name.parse().expect(name);
            let platform = Platform::new("linux", "amd64", None);
            assert_eq!(of_image(&reference, &platform), expected, "{name}");
        }
    }

    #[test]
    fn odd_characters_are_encoded() {
        let purl = Purl {
            kind: "npm",
            namespace: "@scope".to_owned(),
            name: "a b".to_owned(),
            version: "1+2".to_owned(),
            qualifiers: BTreeMap::from([("arch", String::new()), ("distro", "x/y".to_owned())]),
        };
        let expected = "pkg:npm/%40scope/a%20b@1%2B2?distro=x%2Fy";
        assert_eq!(purl.to_string(), expected);
    }
}
