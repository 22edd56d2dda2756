//! From a registry and to one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;

use super::compress::{AsSent, REFERENCE_DIGEST};
use super::find::ANNOTATION_REPO_DIGEST;
use super::{Images, ImagesError, PushOptions};
use crate::digest::{DiffId, Digest, DigestWriter};
use crate::image::{Descriptor, Index, Platform, Reference};
use crate::layer::compression::decompressor;
use crate::progress::{Event, EventSink, Outcome, VertexId, VertexInfo};
use crate::registry::{
    Contents, Progress, Push, Pushed, Resolved, known_diff_id, known_origins, note_diff_id,
    note_origin,
};
use crate::store::{Blobs, Store};

/// How many layers are fetched at a time.
pub(super) const PARALLEL: usize = 4;

/// What a pull came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub name: Reference,
    /// What the name stands for at the registry.
    pub digest: Digest,
    /// The image's id.
    pub id: Digest,
    /// Whether the name stands for something else than before.
    pub newer: bool,
}

impl Images {
    /// Pulls the image that `name` stands for on `platform`, else on this machine, all of it, and gives it that name here.
    /// Where there is one image only, of another platform than was asked for, a warning says so.
    ///
    /// # Errors
    /// What the registry says; a layer that is not what the config says ([`ImagesError::WrongDiffId`]).
    pub async fn pull(
        &self,
        name: &Reference,
        platform: Option<&Platform>,
        events: &Arc<dyn EventSink>,
    ) -> Result<Pulled, ImagesError> {
        let step = Step::start(events, format!("[pull] {}", name.familiar()));
        step.end(self.pull_step(name, platform, &step).await)
    }

    async fn pull_step(
        &self,
        name: &Reference,
        platform: Option<&Platform>,
        step: &Step<'_>,
    ) -> Result<Pulled, ImagesError> {
        let blobs = self.store.blobs();
        let host = Platform::host();
        let found = self
            .client
            .resolve(name, platform.unwrap_or(&host), blobs)
            .await?;
        if let Some(wanted) = platform
            && !fits(&found, wanted)
        {
            step.warn(format!(
                "image {} was found but does not match the specified platform: wanted {wanted}, actual: {}",
                name.familiar(),
                found.config.platform()
            ));
        }
        // A short name may stand for another's.
        let name = found.reference.as_ref().unwrap_or(name);
        let layers = found.layers.iter().zip(&found.config.diff_ids);
        let mut fetched = Vec::new();
        for (layer, diff_id) in layers {
            let found = &found;
            fetched.push(async move {
                self.client
                    .fetch_blob(&found.source, layer, blobs, Some(step.progress()))
                    .await?;
                verify(self.store.clone(), layer.digest, *diff_id).await
            });
        }
        let fetched: Vec<Result<(), ImagesError>> = futures_util::stream::iter(fetched)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let fetched: Result<(), ImagesError> = fetched.into_iter().collect();
        fetched.map_err(|error| self.unfinished(&found.layers, error))?;
        let parts = found.layers.iter().chain([&found.manifest.config]);
        let digests: Vec<Digest> = parts.map(|it| it.digest).collect();
        note_origin(self.store.records(), name, &digests)?;
        let before = self.store.resolve(name)?.map(|it| it.digest);
        let top = found.manifest_descriptor.clone();
        let newer = before != Some(top.digest);
        let said = found.digest.to_string();
        self.store
            .tag(name, top.annotate(ANNOTATION_REPO_DIGEST, said))?;
        Ok(Pulled {
            name: name.clone(),
            digest: found.digest,
            id: found.manifest.config.digest,
            newer,
        })
    }

    /// Says of a pull that fails what is kept of it, if anything has come.
    pub(super) fn unfinished(&self, parts: &[Descriptor], source: ImagesError) -> ImagesError {
        let blobs = self.store.blobs();
        let whole = parts.iter().filter(|it| blobs.has(&it.digest));
        let here = whole.count();
        if here == 0 && !parts.iter().any(|it| blobs.has_begun(&it.digest)) {
            return source;
        }
        ImagesError::Unfinished {
            here,
            parts: parts.len(),
            source: Box::new(source),
        }
    }

    /// Lists the tags that a registry has for the repository of `name`, without those that stand for what refers to an image.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn remote_tags(&self, name: &Reference) -> Result<Vec<Reference>, ImagesError> {
        let mut outcome = Ok(Vec::new());
        for name in self.client.names(name)? {
            match self.client.tags(&name).await {
                Err(error) => outcome = Err(error.into()),
                Ok(tags) => {
                    let own = tags.iter().filter(|tag| !is_of_referrers(tag));
                    let named = own.map(|tag| Ok(name.with_tag(tag)?));
                    return named.collect();
                }
            }
        }
        outcome
    }

    /// Pushes the image that has this name here, as `build --push` would have.
    ///
    /// # Errors
    /// As [`find`](Self::find); what the registry says.
    pub async fn push(
        &self,
        name: &Reference,
        options: &PushOptions,
        events: &Arc<dyn EventSink>,
    ) -> Result<Pushed, ImagesError> {
        if options.force_compression {
            let (_, top) = self.to_push(name, options)?;
            self.complete_below(&top, events).await?;
        }
        let step = Step::start(events, format!("[push] {}", name.familiar()));
        step.end(self.push_step(name, options, &step).await)
    }

    async fn push_step(
        &self,
        name: &Reference,
        options: &PushOptions,
        step: &Step<'_>,
    ) -> Result<Pushed, ImagesError> {
        let (entry, top) = self.to_push(name, options)?;
        let left = self.said_of(&entry, &top)?;
        if left > 0 {
            step.warn(format!(
                "{}: a push of one platform leaves its attestations behind ({left} manifest{}), push without --platform to send them",
                name.familiar(),
                if left == 1 { "" } else { "s" },
            ));
        }
        let AsSent { top, renamed } = self.as_sent(top, options).await?;
        if renamed {
            step.warn(format!(
                "{}: its manifest was Docker's schema 2, which knows no zstd: it is pushed with the media types of OCI",
                name.familiar(),
            ));
        }
        let push = self.prepare(name, &top)?;
        let pushed = self
            .client
            .push(&push, self.store.blobs(), Some(step.progress()))
            .await?;
        note_origin(self.store.records(), name, push.origins.keys())?;
        if options.platform.is_none() {
            let said = pushed.digest.to_string();
            self.store
                .tag(name, entry.annotate(ANNOTATION_REPO_DIGEST, said))?;
        }
        Ok(pushed)
    }

    /// Returns what the name stands for, and what of it is meant.
    fn to_push(
        &self,
        name: &Reference,
        options: &PushOptions,
    ) -> Result<(Descriptor, Descriptor), ImagesError> {
        let missing = || ImagesError::NoSuchImage {
            name: name.familiar(),
        };
        let entry = self.store.resolve(name)?.ok_or_else(missing)?;
        let top = Descriptor::new(&entry.media_type, entry.digest, entry.size);
        let top = match &options.platform {
            None => top,
            Some(platform) => self.of_platform(name, &top, platform)?,
        };
        Ok((entry, top))
    }

    /// Counts the manifests of an index that are about the one that is taken out of it.
    fn said_of(&self, entry: &Descriptor, top: &Descriptor) -> Result<usize, ImagesError> {
        if entry.digest == top.digest {
            return Ok(0);
        }
        let contents = Contents::read(entry, self.store.blobs())?;
        let about = Some(top.digest.to_string());
        let manifests = contents.manifests.iter();
        let said =
            manifests.filter(|(it, _)| it.annotations.get(REFERENCE_DIGEST) == about.as_ref());
        Ok(said.count())
    }

    /// Puts together what a push needs: where blobs are known to be.
    pub(super) fn prepare(&self, name: &Reference, top: &Descriptor) -> Result<Push, ImagesError> {
        let contents = Contents::read(top, self.store.blobs())?;
        let records = self.store.records();
        let known = contents
            .blobs
            .iter()
            .map(|it| (it.digest, known_origins(records, &it.digest)));
        Ok(Push {
            reference: name.clone(),
            top: top.clone(),
            origins: known.collect::<BTreeMap<_, _>>(),
        })
    }

    fn of_platform(
        &self,
        name: &Reference,
        top: &Descriptor,
        platform: &Platform,
    ) -> Result<Descriptor, ImagesError> {
        let contents = Contents::read(top, self.store.blobs())?;
        let available = contents
            .manifests
            .iter()
            .filter_map(|(it, _)| it.platform.clone());
        let available: Vec<Platform> = available.collect();
        if available.is_empty() {
            return Ok(top.clone());
        }
        let entries = contents
            .manifests
            .iter()
            .map(|(it, _)| it.clone())
            .collect();
        let chosen = Index::new(entries).choose(platform).cloned();
        chosen.ok_or_else(|| {
            crate::registry::RegistryError::NoMatchingPlatform {
                what: name.familiar(),
                platform: Box::new(platform.clone()),
                available,
            }
            .into()
        })
    }
}

/// Whether an image runs on `wanted`; one that does not say where it runs does.
fn fits(found: &Resolved, wanted: &Platform) -> bool {
    let actual = found.config.platform();
    let entry = found
        .manifest_descriptor
        .clone()
        .for_platform(actual.clone());
    let says = !actual.os.is_empty() && !actual.architecture.is_empty();
    !says || Index::new(vec![entry]).choose(wanted).is_some()
}

/// Holds that a layer is, unpacked, what the config says. It is unpacked once: what came of it is noted. One that is not
/// stays: it may be another image's, and what is nobody's is pruned.
pub(super) async fn verify(
    store: Store,
    blob: Digest,
    expected: DiffId,
) -> Result<(), ImagesError> {
    let checked = tokio::task::spawn_blocking(move || verify_now(&store, blob, expected));
    checked
        .await
        .map_err(|error| ImagesError::Worker(error.to_string()))?
}

/// As [`verify`]; blocks.
pub(super) fn verify_now(store: &Store, blob: Digest, expected: DiffId) -> Result<(), ImagesError> {
    let actual = match known_diff_id(store.records(), &blob) {
        Some(known) => known,
        None => {
            let found = diff_id(store.blobs(), blob)?;
            note_diff_id(store.records(), &blob, found)?;
            found
        }
    };
    if actual == expected {
        return Ok(());
    }
    Err(ImagesError::WrongDiffId {
        blob,
        expected,
        actual,
    })
}

fn diff_id(blobs: &Blobs, blob: Digest) -> Result<DiffId, ImagesError> {
    let failed = |source| ImagesError::Decompress { blob, source };
    let mut tar = decompressor(blobs.open(&blob)?).map_err(failed)?;
    let mut hash = DigestWriter::new(io::sink());
    io::copy(&mut tar, &mut hash).map_err(failed)?;
    let (_, actual, _) = hash.finish();
    Ok(DiffId(actual))
}

/// One command as the one vertex of its own events.
pub(super) struct Step<'a> {
    events: &'a Arc<dyn EventSink>,
    since: Instant,
}

const VERTEX: VertexId = VertexId(0);

impl<'a> Step<'a> {
    pub(super) fn start(events: &'a Arc<dyn EventSink>, name: String) -> Self {
        let info = VertexInfo {
            id: VERTEX,
            name,
            line: None,
            inputs: Vec::new(),
        };
        events.emit(Event::Planned {
            vertices: vec![info],
        });
        events.emit(Event::Started { vertex: VERTEX });
        Step {
            events,
            since: Instant::now(),
        }
    }

    pub(super) fn progress(&self) -> Progress<'_> {
        Progress {
            events: self.events.as_ref(),
            vertex: VERTEX,
        }
    }

    pub(super) fn warn(&self, message: String) {
        self.events.emit(Event::Warning {
            vertex: None,
            line: None,
            message,
        });
    }

    pub(super) fn end<T>(&self, result: Result<T, ImagesError>) -> Result<T, ImagesError> {
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: error.to_string(),
            },
        };
        self.events.emit(Event::Finished {
            vertex: VERTEX,
            took: self.since.elapsed(),
            outcome,
        });
        result
    }
}

/// Whether a tag is one of those that list what refers to an image, where a registry keeps no such list: `sha256-<digest>`, and
/// those of cosign, which end with `.sig` and the like.
fn is_of_referrers(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else {
        return false;
    };
    let hex = rest.split('.').next().unwrap_or(rest);
    hex.len() == 64 && hex.bytes().all(|it| it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_referrers_are_known() {
        let hex = "c3".repeat(32);
        for (tag, expected) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}0"), false),
            (format!("sha512-{hex}"), false),
            ("sha256-abc".to_owned(), false),
            (format!("v1-sha256-{hex}"), false),
            ("1.0".to_owned(), false),
        ] {
            assert_eq!(is_of_referrers(&tag), expected, "{tag}");
        }
    }
}
