//! Images and trees that a plan starts from.

use crate::digest::{DiffId, Digest};
use crate::image::{Descriptor, ImageConfig, Platform, Reference};

/// Something outside the Dockerfile whose config a plan must know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Base {
    /// An image of a registry (or of the store).
    Image {
        reference: String,
        /// The same without a registry, where it was written so: which one is meant is for configuration to say.
        #[serde(skip)]
        short: Option<String>,
        platform: Platform,
    },
    /// A named context that is an image.
    Named { name: String, platform: Platform },
}

impl Base {
    /// Names the image that `reference` names.
    pub fn image(reference: &Reference, platform: &Platform) -> Base {
        Base::Image {
            reference: reference.to_string(),
            short: reference.short(),
            platform: platform.clone(),
        }
    }

    /// Returns the words for people.
    pub fn describe(&self) -> &str {
        match self {
            Base::Image { reference, .. } => reference,
            Base::Named { name, .. } => name,
        }
    }

    /// Returns the platform asked for.
    pub fn platform(&self) -> &Platform {
        match self {
            Base::Image { platform, .. } | Base::Named { platform, .. } => platform,
        }
    }
}

/// What is known of a base once it has been asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseInfo {
    /// Digest of the manifest, or of the index where a tag names one.
    pub digest: Digest,
    pub config: ImageConfig,
    /// Base first, one for each of `config.diff_ids`.
    pub layers: Vec<Descriptor>,
    /// The name with its digest: `docker.io/library/debian:bookworm@sha256:…`.
    pub pinned: String,
}

impl BaseInfo {
    /// Returns the layers' diff ids, base first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.config.diff_ids
    }
}
