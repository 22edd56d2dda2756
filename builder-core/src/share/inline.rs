//! The cache that an image carries in its own config.
//!
//! `moby.buildkit.cache.v0` holds BuildKit's records, in base64 as Go writes bytes; `builder.cache.v1` beside it our part.
//! Blobs are those of the image's manifest. A base's are not passed on: they speak of layers by their place.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::format::{CacheConfig, CacheRecord, Contents, Own, Step, encode_inline};
use crate::cache::Layer;
use crate::digest::DiffId;
use crate::image::{Descriptor, ImageConfig, Manifest};

/// Where BuildKit's records stand in an image's config.
pub const INLINE: &str = "moby.buildkit.cache.v0";
/// Where our part stands.
pub const OWN_INLINE: &str = "builder.cache.v1";

/// Puts the steps whose layers are those of the image into its config.
pub fn embed(config: &mut ImageConfig, steps: &[Step], layers: &[Layer]) {
    let (records, own) = encode_inline(steps, layers);
    // Strings, numbers and lists: serialising them cannot fail.
    let records = serde_json::to_vec(&records).unwrap_or_default();
    let own = serde_json::to_value(&own).unwrap_or_default();
    let records = Value::String(STANDARD.encode(records));
    config.extra.insert(INLINE.to_owned(), records);
    config.extra.insert(OWN_INLINE.to_owned(), own);
}

/// Returns what an image carries; its layers come from `origin`.
pub(super) fn contents(config: &ImageConfig, manifest: &Manifest, origin: &str) -> Contents {
    let builder: Option<Own> = config
        .extra
        .get(OWN_INLINE)
        .and_then(|own| serde_json::from_value(own.clone()).ok());
    let records: Option<Vec<CacheRecord>> = config
        .extra
        .get(INLINE)
        .and_then(Value::as_str)
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if builder.is_none() && records.is_none() {
        return Contents {
            is_bare: true,
            ..Contents::default()
        };
    }
    // An image whose documents contradict each other says nothing.
    if config.diff_ids.len() != manifest.layers.len() {
        return Contents::default();
    }
    let blobs: BTreeMap<DiffId, Descriptor> = config
        .diff_ids
        .iter()
        .zip(&manifest.layers)
        .map(|(diff_id, blob)| {
            let plain = Descriptor::new(&blob.media_type, blob.digest, blob.size);
            (*diff_id, plain)
        })
        .collect();
    let config = CacheConfig {
        records: records.unwrap_or_default(),
        builder,
        ..CacheConfig::default()
    };
    config.contents(origin, &blobs)
}
