//! Pulling: a name to a manifest and a config; blobs come as they are asked for, see `fetch`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Method;

use super::call::Request;
use super::client::Inner;
use super::documents::{
    accept_manifests, check_manifest, check_size, choose, is_index, said_digest, verify,
};
use super::fetch::blob_request;
use super::{Client, Endpoint, RegistryError};
use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, Platform, Reference};
use crate::store::Blobs;

pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
pub(super) const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// An index may lead to an index, but not for ever.
pub(super) const MAX_INDEX_DEPTH: usize = 3;

/// An image's documents, verified and stored; its layers may still be elsewhere.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As asked for, or what a short name came to; `None` for an image of a layout or an archive.
    pub reference: Option<Reference>,
    /// What the name stands for: an index or a manifest.
    pub digest: Digest,
    pub manifest_descriptor: Descriptor,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub config: ImageConfig,
    pub config_bytes: Vec<u8>,
    /// Base first.
    pub layers: Vec<Descriptor>,
    pub source: Source,
}

/// Where the rest of an image can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Registry {
        reference: Reference,
        /// Who answered; asked first for the blobs.
        endpoint: Endpoint,
    },
    /// The store. What it lacks can be had at these repositories, asked in order.
    Held {
        origins: BTreeMap<Digest, Vec<Reference>>,
    },
    /// A layout or an archive, whose blobs are all in the store already.
    Local { path: PathBuf },
}

impl Client {
    /// Finds the image that `reference` stands for on `platform`; its documents are then in `blobs`.
    ///
    /// Mirrors are asked in order, then the source; documents that are stored already are not fetched. A
    /// reference with a digest is asked for by that, whatever its tag says. A short name may come to be another's.
    ///
    /// # Errors
    /// What the source says, if no mirror has a better answer.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let ask = |name| async move { self.resolve_name(&name, platform, blobs).await };
        self.first(reference, ask).await
    }

    async fn resolve_name(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let endpoints = self.inner.options.registries.endpoints(reference)?;
        let mut mirrors = Vec::new();
        let mut outcome: Option<RegistryError> = None;
        for endpoint in endpoints {
            match self
                .inner
                .resolve(&endpoint, reference, platform, blobs)
                .await
            {
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => mirrors.extend(outcome.replace(error).map(|it| it.to_string())),
                found => return found,
            }
        }
        // There is always the source, and so an outcome.
        let source = outcome.unwrap_or_else(|| RegistryError::NotFound {
            what: reference.to_string(),
            host: reference.domain().to_owned(),
        });
        if mirrors.is_empty() {
            return Err(source);
        }
        let source = Box::new(source);
        Err(RegistryError::AfterMirrors { mirrors, source })
    }
}

impl Inner {
    async fn resolve(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let what = reference.familiar();
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Asked::Digest(digest),
            (None, tag) => Asked::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let mut bytes = self.manifest(endpoint, &asked, &what, blobs).await?;
        let digest = Digest::of(&bytes);
        let document = |source| RegistryError::Document {
            what: what.clone(),
            source,
        };
        for _ in 0..MAX_INDEX_DEPTH {
            if !is_index(&bytes).map_err(document)? {
                break;
            }
            let index = Index::parse(&bytes).map_err(document)?;
            let entry = choose(&index, platform, &what)?;
            bytes = self
                .manifest(endpoint, &Asked::Digest(entry.digest), &what, blobs)
                .await?;
            check_size(&what, endpoint, bytes.len() as u64, entry.size)?;
        }
        let manifest = Manifest::parse(&bytes).map_err(document)?;
        check_manifest(&manifest, &what)?;
        let config_bytes = self
            .config(endpoint, &manifest.config, &what, blobs)
            .await?;
        let source = Source::Registry {
            reference: reference.clone(),
            endpoint: endpoint.clone(),
        };
        Resolved::assemble(&what, digest, bytes, config_bytes, source)
    }

    pub(super) async fn manifest(
        &self,
        endpoint: &Endpoint,
        asked: &Asked,
        what: &str,
        blobs: &Blobs,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Asked::Digest(digest) = asked
            && let Ok(bytes) = blobs.read(digest, MAX_MANIFEST_BYTES)
        {
            return Ok(bytes);
        }
        let name = match asked {
            Asked::Digest(digest) => digest.to_string(),
            Asked::Tag(tag) => tag.clone(),
        };
        let mut request = Request::new(Method::GET, format!("manifests/{name}"), what);
        request.headers = accept_manifests();
        let (bytes, headers) = self
            .document(endpoint, &request, MAX_MANIFEST_BYTES)
            .await?;
        let said = said_digest(&headers);
        let expected = match asked {
            Asked::Digest(digest) => Some(*digest),
            Asked::Tag(_) => said,
        };
        verify(what, endpoint, &bytes, expected)?;
        blobs.put(&bytes)?;
        Ok(bytes)
    }

    async fn config(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        what: &str,
        blobs: &Blobs,
    ) -> Result<Vec<u8>, RegistryError> {
        let request = blob_request(descriptor, 0, &format!("the config of {what}"));
        if let Ok(bytes) = blobs.read(&descriptor.digest, MAX_CONFIG_BYTES) {
            check_size(&request.what, endpoint, bytes.len() as u64, descriptor.size)?;
            return Ok(bytes);
        }
        if descriptor.size > MAX_CONFIG_BYTES {
            return Err(RegistryError::TooLarge {
                what: request.what,
                host: endpoint.host.clone(),
                max: MAX_CONFIG_BYTES,
            });
        }
        let (bytes, _) = self.document(endpoint, &request, MAX_CONFIG_BYTES).await?;
        check_size(&request.what, endpoint, bytes.len() as u64, descriptor.size)?;
        verify(&request.what, endpoint, &bytes, Some(descriptor.digest))?;
        blobs.put(&bytes)?;
        Ok(bytes)
    }
}

pub(super) enum Asked {
    Tag(String),
    Digest(Digest),
}

impl Resolved {
    /// Puts together what has been read and verified.
    pub(super) fn assemble(
        what: &str,
        digest: Digest,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
        source: Source,
    ) -> Result<Self, RegistryError> {
        let document = |source| RegistryError::Document {
            what: what.to_owned(),
            source,
        };
        let manifest = Manifest::parse(&manifest_bytes).map_err(document)?;
        let config = ImageConfig::parse(&config_bytes).map_err(document)?;
        if manifest.layers.len() != config.diff_ids.len() {
            return Err(RegistryError::LayerCount {
                what: what.to_owned(),
                layers: manifest.layers.len(),
                diff_ids: config.diff_ids.len(),
            });
        }
        let reference = match &source {
            Source::Registry { reference, .. } => Some(reference.clone()),
            Source::Held { .. } | Source::Local { .. } => None,
        };
        Ok(Resolved {
            reference,
            digest,
            manifest_descriptor: Descriptor::of(manifest.media_type(), &manifest_bytes)
                .for_platform(config.platform()),
            layers: manifest.layers.clone(),
            manifest,
            manifest_bytes,
            config,
            config_bytes,
            source,
        })
    }
}

/// Whether another endpoint cannot help: the fault is ours, or the image's own.
pub(super) fn is_final(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Store(_)
            | RegistryError::Tls(_)
            | RegistryError::Blocked { .. }
            | RegistryError::NoMatchingPlatform { .. }
            | RegistryError::NotAnImage { .. }
    )
}
