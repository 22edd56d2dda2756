//! The image config (OCI image-spec, config.md, with Docker's extensions).
//!
//! Fields, their order and when they are left out are those of BuildKit's `dockerspec`; at the top level
//! BuildKit sorts the keys, and so does [`ImageConfig::to_bytes`]. What neither knows is kept in `extra`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{DocumentError, Platform};
use crate::digest::DiffId;

/// The value of a set's member: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// An image's config document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// RFC 3339, kept as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub history: Vec<History>,
    #[serde(default)]
    pub os: String,
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub os_features: Vec<String>,
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// `rootfs.diff_ids`, base first.
    #[serde(rename = "rootfs", default, with = "rootfs")]
    pub diff_ids: Vec<DiffId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How a container of the image runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub user: String,
    /// `80/tcp`.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub env: Vec<String>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub cmd: Option<Vec<String>>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub working_dir: String,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "nullable"
    )]
    pub args_escaped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub on_build: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub shell: Vec<String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Docker's health check. Times are nanoseconds; zero means the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", argument, …]` or `["CMD-SHELL", command]`; empty: inherited.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub test: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How one layer, or one step without a layer, came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339, kept as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "nullable"
    )]
    pub empty_layer: bool,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageConfig {
    /// Returns the config of an image with nothing in it.
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::default();
        config.config.working_dir = "/".to_owned();
        config.set_platform(platform);
        config
    }

    /// Reads a config; `null` counts as left out, as in Go.
    ///
    /// # Errors
    /// Where `bytes` are no JSON object, or a known field has another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
            what: "image config",
            source,
        })
    }

    /// Returns the document in one line, top-level keys sorted; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and string-keyed maps only: serialising them cannot fail.
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => {
                let sorted: BTreeMap<String, Value> = object.into_iter().collect();
                serde_json::to_vec(&sorted).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the platform, in its usual words.
    pub fn platform(&self) -> Platform {
        let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: some(&self.os_version),
            os_features: self.os_features.clone(),
            variant: some(&self.variant),
        }
        .normalized()
    }

    /// Sets every field that a platform has.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture.clone_from(&platform.architecture);
        self.os.clone_from(&platform.os);
        self.os_version = platform.os_version.clone().unwrap_or_default();
        self.os_features.clone_from(&platform.os_features);
        self.variant = platform.variant.clone().unwrap_or_default();
    }
}

/// Reads `null` as the default, as Go does.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn none_or_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

mod rootfs {
    use super::{Deserialize, Deserializer, DiffId, Serialize, Serializer, nullable};

    #[derive(Default, Serialize, Deserialize)]
    struct RootFs {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default, deserialize_with = "nullable")]
        diff_ids: Vec<DiffId>,
    }

    pub(super) fn serialize<S: Serializer>(diff_ids: &[DiffId], s: S) -> Result<S::Ok, S::Error> {
        RootFs {
            kind: "layers".to_owned(),
            diff_ids: diff_ids.to_vec(),
        }
        .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<DiffId>, D::Error> {
        let rootfs: RootFs = nullable(d)?;
        if !matches!(rootfs.kind.as_str(), "" | "layers") {
            return Err(serde::de::Error::custom(format!(
                "rootfs type `{}` is not `layers`",
                rootfs.kind
            )));
        }
        Ok(rootfs.diff_ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn full() -> ImageConfig {
        let strings = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let mut image = ImageConfig::scratch(&Platform::new("linux", "arm", Some("v7")));
        image.author = "me".to_owned();
        image.created = Some("2024-01-02T03:04:05.000000001Z".to_owned());
        image.diff_ids = vec![DiffId(Digest::of(b"layer"))];
        image.history = vec![History {
            created: Some("2024-01-02T03:04:05Z".to_owned()),
            created_by: Some("RUN true # buildkit".to_owned()),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: true,
            ..History::default()
        }];
        image.config = Config {
            user: "1000:1000".to_owned(),
            exposed_ports: [("80/tcp".to_owned(), Empty {})].into(),
            env: strings(&["PATH=/bin", "A="]),
            entrypoint: Some(strings(&["/entry"])),
            cmd: Some(strings(&["a", "b"])),
            volumes: [("/data".to_owned(), Empty {})].into(),
            working_dir: "/w".to_owned(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            stop_signal: Some("SIGINT".to_owned()),
            args_escaped: true,
            healthcheck: Some(Healthcheck {
                test: strings(&["CMD-SHELL", "true"]),
                interval: 30_000_000_000,
                start_interval: 5_000_000_000,
                retries: 3,
                ..Healthcheck::default()
            }),
            on_build: strings(&["RUN x"]),
            shell: strings(&["/bin/bash", "-c"]),
            extra: Map::new(),
        };
        image
    }

    #[test]
    fn fields_are_written_as_buildkit_writes_them() {
        let expected = concat!(
            r#"{"architecture":"arm","author":"me","config":{"User":"1000:1000","#,
            r#""ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","A="],"Entrypoint":["/entry"],"#,
            r#""Cmd":["a","b"],"Volumes":{"/data":{}},"WorkingDir":"/w","Labels":{"k":"v"},"#,
            r#""StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","true"],"#,
            r#""Interval":30000000000,"StartInterval":5000000000,"Retries":3},"OnBuild":["RUN x"],"#,
            r#""Shell":["/bin/bash","-c"]},"created":"2024-01-02T03:04:05.000000001Z","#,
            r#""history":[{"created":"2024-01-02T03:04:05Z","created_by":"RUN true # buildkit","#,
            r#""comment":"buildkit.dockerfile.v0","empty_layer":true}],"os":"linux","#,
            r#""rootfs":{"type":"layers","diff_ids":["LAYER"]},"variant":"v7"}"#,
        )
        .replace("LAYER", &Digest::of(b"layer").to_string());
        let bytes = full().to_bytes();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(ImageConfig::parse(&bytes).expect("parse"), full());
    }

    #[test]
    fn oci_spec_reads_what_is_written() {
        for image in [full(), ImageConfig::scratch(&Platform::host())] {
            let bytes = image.to_bytes();
            let theirs =
                oci_spec::image::ImageConfiguration::from_reader(&bytes[..]).expect("config");
            assert_eq!(theirs.rootfs().diff_ids().len(), image.diff_ids.len());
            let env = theirs.config().as_ref().and_then(|it| it.env().clone());
            assert_eq!(env.unwrap_or_default(), image.config.env);
        }
    }

    #[test]
    fn an_empty_config_stays_small() {
        let image = ImageConfig::scratch(&Platform::for_arch("x86_64"));
        assert_eq!(
            String::from_utf8_lossy(&image.to_bytes()),
            r#"{"architecture":"amd64","config":{"WorkingDir":"/"},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn foreign_fields_and_nulls_survive() {
        let text = concat!(
            r#"{"architecture":"amd64","os":"linux","docker_version":"20.10","#,
            r#""config":{"Hostname":"","Env":null,"Cmd":null,"Entrypoint":[],"OnBuild":null,"#,
            r#""Volumes":null,"Labels":null,"ExposedPorts":null,"Future":{"b":1,"a":[2]}},"#,
            r#""container_config":{"Tty":false},"rootfs":{"type":"layers"},"history":null}"#,
        );
        let image = ImageConfig::parse(text.as_bytes()).expect("parse");
        let again = image.to_bytes();
        assert_eq!(
            ImageConfig::parse(&again).expect("parse").extra,
            image.extra
        );
        assert_eq!(
            String::from_utf8_lossy(&again),
            concat!(
                r#"{"architecture":"amd64","config":{"Hostname":"","Future":{"b":1,"a":[2]}},"#,
                r#""container_config":{"Tty":false},"docker_version":"20.10","os":"linux","#,
                r#""rootfs":{"type":"layers","diff_ids":[]}}"#
            )
        );
    }
}
