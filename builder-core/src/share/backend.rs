//! Places that caches are kept at: what each can do, and which there are.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::format::Contents;
use super::local::Local;
use super::registry::Registry;
use super::target::Place;
use super::write::Exported;
use super::{CacheTo, ShareError};
use crate::cache::Layer;
use crate::image::Descriptor;
use crate::registry::{Client, Progress};
use crate::store::Store;

/// A place that caches are kept at.
pub(super) trait Backend: Send + Sync {
    /// Reads what is there, without any layer.
    fn read(&self) -> BoxFuture<'_, Result<Contents, ShareError>>;

    /// Has a blob in the store, held against its digest.
    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        progress: Option<Progress<'a>>,
    ) -> BoxFuture<'a, Result<(), ShareError>>;

    /// Writes blobs that are not there yet, then the config, then what names it.
    fn write<'a>(
        &'a self,
        written: Written<'a>,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<Exported, ShareError>>;
}

/// What is written.
pub(super) struct Written<'a> {
    pub(super) to: &'a CacheTo,
    /// Layers and mounts.
    pub(super) blobs: &'a [Descriptor],
    pub(super) config: &'a [u8],
}

/// What places need of the machine.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) client: Client,
    pub(super) store: Store,
}

/// Returns who serves a place; `None` for one inside an image.
pub(super) fn of(place: &Place, means: &Means) -> Option<Arc<dyn Backend>> {
    Some(match place {
        Place::Registry(reference) => Arc::new(Registry::new(reference.clone(), means.clone())),
        Place::Local { path, tag, digest } => Arc::new(Local::new(
            path.clone(),
            tag.clone(),
            *digest,
            means.clone(),
        )),
        Place::Inline => return None,
    })
}

/// Returns where a layer that a cache promised is to be had; `None` where no cache did.
pub(super) fn of_origin(origin: &str, means: &Means) -> Option<Arc<dyn Backend>> {
    let place = place_of(origin)?;
    of(&place, means)
}

/// The words that layers' origins start with, one a kind of place.
const REGISTRY: &str = "cache registry ";
const LOCAL: &str = "cache local ";

/// Says where layers of a cache come from, in records; [`place_of`] reads it.
pub(super) fn origin(place: &Place) -> String {
    match place {
        Place::Registry(reference) => format!("{REGISTRY}{reference}"),
        Place::Local { path, .. } => format!("{LOCAL}{}", path.display()),
        Place::Inline => String::new(),
    }
}

/// Whether a layer is promised by a cache at a registry.
pub fn is_at_registry(layer: &Layer) -> bool {
    layer
        .origin
        .as_deref()
        .and_then(place_of)
        .is_some_and(|it| matches!(it, Place::Registry(_)))
}

pub(super) fn place_of(origin: &str) -> Option<Place> {
    if let Some(reference) = origin.strip_prefix(REGISTRY) {
        return reference.parse().ok().map(Place::Registry);
    }
    let path = origin.strip_prefix(LOCAL)?;
    Some(Place::Local {
        path: path.into(),
        tag: Place::TAG.to_owned(),
        digest: None,
    })
}
