//! What is held of documents before they are believed: kind, digest, size, platform.

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::{Endpoint, RegistryError};
use crate::digest::Digest;
use crate::image::{Descriptor, DocumentError, Index, Manifest, Platform, media_type};

/// Whether a document is an index, by its media type, or by its fields where it names none.
pub(super) fn is_index(bytes: &[u8]) -> Result<bool, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
        what: "manifest",
        source,
    })?;
    Ok(match shape.media_type {
        Some(it) => media_type::is_index(&it),
        None => shape.manifests.is_some(),
    })
}

/// Returns the media type of a manifest or an index: its own, or OCI's where it names none.
pub(super) fn kind_of(bytes: &[u8]) -> Result<String, DocumentError> {
    Ok(match is_index(bytes)? {
        true => Index::parse(bytes)?.media_type().to_owned(),
        false => Manifest::parse(bytes)?.media_type().to_owned(),
    })
}

/// Chooses from an index, or says what there is.
pub(super) fn choose<'a>(
    index: &'a Index,
    platform: &Platform,
    what: &str,
) -> Result<&'a Descriptor, RegistryError> {
    index
        .choose(platform)
        .ok_or_else(|| RegistryError::NoMatchingPlatform {
            what: what.to_owned(),
            platform: Box::new(platform.clone()),
            available: index.platforms(),
        })
}

/// Refuses what is an artifact of another kind.
pub(super) fn check_manifest(manifest: &Manifest, what: &str) -> Result<(), RegistryError> {
    if media_type::is_config(&manifest.config.media_type) {
        return Ok(());
    }
    Err(RegistryError::NotAnImage {
        what: what.to_owned(),
        media_type: manifest.config.media_type.clone(),
    })
}

pub(super) fn verify(
    what: &str,
    endpoint: &Endpoint,
    bytes: &[u8],
    expected: Option<Digest>,
) -> Result<(), RegistryError> {
    let actual = Digest::of(bytes);
    match expected {
        Some(expected) if expected != actual => Err(RegistryError::WrongDigest {
            what: what.to_owned(),
            host: endpoint.host.clone(),
            expected,
            actual,
        }),
        _ => Ok(()),
    }
}

/// Refuses what has another size than the document that names it says.
pub(super) fn check_size(
    what: &str,
    endpoint: &Endpoint,
    actual: u64,
    expected: u64,
) -> Result<(), RegistryError> {
    if actual == expected {
        return Ok(());
    }
    Err(RegistryError::WrongSize {
        what: what.to_owned(),
        host: endpoint.host.clone(),
        expected,
        actual,
    })
}

/// Says which kinds of manifests are read here.
pub(super) fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for accept in [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
    ] {
        headers.append(ACCEPT, HeaderValue::from_static(accept));
    }
    headers
}

/// Returns the digest that the registry says a document has.
pub(super) fn said_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
