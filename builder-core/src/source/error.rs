//! Why files from elsewhere cannot be had. No text here holds a credential.

use std::io;
use std::path::PathBuf;

use super::GitUrlError;
use crate::digest::Digest;
use crate::layer::LayerError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why files from elsewhere cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("`{url}` is not an address: {reason}")]
    Address { url: String, reason: String },
    #[error(transparent)]
    GitUrl(#[from] GitUrlError),
    #[error("{url}: {source}")]
    Http {
        url: String,
        source: Box<RegistryError>,
    },
    #[error("{url} answers {status}")]
    Status { url: String, status: String },
    #[error("{url}: the download broke off: {cause}")]
    Broken { url: String, cause: String },
    #[error("{url} is larger than the {max_bytes} bytes allowed for it")]
    TooLarge { url: String, max_bytes: u64 },
    #[error("{url} has digest {actual}, and {expected} is asked for")]
    Checksum {
        url: String,
        expected: Digest,
        actual: Digest,
    },
    #[error("`{checksum}` is not a checksum: {reason}")]
    BadChecksum { checksum: String, reason: String },
    #[error("{url} is at commit {actual}, and {expected} is asked for")]
    Commit {
        url: String,
        expected: String,
        actual: String,
    },
    #[error("{url} has no branch, tag or commit `{reference}`")]
    NoReference { url: String, reference: String },
    #[error("{url} has no directory `{subdir}`")]
    NoSubdir { url: String, subdir: String },
    #[error("{url} needs the program `git`, which is not there")]
    NoGit { url: String },
    #[error("git {action} of {url}: {message}")]
    Git {
        url: String,
        action: &'static str,
        message: String,
    },
    #[error("{url} said nothing for {seconds} seconds")]
    Silent { url: String, seconds: u64 },
    #[error("{name}: {source}")]
    Archive {
        name: String,
        source: Box<LayerError>,
    },
    #[error("{} is not a tar archive", path.display())]
    NotAnArchive { path: PathBuf },
    #[error("`{path}` leads out of the build context")]
    LeadsOut { path: String },
    #[error("cannot {action}: {source}")]
    Io { action: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a worker thread ended early: {0}")]
    Worker(String),
}

impl SourceError {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        SourceError::Io {
            action: action.into(),
            source: source.into(),
        }
    }

    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            SourceError::NoGit { .. } => Some("install the package `git`".to_owned()),
            SourceError::GitUrl(error) => error.hint(),
            SourceError::NoReference { reference, .. }
                if reference.len() < 40
                    && reference.len() >= 7
                    && reference.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Some("a commit is given by its whole name, 40 digits".to_owned())
            }
            SourceError::Git { message, .. }
                if message.contains("could not read Username")
                    || message.contains("Authentication failed")
                    || message.contains("terminal prompts disabled") =>
            {
                Some(
                    "a private repository needs --secret id=GIT_AUTH_TOKEN,env=NAME (or src=FILE)"
                        .to_owned(),
                )
            }
            SourceError::BadChecksum { .. } => {
                Some("write sha256:<64 digits>, or for git the commit".to_owned())
            }
            _ => None,
        }
    }
}
