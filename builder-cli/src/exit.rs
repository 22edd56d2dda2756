//! How a command ends: 0; 1 the build failed; 2 wrong usage; 3 `check` has remarks; 130 interrupted.

use std::process::ExitCode;

use builder_core::BuildError;
use builder_core::images::ImagesError;
use builder_core::sandbox::InitError;

use crate::environment::Environment;
use crate::render;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, or the environment, asks for something that is not to be had.
    Usage(String),
    Build(Box<BuildError>),
    /// A command for images.
    Images(Box<ImagesError>),
    /// Steps cannot be run here.
    Enter(InitError),
    /// Something of this command's own went wrong: `cannot write FILE: …`.
    Io(String),
    /// `check` found something, and has printed it.
    Remarks,
    /// `check` could not read the Dockerfile, and has printed why.
    Unreadable,
    Interrupted,
    /// A command in a failed step ended with this code, after it has said why.
    Command(u8),
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure::Usage(text.into())
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Build(error)
                if matches!(
                    **error,
                    BuildError::Reference { .. }
                        | BuildError::Hostname { .. }
                        | BuildError::PushWithoutName
                ) =>
            {
                2
            }
            Failure::Build(_)
            | Failure::Images(_)
            | Failure::Enter(_)
            | Failure::Io(_)
            | Failure::Unreadable => 1,
            Failure::Usage(_) => 2,
            Failure::Remarks => 3,
            Failure::Interrupted => INTERRUPTED,
            Failure::Command(code) => *code,
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Failure::Build(Box::new(error))
    }
}

impl From<ImagesError> for Failure {
    fn from(error: ImagesError) -> Self {
        Failure::Images(Box::new(error))
    }
}

/// As a shell reports a process that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Tells what went wrong, and returns the code for it.
pub(crate) fn end(result: Result<(), Failure>, environment: &Environment) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            render::diagnostic::show(&failure, environment.colour());
            ExitCode::from(failure.code())
        }
    }
}
