//! Which image is meant.

use super::{Images, ImagesError};
use crate::digest::Digest;
use crate::image::{
    Descriptor, DocumentError, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use crate::store::{Blobs, StoreError, Tag};

const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
const MAX_DEPTH: usize = 3;
/// What a pull or a push has found a name to be at its registry; kept in the store's index.
pub(super) const ANNOTATION_REPO_DIGEST: &str = "io.builder.repo-digest";

/// An image of the store, read.
#[derive(Debug, Clone)]
pub struct Image {
    /// What its names stand for: an index or the manifest.
    pub top: Descriptor,
    pub manifest_descriptor: Descriptor,
    pub manifest: Manifest,
    pub config: ImageConfig,
    /// All names of `top`.
    pub names: Vec<Reference>,
    /// What it is at registries: `docker.io/library/app@sha256:…`.
    pub repo_digests: Vec<Reference>,
}

impl Image {
    /// Returns the image's id: its config's digest.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// Returns the bytes of its layers, as they are stored or were when they were pulled.
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|it| it.size).sum()
    }

    /// Names with a tag, as Docker shows them.
    pub fn repo_tags(&self) -> Vec<String> {
        let tagged = self.names.iter().filter(|it| it.digest().is_none());
        tagged.map(Reference::familiar).collect()
    }
}

impl Images {
    /// Finds an image by a name, an id, the first digits of an id, or a digest.
    ///
    /// # Errors
    /// [`ImagesError::NoSuchImage`], [`ImagesError::AmbiguousId`]; what cannot be read.
    pub fn find(&self, text: &str) -> Result<Image, ImagesError> {
        let tags = self.store.list()?;
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(top) = named(&tags, &reference)
        {
            return self.read(text, &top, &tags);
        }
        let wanted = text.strip_prefix("sha256:").unwrap_or(text);
        let digits = wanted
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut found: Vec<Image> = Vec::new();
        if digits && (2..=64).contains(&wanted.len()) {
            let nameless = self.store.nameless()?;
            let built = self.store.built(wanted)?;
            let listed = tags.iter().map(|it| &it.descriptor);
            for top in listed.chain(&nameless).chain(&built) {
                let Ok(image) = self.read(text, top, &tags) else {
                    continue;
                };
                let digests = [
                    image.id(),
                    image.top.digest,
                    image.manifest_descriptor.digest,
                ];
                let meant = digests.iter().any(|it| it.hex().starts_with(wanted));
                if meant && found.iter().all(|it| it.top.digest != image.top.digest) {
                    found.push(image);
                }
            }
        }
        let mut ids: Vec<Digest> = found.iter().map(Image::id).collect();
        ids.dedup();
        match (ids.len(), found.pop()) {
            (1, Some(image)) => Ok(image),
            (0, _) | (_, None) => Err(ImagesError::NoSuchImage {
                name: text.to_owned(),
            }),
            _ => Err(ImagesError::AmbiguousId {
                name: text.to_owned(),
                ids,
            }),
        }
    }

    /// Reads what `top` stands for; `what` is for errors.
    pub(super) fn read(
        &self,
        what: &str,
        top: &Descriptor,
        tags: &[Tag],
    ) -> Result<Image, ImagesError> {
        let blobs = self.store.blobs();
        let (manifest_descriptor, manifest) = manifest(what, top, blobs)?;
        let bytes = read(what, manifest.config.digest, blobs)?;
        let config = ImageConfig::parse(&bytes).map_err(document(what))?;
        let ours = |tag: &&Tag| tag.descriptor.digest == top.digest;
        let mut repo_digests: Vec<Reference> =
            tags.iter().filter(ours).filter_map(repo_digest).collect();
        repo_digests.sort();
        repo_digests.dedup();
        let mut top = top.clone();
        top.annotations.clear();
        Ok(Image {
            top,
            manifest_descriptor,
            manifest,
            config,
            names: tags
                .iter()
                .filter(ours)
                .map(|it| it.reference.clone())
                .collect(),
            repo_digests,
        })
    }
}

/// What a name is at its registry.
pub(super) fn repo_digest(tag: &Tag) -> Option<Reference> {
    let text = tag.descriptor.annotations.get(ANNOTATION_REPO_DIGEST)?;
    let bare = format!("{}@{text}", tag.reference.repository());
    bare.parse().ok()
}

/// Looks a name up: as it is, or by the digest that it had at its registry.
fn named(tags: &[Tag], reference: &Reference) -> Option<Descriptor> {
    let exact = tags.iter().find(|it| it.reference == *reference);
    let by_digest = || {
        let digest = reference.digest()?;
        tags.iter().find(|it| {
            it.reference.repository() == reference.repository()
                && (it.descriptor.digest == digest
                    || repo_digest(it).and_then(|it| it.digest()) == Some(digest))
        })
    };
    exact.or_else(by_digest).map(|it| it.descriptor.clone())
}

/// Returns the manifest that is shown for `top`: this machine's platform's, else the first that is whole.
fn manifest(
    what: &str,
    top: &Descriptor,
    blobs: &Blobs,
) -> Result<(Descriptor, Manifest), ImagesError> {
    let mut entry = Descriptor::new(&top.media_type, top.digest, top.size);
    for _ in 0..=MAX_DEPTH {
        let bytes = read(what, entry.digest, blobs)?;
        let index = match Manifest::parse(&bytes) {
            Ok(manifest) => return Ok((entry, manifest)),
            Err(DocumentError::MediaType { .. }) => Index::parse(&bytes).map_err(document(what))?,
            // It may be an index that does not say so.
            Err(source) => Index::parse(&bytes).map_err(|_| document(what)(source))?,
        };
        let is_image = |it: &&Descriptor| {
            let known = it.platform.as_ref().is_none_or(|it| it.os != "unknown");
            known
                && (media_type::is_manifest(&it.media_type) || media_type::is_index(&it.media_type))
        };
        let here = index
            .choose(&Platform::host())
            .filter(|it| blobs.has(&it.digest));
        let chosen = here.or_else(|| {
            let mut images = index.manifests.iter().filter(is_image);
            images.find(|it| blobs.has(&it.digest))
        });
        entry = match chosen {
            Some(chosen) => chosen.clone(),
            None => {
                return Err(ImagesError::Incomplete {
                    name: what.to_owned(),
                    digest: index.manifests.first().map_or(top.digest, |it| it.digest),
                });
            }
        };
    }
    Err(crate::registry::RegistryError::TooDeep {
        what: what.to_owned(),
    }
    .into())
}

fn read(what: &str, digest: Digest, blobs: &Blobs) -> Result<Vec<u8>, ImagesError> {
    match blobs.read(&digest, MAX_DOCUMENT_BYTES) {
        Err(StoreError::NotFound { digest }) => Err(ImagesError::Incomplete {
            name: what.to_owned(),
            digest,
        }),
        bytes => Ok(bytes?),
    }
}

pub(super) fn document(what: &str) -> impl Fn(DocumentError) -> ImagesError + use<> {
    let what = what.to_owned();
    move |source| ImagesError::Document {
        what: what.clone(),
        source,
    }
}
