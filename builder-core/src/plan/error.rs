//! Why no plan can be made.

use crate::dockerfile::ParseError;
use crate::dockerfile::Span;
use crate::dockerfile::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::word::WordError;

/// A user's mistake, and where it stands.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct PlanError {
    pub kind: Box<PlanErrorKind>,
    pub span: Span,
    /// What to do, where it is known.
    pub hint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanErrorKind {
    #[error(
        "the frontend `{image}` is not known: only Dockerfiles as `docker/dockerfile` reads them are"
    )]
    UnknownSyntax { image: String },
    #[error("target stage `{name}` could not be found")]
    UnknownTarget { name: String },
    #[error("`{word}`: {error}")]
    Word { word: String, error: WordError },
    #[error("base name `{word}` is empty once its variables are expanded")]
    EmptyBase { word: String },
    #[error("`{name}` is not an image name: {error}")]
    Reference { name: String, error: String },
    #[error("`{text}`: {error}")]
    Platform { text: String, error: String },
    #[error("--platform is empty once `{text}` is expanded")]
    EmptyPlatform { text: String },
    #[error("stage {index} does not exist, the last is {last}")]
    StageIndex { index: String, last: usize },
    #[error("cannot copy from stage `{name}`: it must be defined before the stage that uses it")]
    LaterStage { name: String },
    #[error("variables are not expanded in --from (`{from}`)")]
    VariableInFrom { from: String },
    #[error("{error}")]
    Onbuild {
        trigger: String,
        image: String,
        error: String,
    },
    #[error("{error}")]
    Instruction { error: ParseError },
    #[error("invalid port `{port}`: {reason}")]
    Port { port: String, reason: &'static str },
    #[error("`{text}` is not a signal")]
    Signal { text: String },
    #[error("VOLUME is empty once its variables are expanded")]
    EmptyVolume,
    #[error("invalid --chmod `{text}`: an octal number up to 7777 or a symbolic mode is expected")]
    Chmod { text: String },
    #[error("a {what} cannot be the source of {instruction}")]
    Source {
        what: &'static str,
        instruction: &'static str,
    },
    #[error("`--mount={text}` has no {option}")]
    MountWithout { option: &'static str, text: String },
    #[error("a mount cannot be put over `/`")]
    MountOverRoot,
    #[error("there is no stage `{name}` for --after")]
    UnknownAfter { name: String },
    #[error("SOURCE_DATE_EPOCH `{text}` is no number of seconds, context or stage")]
    Epoch { text: String },
    #[error("the stage `{stage}` has no time for SOURCE_DATE_EPOCH: {reason}")]
    EpochStage { stage: String, reason: String },
    #[error("the plan is larger than 256 MiB")]
    TooLarge,
    #[error("{reason}")]
    Checksum { reason: &'static str },
    #[error("network mode `{text}` is not supported: default, none or host is expected")]
    Network { text: String },
    #[error("security mode `{text}` is not supported: sandbox or insecure is expected")]
    Security { text: String },
}

impl PlanError {
    pub(super) fn new(kind: PlanErrorKind, span: Span) -> Self {
        PlanError {
            kind: Box::new(kind),
            span,
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&PlanError> for Diagnostic {
    fn from(error: &PlanError) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code: None,
            message: error.kind.to_string(),
            span: error.span,
            hint: error.hint.clone(),
        }
    }
}
