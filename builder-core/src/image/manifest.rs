//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker's schema 2).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Descriptor, DocumentError, Platform, media_type};

/// One image: a config and its layers, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::config::nullable"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Builds an OCI manifest.
    pub fn new(
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where `bytes` are no schema 2 manifest; an index is named as what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        check("manifest", bytes, media_type::is_index)?;
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
            what: "manifest",
            source,
        })
    }

    /// Returns the document, indented by two spaces as BuildKit writes it; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        pretty(self)
    }

    /// Returns the media type: its own, or OCI's where it names none.
    pub fn media_type(&self) -> &str {
        self.media_type
            .as_deref()
            .unwrap_or(media_type::OCI_MANIFEST)
    }

    /// Points to [`to_bytes`](Self::to_bytes).
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type(), &self.to_bytes())
    }
}

/// A list of manifests, usually one a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "super::config::nullable"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Builds an OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads an index or a Docker manifest list.
    ///
    /// # Errors
    /// Where `bytes` are no schema 2 index; a manifest is named as what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        check("index", bytes, media_type::is_manifest)?;
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
            what: "index",
            source,
        })
    }

    /// Returns the document, indented by two spaces; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        pretty(self)
    }

    /// Returns the media type: its own, or OCI's where it names none.
    pub fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media_type::OCI_INDEX)
    }

    /// Chooses the manifest that runs best on `platform`.
    ///
    /// Candidates are tried in the order of [`Platform::candidates`]; among equals the first entry wins.
    /// An entry that names no platform is taken only where it is the only entry.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        for candidate in platform.candidates() {
            let found = self.manifests.iter().find(|entry| {
                entry
                    .platform
                    .as_ref()
                    .is_some_and(|it| it.normalized().same_machine(&candidate))
            });
            if found.is_some() {
                return found;
            }
        }
        match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        }
    }

    /// Returns the platforms that are there, in the order of the document, attestations left out.
    pub fn platforms(&self) -> Vec<Platform> {
        self.manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(Platform::normalized)
            .collect()
    }
}

/// What every document says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

fn check(
    what: &'static str,
    bytes: &[u8],
    is_the_other: fn(&str) -> bool,
) -> Result<(), DocumentError> {
    let header: Header =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })?;
    if header.schema_version != 2 {
        return Err(DocumentError::SchemaVersion {
            what,
            version: header.schema_version,
        });
    }
    // What two readers could take for two things (CVE-2021-41190).
    let is_both = match what {
        "manifest" => header.manifests.is_some(),
        _ => header.config.is_some() || header.layers.is_some(),
    };
    if is_both {
        return Err(DocumentError::Ambiguous);
    }
    match header.media_type {
        Some(found) if is_the_other(&found) => Err(DocumentError::MediaType { what, found }),
        _ => Ok(()),
    }
}

fn pretty<T: Serialize>(document: &T) -> Vec<u8> {
    // Structs of strings, numbers and string-keyed maps: serialising them cannot fail.
    serde_json::to_vec_pretty(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn entry(name: &str, platform: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(name.as_bytes()), 7);
        entry.platform = platform.map(|text| {
            let mut parts = text.split('/').map(str::to_owned);
            Platform {
                os: parts.next().unwrap_or_default(),
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
                ..Platform::default()
            }
        });
        entry
    }

    #[test]
    fn chooses_the_best_platform() {
        let all = &[
            "linux/386",
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "unknown/unknown",
        ][..];
        for (there, wanted, expected) in [
            (all, "linux/amd64", Some("linux/amd64")),
            (all, "linux/amd64/v3", Some("linux/amd64")),
            (all, "linux/arm64", Some("linux/arm64/v8")),
            (all, "linux/arm/v7", Some("linux/arm/v7")),
            (all, "linux/arm/v6", Some("linux/arm/v5")),
            (all, "linux/s390x", None),
            (&["linux/386"][..], "linux/amd64", Some("linux/386")),
            (&["linux/arm/v6"][..], "linux/arm64", Some("linux/arm/v6")),
            (&["linux/amd64"][..], "linux/386", None),
            (&["linux/arm/v7"][..], "linux/arm/v6", None),
            (&["windows/amd64"][..], "linux/amd64", None),
            (&["unknown/unknown"][..], "linux/amd64", None),
        ] {
            let index = Index::new(there.iter().map(|it| entry(it, Some(it))).collect());
            let platform: Platform = wanted.parse().expect(wanted);
            assert_eq!(
                index.choose(&platform).map(|it| it.digest),
                expected.map(|it| Digest::of(it.as_bytes())),
                "{wanted} from {there:?}"
            );
        }
    }

    #[test]
    fn an_only_entry_needs_no_platform() {
        let platform: Platform = "linux/amd64".parse().expect("platform");
        let one = Index::new(vec![entry("a", None)]);
        assert!(one.choose(&platform).is_some());
        let two = Index::new(vec![entry("a", None), entry("b", None)]);
        assert!(two.choose(&platform).is_none());
    }

    #[test]
    fn oci_spec_reads_what_is_written() {
        let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
        let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, b"x").annotate("k", "v");
        let manifest = Manifest::new(config, vec![layer], BTreeMap::new());
        let theirs = oci_spec::image::ImageManifest::from_reader(&manifest.to_bytes()[..])
            .expect("manifest");
        assert_eq!(theirs.layers().len(), 1);
        assert_eq!(
            Manifest::parse(&manifest.to_bytes()).expect("parse"),
            manifest
        );

        let platform: Platform = "linux/arm/v7".parse().expect("platform");
        let index = Index::new(vec![manifest.descriptor().for_platform(platform)]);
        let theirs =
            oci_spec::image::ImageIndex::from_reader(&index.to_bytes()[..]).expect("index");
        let theirs = theirs.manifests()[0].platform().clone().expect("platform");
        assert_eq!(theirs.variant().as_deref(), Some("v7"));
        assert_eq!(Index::parse(&index.to_bytes()).expect("parse"), index);
    }

    #[test]
    fn documents_are_told_apart() {
        let index = Index::new(Vec::new()).to_bytes();
        let error = Manifest::parse(&index).expect_err("an index");
        assert!(error.to_string().contains("index"), "{error}");
        let error = Manifest::parse(br#"{"schemaVersion":1}"#).expect_err("schema 1");
        assert!(error.to_string().contains("version 1"), "{error}");
    }
}
