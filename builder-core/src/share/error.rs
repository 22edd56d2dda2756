//! Why a cache could not be read or written.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::{DiffId, Digest};
use crate::export::ExportError;
use crate::image::DocumentError;
use crate::layer::LayerError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a cache could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what}: {source}")]
    Document { what: String, source: DocumentError },
    #[error("its config is not one of a cache: {0}")]
    Config(serde_json::Error),
    #[error("{what} is neither a cache nor an image")]
    NotACache { what: String },
    #[error("{what} is larger than the {max} bytes allowed for it")]
    TooLarge { what: String, max: u64 },
    #[error("no answer in {0:?}")]
    Late(Duration),
    #[error("its layer {blob} holds {actual}, not {expected} as it says")]
    WrongDiffId {
        blob: Digest,
        expected: Digest,
        actual: Digest,
    },
    #[error("its layer {blob} cannot be read: {source}")]
    Stream { blob: Digest, source: io::Error },
    #[error("{} has no cache with the tag `{tag}`", path.display())]
    NoSuchTag { path: PathBuf, tag: String },
    #[error("{} has digest {actual}, not {expected}", path.display())]
    Damaged {
        path: PathBuf,
        expected: Digest,
        actual: Digest,
    },
    #[error("{} holds something else than a cache, and is left as it is", path.display())]
    NotALayout { path: PathBuf },
    #[error("{0}")]
    Worker(String),
}

impl ShareError {
    pub(super) fn file<'a>(
        action: &'static str,
        path: &'a std::path::Path,
    ) -> impl Fn(io::Error) -> ShareError + 'a {
        move |source| ShareError::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn wrong(blob: Digest, expected: DiffId, actual: Digest) -> Self {
        ShareError::WrongDiffId {
            blob,
            expected: expected.0,
            actual,
        }
    }
}
