//! Why a build failed: one type for the whole façade, with the place where the author wrote it.

use std::path::PathBuf;
use std::time::Duration;

use crate::context::ContextError;
use crate::digest::Digest;
use crate::dockerfile::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::{ParseError, Span};
use crate::export::ExportError;
use crate::plan::PlanError;
use crate::registry::RegistryError;
use crate::sandbox::{LimitError, SandboxError};
use crate::share::ShareError;
use crate::snapshot::SnapshotError;
use crate::solve::{SolveError, SolveErrorKind};
use crate::source::SourceError;
use crate::store::StoreError;

/// What a caller may treat differently. [`BuildError::diagnostic`] gives the place, where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error("cannot read {path}: {source}", path = path.display())]
    ReadDockerfile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{line} holds bytes that are not UTF-8", path.display())]
    NotText {
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    #[error("output {}: {reason}", dest.display())]
    Destination { dest: PathBuf, reason: &'static str },
    #[error("{}", .0.error)]
    Parse(Box<Located<ParseError>>),
    #[error("{}", .0.error)]
    Plan(Box<Located<PlanError>>),
    #[error("{}", .0.error)]
    Solve(Box<Located<SolveError>>),
    /// A base cannot be had; the place is the FROM that names it.
    #[error("{}", .0.error)]
    Base(Box<Located<RegistryError>>),
    #[error("`{name}` is not an image name: {error}")]
    Reference { name: String, error: String },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the context `{place}` cannot be used: {reason}")]
    NoContext { place: String, reason: String },
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The author asks for `error=true`, or wrote a `check` directive that cannot be read.
    #[error("{}", .0.error)]
    Checks(Box<Located<ChecksError>>),
    #[error("pushing needs a name that says where to: give the image a tag")]
    PushWithoutName,
    #[error(
        "platform-split=false: the files of several platforms would overwrite one another in {place}"
    )]
    PlatformsTogether { place: String },
    #[error("pushing {name}: {source}")]
    Push {
        name: String,
        source: Box<RegistryError>,
    },
    /// Only where the user asked that this counts.
    #[error("the cache {place} is not written: {source}")]
    CacheTo {
        place: String,
        source: Box<ShareError>,
    },
    #[error("annotation `{key}`: {reason}")]
    Annotation { key: String, reason: &'static str },
    #[error("reading {path} for an attestation: {source}")]
    Attest {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "the result has a file `{name}` of its own, where the attestation would go: --attest type=…,filename=NAME names another"
    )]
    AttestationName { name: String },
    #[error("{}", .0.error)]
    WiderScan(Box<Located<WiderScanError>>),
    #[error("a docker archive holds one platform: build one at a time, or write type=oci")]
    ManyPlatforms,
    #[error(
        "oci-mediatypes=false: layer {layer} of the base is compressed with zstd, which Docker's media types cannot say: use force-compression=true, or leave oci-mediatypes out"
    )]
    DockerTypes { layer: Digest },
    #[error("cannot use the engine at {engine}: {source}")]
    Engine {
        engine: String,
        source: std::io::Error,
    },
    #[error(
        "--build-arg BUILDKIT_SANDBOX_HOSTNAME={name}: a host name has at most 64 letters, digits, `-`, `_` and `.`"
    )]
    Hostname { name: String },
    #[error("no store was given: call `Build::store`")]
    NoStore,
    #[error("a worker thread ended early: {0}")]
    Worker(String),
    /// No step ran when the time was over; else the step's error says so.
    #[error("the build's limit of {limit:?} is over, and no step ran: --timeout sets it")]
    Timeout { limit: Duration },
    #[error("the failed step is looked at by another process")]
    DebugBusy,
    #[error("the failed step cannot be looked at: {0}")]
    Debug(#[source] std::io::Error),
    /// Not all of it is there, and nothing is to be done: see [`Build::look`](super::Build::look).
    #[error("not all of the build is in the cache")]
    NotFound,
    #[error("the build was cancelled")]
    Cancelled,
}

/// Why checks end a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksError {
    #[error("{count} of the checks have something to say, and `error=true` makes that a mistake")]
    Remarks { count: usize },
    #[error("{message}")]
    Settings { message: String },
}

/// A bill of materials is asked for of more than the result.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not supported: --sbom is about the result alone")]
pub struct WiderScanError {
    pub name: String,
}

/// An error with the text that it is about.
#[derive(Debug)]
pub struct Located<E> {
    pub error: E,
    /// As it is shown: `Dockerfile`.
    pub file: String,
    pub text: String,
    /// `None` where the author wrote nothing that is to blame.
    pub span: Option<Span>,
    /// What to do, where the error itself does not know.
    pub hint: Option<String>,
}

impl BuildError {
    /// Returns the place of the mistake, with the file's name and text to show it in.
    pub fn diagnostic(&self) -> Option<(Diagnostic, &str, &str)> {
        fn of<E>(located: &Located<E>, hint: Option<String>) -> Option<(Diagnostic, &str, &str)>
        where
            E: std::fmt::Display,
        {
            let diagnostic = Diagnostic {
                severity: Severity::Error,
                code: None,
                message: located.error.to_string(),
                span: located.span?,
                hint,
            };
            Some((diagnostic, &located.file, &located.text))
        }
        match self {
            BuildError::Parse(it) => of(it, it.error.hint()),
            BuildError::Plan(it) => of(it, it.error.hint.clone()),
            BuildError::Solve(it) => of(it, it.error.kind.hint()),
            BuildError::Checks(it) => of(it, it.hint.clone()),
            BuildError::WiderScan(it) => of(it, it.hint.clone()),
            BuildError::Base(it) => of(it, it.hint.clone().or_else(|| it.error.hint())),
            _ => None,
        }
    }

    /// Returns what to do, where it is known and [`Self::diagnostic`] has no place to show it in.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::Solve(it) => it.error.kind.hint(),
            BuildError::Context(error) => error.hint(),
            BuildError::Source(error) => error.hint(),
            BuildError::ReadDockerfile { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("name the Dockerfile with --file".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the last lines that the failed step wrote, and the step's name.
    pub fn failed_step(&self) -> Option<(&str, &[String])> {
        let BuildError::Solve(located) = self else {
            return None;
        };
        let name = located.error.vertex.as_deref()?;
        match &*located.error.kind {
            SolveErrorKind::Exit { tail, .. }
            | SolveErrorKind::Signal { tail, .. }
            | SolveErrorKind::Timeout { tail, .. } => Some((name, tail)),
            _ => Some((name, &[])),
        }
    }

    /// Whether the build ended because it was told to.
    pub fn is_cancelled(&self) -> bool {
        match self {
            BuildError::Cancelled => true,
            BuildError::Solve(located) => matches!(*located.error.kind, SolveErrorKind::Cancelled),
            _ => false,
        }
    }
}

pub(super) fn located<E>(error: E, file: &str, text: &str, span: Option<Span>) -> Located<E> {
    Located {
        error,
        file: file.to_owned(),
        text: text.to_owned(),
        span,
        hint: None,
    }
}
