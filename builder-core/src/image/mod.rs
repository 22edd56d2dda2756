//! What the OCI documents say: references, platforms, descriptors, manifests, indexes, configs.
//!
//! Pure: text and bytes in, values out, and back. Nothing here knows where a document comes from.
//!
//! - [`Reference`] reads a name as Docker does (`python` is `docker.io/library/python:latest`).
//! - [`Platform`] reads `linux/arm64/v8`, and chooses from an [`Index`] as containerd's `Only` matcher does.
//! - [`Manifest`], [`Index`] and [`ImageConfig`] are our own serde types rather than `oci-spec`'s: a config
//!   must carry what that crate lacks (`Healthcheck`, `OnBuild`, `Shell`, fields of the future), and a
//!   digest here is a [`Digest`](crate::digest::Digest), checked as it is read. Tests hold that `oci-spec`
//!   reads all that we write.
//! - The same value always gives the same bytes, in the field order of BuildKit's own output.
//!
//! Not here: the bytes of foreign documents are kept by whoever read them, since a digest is over bytes;
//! Docker's schema 1 manifests, which registries have stopped serving, are refused by name.

mod config;
mod descriptor;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
pub mod time;

pub use config::{Config, Empty, Healthcheck, History, ImageConfig};
pub use descriptor::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor};
pub use manifest::{Index, Manifest};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

/// Why bytes are not the document that they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    #[error("not a valid {what}: {source}")]
    Json {
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("{what} has schema version {version}, only 2 is supported (push the image again)")]
    SchemaVersion { what: &'static str, version: u64 },
    #[error(
        "the document has both `manifests` and `layers` or `config`: it is either an index or a manifest"
    )]
    Ambiguous,
    #[error("{what} names {found} as its media type")]
    MediaType { what: &'static str, found: String },
}
