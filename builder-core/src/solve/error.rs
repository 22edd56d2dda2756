//! Why a build failed, and at which step.

use std::path::PathBuf;
use std::time::Duration;

use crate::context::ContextError;
use crate::digest::Digest;
use crate::dockerfile::Span;
use crate::image::Platform;
use crate::registry::RegistryError;
use crate::sandbox::SandboxError;
use crate::share::Lost;
use crate::snapshot::SnapshotError;
use crate::source::SourceError;
use crate::store::StoreError;

use super::FileError;

/// The first failure of a build.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SolveError {
    pub kind: Box<SolveErrorKind>,
    /// The vertex as it is named in the events.
    pub vertex: Option<String>,
    /// Where the author wrote it.
    pub span: Option<Span>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolveErrorKind {
    /// A step would have to run, and none is to.
    #[error("not all of it is in the cache")]
    NotFound,
    #[error("`{command}` exited with code {code}")]
    Exit {
        command: String,
        code: i32,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    #[error("`{command}` was ended by signal {signal}")]
    Signal {
        command: String,
        signal: i32,
        tail: Vec<String>,
    },
    /// It, or the build, ran longer than it may.
    #[error("`{command}` was ended: the {} of {limit:?} is over", limit_of(flag))]
    Timeout {
        command: String,
        limit: Duration,
        /// Which sets it.
        flag: &'static str,
        tail: Vec<String>,
    },
    /// A part of the instruction is to blame: a flag.
    #[error("{kind}")]
    Within {
        span: Span,
        kind: Box<SolveErrorKind>,
    },
    #[error("a cache mount's `source` must be a directory, and {path} is none")]
    CacheSource { path: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The build is solved again without that cache.
    #[error(transparent)]
    Lost(Box<Lost>),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("layer {layer}: {source}")]
    Unpack {
        /// As stored.
        layer: Digest,
        source: SnapshotError,
    },
    #[error("{what} is not supported yet")]
    Unsupported { what: String },
    #[error("{flag} is not allowed")]
    NotAllowed { flag: String, needs: String },
    #[error("no RUN can be run here: {reason}")]
    NoSteps { reason: String },
    #[error("a RUN for {platform} cannot run on this machine ({host}): {reason}")]
    NoEmulation {
        platform: Box<Platform>,
        host: Box<Platform>,
        reason: &'static str,
    },
    #[error("secret `{id}` is required but was not given")]
    MissingSecret { id: String },
    #[error("the device `{name}` is required but no spec of this machine has it{}", broken.iter().map(|it| format!("; {it}")).collect::<String>())]
    MissingDevice {
        name: String,
        /// Specs that could not be read.
        broken: Vec<String>,
    },
    #[error("the device `{name}` cannot be given to a step: {reason}")]
    Device { name: String, reason: String },
    #[error("the ssh agent `{id}` is required but was not given")]
    MissingSsh { id: String },
    #[error("the ssh agent `{id}` does not answer at {}: {source}", socket.display())]
    SshAgent {
        id: String,
        socket: PathBuf,
        source: std::io::Error,
    },
    #[error("the image has {diff_ids} layers in its config but {layers} in its manifest")]
    LayerCount { diff_ids: usize, layers: usize },
    #[error("the image has more than {max} layers, which is all that overlayfs can stack")]
    TooManyLayers { max: usize },
    #[error("the context `{name}` was not given")]
    MissingContext { name: String },
    #[error("cannot {action}: {source}")]
    Io {
        action: String,
        source: std::io::Error,
    },
    #[error("a worker thread ended early: {0}")]
    Worker(String),
    #[error("the build was cancelled")]
    Cancelled,
}

fn limit_of(flag: &str) -> &'static str {
    match flag {
        "--timeout" => "build's limit",
        _ => "limit of a step",
    }
}

impl SolveErrorKind {
    pub(super) fn io(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        SolveErrorKind::Io {
            action: action.into(),
            source: source.into(),
        }
    }

    /// For work on a file of a tree.
    pub(super) fn io_of(path: &[u8]) -> impl Fn(std::io::Error) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        move |error| SolveErrorKind::io(format!("copy /{path}"), error)
    }

    /// Says which part of the instruction is to blame.
    pub(super) fn in_span(self, span: Span) -> Self {
        SolveErrorKind::Within {
            span,
            kind: Box::new(self),
        }
    }

    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            SolveErrorKind::Within { kind, .. } => kind.hint(),
            SolveErrorKind::Timeout { flag, .. } => Some(format!("{flag} sets the limit")),
            SolveErrorKind::File(error) => error.hint(),
            SolveErrorKind::Context(error) => error.hint(),
            SolveErrorKind::Source(error) => error.hint(),
            SolveErrorKind::Unpack {
                source: SnapshotError::Layer(error),
                ..
            } if error.is_size_limit() => Some(
                "a layer may unpack to 4 GiB, or to 100 times its size where that is more; \
                 --max-layer-size allows more"
                    .to_owned(),
            ),
            SolveErrorKind::NotAllowed { needs, .. } => Some(format!(
                "it gives the step more of this machine than others get: if you trust it, --allow {needs}"
            )),
            SolveErrorKind::NoEmulation { .. } => Some(
                "install an emulator (Debian: packages qemu-user-static and binfmt-support), or build the stage on \
                 `FROM --platform=$BUILDPLATFORM`"
                    .to_owned(),
            ),
            SolveErrorKind::MissingSecret { id } => Some(format!(
                "give it with --secret id={id},src=FILE or --secret id={id},env=NAME"
            )),
            SolveErrorKind::MissingDevice { .. } => Some(
                "specs are the .json and .yaml files of /etc/cdi and /var/run/cdi; --cdi-spec-dir names others"
                    .to_owned(),
            ),
            SolveErrorKind::MissingSsh { id } => Some(format!(
                "give it with --ssh {id} (the agent of SSH_AUTH_SOCK), --ssh {id}=SOCKET or --ssh {id}=KEYFILE"
            )),
            SolveErrorKind::SshAgent { .. } => Some(
                "is it still there? `ssh-add -l` asks it; `eval $(ssh-agent)` starts another"
                    .to_owned(),
            ),
            SolveErrorKind::NoSteps { .. } => Some(
                "`builder doctor` says what this machine lacks and how to allow it; a container's root needs nothing"
                    .to_owned(),
            ),
            SolveErrorKind::TooManyLayers { .. } => {
                Some("put several commands into one RUN, or copy a stage into a new one".to_owned())
            }
            SolveErrorKind::Exit { code: 127, .. } => {
                Some("127 means that a program was not found: is it installed in an earlier step, and in PATH? `builder debug` opens a shell there".to_owned())
            }
            SolveErrorKind::Signal { signal: 9, .. } | SolveErrorKind::Exit { code: 137, .. } => {
                Some("signal 9 often means that memory ran out; `builder debug` opens a shell there".to_owned())
            }
            SolveErrorKind::Exit { .. } | SolveErrorKind::Signal { .. } => Some(
                "its files are kept until the next build: `builder debug` opens a shell in them"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
