//! An image as a registry gets it: layers that the store keeps uncompressed are compressed, and all that names them follows.
//!
//! The store keeps what a build has made as it is, since compressing is work for those who send. What is pushed later is what
//! `build --push` would have pushed, byte for byte: the same layers, and in attestations the digests of these. A layer that
//! a registry is known to have uncompressed stays so, unless another form is asked for.
//!
//! What Docker's media types cannot say is sent with OCI's: engines and tools refuse a schema 2 manifest with zstd layers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::find::document;
use super::{Images, ImagesError};
use crate::digest::Digest;
use crate::export::Compressor;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use crate::layer::compression::Compression;
use crate::registry::known_origins;
use crate::store::{Blobs, Store};

const MAX_DOCUMENT_BYTES: u64 = 8 << 20;
/// A statement lists all packages of an image.
const MAX_STATEMENT_BYTES: u64 = 256 << 20;
const MAX_DEPTH: usize = 3;
/// On an entry of an index: which manifest it tells of.
pub(super) const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// What is pushed of an image, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Chooses from an index.
    pub platform: Option<Platform>,
    pub compression: Compression,
    /// Layers that came in another form are brought to this one, too.
    pub force_compression: bool,
}

impl Images {
    /// Returns what is pushed for `top`: itself, or a document that is new in the store.
    pub(super) async fn as_sent(
        &self,
        top: Descriptor,
        options: &PushOptions,
    ) -> Result<AsSent, ImagesError> {
        let (store, how, force) = (
            self.store.clone(),
            options.compression,
            options.force_compression,
        );
        let rewritten = tokio::task::spawn_blocking(move || {
            let mut rewrite = Rewrite {
                compressor: Compressor::new(store.clone(), [], 0),
                store: &store,
                how,
                force,
                layers: BTreeMap::new(),
                documents: BTreeMap::new(),
                renamed: false,
            };
            let top = rewrite.document(&top, 0)?;
            let renamed = rewrite.renamed;
            Ok(AsSent { top, renamed })
        });
        rewritten
            .await
            .map_err(|error| ImagesError::Worker(error.to_string()))?
    }
}

/// What is pushed.
pub(super) struct AsSent {
    pub top: Descriptor,
    /// Docker's media types have become OCI's.
    pub renamed: bool,
}

struct Rewrite<'a> {
    store: &'a Store,
    compressor: Compressor,
    how: Compression,
    force: bool,
    /// What has become of layers, and of documents.
    layers: BTreeMap<Digest, Descriptor>,
    documents: BTreeMap<Digest, Descriptor>,
    renamed: bool,
}

impl Rewrite<'_> {
    fn blobs(&self) -> &Blobs {
        self.store.blobs()
    }

    fn document(&mut self, entry: &Descriptor, depth: usize) -> Result<Descriptor, ImagesError> {
        // What is not here, or is no image, is for the push to tell.
        let Ok(bytes) = self.blobs().read(&entry.digest, MAX_DOCUMENT_BYTES) else {
            return Ok(entry.clone());
        };
        if let Ok(manifest) = Manifest::parse(&bytes) {
            return self.image(entry, manifest);
        }
        let before = Index::parse(&bytes).map_err(document(&entry.digest.to_string()))?;
        if depth >= MAX_DEPTH {
            return Ok(entry.clone());
        }
        let mut index = before.clone();
        let is_said = |it: &&mut Descriptor| it.annotations.contains_key(REFERENCE_DIGEST);
        // Images come before what is said of them.
        for it in index.manifests.iter_mut().filter(|it| !is_said(it)) {
            *it = self.document(it, depth + 1)?;
        }
        for it in index.manifests.iter_mut().filter(is_said) {
            *it = self.said(it)?;
        }
        let mut entry = entry.clone();
        if index != before && speaks_oci(&index.manifests) {
            index.media_type = Some(media_type::oci(index.media_type()).to_owned());
            entry.media_type = media_type::oci(&entry.media_type).to_owned();
        }
        match index == before {
            true => Ok(entry),
            false => self.changed(&entry, &index.to_bytes()),
        }
    }

    fn image(&mut self, entry: &Descriptor, before: Manifest) -> Result<Descriptor, ImagesError> {
        let is_layer = |it: &Descriptor| media_type::layer_compression(&it.media_type).is_some();
        if !media_type::is_config(&before.config.media_type) || !before.layers.iter().all(is_layer)
        {
            return Ok(entry.clone());
        }
        let Ok(config) = self.blobs().read(&before.config.digest, MAX_DOCUMENT_BYTES) else {
            return Ok(entry.clone());
        };
        let config = ImageConfig::parse(&config).map_err(document(&entry.digest.to_string()))?;
        let is_docker = before.media_type() == media_type::DOCKER_MANIFEST;
        let mut manifest = before.clone();
        for (layer, diff_id) in manifest.layers.iter_mut().zip(&config.diff_ids) {
            let is_here = self.blobs().has_sized(&layer.digest, layer.size);
            let is_elsewhere = || !known_origins(self.store.records(), &layer.digest).is_empty();
            if !is_here || !self.force && is_elsewhere() {
                continue;
            }
            let sent = self.compressor.get(*diff_id, layer, self.how, self.force)?;
            if sent.digest == layer.digest {
                continue;
            }
            let sent = Descriptor {
                media_type: sent.media_type,
                digest: sent.digest,
                size: sent.size,
                ..layer.clone()
            };
            *layer = sent;
        }
        let mut entry = entry.clone();
        if manifest != before {
            let types = types(is_docker, &manifest.layers);
            name(&mut manifest, &mut entry, types);
            self.renamed |= is_docker && types == Types::Oci;
        }
        for (then, now) in before.layers.iter().zip(&manifest.layers) {
            if then.digest != now.digest {
                self.layers.insert(then.digest, now.clone());
            }
        }
        match manifest == before {
            true => Ok(entry),
            false => self.changed(&entry, &manifest.to_bytes()),
        }
    }

    /// Has an attestation say of the image that is sent what it says of the one that is kept.
    fn said(&mut self, entry: &Descriptor) -> Result<Descriptor, ImagesError> {
        let about: Option<Digest> = entry.annotations[REFERENCE_DIGEST].parse().ok();
        let Some(image) = about.and_then(|it| self.documents.get(&it)).cloned() else {
            return Ok(entry.clone());
        };
        let bytes = self.blobs().read(&entry.digest, MAX_DOCUMENT_BYTES)?;
        let mut manifest = Manifest::parse(&bytes).map_err(document(&entry.digest.to_string()))?;
        // The config names the statements.
        for part in manifest.layers.iter_mut().chain([&mut manifest.config]) {
            let bytes = self.blobs().read(&part.digest, MAX_STATEMENT_BYTES)?;
            let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else {
                continue;
            };
            let before = value.clone();
            follow(&mut value, &self.layers, &self.documents);
            if value != before {
                let bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
                *part = self.changed(part, &bytes)?;
            }
        }
        if let Some(subject) = &mut manifest.subject {
            (subject.digest, subject.size) = (image.digest, image.size);
        }
        let named = entry
            .clone()
            .annotate(REFERENCE_DIGEST, image.digest.to_string());
        self.changed(&named, &manifest.to_bytes())
    }

    /// Keeps what stands for `entry` now.
    fn changed(&mut self, entry: &Descriptor, bytes: &[u8]) -> Result<Descriptor, ImagesError> {
        let now = Descriptor {
            digest: self.blobs().put(bytes)?,
            size: bytes.len() as u64,
            ..entry.clone()
        };
        self.documents.insert(entry.digest, now.clone());
        Ok(now)
    }
}

/// Whose media types a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Types {
    Docker,
    Oci,
}

/// Chooses the media types of a manifest with these layers, which had Docker's or OCI's.
fn types(was_docker: bool, layers: &[Descriptor]) -> Types {
    use media_type::{LayerCompression, layer_compression};
    let mut codecs = layers.iter().map(|it| layer_compression(&it.media_type));
    match was_docker && codecs.all(|it| it != Some(LayerCompression::Zstd)) {
        true => Types::Docker,
        false => Types::Oci,
    }
}

/// Gives all that a manifest names, and what names it, these media types.
fn name(manifest: &mut Manifest, entry: &mut Descriptor, types: Types) {
    match types {
        Types::Docker => {
            for layer in &mut manifest.layers {
                layer.media_type = media_type::docker_layer(&layer.media_type).to_owned();
            }
        }
        Types::Oci => {
            for part in manifest.layers.iter_mut().chain([&mut manifest.config]) {
                part.media_type = media_type::oci(&part.media_type).to_owned();
            }
            manifest.media_type = Some(media_type::oci(manifest.media_type()).to_owned());
            entry.media_type = media_type::oci(&entry.media_type).to_owned();
        }
    }
}

/// Whether an index has to be OCI's, since an entry is: a list of Docker's names Docker's manifests alone.
fn speaks_oci(entries: &[Descriptor]) -> bool {
    let mut kinds = entries.iter().map(|it| it.media_type.as_str());
    kinds.any(|it| matches!(it, media_type::OCI_MANIFEST | media_type::OCI_INDEX))
}

/// Renames in a document what has another digest now. A layer is renamed where it is described, and not where its digest stands
/// alone: that is its `diff_id`.
fn follow(
    value: &mut Value,
    layers: &BTreeMap<Digest, Descriptor>,
    documents: &BTreeMap<Digest, Descriptor>,
) {
    match value {
        Value::Object(map) => {
            let digest = map.get("digest").and_then(Value::as_str);
            let digest = digest.and_then(|it| it.parse::<Digest>().ok());
            let now = digest.and_then(|it| layers.get(&it).or_else(|| documents.get(&it)));
            match now {
                Some(now) if map.contains_key("size") => {
                    map.insert("digest".to_owned(), now.digest.to_string().into());
                    map.insert("size".to_owned(), now.size.into());
                    if map.contains_key("mediaType") {
                        map.insert("mediaType".to_owned(), now.media_type.clone().into());
                    }
                }
                _ => map
                    .values_mut()
                    .for_each(|it| follow(it, layers, documents)),
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|it| follow(it, layers, documents)),
        Value::String(text) => {
            let bare = text.strip_prefix("sha256:");
            let whole = format!("sha256:{}", bare.unwrap_or(text));
            let digest = whole.parse::<Digest>().ok();
            if let Some(now) = digest.and_then(|it| documents.get(&it)) {
                *text = match bare {
                    Some(_) => now.digest.to_string(),
                    None => now.digest.hex(),
                };
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn docker_types_stay_as_long_as_they_can_say_what_is_there() {
        use media_type::*;
        let of = |kind: &&str| Descriptor::of(*kind, b"");
        for (docker, layers, expected) in [
            (
                true,
                &[DOCKER_LAYER_GZIP, OCI_LAYER_GZIP][..],
                Types::Docker,
            ),
            (
                true,
                &[DOCKER_LAYER, DOCKER_LAYER_FOREIGN_GZIP],
                Types::Docker,
            ),
            (true, &[], Types::Docker),
            (true, &[DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD], Types::Oci),
            (true, &[DOCKER_LAYER_ZSTD], Types::Oci),
            (false, &[OCI_LAYER_GZIP], Types::Oci),
        ] {
            let layers: Vec<_> = layers.iter().map(of).collect();
            assert_eq!(types(docker, &layers), expected, "{docker} {layers:?}");
        }
        let layers = [DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER_FOREIGN_GZIP];
        let config = Descriptor::of(DOCKER_CONFIG, b"");
        let layers = layers.iter().map(of).collect();
        let mut manifest = Manifest::new(config, layers, BTreeMap::new());
        manifest.media_type = Some(DOCKER_MANIFEST.to_owned());
        let mut entry = Descriptor::of(DOCKER_MANIFEST, b"");
        name(&mut manifest, &mut entry, Types::Oci);
        let kinds = manifest.layers.iter().chain([&manifest.config, &entry]);
        let kinds: Vec<_> = kinds.map(|it| it.media_type.as_str()).collect();
        assert_eq!(
            kinds,
            [
                OCI_LAYER_GZIP,
                OCI_LAYER_ZSTD,
                OCI_LAYER_FOREIGN_GZIP,
                OCI_CONFIG,
                OCI_MANIFEST
            ]
        );
        assert_eq!(manifest.media_type(), OCI_MANIFEST);
        assert!(speaks_oci(&[of(&DOCKER_MANIFEST), entry]));
        assert!(!speaks_oci(&[of(&DOCKER_MANIFEST)]));
    }

    #[test]
    fn documents_follow_what_they_name() {
        let at = |text: &str| Descriptor::of("a", text.as_bytes());
        let (tar, gzip) = (at("tar"), Descriptor::new("b", Digest::of(b"gzip"), 4));
        let (before, after) = (at("before"), at("after all"));
        let layers = BTreeMap::from([(tar.digest, gzip.clone())]);
        let documents = BTreeMap::from([(before.digest, after.clone())]);
        let described = |it: &Descriptor| json!({"mediaType": it.media_type, "digest": it.digest.to_string(), "size": it.size});
        for (value, expected) in [
            (
                json!({"a": [described(&tar)]}),
                json!({"a": [described(&gzip)]}),
            ),
            // A diff_id stays.
            (
                json!([tar.digest.to_string()]),
                json!([tar.digest.to_string()]),
            ),
            (
                json!({"digest": {"sha256": before.digest.hex()}}),
                json!({"digest": {"sha256": after.digest.hex()}}),
            ),
            (
                json!({"diff_ids": [before.digest.to_string(), "x"], "n": 1}),
                json!({"diff_ids": [after.digest.to_string(), "x"], "n": 1}),
            ),
            (described(&before), described(&after)),
        ] {
            let mut found = value.clone();
            follow(&mut found, &layers, &documents);
            assert_eq!(found, expected, "{value}");
        }
    }
}
