//! Pushing: an image that is in the store, or whose layers are still elsewhere, to a registry.
//!
//! Blobs go first, several at a time ([`upload`](super::upload)), then manifests, those of an index before it, so that
//! nothing in the registry ever points to what is not there.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::call::{Access, Request};
use super::documents::{is_index, said_digest};
use super::pull::{MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use super::{Client, Endpoint, Progress, RegistryError};
use crate::digest::Digest;
use crate::image::{Descriptor, DocumentError, Index, Manifest, Reference, media_type};
use crate::store::{Blobs, StoreError};

/// What is pushed, and where to.
#[derive(Debug, Clone)]
pub struct Push {
    /// The name that it gets; by its digest alone where it has no tag.
    pub reference: Reference,
    /// A manifest or an index; its documents are in the store.
    pub top: Descriptor,
    /// Repositories that are known to hold a blob: it is mounted from one at the same registry, and fetched from any
    /// where the store lacks it.
    pub origins: BTreeMap<Digest, Vec<Reference>>,
}

/// What a push came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    pub digest: Digest,
    pub size: u64,
    /// Blobs that were sent, mounted from another repository, and there already.
    pub sent: usize,
    pub mounted: usize,
    pub there: usize,
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    Sent,
    Mounted,
    There,
}

/// All that an image consists of.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Children before their parents, each with its bytes.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
    pub blobs: Vec<Descriptor>,
}

impl Contents {
    /// Reads the documents below `top`, which are in the store.
    ///
    /// # Errors
    /// [`RegistryError::NotInStore`] where one is not; one that cannot be read.
    pub fn read(top: &Descriptor, blobs: &Blobs) -> Result<Self, RegistryError> {
        let mut contents = Contents::default();
        contents.add(top, blobs, 0)?;
        let mut seen = BTreeSet::new();
        contents.blobs.retain(|it| seen.insert(it.digest));
        seen.clear();
        contents.manifests.retain(|(it, _)| seen.insert(it.digest));
        Ok(contents)
    }

    fn add(
        &mut self,
        entry: &Descriptor,
        blobs: &Blobs,
        depth: usize,
    ) -> Result<(), RegistryError> {
        let what = || format!("manifest {}", entry.digest);
        let document = |source| RegistryError::Document {
            what: what(),
            source,
        };
        let bytes = match blobs.read(&entry.digest, MAX_MANIFEST_BYTES) {
            Err(StoreError::NotFound { digest }) => {
                return Err(RegistryError::NotInStore { digest });
            }
            bytes => bytes?,
        };
        if is_index(&bytes).map_err(document)? {
            if depth >= MAX_INDEX_DEPTH {
                return Err(RegistryError::TooDeep { what: what() });
            }
            for child in Index::parse(&bytes).map_err(document)?.manifests {
                self.add(&child, blobs, depth + 1)?;
            }
        } else {
            let manifest = Manifest::parse(&bytes).map_err(document)?;
            let layers = manifest.layers.iter().filter(|it| !is_foreign(it));
            self.blobs.extend(layers.cloned());
            self.blobs.push(manifest.config);
        }
        self.manifests.push((entry.clone(), bytes));
        Ok(())
    }
}

impl Client {
    /// Pushes an image and its name.
    ///
    /// # Errors
    /// What the registry says; a blob that is neither in the store nor to be had where it came from.
    pub async fn push(
        &self,
        push: &Push,
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
    ) -> Result<Pushed, RegistryError> {
        let endpoint = self
            .inner
            .options
            .registries
            .push_endpoint(&push.reference)?;
        let contents = Contents::read(&push.top, blobs)?;
        let mut pushed = Pushed {
            digest: push.top.digest,
            size: push.top.size,
            sent: 0,
            mounted: 0,
            there: 0,
        };
        // A list, and no closure that borrows: else nobody could spawn what pushes.
        let mut sent = Vec::with_capacity(contents.blobs.len());
        for blob in &contents.blobs {
            let origins = push
                .origins
                .get(&blob.digest)
                .map_or(&[][..], Vec::as_slice);
            sent.push(self.upload(&endpoint, blob, origins, blobs, progress));
        }
        let mut arrivals = futures_util::stream::iter(sent)
            .buffer_unordered(self.inner.options.parallel_uploads.max(1));
        while let Some(arrival) = arrivals.try_next().await? {
            match arrival {
                Arrival::Sent => pushed.sent += 1,
                Arrival::Mounted => pushed.mounted += 1,
                Arrival::There => pushed.there += 1,
            }
        }
        for (entry, bytes) in &contents.manifests {
            let is_top = entry.digest == push.top.digest;
            let name = match (is_top, push.reference.tag()) {
                (true, Some(tag)) => tag.to_owned(),
                _ => entry.digest.to_string(),
            };
            self.put_manifest(&endpoint, &name, bytes).await?;
        }
        Ok(pushed)
    }

    /// Puts a manifest or an index under a tag or its digest; what refers to another is listed there.
    pub(super) async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let what = format!("manifest {name}");
        let document = |source| RegistryError::Document {
            what: what.clone(),
            source,
        };
        let shape = Shape::of(bytes).map_err(document)?;
        let mut request = Request::new(Method::PUT, format!("manifests/{name}"), what.clone())
            .access(Access::Push);
        let kind =
            HeaderValue::from_str(&shape.media_type).map_err(|_| RegistryError::NotAnImage {
                what: what.clone(),
                media_type: shape.media_type.clone(),
            })?;
        request.headers.insert(CONTENT_TYPE, kind);
        request.body = super::transport::Body::Bytes(bytes.to_vec());
        let response = self.inner.call(endpoint, &request).await?;
        let expected = Digest::of(bytes);
        match said_digest(response.headers()) {
            Some(actual) if actual != expected => {
                return Err(RegistryError::WrongDigest {
                    what,
                    host: endpoint.host.clone(),
                    expected,
                    actual,
                });
            }
            _ => {}
        }
        match shape.subject {
            Some(subject) if !knows_referrers(response.headers()) => {
                let entry = shape.entry;
                self.list_referrer(endpoint, subject.digest, entry).await
            }
            _ => Ok(()),
        }
    }
}

/// Layers that are not for distribution: who needs them gets them elsewhere.
fn is_foreign(layer: &Descriptor) -> bool {
    let kind = &layer.media_type;
    !layer.urls.is_empty() && (kind.contains("nondistributable") || kind.contains(".foreign."))
}

/// Whether the registry lists by itself what refers to another manifest.
fn knows_referrers(headers: &HeaderMap) -> bool {
    headers.contains_key("oci-subject")
}

/// What matters of a document that is put.
struct Shape {
    media_type: String,
    subject: Option<Descriptor>,
    /// As a list of referrers has it.
    entry: Descriptor,
}

impl Shape {
    fn of(bytes: &[u8]) -> Result<Self, DocumentError> {
        if is_index(bytes)? {
            let index = Index::parse(bytes)?;
            let media_type = index.media_type().to_owned();
            let mut entry = Descriptor::of(&media_type, bytes);
            entry.artifact_type = index.artifact_type;
            entry.annotations = index.annotations;
            return Ok(Shape {
                media_type,
                subject: index.subject,
                entry,
            });
        }
        let manifest = Manifest::parse(bytes)?;
        let media_type = manifest.media_type().to_owned();
        let mut entry = Descriptor::of(&media_type, bytes);
        entry.artifact_type = manifest
            .artifact_type
            .or(Some(manifest.config.media_type))
            .filter(|it| it != media_type::OCI_EMPTY);
        entry.annotations = manifest.annotations;
        Ok(Shape {
            media_type,
            subject: manifest.subject,
            entry,
        })
    }
}
