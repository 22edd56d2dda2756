//! In-toto statements, and the manifest that holds them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::image::{Descriptor, Manifest, Platform, Reference, media_type};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// One thing that is said of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    pub predicate_type: &'static str,
    pub predicate: Value,
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
        let statement = json!({
            "_type": STATEMENT,
            "predicateType": attestation.predicate_type,
            "subject": subject,
            "predicate": attestation.predicate,
        });
        let bytes = bytes(&statement);
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
    let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
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

/// Names the image, once a name, as a package URL.
fn subjects(image: &Descriptor, names: &[Reference], platform: &Platform) -> Value {
    let digest = json!({"sha256": image.digest.hex()});
    if names.is_empty() {
        return json!([{"name": "_", "digest": digest}]);
    }
    let named = names.iter().map(|name| {
        json!({
            "name": package_url(&name.familiar(), platform),
            "digest": digest,
        })
    });
    Value::Array(named.collect())
}

/// Returns `pkg:docker/NAME@VERSION?platform=…` for an image.
fn package_url(name: &str, platform: &Platform) -> String {
    let (name, version) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, format!("@{tag}")),
        _ => (name, String::new()),
    };
    let platform = platform.to_string().replace('/', "%2F");
    format!("pkg:docker/{name}{version}?platform={platform}")
}

/// Strings and numbers: serialising them cannot fail.
fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
