//! From one place to another, past the store's names: what passes through is gone afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::archive::{below, finished, passing};
use super::find::Image;
use super::transfer::Step;
use super::{Images, ImagesError, Location};
use crate::digest::Digest;
use crate::export::{self, Destination, Selection};
use crate::image::{Descriptor, Platform, Reference};
use crate::progress::EventSink;
use crate::registry::layout::Whole;
use crate::registry::{Client, Contents, Push, RegistryError, Resolved, Source, layout};
use crate::store::{Blobs, Store};

/// How a copy is made.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// All platforms of an index, and not only one.
    pub all: bool,
    pub platform: Platform,
}

/// What a source has come to: documents in a passing store.
struct Found {
    top: Descriptor,
    /// Where the blobs are that are not in the passing store.
    source: Source,
    origins: BTreeMap<Digest, Vec<Reference>>,
}

impl Images {
    /// Copies an image; returns the digest of what was written.
    ///
    /// From a registry to another nothing is kept, and what the target has, or can mount, is not even fetched.
    ///
    /// # Errors
    /// What the source and the target say.
    pub async fn copy(
        &self,
        from: &Location,
        to: &Location,
        options: &CopyOptions,
        target: &Client,
        events: &Arc<dyn EventSink>,
    ) -> Result<Digest, ImagesError> {
        let step = Step::start(events, "[copy]".to_owned());
        step.end(self.copy_step(from, to, options, target, &step).await)
    }

    async fn copy_step(
        &self,
        from: &Location,
        to: &Location,
        options: &CopyOptions,
        target: &Client,
        step: &Step<'_>,
    ) -> Result<Digest, ImagesError> {
        let (_dir, store) = passing(&self.store)?;
        let blobs = store.blobs();
        let found = self.source(from, options, blobs).await?;
        if let Location::Registry(name) = to {
            // A blob that the target lacks and cannot mount is fetched by the source's own client.
            let same = self.client.same_options(target);
            if !same {
                self.fetch_all(&found, blobs, step).await?;
            }
            let push = Push {
                reference: name.clone(),
                top: found.top.clone(),
                origins: found.origins,
            };
            target.push(&push, blobs, Some(step.progress())).await?;
            return Ok(found.top.digest);
        }
        self.fetch_all(&found, blobs, step).await?;
        let (to, top) = (to.clone(), found.top.clone());
        let written = tokio::task::spawn_blocking(move || write(&to, &top, &store));
        written
            .await
            .map_err(|error| ImagesError::Worker(error.to_string()))??;
        Ok(found.top.digest)
    }

    async fn source(
        &self,
        from: &Location,
        options: &CopyOptions,
        blobs: &Blobs,
    ) -> Result<Found, ImagesError> {
        let (path, name) = match from {
            Location::Registry(name) if options.all => {
                let tree = self.client.resolve_all(name, blobs).await?;
                let parts = tree.contents.blobs.iter();
                let name = match &tree.source {
                    Source::Registry { reference, .. } => reference,
                    Source::Held { .. } | Source::Local { .. } => name,
                };
                let origins = parts.map(|it| (it.digest, vec![name.clone()])).collect();
                return Ok(Found {
                    top: tree.top,
                    source: tree.source,
                    origins,
                });
            }
            Location::Registry(name) => {
                let found = self.client.resolve(name, &options.platform, blobs).await?;
                let name = found.reference.clone().unwrap_or_else(|| name.clone());
                return Ok(Found::one(found, Some(&name)));
            }
            Location::OciDirectory { path, name }
            | Location::OciArchive { path, name }
            | Location::DockerArchive { path, name } => (path.clone(), name.clone()),
        };
        let (blobs, platform, all) = (blobs.clone(), options.platform.clone(), options.all);
        let read = tokio::task::spawn_blocking(move || match all {
            true => match layout::resolve_all(&path, name.as_deref(), &blobs)? {
                Whole::Oci(top, source) => Ok((top, source)),
                Whole::Docker(found) => Ok((found.manifest_descriptor, found.source)),
            },
            false => {
                let found = layout::resolve(&path, name.as_deref(), &platform, &blobs)?;
                Ok::<_, RegistryError>((found.manifest_descriptor, found.source))
            }
        });
        let (top, source) = read
            .await
            .map_err(|error| ImagesError::Worker(error.to_string()))??;
        Ok(Found {
            top,
            source,
            origins: BTreeMap::new(),
        })
    }

    /// Has all blobs in the passing store.
    async fn fetch_all(
        &self,
        found: &Found,
        blobs: &Blobs,
        step: &Step<'_>,
    ) -> Result<(), ImagesError> {
        let contents = Contents::read(&found.top, blobs)?;
        let all = contents.blobs.iter().map(|blob| {
            self.client
                .fetch_blob(&found.source, blob, blobs, Some(step.progress()))
        });
        futures_util::future::try_join_all(all).await?;
        Ok(())
    }
}

impl Found {
    fn one(found: Resolved, name: Option<&Reference>) -> Self {
        let parts = found.layers.iter().chain([&found.manifest.config]);
        let names: Vec<Reference> = name.into_iter().cloned().collect();
        Found {
            origins: parts.map(|it| (it.digest, names.clone())).collect(),
            top: found.manifest_descriptor,
            source: found.source,
        }
    }
}

/// Writes a layout or an archive.
fn write(to: &Location, top: &Descriptor, store: &Store) -> Result<(), ImagesError> {
    let blobs = store.blobs();
    let mut plain = top.clone();
    plain.annotations.clear();
    let select = |name: Option<&str>| -> Result<Selection, ImagesError> {
        let mut selection = Selection::default();
        let contents = Contents::read(&plain, blobs)?;
        selection.add_named(&plain, below(contents), name);
        Ok(selection)
    };
    match to {
        Location::OciDirectory { path, name } => {
            export::save_directory(&select(name.as_deref())?, blobs, path)?;
        }
        Location::OciArchive { path, name } => {
            export::save_oci(&select(name.as_deref())?, blobs, Destination::File(path))?;
        }
        Location::DockerArchive { path, name } => docker(path, name.as_deref(), &plain, store)?,
        Location::Registry(_) => {}
    }
    Ok(())
}

fn docker(
    path: &Path,
    name: Option<&str>,
    top: &Descriptor,
    store: &Store,
) -> Result<(), ImagesError> {
    let names: Vec<Reference> = match name {
        Some(name) => vec![name.parse()?],
        None => Vec::new(),
    };
    let images = Images::new(store.clone(), Client::new(Default::default()));
    let image: Image = images.read("the image", top, &[])?;
    let selection = Selection::from(&finished(&image, names));
    export::save_docker(&selection, store.blobs(), Destination::File(path))?;
    Ok(())
}
