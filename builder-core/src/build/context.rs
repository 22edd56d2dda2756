//! Where files and images come from, as a user names them.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::digest::Digest;
use crate::image::Reference;
use crate::source::{GitUrl, GitUrlError};

/// The main build context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Context {
    Dir(PathBuf),
    /// A tar, compressed or not.
    Archive(PathBuf),
    /// A tar, or else a Dockerfile without a context.
    Stream(Stream),
    /// An address of a tar, or else of a Dockerfile without a context.
    Url(String),
    Git(GitUrl),
    /// Nothing to copy from.
    Empty,
}

/// Bytes that can be read once.
#[derive(Clone)]
pub struct Stream(pub(super) Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Context {
    /// A directory of this machine.
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Context::Dir(path.into())
    }

    /// What comes from `reader`: a tar or, as Docker decides it by the first bytes, a Dockerfile alone.
    pub fn stream(reader: impl Read + Send + 'static) -> Self {
        Context::Stream(Stream(Arc::new(Mutex::new(Some(Box::new(reader))))))
    }

    /// What a user names on the command line: a repository, an address, else a path.
    ///
    /// # Errors
    /// The address of a repository that cannot be read.
    pub fn named(text: &str) -> Result<Self, GitUrlError> {
        let is_address = text.starts_with("http://") || text.starts_with("https://");
        match GitUrl::parse(text) {
            Some(url) => url.map(Context::Git),
            None if is_address => Ok(Context::Url(text.to_owned())),
            None => Ok(Context::Dir(PathBuf::from(text))),
        }
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
    /// A tar, compressed or not.
    Archive(PathBuf),
    /// An address of a tar, or of one file.
    Url(String),
    Git(GitUrl),
    /// `target:STAGE`: another stage of the same Dockerfile.
    Stage(String),
}

/// Why a text is not the source of a named context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedSourceError {
    #[error("`{text}` is not an image: {error}")]
    Reference { text: String, error: String },
    #[error("`{text}` has a bad digest: {error}")]
    Digest { text: String, error: String },
    #[error(transparent)]
    Git(#[from] GitUrlError),
    #[error(
        "`{kind}` is no kind of build context: a directory, a tar, a git repository, https://, docker-image://, oci-layout:// or target: is expected"
    )]
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
        if let Some(stage) = text.strip_prefix("target:").filter(|it| !it.is_empty()) {
            return Ok(NamedSource::Stage(stage.to_owned()));
        }
        if let Some(url) = GitUrl::parse(text) {
            return Ok(NamedSource::Git(url?));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(NamedSource::Url(text.to_owned()));
        }
        if let Some((kind, _)) = text.split_once("://") {
            return Err(NamedSourceError::Unsupported {
                kind: format!("{kind}://"),
            });
        }
        if text.starts_with("target:") || text.starts_with("input:") {
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
                "https://example.com/a.tar",
                Ok(NamedSource::Url("https://example.com/a.tar".to_owned())),
            ),
            ("target:base", Ok(NamedSource::Stage("base".to_owned()))),
            (
                "s3://bucket",
                Err(NamedSourceError::Unsupported {
                    kind: "s3://".to_owned(),
                }),
            ),
        ] {
            assert_eq!(text.parse::<NamedSource>(), expected, "{text}");
        }
    }
}
