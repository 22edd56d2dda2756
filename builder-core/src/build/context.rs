//! Where files and images come from, as a user names them.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::image::Reference;

/// The main build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    Dir(PathBuf),
}

impl Context {
    /// A directory of this machine.
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Context::Dir(path.into())
    }
}

/// What `--build-context NAME=` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamedSource {
    Dir(PathBuf),
    /// `docker-image://REFERENCE`
    Image(Reference),
    /// `oci-layout://PATH[:TAG][@DIGEST]`, a directory or an archive.
    Layout {
        path: PathBuf,
        /// A tag, a full name or a digest.
        wanted: Option<String>,
    },
}

/// Why a text is not the source of a named context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedSourceError {
    #[error("`{text}` is not an image: {error}")]
    Reference { text: String, error: String },
    #[error("`{text}` has a bad digest: {error}")]
    Digest { text: String, error: String },
    #[error("a build context of the kind `{kind}` is not supported yet")]
    Unsupported { kind: String },
}

impl std::str::FromStr for NamedSource {
    type Err = NamedSourceError;

    fn from_str(text: &str) -> Result<Self, NamedSourceError> {
        if let Some(name) = text.strip_prefix("docker-image://") {
            return name.parse().map(NamedSource::Image).map_err(
                |error: crate::image::ReferenceError| NamedSourceError::Reference {
                    text: name.to_owned(),
                    error: error.to_string(),
                },
            );
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            return layout(rest);
        }
        if let Some((kind, _)) = text.split_once("://") {
            return Err(NamedSourceError::Unsupported {
                kind: format!("{kind}://"),
            });
        }
        if text.starts_with("target:") || text.starts_with("git@") || text.starts_with("input:") {
            let kind = text.split([':', '@']).next().unwrap_or(text).to_owned();
            return Err(NamedSourceError::Unsupported { kind });
        }
        Ok(NamedSource::Dir(PathBuf::from(text)))
    }
}

fn layout(rest: &str) -> Result<NamedSource, NamedSourceError> {
    if let Some((path, digest)) = rest.rsplit_once('@') {
        digest
            .parse::<Digest>()
            .map_err(|error| NamedSourceError::Digest {
                text: rest.to_owned(),
                error: error.to_string(),
            })?;
        // A tag beside a digest says nothing more.
        let path = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => path,
            _ => path,
        };
        return Ok(NamedSource::Layout {
            path: PathBuf::from(path),
            wanted: Some(digest.to_owned()),
        });
    }
    let (path, wanted) = match rest.rsplit_once(':') {
        Some((path, tag)) if !path.is_empty() && !tag.is_empty() && !tag.contains('/') => {
            (path, Some(tag.to_owned()))
        }
        _ => (rest, None),
    };
    Ok(NamedSource::Layout {
        path: PathBuf::from(path),
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_sources() {
        let digest = Digest::of(b"x").to_string();
        let layout = |path: &str, wanted: Option<&str>| {
            Ok(NamedSource::Layout {
                path: PathBuf::from(path),
                wanted: wanted.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("oci-layout://a/b", layout("a/b", None)),
            ("oci-layout:///a/b:1", layout("/a/b", Some("1"))),
            ("oci-layout:///a:b/c", layout("/a:b/c", None)),
            (
                &format!("oci-layout://a@{digest}"),
                layout("a", Some(&digest)),
            ),
            (
                &format!("oci-layout://a:t@{digest}"),
                layout("a", Some(&digest)),
            ),
            ("../x", Ok(NamedSource::Dir(PathBuf::from("../x")))),
            (
                "https://example.com/a.git",
                Err(NamedSourceError::Unsupported {
                    kind: "https://".to_owned(),
                }),
            ),
        ] {
            assert_eq!(text.parse::<NamedSource>(), expected, "{text}");
        }
    }
}
