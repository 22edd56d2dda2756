//! What a user asks for: caches to read, and caches to write.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::image::Reference;
use crate::layer::compression::Compression;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A name at a registry: a cache, or an image that carries one.
    Registry(Reference),
    /// A directory, as an OCI layout.
    Local {
        path: PathBuf,
        tag: String,
        /// In place of the tag, for reading.
        digest: Option<Digest>,
    },
    /// In the image itself, wherever that goes; for writing.
    Inline,
}

impl Place {
    /// The tag in a directory, where none is given; as in BuildKit.
    pub const TAG: &'static str = "latest";
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Registry(reference) => f.write_str(&reference.familiar()),
            Place::Local { path, tag, digest } => match digest {
                Some(digest) => write!(f, "{}@{digest}", path.display()),
                None if tag == Self::TAG => write!(f, "{}", path.display()),
                None => write!(f, "{}:{tag}", path.display()),
            },
            Place::Inline => f.write_str("the image"),
        }
    }
}

/// A cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    pub place: Place,
    /// How long its documents may take; then the build goes on without it.
    pub timeout: Duration,
}

impl CacheFrom {
    /// Where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    pub fn new(place: Place) -> Self {
        CacheFrom {
            place,
            timeout: Self::TIMEOUT,
        }
    }
}

/// Which steps a cache is written of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those whose layers the image has.
    #[default]
    Min,
    /// All steps of all stages that were needed.
    Max,
}

/// A cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    pub place: Place,
    pub mode: Mode,
    pub compression: Compression,
    /// Layers that came from elsewhere are compressed anew where they are not so.
    pub force_compression: bool,
    /// A manifest, which every registry takes, in place of an index of blobs, as older BuildKits have it.
    pub image_manifest: bool,
    /// OCI's media types rather than Docker's; a manifest always has OCI's.
    pub oci_types: bool,
    /// With the files of cache mounts.
    pub mounts: bool,
    /// That it cannot be written is told, and is no reason for the build to fail.
    pub ignore_error: bool,
}

impl CacheTo {
    pub fn new(place: Place) -> Self {
        CacheTo {
            place,
            mode: Mode::Min,
            compression: Compression::default(),
            force_compression: false,
            image_manifest: true,
            oci_types: true,
            mounts: false,
            ignore_error: true,
        }
    }
}
