//! Where results go.

use std::path::PathBuf;

use super::BuildError;

use crate::image::Reference;
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
    /// A registry; without names of its own, under those of the build.
    Registry {
        names: Vec<Reference>,
        compression: Compression,
    },
}

impl Output {
    /// Refuses, before anything is built, a destination that cannot be written.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        let (dest, is_directory) = match self {
            Output::OciArchive { dest, .. }
            | Output::DockerArchive { dest, .. }
            | Output::Tar { dest } => (dest, false),
            Output::OciDirectory { dest, .. } | Output::Local { dest } => (dest, true),
            Output::Registry { .. } => return Ok(()),
        };
        let wrong = |reason| {
            let dest = dest.clone();
            Err(BuildError::Destination { dest, reason })
        };
        match (std::fs::metadata(dest), is_directory) {
            (Ok(there), true) if !there.is_dir() => {
                wrong("a file is there, and a directory would be written")
            }
            (Ok(there), false) if there.is_dir() => {
                wrong("a directory is there, and a file would be written")
            }
            (Err(_), false) => match dest.parent() {
                Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
                    wrong("its directory does not exist")
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Returns how the layers of an image output are compressed; `None` for a tree of files.
    pub(super) fn compression(&self) -> Option<Compression> {
        match self {
            Output::OciArchive { compression, .. }
            | Output::OciDirectory { compression, .. }
            | Output::DockerArchive { compression, .. }
            | Output::Registry { compression, .. } => Some(*compression),
            Output::Local { .. } | Output::Tar { .. } => None,
        }
    }
}
