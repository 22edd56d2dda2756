//! Why a result could not leave.

use std::io;
use std::path::PathBuf;

use crate::context::ContextError;
use crate::digest::Digest;
use crate::image::DocumentError;
use crate::layer::LayerError;
use crate::store::StoreError;

/// Why a result could not leave.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the archive: {0}")]
    Stream(io::Error),
    #[error("blob {digest} has {actual} bytes in the store, not {expected}")]
    Size {
        digest: Digest,
        expected: u64,
        actual: u64,
    },
    #[error("{} is neither empty nor an OCI layout: choose another directory", path.display())]
    NotALayout { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Index {
        path: PathBuf,
        source: DocumentError,
    },
    #[error(
        "a docker archive cannot hold a layer of type `{media_type}` (use gzip, or no compression)"
    )]
    LayerType { media_type: String },
    #[error("layer {digest} was damaged in the store and has been removed: build again")]
    Damaged { digest: Digest },
    /// A layer that was given up while it was compressed.
    #[error("the layer was not kept")]
    Unnamed,
    #[error("cannot use the engine: {0}")]
    Connect(io::Error),
    #[error("config {digest}: {source}")]
    Config {
        digest: Digest,
        source: DocumentError,
    },
    #[error("the engine answers {status}: {message}")]
    Engine { status: String, message: String },
    #[error("reading the image's files: {0}")]
    Read(ContextError),
    #[error(transparent)]
    Layer(LayerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
