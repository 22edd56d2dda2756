//! In-toto statements, and the manifest that holds them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::purl;
use crate::image::{Descriptor, Manifest, Platform, Reference, media_type};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// One thing that is said of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    pub predicate_type: &'static str,
    pub predicate: Value,
    /// Its name among the files of an output that is a tree.
    pub file: String,
}

/// A manifest of attestations, and every blob that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// As the index points to it.
    pub manifest: Descriptor,
    /// The manifest itself included.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

/// Writes what is said of the manifest `image`, which is called `names` and is for `platform`.
pub fn attach(
    image: &Descriptor,
    names: &[Reference],
    platform: &Platform,
    attestations: &[Attestation],
    referrers: bool,
) -> Written {
    let subject = subjects(image, names, platform);
    let mut blobs = Vec::new();
    let mut layers = Vec::new();
    for attestation in attestations {
        let bytes = statement(attestation, &subject);
        let layer =
            Descriptor::of(IN_TOTO, &bytes).annotate(PREDICATE_TYPE, attestation.predicate_type);
        blobs.push((layer.clone(), bytes));
        layers.push(layer);
    }
    let diff_ids: Vec<String> = layers.iter().map(|it| it.digest.to_string()).collect();
    let config = bytes(&json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }));
    // An artifact of OCI 1.1 says by its own type what it is, and has no config.
    let (kind, config) = match referrers {
        false => (media_type::OCI_CONFIG, config),
        true => (media_type::OCI_EMPTY, b"{}".to_vec()),
    };
    let descriptor = Descriptor::of(kind, &config);
    let mut manifest = Manifest::new(descriptor.clone(), layers, BTreeMap::new());
    if referrers {
        manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        manifest.subject = Some(Descriptor::new(&image.media_type, image.digest, image.size));
    }
    blobs.push((descriptor, config));
    let mut entry = manifest
        .descriptor()
        .annotate(REFERENCE_DIGEST, image.digest.to_string())
        .annotate(REFERENCE_TYPE, "attestation-manifest");
    entry.artifact_type.clone_from(&manifest.artifact_type);
    entry.platform = Some(Platform {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        ..Platform::default()
    });
    blobs.push((entry.clone(), manifest.to_bytes()));
    Written {
        manifest: entry,
        blobs,
    }
}

/// Returns the bytes of an in-toto statement about `subject`, an array of names and digests.
pub fn statement(attestation: &Attestation, subject: &Value) -> Vec<u8> {
    bytes(&json!({
        "_type": STATEMENT,
        "predicateType": attestation.predicate_type,
        "subject": subject,
        "predicate": attestation.predicate,
    }))
}

/// Names the image, once a name, as a package URL.
fn subjects(image: &Descriptor, names: &[Reference], platform: &Platform) -> Value {
    let digest = json!({"sha256": image.digest.hex()});
    if names.is_empty() {
        return json!([{"name": "_", "digest": digest}]);
    }
    let named = names
        .iter()
        .map(|name| json!({"name": purl::of_image(name, platform), "digest": digest}));
    Value::Array(named.collect())
}

/// Strings and numbers: serialising them cannot fail.
fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_attestations_says_what_it_is_about() {
        let image = Descriptor::of(media_type::OCI_MANIFEST, b"{}");
        let names = ["r.example:5000/a/b:1".parse().expect("a name")];
        let platform = Platform::new("linux", "arm64", None);
        let said = [Attestation {
            predicate_type: "https://example.com/p/v1",
            predicate: json!({"a": 1}),
            file: "p.json".to_owned(),
        }];
        for referrers in [false, true] {
            let written = attach(&image, &names, &platform, &said, referrers);
            for (descriptor, bytes) in &written.blobs {
                assert_eq!(descriptor.digest, crate::digest::Digest::of(bytes));
                assert_eq!(descriptor.size, bytes.len() as u64);
            }
            let entry = &written.manifest;
            assert_eq!(
                entry.annotations[REFERENCE_DIGEST],
                image.digest.to_string()
            );
            assert_eq!(entry.annotations[REFERENCE_TYPE], "attestation-manifest");
            assert_eq!(
                entry.platform.as_ref().map(|it| it.os.as_str()),
                Some("unknown")
            );
            let (_, manifest) = written.blobs.last().expect("a manifest");
            let manifest = Manifest::parse(manifest).expect("a manifest");
            assert_eq!(manifest.subject.is_some(), referrers);
            let expected = match referrers {
                true => media_type::OCI_EMPTY,
                false => media_type::OCI_CONFIG,
            };
            assert_eq!(manifest.config.media_type, expected);
            let layer = &manifest.layers[0];
            assert_eq!(layer.annotations[PREDICATE_TYPE], said[0].predicate_type);
            let statement: Value = serde_json::from_slice(&written.blobs[0].1).expect("JSON");
            assert_eq!(statement["predicate"], said[0].predicate);
            assert_eq!(
                statement["subject"][0]["name"],
                "pkg:docker/r.example:5000/a/b@1?platform=linux%2Farm64"
            );
            assert_eq!(
                statement["subject"][0]["digest"]["sha256"],
                image.digest.hex()
            );
        }
    }
}
