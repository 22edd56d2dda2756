//! Why something could not be done with an image.

use std::io;
use std::path::PathBuf;

use crate::digest::{DiffId, Digest};
use crate::export::ExportError;
use crate::image::{DocumentError, ReferenceError};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why something could not be done with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    #[error("there is no image `{name}` in the store")]
    NoSuchImage { name: String },
    #[error("`{name}` may be several images: {}", ids.iter().map(Digest::to_string).collect::<Vec<_>>().join(", "))]
    AmbiguousId { name: String, ids: Vec<Digest> },
    #[error("image {id} has several names ({}): remove them one by one, or all of them with --force", names.join(", "))]
    SeveralNames { id: String, names: Vec<String> },
    #[error("the store lacks {digest}, which is a part of `{name}`: pull or build it again")]
    Incomplete { name: String, digest: Digest },
    #[error("layer {blob} is {} when it is unpacked, not {}, as the config has it", .actual.0, .expected.0)]
    WrongDiffId {
        blob: Digest,
        expected: DiffId,
        actual: DiffId,
    },
    #[error("layer {blob} cannot be decompressed: {source}")]
    Decompress { blob: Digest, source: io::Error },
    #[error("a name with a digest (`{name}`) cannot be given to an image: give a tag")]
    DigestAsTag { name: String },
    #[error("{path}: there is no image in it", path = path.display())]
    Empty { path: PathBuf },
    #[error("{what}: {source}")]
    Document { what: String, source: DocumentError },
    #[error("cannot keep the archive from standard input: {0}")]
    Spool(io::Error),
    #[error("a worker thread ended early: {0}")]
    Worker(String),
    /// A pull that ended early. What has come is kept for the next one.
    #[error("{source}")]
    Unfinished {
        /// How many parts are here, whole.
        here: usize,
        parts: usize,
        source: Box<ImagesError>,
    },
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImagesError {
    /// Whether what was found is no image: an artifact, say.
    pub fn is_no_image(&self) -> bool {
        let mut error = match self {
            ImagesError::Unfinished { source, .. } => return source.is_no_image(),
            ImagesError::Registry(error) => error,
            _ => return false,
        };
        while let RegistryError::AfterMirrors { source, .. } = error {
            error = source;
        }
        matches!(error, RegistryError::NotAnImage { .. })
    }

    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImagesError::Registry(error) => error.hint(),
            ImagesError::Unfinished {
                here,
                parts,
                source,
            } => {
                let kept = format!(
                    "what has come is kept ({here} of {parts} blobs are whole): another pull goes on from there, `builder prune` removes it"
                );
                Some(match source.hint() {
                    Some(hint) => format!("{hint}; {kept}"),
                    None => kept,
                })
            }
            _ => None,
        }
    }
}
