//! Images from disk: an OCI layout (directory or archive), or what `docker save` writes.
//!
//! An archive may be compressed with gzip or zstd; it is then unpacked to a nameless file in the store
//! first, since layers lie in any order. All that the image needs is copied into the store, verified.
//! Never linked: the file still belongs to somebody else, who may change it.

mod files;

use std::io::{Read, Write};

use serde::Deserialize;

pub use files::Place;
use files::{Layout, Magic};

use super::RegistryError;
use super::documents::{check_manifest, choose, is_index, kind_of};
use super::pull::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Resolved, Source};
use crate::digest::Digest;
use crate::image::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, DocumentError, ImageConfig, Index,
    Manifest, Platform, Reference, media_type,
};
use crate::store::{Blobs, StoreError};

/// Reads an image of a layout or an archive into `blobs`, layers included.
///
/// `wanted` is a tag, a full name or a digest; without one there must be one image only. A tag is looked
/// for in `org.opencontainers.image.ref.name`, and a full name also in `io.containerd.image.name`; in a
/// docker archive, in `RepoTags`. Blocks: call it on a thread that may.
///
/// # Errors
/// Where `path` is no such thing, there is no such image, or several; where content is not what its digest
/// says.
pub fn resolve<'a>(
    place: impl Into<Place<'a>>,
    wanted: Option<&str>,
    platform: &Platform,
    blobs: &Blobs,
) -> Result<Resolved, RegistryError> {
    let mut layout = Layout::open(&place.into(), blobs)?;
    let is_oci = layout.read("index.json", MAX_MANIFEST_BYTES)?;
    if let (Some(index), true) = (is_oci, layout.has("oci-layout")) {
        return layout.oci(&index, wanted, platform, blobs);
    }
    match layout.read("manifest.json", MAX_MANIFEST_BYTES)? {
        Some(manifest) => layout.docker(&manifest, wanted, platform, blobs),
        None => Err(RegistryError::NotALayout { path: layout.shown }),
    }
}

/// What stands in a layout or an archive under a name.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Whole {
    /// A manifest or an index.
    Oci(Descriptor, Source),
    /// The one image of one platform that a docker archive has there.
    Docker(Resolved),
}

/// Reads an entry of a layout or an archive into `blobs` as it is, all platforms of an index with all their layers.
///
/// # Errors
/// As [`resolve`]; where an index names what the layout lacks.
pub fn resolve_all<'a>(
    place: impl Into<Place<'a>>,
    wanted: Option<&str>,
    blobs: &Blobs,
) -> Result<Whole, RegistryError> {
    let place = place.into();
    let mut layout = Layout::open(&place, blobs)?;
    let index = layout.read("index.json", MAX_MANIFEST_BYTES)?;
    let (Some(index), true) = (index, layout.has("oci-layout")) else {
        let found = resolve(place, wanted, &Platform::host(), blobs);
        return found.map(Whole::Docker);
    };
    let index = Index::parse(&index).map_err(layout.document())?;
    let digest = layout.digest(&index, wanted, &Platform::host())?;
    let bytes = layout.blob(digest, MAX_MANIFEST_BYTES, blobs)?;
    let kind = kind_of(&bytes).map_err(layout.document())?;
    let top = Descriptor::of(kind, &bytes);
    layout.import_all(bytes, blobs)?;
    Ok(Whole::Oci(top, Source::Local { path: layout.path }))
}

/// One image of a layout or an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What [`resolve`] finds it by.
    pub wanted: String,
    /// Its full names.
    pub names: Vec<Reference>,
}

/// Lists the images of a layout or an archive. Blocks, as [`resolve`] does.
///
/// # Errors
/// Where `path` is no such thing.
pub fn list<'a>(place: impl Into<Place<'a>>, blobs: &Blobs) -> Result<Vec<Entry>, RegistryError> {
    let mut layout = Layout::open(&place.into(), blobs)?;
    let document = layout.document();
    let index = layout.read("index.json", MAX_MANIFEST_BYTES)?;
    if let (Some(index), true) = (index, layout.has("oci-layout")) {
        let index = Index::parse(&index).map_err(&document)?;
        let mut entries: Vec<Entry> = Vec::new();
        for manifest in &index.manifests {
            let wanted = manifest.digest.to_string();
            let name = full_name(manifest);
            match entries.iter_mut().find(|it| it.wanted == wanted) {
                Some(known) => known.names.extend(name),
                None => entries.push(Entry {
                    wanted,
                    names: name.into_iter().collect(),
                }),
            }
        }
        return Ok(entries);
    }
    let Some(manifest) = layout.read("manifest.json", MAX_MANIFEST_BYTES)? else {
        return Err(RegistryError::NotALayout { path: layout.shown });
    };
    let images: Vec<Saved> = serde_json::from_slice(&manifest).map_err(|source| {
        document(DocumentError::Json {
            what: "manifest.json",
            source,
        })
    })?;
    let entry = |image: &Saved| Entry {
        wanted: image.config.clone(),
        names: image
            .repo_tags
            .iter()
            .flatten()
            .filter_map(|it| it.parse().ok())
            .collect(),
    };
    Ok(images.iter().map(entry).collect())
}

/// One image of a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Layout {
    /// Copies a file into the store; returns its digest and size.
    fn import(
        &mut self,
        name: &str,
        expected: Option<Digest>,
        blobs: &Blobs,
    ) -> Result<(Digest, u64), RegistryError> {
        let what = self.what();
        let path = self.shown.clone();
        let missing = self.missing(name);
        let mut file = self.file(name)?.ok_or(missing)?;
        let mut writer = blobs.writer()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(source) => return Err(RegistryError::File { path, source }),
            };
            let written = writer.write_all(&buffer[..n]);
            written.map_err(|error| writer.failed(error))?;
        }
        writer.commit(expected).map_err(|error| match error {
            StoreError::Mismatch { expected, actual } => RegistryError::WrongDigest {
                what: name.to_owned(),
                host: what,
                expected,
                actual,
            },
            other => other.into(),
        })
    }

    /// Copies a blob into the store, unless it is there.
    fn import_blob(&mut self, descriptor: &Descriptor, blobs: &Blobs) -> Result<(), RegistryError> {
        if blobs.has_sized(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let name = blob_name(&descriptor.digest);
        let (_, actual) = self.import(&name, Some(descriptor.digest), blobs)?;
        self.check(&name, actual, descriptor.size)
    }

    /// Refuses what has another size than the document that names it says.
    fn check(&self, name: &str, actual: u64, expected: u64) -> Result<(), RegistryError> {
        if actual == expected {
            return Ok(());
        }
        Err(RegistryError::WrongSize {
            what: name.to_owned(),
            host: self.what(),
            expected,
            actual,
        })
    }

    /// Reads a document by its digest, verified, into the store, unless it is there.
    fn blob(&mut self, digest: Digest, max: u64, blobs: &Blobs) -> Result<Vec<u8>, RegistryError> {
        if let Some(size) = blobs.size(&digest)
            && blobs.has_sized(&digest, size)
            && let Ok(bytes) = blobs.read(&digest, max)
        {
            return Ok(bytes);
        }
        let name = blob_name(&digest);
        self.import(&name, Some(digest), blobs)?;
        Ok(blobs.read(&digest, max)?)
    }

    /// The same, for one that another names.
    fn named(
        &mut self,
        entry: &Descriptor,
        max: u64,
        blobs: &Blobs,
    ) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.blob(entry.digest, max, blobs)?;
        self.check(&blob_name(&entry.digest), bytes.len() as u64, entry.size)?;
        Ok(bytes)
    }

    fn oci(
        mut self,
        index: &[u8],
        wanted: Option<&str>,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let document = self.document();
        let what = self.what();
        let top = Index::parse(index).map_err(&document)?;
        let digest = self.digest(&top, wanted, platform)?;
        let mut bytes = self.blob(digest, MAX_MANIFEST_BYTES, blobs)?;
        while is_index(&bytes).map_err(&document)? {
            // It ends: a document cannot hold its own digest.
            let inner = Index::parse(&bytes).map_err(&document)?;
            let entry = choose(&inner, platform, &what)?;
            bytes = self.named(entry, MAX_MANIFEST_BYTES, blobs)?;
        }
        let manifest = Manifest::parse(&bytes).map_err(&document)?;
        check_manifest(&manifest, &what)?;
        let config = self.named(&manifest.config, MAX_CONFIG_BYTES, blobs)?;
        for layer in &manifest.layers {
            self.import_blob(layer, blobs)?;
        }
        let source = Source::Local { path: self.path };
        Resolved::assemble(&what, digest, bytes, config, source)
    }

    /// Returns the digest of what is wanted.
    fn digest(
        &self,
        top: &Index,
        wanted: Option<&str>,
        platform: &Platform,
    ) -> Result<Digest, RegistryError> {
        let digest = match wanted.map(|it| (it, it.parse::<Digest>())) {
            Some((_, Ok(digest))) => digest,
            Some((name, Err(_))) => {
                let found = top.manifests.iter().find(|it| has_name(it, name));
                found.ok_or_else(|| self.unknown(name, labels(top)))?.digest
            }
            None => self.only(top, platform)?,
        };
        if wanted.is_some() && !self.has(&blob_name(&digest)) {
            return Err(self.unknown(&digest.to_string(), labels(top)));
        }
        Ok(digest)
    }

    /// Copies all that stands below a document.
    fn import_all(&mut self, top: Vec<u8>, blobs: &Blobs) -> Result<(), RegistryError> {
        let document = self.document();
        let mut left = vec![top];
        while let Some(bytes) = left.pop() {
            if is_index(&bytes).map_err(&document)? {
                // It ends: a document cannot hold its own digest.
                for entry in Index::parse(&bytes).map_err(&document)?.manifests {
                    left.push(self.named(&entry, MAX_MANIFEST_BYTES, blobs)?);
                }
                continue;
            }
            let manifest = Manifest::parse(&bytes).map_err(&document)?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.import_blob(blob, blobs)?;
            }
        }
        Ok(())
    }

    /// Returns the digest of the one image that there is; one a platform counts as one.
    fn only(&self, top: &Index, platform: &Platform) -> Result<Digest, RegistryError> {
        let mut digests: Vec<Digest> = top.manifests.iter().map(|it| it.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        if let [digest] = digests[..] {
            return Ok(digest);
        }
        let nameless = |it: &Descriptor| {
            let name = [ANNOTATION_REF_NAME, ANNOTATION_IMAGE_NAME];
            it.platform.is_some() && name.iter().all(|key| !it.annotations.contains_key(*key))
        };
        if !digests.is_empty() && top.manifests.iter().all(nameless) {
            return Ok(choose(top, platform, &self.what())?.digest);
        }
        if digests.is_empty() {
            return Err(self.missing("an image"));
        }
        Err(RegistryError::Ambiguous {
            path: self.shown.clone(),
            available: labels(top),
        })
    }

    fn unknown(&self, wanted: &str, available: Vec<String>) -> RegistryError {
        RegistryError::NotInLayout {
            path: self.shown.clone(),
            wanted: wanted.to_owned(),
            available,
        }
    }

    fn docker(
        mut self,
        manifest: &[u8],
        wanted: Option<&str>,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let document = self.document();
        let what = self.what();
        let json = |source| {
            document(DocumentError::Json {
                what: "manifest.json",
                source,
            })
        };
        let mut images: Vec<Saved> = serde_json::from_slice(manifest).map_err(json)?;
        let available: Vec<String> = images.iter().flat_map(Saved::labels).collect();
        let at = match wanted {
            Some(wanted) => {
                let found = images.iter().position(|it| it.answers_to(wanted));
                found.ok_or_else(|| self.unknown(wanted, available))?
            }
            None if images.len() == 1 => 0,
            None if images.is_empty() => return Err(self.missing("an image")),
            None => {
                return Err(RegistryError::Ambiguous {
                    path: self.shown,
                    available,
                });
            }
        };
        let image = images.swap_remove(at);
        let config_bytes = self
            .read(&image.config, MAX_CONFIG_BYTES)?
            .ok_or_else(|| self.missing(&image.config))?;
        let config = ImageConfig::parse(&config_bytes).map_err(&document)?;
        let found = config.platform();
        if !found.os.is_empty() && found.os != platform.os {
            return Err(RegistryError::NoMatchingPlatform {
                what,
                platform: Box::new(platform.clone()),
                available: vec![found],
            });
        }
        blobs.put(&config_bytes)?;
        let names = image.layers.unwrap_or_default();
        let mut layers = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let missing = self.missing(name);
            let mut magic = Vec::new();
            let start = self
                .file(name)?
                .ok_or(missing)?
                .take(4)
                .read_to_end(&mut magic);
            start.map_err(|source| RegistryError::File {
                path: self.shown.clone(),
                source,
            })?;
            let (kind, expected) = match Magic::of(&magic) {
                Magic::Gzip => (media_type::OCI_LAYER_GZIP, None),
                Magic::Zstd => (media_type::OCI_LAYER_ZSTD, None),
                // As it is: its digest is its diff_id.
                Magic::Other => (
                    media_type::OCI_LAYER,
                    config.diff_ids.get(at).map(|it| it.0),
                ),
            };
            let (digest, size) = self.import(name, expected, blobs)?;
            layers.push(Descriptor::new(kind, digest, size));
        }
        let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config_bytes);
        let manifest = Manifest::new(descriptor, layers, Default::default()).to_bytes();
        let digest = blobs.put(&manifest)?;
        let source = Source::Local { path: self.path };
        Resolved::assemble(&what, digest, manifest, config_bytes, source)
    }
}

impl Saved {
    /// Returns the names, or the config where there is none.
    fn labels(&self) -> Vec<String> {
        match &self.repo_tags {
            Some(tags) if !tags.is_empty() => tags.clone(),
            _ => vec![self.config.clone()],
        }
    }

    fn answers_to(&self, wanted: &str) -> bool {
        if self.config == wanted {
            return true;
        }
        if let Ok(digest) = wanted.parse::<Digest>() {
            return self.config.contains(&digest.hex());
        }
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|it| it.parse::<Reference>().ok())
            .any(|it| {
                it.tag() == Some(wanted) || wanted.parse().is_ok_and(|name: Reference| name == it)
            })
    }
}

/// Whether an entry of a layout's index goes by `wanted`.
fn has_name(entry: &Descriptor, wanted: &str) -> bool {
    let full: Option<Reference> = wanted.parse().ok();
    [ANNOTATION_REF_NAME, ANNOTATION_IMAGE_NAME]
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .any(|name| {
            name == wanted
                || name.contains(['/', ':']) && full.is_some() && name.parse().ok() == full
        })
}

/// Returns the name that an entry has with its repository; a tag alone is none.
fn full_name(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(ANNOTATION_IMAGE_NAME);
    let short = entry.annotations.get(ANNOTATION_REF_NAME);
    let short = short.filter(|it| it.contains(['/', ':']));
    full.or(short)?.parse().ok()
}

fn labels(index: &Index) -> Vec<String> {
    index
        .manifests
        .iter()
        .map(|it| {
            [ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME]
                .iter()
                .find_map(|key| it.annotations.get(*key).cloned())
                .unwrap_or_else(|| it.digest.to_string())
        })
        .collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
