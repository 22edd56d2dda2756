//! Where results go.

use std::path::PathBuf;

use crate::layer::compression::Compression;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// An OCI image layout as one tar file.
    OciArchive {
        dest: PathBuf,
        compression: Compression,
    },
    /// An OCI image layout as a directory.
    OciDirectory {
        dest: PathBuf,
        compression: Compression,
    },
    /// An archive for `docker load`.
    DockerArchive {
        dest: PathBuf,
        compression: Compression,
    },
    /// The files of the image, in a directory; owned by whoever runs the build.
    Local { dest: PathBuf },
    /// The files of the image as a tar, owners as they are.
    Tar { dest: PathBuf },
}

impl Output {
    /// Returns how the layers of an image output are compressed; `None` for a tree of files.
    pub(super) fn compression(&self) -> Option<Compression> {
        match self {
            Output::OciArchive { compression, .. }
            | Output::OciDirectory { compression, .. }
            | Output::DockerArchive { compression, .. } => Some(*compression),
            Output::Local { .. } | Output::Tar { .. } => None,
        }
    }
}
