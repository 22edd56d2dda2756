//! How an image was built: SLSA provenance, in the fields that BuildKit fills.
//!
//! | mode | what it tells                                                                              |
//! |------|--------------------------------------------------------------------------------------------|
//! | min  | times, the frontend, what was asked for but build args and labels, what the build used      |
//! | max  | build args and labels too, the ids of secrets and agents, every step, the Dockerfile's text |
//!
//! Values of secrets are known to neither. The steps are our own graph, told in the words of BuildKit's LLB, so that what
//! reads its `llbDefinition` reads ours.
//!
//! Times and the id of the build are facts of that build, `SOURCE_DATE_EPOCH` or not, as in BuildKit: the image stays the
//! same, while its attestation, and the index that points to both, are new with each build.
//!
//! Pure. Not here: where the facts come from (see `build`).

mod predicate;
mod steps;

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::image::{Descriptor, Platform, Reference};
use crate::plan::{Base, Plan};

use super::purl;

pub use predicate::predicate;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Min,
    Max,
}

/// Of the predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    V02,
    #[default]
    V1,
}

impl Version {
    pub fn predicate_type(self) -> &'static str {
        match self {
            Version::V02 => "https://slsa.dev/provenance/v0.2",
            Version::V1 => "https://slsa.dev/provenance/v1",
        }
    }
}

/// What is asked of a provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    pub version: Version,
    /// Who built, as an address; empty where nobody says.
    pub builder_id: String,
    /// The user says that building again gives the same bytes.
    pub reproducible: bool,
    /// Left out of outputs that are trees of files.
    pub inline_only: bool,
    /// Its name in such a tree.
    pub file: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::Min,
            version: Version::V1,
            builder_id: String::new(),
            reproducible: false,
            inline_only: false,
            file: "provenance.json".to_owned(),
        }
    }
}

/// Something that came from elsewhere, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    pub uri: String,
    /// `sha256` or, of a commit, `sha1`.
    pub algorithm: &'static str,
    pub digest: String,
    /// Of a repository.
    is_commit: bool,
}

impl Material {
    /// An image of a registry.
    pub fn image(name: &Reference, digest: Digest, platform: &Platform) -> Self {
        Material {
            uri: purl::of_image(name, platform),
            algorithm: "sha256",
            digest: digest.hex(),
            is_commit: false,
        }
    }

    /// An image of a layout.
    pub fn layout(name: &str, digest: Digest, platform: &Platform) -> Self {
        Material {
            uri: purl::of_layout(name, &digest.to_string(), platform),
            algorithm: "sha256",
            digest: digest.hex(),
            is_commit: false,
        }
    }

    /// Its name as the source of a step: a repository is told from a file by its scheme.
    pub(super) fn identifier(&self) -> String {
        match (self.is_commit, self.uri.split_once("://")) {
            (true, Some((_, rest))) => format!("git://{rest}"),
            (true, None) => format!("git://{}", self.uri),
            (false, _) => self.uri.clone(),
        }
    }

    /// What was downloaded from `url`.
    pub fn download(url: &str, digest: Digest) -> Self {
        Material {
            uri: url.to_owned(),
            algorithm: "sha256",
            digest: digest.hex(),
            is_commit: false,
        }
    }

    /// A commit of a repository.
    pub fn commit(url: &str, commit: &str) -> Self {
        Material {
            uri: url.to_owned(),
            algorithm: if commit.len() > 40 { "sha256" } else { "sha1" },
            digest: commit.to_owned(),
            is_commit: true,
        }
    }
}

/// What is known of one build, for one platform.
#[derive(Debug, Clone)]
pub struct Facts {
    pub plan: Plan,
    /// Path of the Dockerfile, as it was given.
    pub file: String,
    pub text: String,
    /// Where the main context is from, where that is elsewhere.
    pub context: Option<Material>,
    /// What was asked for, in the names of BuildKit's frontend: `build-arg:K`, `label:K`, `target`.
    pub args: BTreeMap<String, String>,
    /// Contexts of this machine, which have no digest that others could know.
    pub locals: Vec<String>,
    pub materials: Vec<Material>,
    /// What the names of bases stood for: `docker-image://NAME@DIGEST`.
    pub pins: BTreeMap<Base, String>,
    pub builder_platform: Platform,
    /// The program that built, and its version.
    pub builder_version: (&'static str, &'static str),
    /// Of this one build; the platforms of a build share it.
    pub id: String,
    /// RFC 3339.
    pub started: String,
    pub finished: String,
}

/// Returns what `facts` and the image's layers come to.
pub fn attestation(facts: &Facts, options: &Options, layers: &[Descriptor]) -> super::Attestation {
    super::Attestation {
        predicate_type: options.version.predicate_type(),
        predicate: predicate(facts, options, layers),
        file: options.file.clone(),
    }
}
