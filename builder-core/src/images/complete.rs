//! What is lacking here of an image, had from where it is known to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;

use super::transfer::{PARALLEL, Step, verify};
use super::whole::layers;
use super::{ArchiveFormat, Image, Images, ImagesError};
use crate::digest::{DiffId, Digest};
use crate::image::Descriptor;
use crate::progress::{Event, EventSink};
use crate::registry::{Contents, Source, known_origins};

impl Images {
    /// Has all of these images here, as far as an archive of this format takes them: what the store lacks of them is fetched from
    /// where it is known to be, and what the archive leaves out is warned of.
    ///
    /// # Errors
    /// As [`find`](Self::find); a part that is nowhere to be had any more, or is not what it should be.
    pub async fn complete(
        &self,
        wanted: &[String],
        format: ArchiveFormat,
        events: &Arc<dyn EventSink>,
    ) -> Result<(), ImagesError> {
        let mut parts = Vec::new();
        for text in wanted {
            let image = self.find(text)?;
            let is_part = image.top.digest != image.manifest_descriptor.digest;
            if is_part && format == ArchiveFormat::Docker {
                events.emit(Event::Warning {
                    vertex: None,
                    line: None,
                    message: format!(
                        "{text}: a docker archive takes one image of an index and no attestations, an OCI archive all of it"
                    ),
                });
            }
            parts.extend(self.parts(&image, format)?);
        }
        self.fetch_lacking(parts, events).await
    }

    /// Has all images below `top` here.
    pub(super) async fn complete_below(
        &self,
        top: &Descriptor,
        events: &Arc<dyn EventSink>,
    ) -> Result<(), ImagesError> {
        let contents = Contents::read(top, self.store.blobs())?;
        let parts = layers(&self.store, &contents)?;
        self.fetch_lacking(parts, events).await
    }

    /// Returns the layers of an image that an archive of this format takes: a docker archive one platform's, an OCI archive those of
    /// the whole index.
    pub(super) fn parts(
        &self,
        image: &Image,
        format: ArchiveFormat,
    ) -> Result<Vec<(Descriptor, DiffId)>, ImagesError> {
        match format {
            ArchiveFormat::Docker => {
                let layers = image.manifest.layers.iter().cloned();
                Ok(layers.zip(image.config.diff_ids.iter().copied()).collect())
            }
            ArchiveFormat::Oci => {
                let contents = Contents::read(&image.top, self.store.blobs())?;
                layers(&self.store, &contents)
            }
        }
    }

    async fn fetch_lacking(
        &self,
        parts: Vec<(Descriptor, DiffId)>,
        events: &Arc<dyn EventSink>,
    ) -> Result<(), ImagesError> {
        let blobs = self.store.blobs();
        let absent = parts
            .into_iter()
            .filter(|(it, _)| !blobs.has_sized(&it.digest, it.size));
        let lacking: BTreeMap<Digest, (Descriptor, DiffId)> = absent
            .map(|(layer, diff_id)| (layer.digest, (layer, diff_id)))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let step = Step::start(events, format!("[fetch] {} layers", lacking.len()));
        let progress = step.progress();
        let fetched = lacking.into_values().map(|(layer, diff_id)| async move {
            let known = known_origins(self.store.records(), &layer.digest);
            let origins = BTreeMap::from([(layer.digest, known)]);
            let source = Source::Held { origins };
            self.client
                .fetch_blob(&source, &layer, blobs, Some(progress))
                .await?;
            verify(self.store.clone(), layer.digest, diff_id).await
        });
        let fetched: Vec<Result<(), ImagesError>> = futures_util::stream::iter(fetched)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        step.end(fetched.into_iter().collect())
    }
}
