//! Rules of the OCI image spec and of the distribution spec, by a table: a document or a name, and whether it may be one.

use builder_core::image::{ImageConfig, Index, Manifest, Reference};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Puts a good descriptor, its digest and a config's media type in place of what stands for them.
fn filled(text: &str) -> String {
    let blob = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{DIGEST}","size":0}}"#
    );
    let config = blob.replace("layer.v1.tar", "config.v1+json");
    text.replace("BLOB", &blob)
        .replace("CONFIG", &config)
        .replace("DIGEST", DIGEST)
        .replace("OCI", "application/vnd.oci.image")
}

#[test]
fn manifests() {
    for (text, good, rule) in [
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[BLOB]}"#,
            true,
            "mediaType may be left out",
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"OCI.manifest.v1+json","config":CONFIG,"layers":[]}"#,
            true,
            "there may be no layer",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[],"x":{"y":[1]},"annotations":{"a":"b"}}"#,
            true,
            "unknown fields are passed over",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[],"subject":BLOB,"artifactType":"a/b"}"#,
            true,
            "a manifest may refer to another",
        ),
        (
            r#"{"schemaVersion":1,"config":CONFIG,"layers":[]}"#,
            false,
            "schemaVersion is 2",
        ),
        (
            r#"{"config":CONFIG,"layers":[]}"#,
            false,
            "schemaVersion must be there",
        ),
        (
            r#"{"schemaVersion":2,"layers":[]}"#,
            false,
            "config must be there",
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"OCI.index.v1+json","config":CONFIG,"layers":[]}"#,
            false,
            "mediaType is a manifest's",
        ),
        (
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:00","size":0},"layers":[]}"#,
            false,
            "a sha256 has 64 digits",
        ),
        (
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"DIGEST","size":-1},"layers":[]}"#,
            false,
            "a size is not negative",
        ),
        (
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"DIGEST"},"layers":[]}"#,
            false,
            "a descriptor has a size",
        ),
        (
            r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":0},"layers":[]}"#,
            false,
            "a descriptor has a media type",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[],"annotations":{"a":1}}"#,
            false,
            "annotations are texts",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":{}}"#,
            false,
            "layers are a list",
        ),
        (
            r#"{"schemaVersion":2,"config":CONFIG,"layers":[],"manifests":[BLOB]}"#,
            false,
            "no document is both a manifest and an index",
        ),
        ("[]", false, "a document is an object"),
        ("", false, "a document is there"),
    ] {
        let read = Manifest::parse(filled(text).as_bytes());
        assert_eq!(read.is_ok(), good, "{rule}: {text}: {read:?}");
    }
}

#[test]
fn indexes() {
    for (text, good, rule) in [
        (
            r#"{"schemaVersion":2,"manifests":[]}"#,
            true,
            "there may be no manifest",
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"OCI.index.v1+json","manifests":[BLOB]}"#,
            true,
            "entries of unknown types are passed over",
        ),
        (
            r#"{"schemaVersion":1,"manifests":[]}"#,
            false,
            "schemaVersion is 2",
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"OCI.manifest.v1+json","manifests":[]}"#,
            false,
            "mediaType is an index's",
        ),
        (r#"{"schemaVersion":2}"#, false, "manifests must be there"),
        (
            r#"{"schemaVersion":2,"manifests":[],"layers":[BLOB]}"#,
            false,
            "no document is both a manifest and an index",
        ),
    ] {
        let read = Index::parse(filled(text).as_bytes());
        assert_eq!(read.is_ok(), good, "{rule}: {text}: {read:?}");
    }
}

#[test]
fn configs() {
    let rootfs = r#""rootfs":{"type":"layers","diff_ids":["DIGEST"]}"#;
    for (text, good, rule) in [
        (
            r#"{"architecture":"amd64","os":"linux",ROOTFS}"#,
            true,
            "config and history may be left out",
        ),
        (
            r#"{"architecture":"amd64","os":"linux",ROOTFS,"x":1}"#,
            true,
            "unknown fields are passed over",
        ),
        (
            r#"{"architecture":"amd64","os":"linux",ROOTFS,"config":{"ExposedPorts":{"80/tcp":{}},"Volumes":{"/a":{}}}}"#,
            true,
            "sets are objects of empty objects",
        ),
        (
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}"#,
            false,
            "a diff id is a digest",
        ),
        ("[]", false, "a config is an object"),
    ] {
        let text = text.replace("ROOTFS", rootfs);
        let read = ImageConfig::parse(filled(&text).as_bytes());
        assert_eq!(read.is_ok(), good, "{rule}: {text}");
    }
}

#[test]
fn names() {
    let long_tag = format!("a:{}", "t".repeat(128));
    let longer_tag = format!("a:{}", "t".repeat(129));
    let long = format!("h.io/{}", "a".repeat(255));
    let longer = format!("h.io/{}", "a".repeat(256));
    for (text, good, rule) in [
        ("a/b_c__d---e.f", true, "components have separators inside"),
        (&long_tag, true, "a tag has 128 characters at most"),
        (&longer_tag, false, "a tag has 128 characters at most"),
        (&long, true, "a name has 255 characters at most"),
        (&longer, false, "a name has 255 characters at most"),
        ("a:_T.x-1", true, "a tag begins with a word character"),
        ("a:.t", false, "a tag begins with a word character"),
        ("a:-t", false, "a tag begins with a word character"),
        ("a/-b", false, "a component begins with a letter or digit"),
        ("a/b..c", false, "one dot separates"),
        ("a/b___c", false, "two underscores at most separate"),
        ("a//b", false, "no component is empty"),
        ("a/B", false, "names are lower-case"),
        ("h:port/a", false, "a port is a number"),
        ("a@sha256:00", false, "a sha256 has 64 digits"),
    ] {
        let read = text.parse::<Reference>();
        assert_eq!(read.is_ok(), good, "{rule}: {text}: {read:?}");
    }
}
