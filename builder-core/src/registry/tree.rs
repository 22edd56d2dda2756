//! A name with all that it stands for: every platform's manifest and config, not only one's.

use super::documents::{check_size, is_index, kind_of};
use super::pull::{Asked, MAX_INDEX_DEPTH};
use super::{Client, Contents, Endpoint, RegistryError, Source};
use crate::digest::Digest;
use crate::image::{Descriptor, Index, Manifest, Reference};
use crate::store::Blobs;

/// A name's documents, all of them stored.
#[derive(Debug, Clone)]
pub struct Tree {
    pub top: Descriptor,
    pub contents: Contents,
    /// Where the blobs can be had.
    pub source: Source,
}

impl Client {
    /// Finds all that `reference` stands for; its manifests are then in `blobs`, configs and layers are not.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); [`RegistryError::TooDeep`].
    pub async fn resolve_all(
        &self,
        reference: &Reference,
        blobs: &Blobs,
    ) -> Result<Tree, RegistryError> {
        let ask = |name| async move { self.tree_of(&name, blobs).await };
        self.first(reference, ask).await
    }

    async fn tree_of(&self, reference: &Reference, blobs: &Blobs) -> Result<Tree, RegistryError> {
        let mut outcome = None;
        for endpoint in self.inner.options.registries.endpoints(reference)? {
            let found = self.tree(&endpoint, reference, blobs).await;
            if let Ok(top) = found {
                return Ok(Tree {
                    contents: Contents::read(&top, blobs)?,
                    top,
                    source: Source::Registry {
                        reference: reference.clone(),
                        endpoint,
                    },
                });
            }
            outcome = found.err();
        }
        Err(outcome.unwrap_or_else(|| RegistryError::not_a_name(&reference.familiar())))
    }

    async fn tree(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        blobs: &Blobs,
    ) -> Result<Descriptor, RegistryError> {
        let what = reference.familiar();
        let first = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Asked::Digest(digest),
            (None, tag) => Asked::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let bytes = self.inner.manifest(endpoint, &first, &what, blobs).await?;
        let document = |source| RegistryError::Document {
            what: what.clone(),
            source,
        };
        let kind = kind_of(&bytes).map_err(document)?;
        let top = Descriptor::of(kind, &bytes);
        // An entry that was read before need not be read again: no circle lasts.
        let mut known = std::collections::BTreeSet::from([Digest::of(&bytes)]);
        let mut level = vec![bytes];
        for _ in 0..=MAX_INDEX_DEPTH {
            let mut next = Vec::new();
            for bytes in &level {
                if !is_index(bytes).map_err(document)? {
                    Manifest::parse(bytes).map_err(document)?;
                    continue;
                }
                for entry in Index::parse(bytes).map_err(document)?.manifests {
                    if known.insert(entry.digest) {
                        let asked = Asked::Digest(entry.digest);
                        let bytes = self.inner.manifest(endpoint, &asked, &what, blobs).await?;
                        check_size(&what, endpoint, bytes.len() as u64, entry.size)?;
                        next.push(bytes);
                    }
                }
            }
            if next.is_empty() {
                return Ok(top);
            }
            level = next;
        }
        Err(RegistryError::TooDeep { what })
    }
}
