//! Bases by name: from the store, a registry, a layout or an archive.

use std::collections::BTreeMap;

use super::context::NamedSource;
use crate::image::{Platform, Reference};
use crate::plan::{Base, BaseInfo};
use crate::registry::{Client, RegistryError, Resolved, layout, resolve_held};
use crate::solve::blocking;
use crate::store::{Store, StoreError};

/// All that names are looked up in.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) named: BTreeMap<String, NamedSource>,
    /// No registry is asked.
    pub(super) only_here: bool,
}

impl Bases {
    /// Finds the manifest and the config of `base`.
    pub(super) async fn resolve(&self, base: &Base) -> Result<Resolved, RegistryError> {
        let platform = base.platform();
        match base {
            Base::Image {
                reference, short, ..
            } => {
                let wrong = |_| RegistryError::not_a_name(reference);
                let written = short.as_ref().unwrap_or(reference);
                let reference: Reference = written.parse().map_err(wrong)?;
                self.image(&reference, platform).await
            }
            Base::Named { name, .. } => match self.named.get(name) {
                Some(NamedSource::Image(reference)) => self.image(reference, platform).await,
                Some(NamedSource::Layout { path, wanted }) => {
                    self.layout(path.clone(), wanted.clone(), platform).await
                }
                _ => Err(RegistryError::not_a_name(name)),
            },
        }
    }

    async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        // What was built here under this name wins, as an image of the engine does for Docker.
        let Some(local) = self.local_name(reference)? else {
            return self.elsewhere(reference, platform).await;
        };
        // What is here may be for another platform: a pull keeps one.
        let lacking = match resolve_held(&local, platform, &self.store) {
            Ok(None) => return self.elsewhere(reference, platform).await,
            Ok(Some(found)) => {
                let there = found.config.platform();
                if there.os.is_empty() || platform.runs(&there) {
                    return Ok(found);
                }
                RegistryError::NoMatchingPlatform {
                    what: reference.familiar(),
                    platform: Box::new(platform.clone()),
                    available: vec![there],
                }
            }
            Err(
                error @ (RegistryError::NoMatchingPlatform { .. }
                | RegistryError::Incomplete { .. }),
            ) => error,
            Err(error) => return Err(error),
        };
        let elsewhere = self.elsewhere(reference, platform).await;
        elsewhere.map_err(|_| lacking)
    }

    async fn elsewhere(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        if self.only_here {
            let what = reference.familiar();
            return Err(RegistryError::NotHere { what });
        }
        let blobs = self.store.blobs();
        self.client.resolve(reference, platform, blobs).await
    }

    /// Returns the name under which the store has the image: as it is, or what a short name stands for.
    fn local_name(&self, reference: &Reference) -> Result<Option<Reference>, RegistryError> {
        let has = |name: &Reference| match self.store.resolve(name) {
            Ok(found) => Ok(found.is_some()),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        };
        if has(reference)? {
            return Ok(Some(reference.clone()));
        }
        for name in self.client.names(reference)? {
            if has(&name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    async fn layout(
        &self,
        path: std::path::PathBuf,
        wanted: Option<String>,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        let (blobs, platform) = (self.store.blobs().clone(), platform.clone());
        blocking(move || layout::resolve(&path, wanted.as_deref(), &platform, &blobs)).await
    }
}

/// Returns what planning needs of a resolved base.
pub(super) fn info(base: &Base, resolved: &Resolved) -> BaseInfo {
    let pinned = match &resolved.reference {
        Some(reference) => reference.with_digest(resolved.digest).to_string(),
        None => format!("{}@{}", base.describe(), resolved.digest),
    };
    BaseInfo {
        digest: resolved.digest,
        config: resolved.config.clone(),
        layers: resolved.layers.clone(),
        pinned,
    }
}
