//! Why an image could not be had. No text here ever holds a credential or a redirect's address.

use std::io;
use std::path::PathBuf;

use super::Distrust;
use crate::digest::Digest;
use crate::image::{DocumentError, Platform};
use crate::store::StoreError;

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    #[error("`{name}` is not the name of an image")]
    NotAName { name: String },
    #[error("{what} is not found at {host} (is the name right, and has it been pushed?)")]
    NotFound { what: String, host: String },
    #[error(
        "{host} refuses access to {what}: {reason} (it does not exist, or needs other credentials: log in to {host})"
    )]
    Unauthorized {
        what: String,
        host: String,
        reason: String,
    },
    #[error("{host} does not take this user name and password")]
    WrongLogin { host: String },
    #[error(
        "{host} needs credentials, and the helper `{helper}`, which keeps them, does not give them: {why}"
    )]
    CredentialHelper {
        host: String,
        helper: String,
        why: String,
    },
    #[error("cannot reach {host}: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("the certificate of {host} is not trusted: {cause}")]
    Untrusted {
        host: String,
        cause: String,
        why: Distrust,
    },
    #[error("{host} does not speak TLS")]
    NoTls { host: String },
    #[error("{host} answers {status} for {what}: {reason}")]
    Status {
        what: String,
        host: String,
        status: u16,
        reason: String,
    },
    #[error("{host} breaks the protocol: {why}")]
    Protocol { host: String, why: String },
    #[error(
        "`{name}` is a short name, which may be {}: write the name with its registry, or an alias for it in {file}",
        registries.iter().map(|it| format!("{it}/{name}")).collect::<Vec<_>>().join(", "), file = file.display()
    )]
    AmbiguousName {
        name: String,
        registries: Vec<String>,
        file: PathBuf,
    },
    #[error("no search registry has `{name}`: {}", why.join("; "))]
    Nowhere { name: String, why: Vec<String> },
    #[error("{reference} is blocked by the registries configuration ({file})", file = file.display())]
    Blocked { reference: String, file: PathBuf },
    #[error("{what} has no image for {platform}; there are: {}", list(available))]
    NoMatchingPlatform {
        what: String,
        platform: Box<Platform>,
        available: Vec<Platform>,
    },
    #[error("{what} from {host} has digest {actual}, not {expected}")]
    WrongDigest {
        what: String,
        host: String,
        expected: Digest,
        actual: Digest,
    },
    #[error(
        "{what} from {host} has {actual} bytes, not the {expected} that its manifest speaks of"
    )]
    WrongSize {
        what: String,
        host: String,
        expected: u64,
        actual: u64,
    },
    #[error("{what} from {host} is larger than the {max} bytes allowed for it")]
    TooLarge {
        what: String,
        host: String,
        max: u64,
    },
    #[error("{what} is no image: its config is of type `{media_type}`")]
    NotAnImage { what: String, media_type: String },
    #[error("{what} contradicts itself: {layers} layers, but {diff_ids} diff_ids")]
    LayerCount {
        what: String,
        layers: usize,
        diff_ids: usize,
    },
    #[error("{what}: {source}")]
    Document { what: String, source: DocumentError },
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
    #[error("{} is not a valid {what}: {why}", path.display())]
    Configuration {
        path: PathBuf,
        what: &'static str,
        why: String,
    },
    #[error("{} is neither an OCI layout, nor an OCI archive, nor a docker archive", path.display())]
    NotALayout { path: PathBuf },
    #[error("{} has no image `{wanted}`; there are: {}", path.display(), list(available))]
    NotInLayout {
        path: PathBuf,
        wanted: String,
        available: Vec<String>,
    },
    #[error("{} has several images, say which: {}", path.display(), list(available))]
    Ambiguous {
        path: PathBuf,
        available: Vec<String>,
    },
    #[error("{} lacks {what}", path.display())]
    Incomplete { path: PathBuf, what: String },
    #[error("{source}; before that, {}", mirrors.join("; "))]
    AfterMirrors {
        /// What each mirror said, in order.
        mirrors: Vec<String>,
        source: Box<RegistryError>,
    },
    #[error(
        "the store does not have {digest}, which is a part of the image (an index may name more than was pulled)"
    )]
    NotInStore { digest: Digest },
    #[error(
        "{digest} is not in the store, and cannot be had where it came from ({}): {source}", origins.join(", ")
    )]
    Gone {
        digest: Digest,
        /// The repositories that were asked.
        origins: Vec<String>,
        source: Box<RegistryError>,
    },
    #[error("{what} is an index in an index in an index: nobody needs that")]
    TooDeep { what: String },
    #[error("{what} is not in the store, and no registry is to be asked")]
    NotHere { what: String },
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

impl RegistryError {
    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            RegistryError::AfterMirrors { source, .. } => source.hint(),
            RegistryError::Gone { .. } => Some(
                "the image was kept without its layers; build it again, or push the layer there again"
                    .to_owned(),
            ),
            RegistryError::Untrusted { host, why, .. } => match why {
                Distrust::Unknown => Some(format!(
                    "put the certificate of its authority, or its own where nobody else has signed it, into \
                     /etc/containers/certs.d/{host}/ca.crt (~/.config/containers/certs.d/ and /etc/docker/certs.d/ do as \
                     well, or any DIR with `--certs-dir DIR`)"
                )),
                Distrust::OtherName => Some(
                    "its names are those of its subjectAltName alone: \
                     `openssl req -x509 -addext subjectAltName=DNS:HOST` (IP:ADDRESS for an address)"
                        .to_owned(),
                ),
                Distrust::Other => None,
            },
            RegistryError::NoTls { host } => Some(format!(
                "if it speaks plain HTTP, say so in a registries.conf (`--registries-conf`): \
                 `[[registry]]`, `location = \"{host}\"`, `insecure = true`"
            )),
            RegistryError::Unreachable { .. } => Some(
                "is the network there? A mirror can be named in registries.conf (`--registries-conf`), and a base on \
                 disk with `--build-context NAME=oci-layout://PATH`"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    pub(crate) fn not_a_name(name: &str) -> Self {
        RegistryError::NotAName {
            name: name.to_owned(),
        }
    }
}
