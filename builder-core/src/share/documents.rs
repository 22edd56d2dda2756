//! From the document that a name stands for to what a cache holds: a cache, an image, or an index of either.

use futures_util::future::BoxFuture;

use super::ShareError;
use super::format::{CONFIG_TYPE, CacheConfig, Contents};
use super::inline;
use crate::image::{Descriptor, ImageConfig, Index, Manifest, media_type};

/// Far more than any real one: some hundred bytes a step and a layer.
pub(super) const MAX_CONFIG_BYTES: u64 = 64 << 20;
pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// So many images of an index are looked at.
const MOST_IMAGES: usize = 32;

/// Gets what a document names.
pub(super) trait Get: Send + Sync {
    fn get<'a>(&'a self, what: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, ShareError>>;
}

/// Reads what `top` stands for; layers come from `origin`.
pub(super) async fn read(
    top: &[u8],
    what: &str,
    origin: &str,
    from: &dyn Get,
) -> Result<Contents, ShareError> {
    let wrong = |source| ShareError::Document {
        what: what.to_owned(),
        source,
    };
    let mut contents = Contents::default();
    if let Ok(index) = Index::parse(top)
        && (media_type::is_index(index.media_type()) && index.media_type.is_some()
            || !index.manifests.is_empty())
    {
        if let Some(config) = index.manifests.iter().find(|it| is_cache(it)) {
            return cache(config, origin, from).await;
        }
        let images = index.manifests.iter().filter(|it| {
            let unknown = it.platform.as_ref().is_some_and(|it| it.os == "unknown");
            media_type::is_manifest(&it.media_type) && !unknown
        });
        contents.is_bare = true;
        for image in images.take(MOST_IMAGES) {
            let bytes = from.get(image).await?;
            let found = manifest(&Manifest::parse(&bytes).map_err(wrong)?, origin, from).await?;
            contents.steps.extend(found.steps);
            contents.mounts.extend(found.mounts);
            contents.is_foreign |= found.is_foreign;
            contents.is_bare &= found.is_bare;
        }
        contents.is_foreign &= contents.steps.is_empty();
        return Ok(contents);
    }
    manifest(&Manifest::parse(top).map_err(wrong)?, origin, from).await
}

fn is_cache(config: &Descriptor) -> bool {
    config.media_type == CONFIG_TYPE
}

async fn manifest(
    manifest: &Manifest,
    origin: &str,
    from: &dyn Get,
) -> Result<Contents, ShareError> {
    if is_cache(&manifest.config) {
        return cache(&manifest.config, origin, from).await;
    }
    if !media_type::is_config(&manifest.config.media_type) {
        return Err(ShareError::NotACache {
            what: format!("what has a config of type `{}`", manifest.config.media_type),
        });
    }
    let bytes = from.get(&manifest.config).await?;
    let config = ImageConfig::parse(&bytes).map_err(|source| ShareError::Document {
        what: "the image's config".to_owned(),
        source,
    })?;
    Ok(inline::contents(&config, manifest, origin))
}

async fn cache(config: &Descriptor, origin: &str, from: &dyn Get) -> Result<Contents, ShareError> {
    let bytes = from.get(config).await?;
    let config = CacheConfig::parse(&bytes).map_err(ShareError::Config)?;
    Ok(config.contents(origin, &std::collections::BTreeMap::new()))
}

/// Refuses what claims to be larger than it may be.
pub(super) fn check_size(what: &Descriptor) -> Result<u64, ShareError> {
    let max = match media_type::is_manifest(&what.media_type) {
        true => MAX_MANIFEST_BYTES,
        false => MAX_CONFIG_BYTES,
    };
    match what.size > max {
        true => Err(ShareError::TooLarge {
            what: what.digest.to_string(),
            max,
        }),
        false => Ok(max),
    }
}
