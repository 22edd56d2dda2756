//! Image references, read as Docker reads them.
//!
//! `[domain/]path[:tag][@digest]`, grammar of `distribution/reference`. The first component is a domain
//! where it has a dot, a colon or an upper-case letter, or is `localhost`; otherwise the domain is
//! `docker.io`, where a path of one component is under `library/`. Neither tag nor digest: `latest`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    #[error("an image reference is empty")]
    Empty,
    #[error("`{text}` is not an image reference: the repository name must be lower-case")]
    UpperCase { text: String },
    #[error(
        "`{text}` is not an image reference: the repository name is longer than 255 characters"
    )]
    TooLong { text: String },
    #[error(
        "`{text}` is not an image reference: 64 hexadecimal digits are an image id, not a name"
    )]
    Id { text: String },
    #[error("`{text}` is not an image reference: `{part}` is not a {what}")]
    Part {
        text: String,
        what: &'static str,
        part: String,
    },
    #[error("`{text}` is not an image reference: {source}")]
    Digest { text: String, source: DigestError },
}

/// A full image reference; always has a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
    short: Short,
}

/// The repository as it was written, where that was without a registry. Never makes two references differ.
#[derive(Debug, Clone, Default)]
struct Short(Option<String>);

impl PartialEq for Short {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Short {}

impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Short {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Short {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Reference {
    /// Returns the registry's host, with its port: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository within the registry: `library/python`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns `docker.io/library/python`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the repository as it was written, without tag and digest, where it was written without a registry.
    pub fn short_name(&self) -> Option<&str> {
        self.short.0.as_deref()
    }

    /// Returns the reference without its registry, where it was written so.
    pub fn short(&self) -> Option<String> {
        let name = self.short_name()?;
        let full = self.to_string();
        let rest = full.strip_prefix(&self.repository())?;
        Some(format!("{name}{rest}"))
    }

    /// Returns the image with this tag and digest in another repository.
    ///
    /// # Errors
    /// Where `repository` is not the name of one.
    pub fn moved_to(&self, repository: &str) -> Result<Self, ReferenceError> {
        let there: Reference = repository.parse()?;
        Ok(Reference {
            tag: self.tag.clone(),
            digest: self.digest,
            short: Short::default(),
            ..there
        })
    }

    /// Returns the same repository's `tag`, without a digest.
    ///
    /// # Errors
    /// Where `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Part {
                text: format!("{}:{tag}", self.repository()),
                what: "tag",
                part: tag.to_owned(),
            });
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns this reference pinned to `digest`; the tag stays.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns what `digest` names in this repository, without a tag.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Reference {
            tag: None,
            ..self.with_digest(digest)
        }
    }

    /// Returns the shortest text that reads as this reference, as Docker shows it: `python:3.11-slim`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else {
            return full;
        };
        match short.strip_prefix("library/") {
            Some(official) if !self.path["library/".len()..].contains('/') => official.to_owned(),
            _ => short.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Id {
                text: text.to_owned(),
            });
        }
        let part = |what: &'static str, part: &str| ReferenceError::Part {
            text: text.to_owned(),
            what,
            part: part.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => match digest.parse() {
                Ok(digest) => (rest, Some(digest)),
                Err(source) => {
                    return Err(ReferenceError::Digest {
                        text: text.to_owned(),
                        source,
                    });
                }
            },
        };
        let (domain, rest, is_short) = match rest.split_once('/') {
            Some((first, rest)) if is_domain_like(first) => (first, rest, false),
            _ => (DEFAULT_DOMAIN, rest, true),
        };
        let domain = if domain == LEGACY_DOMAIN {
            DEFAULT_DOMAIN
        } else {
            domain
        };
        if !is_domain(domain) {
            return Err(part("registry host", domain));
        }
        let (path, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase {
                text: text.to_owned(),
            });
        }
        if let Some(wrong) = path.split('/').find(|it| !is_component(it)) {
            return Err(part("name component", wrong));
        }
        if let Some(wrong) = tag.filter(|it| !is_tag(it)) {
            return Err(part("tag", wrong));
        }
        let short = Short(is_short.then(|| path.to_owned()));
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.len() > MAX_PATH {
            return Err(ReferenceError::TooLong {
                text: text.to_owned(),
            });
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference {
            domain: domain.to_owned(),
            path,
            tag,
            digest,
            short,
        })
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn is_domain_like(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let port = |text: &str| {
        text.is_empty()
            || text.strip_prefix(':').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            })
    };
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, rest)| {
            !address.is_empty()
                && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
                && port(rest)
        });
    }
    let at = domain.find(':').unwrap_or(domain.len());
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    domain[..at].split('.').all(label) && port(&domain[at..])
}

/// Lower-case letters and digits, with one of `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| plain(*b));
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .split(|b| plain(*b))
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_as_docker_does() {
        let pinned = format!("python@{SHA}");
        let both = format!("a.b/c:1@{SHA}");
        for (text, full, familiar) in [
            ("python", "docker.io/library/python:latest", "python:latest"),
            (
                "python:3.11-slim",
                "docker.io/library/python:3.11-slim",
                "python:3.11-slim",
            ),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            (
                "docker.io/python",
                "docker.io/library/python:latest",
                "python:latest",
            ),
            (
                "index.docker.io/library/python",
                "docker.io/library/python:latest",
                "python:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x:1",
                "localhost:5000/x:1",
                "localhost:5000/x:1",
            ),
            (
                "library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
            ("ghcr.io/o/r", "ghcr.io/o/r:latest", "ghcr.io/o/r:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            (
                "a__b.c---d",
                "docker.io/library/a__b.c---d:latest",
                "a__b.c---d:latest",
            ),
            ("MyHost/a", "MyHost/a:latest", "MyHost/a:latest"),
            (
                pinned.as_str(),
                &format!("docker.io/library/python@{SHA}"),
                pinned.as_str(),
            ),
            (both.as_str(), both.as_str(), both.as_str()),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(full.parse::<Reference>().as_ref(), Ok(&reference), "{full}");
            assert_eq!(familiar.parse::<Reference>(), Ok(reference), "{familiar}");
        }
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let long = format!("a.b/{}", "a".repeat(256));
        let tag = format!("a:{}", "t".repeat(129));
        for (text, says) in [
            ("", "empty"),
            ("Python", "lower-case"),
            ("a/B:1", "lower-case"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            (tag.as_str(), "tag"),
            ("a@sha256:12", "64"),
            ("a@sha512:12", "sha512"),
            ("a//b", "name component"),
            ("/a", "name component"),
            ("a/", "name component"),
            ("a..b", "name component"),
            ("a___b", "name component"),
            ("-a", "name component"),
            ("a-", "name component"),
            ("a b", "name component"),
            ("host:port/a", "registry host"),
            ("-h.x/a", "registry host"),
            (long.as_str(), "255"),
            (&SHA[7..], "image id"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_reads_back(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
                proptest::prop_assert_eq!(reference.familiar().parse(), Ok(reference));
            }
        }
    }
}
