//! A cache at a registry, under a name.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::ShareError;
use super::backend::{Backend, Means, Written, origin};
use super::documents::{self, Get, check_size};
use super::format::Contents;
use super::target::Place;
use super::write::Exported;
use crate::digest::Digest;
use crate::image::{Descriptor, Reference, media_type};
use crate::registry::{Came, Progress, known_origins, note_origin};

pub(super) struct Registry {
    reference: Reference,
    means: Means,
}

impl Registry {
    pub(super) fn new(reference: Reference, means: Means) -> Self {
        Registry { reference, means }
    }
}

impl Get for Registry {
    fn get<'a>(&'a self, what: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, ShareError>> {
        async move {
            let Means { client, store } = &self.means;
            let max = check_size(what)?;
            if media_type::is_manifest(&what.media_type) {
                let name = self.reference.with_digest(what.digest);
                return Ok(client.document(&name, store.blobs()).await?.0);
            }
            let source = client.source_of(&self.reference)?;
            client
                .fetch_blob(&source, what, store.blobs(), None)
                .await?;
            Ok(store.blobs().read(&what.digest, max)?)
        }
        .boxed()
    }
}

impl Backend for Registry {
    fn read(&self) -> BoxFuture<'_, Result<Contents, ShareError>> {
        async move {
            let Means { client, store } = &self.means;
            let (top, _) = client.document(&self.reference, store.blobs()).await?;
            let pinned = self.reference.with_digest(Digest::of(&top));
            let origin = origin(&Place::Registry(pinned));
            documents::read(&top, &self.reference.familiar(), &origin, self).await
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        progress: Option<Progress<'a>>,
    ) -> BoxFuture<'a, Result<(), ShareError>> {
        async move {
            let Means { client, store } = &self.means;
            let source = client.source_of(&self.reference)?;
            client
                .fetch_blob(&source, blob, store.blobs(), progress)
                .await?;
            note_origin(store.records(), &self.reference, [&blob.digest])?;
            Ok(())
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        written: Written<'a>,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<Exported, ShareError>> {
        async move {
            let Means { client, store } = &self.means;
            store.blobs().put(written.config)?;
            let config = written.config_descriptor();
            let parts: Vec<Descriptor> = written.blobs.iter().cloned().chain([config]).collect();
            let sent = parts.clone().into_iter().map(|blob| async move {
                let origins = known_origins(store.records(), &blob.digest);
                let came = client
                    .send_blob(
                        &self.reference,
                        &blob,
                        &origins,
                        store.blobs(),
                        Some(progress),
                    )
                    .await?;
                Ok::<_, ShareError>((came, blob.size))
            });
            let mut sent =
                futures_util::stream::iter(sent).buffer_unordered(client.parallel_uploads());
            let mut exported = Exported::default();
            while let Some((came, size)) = sent.try_next().await? {
                match came {
                    Came::Sent => {
                        exported.sent += 1;
                        exported.sent_bytes += size;
                    }
                    Came::Mounted => exported.mounted += 1,
                    Came::There => exported.there += 1,
                }
            }
            let (_, document) = written.document();
            client.send_document(&self.reference, &document).await?;
            let digests = parts.iter().map(|it| &it.digest);
            note_origin(store.records(), &self.reference, digests)?;
            Ok(exported)
        }
        .boxed()
    }
}
