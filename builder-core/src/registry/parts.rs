//! Single documents and blobs of a repository, for things that are no images: shared caches.

use super::pull::Asked;
use super::push::Arrival;
use super::{Client, Progress, RegistryError, Source};
use crate::digest::Digest;
use crate::image::{Descriptor, Reference};
use crate::store::Blobs;

/// How a blob came to be where it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Sent,
    Mounted,
    /// It was there before.
    There,
}

impl Client {
    /// Fetches the document that `reference` stands for as it is, a manifest or an index; says where its blobs are to be had.
    ///
    /// # Errors
    /// What the last host says that was asked.
    pub async fn document(
        &self,
        reference: &Reference,
        blobs: &Blobs,
    ) -> Result<(Vec<u8>, Source), RegistryError> {
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Asked::Digest(digest),
            (None, tag) => Asked::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let what = reference.familiar();
        let mut outcome = None;
        for endpoint in self.inner.options.registries.endpoints(reference)? {
            match self.inner.manifest(&endpoint, &asked, &what, blobs).await {
                Ok(bytes) => {
                    let reference = reference.clone();
                    let source = Source::Registry {
                        reference,
                        endpoint,
                    };
                    return Ok((bytes, source));
                }
                Err(error) => outcome = Some(error),
            }
        }
        Err(outcome.unwrap_or_else(|| RegistryError::not_a_name(&what)))
    }

    /// Says where the blobs of a repository are to be had; nobody is asked.
    ///
    /// # Errors
    /// A name that the configuration blocks.
    pub fn source_of(&self, reference: &Reference) -> Result<Source, RegistryError> {
        let endpoints = self.inner.options.registries.endpoints(reference)?;
        let endpoint = endpoints.into_iter().next();
        Ok(Source::Registry {
            reference: reference.clone(),
            endpoint: endpoint.ok_or_else(|| RegistryError::not_a_name(&reference.familiar()))?,
        })
    }

    /// Has a blob in the repository of `reference`: mounted from one of `origins` at the same registry, or sent, and
    /// fetched from one of them before, where neither the registry nor the store has it.
    ///
    /// # Errors
    /// What the registry says; a blob that is nowhere.
    pub async fn send_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        origins: &[Reference],
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
    ) -> Result<Came, RegistryError> {
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let arrival = self
            .upload(&endpoint, blob, origins, blobs, progress)
            .await?;
        Ok(match arrival {
            Arrival::Sent => Came::Sent,
            Arrival::Mounted => Came::Mounted,
            Arrival::There => Came::There,
        })
    }

    /// Puts a manifest or an index under the tag of `reference`; what it names must be there.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn send_document(
        &self,
        reference: &Reference,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let name = match reference.tag() {
            Some(tag) => tag.to_owned(),
            None => Digest::of(bytes).to_string(),
        };
        self.put_manifest(&endpoint, &name, bytes).await?;
        Ok(Digest::of(bytes))
    }

    /// Returns how many blobs are sent at a time.
    pub fn parallel_uploads(&self) -> usize {
        self.inner.options.parallel_uploads.max(1)
    }
}
