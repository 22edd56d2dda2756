//! What can go wrong outside the command itself.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::Failure;

/// Why a step could not be run, or its end not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    #[error("cannot start the sandbox helper {}", path.display())]
    StartHelper { path: PathBuf, source: io::Error },
    #[error(
        "the sandbox helper {} did not answer within {waited:?}: \
         its `main` must call `builder_core::sandbox::init_if_child()` before anything else", path.display()
    )]
    HelperSilent { path: PathBuf, waited: Duration },
    #[error(
        "this process was itself started as a sandbox helper: \
         its `main` must call `builder_core::sandbox::init_if_child()` before anything else"
    )]
    InsideHelper,
    #[error("the sandbox helper has ended; its steps ended with it")]
    HelperGone,
    #[error("cannot talk to the sandbox helper")]
    Talk(#[source] io::Error),
    /// The step's description contradicts itself or names what does not exist.
    #[error("cannot run the step: {reason}")]
    InvalidSpec { reason: String },
    /// Neither root's rights nor a user namespace: `enter` was not called, or not allowed.
    #[error(
        "the step's namespaces are not permitted here (os error {errno}): run as root, or call \
         `builder_core::sandbox::enter()` first"
    )]
    NotPermitted { errno: i32 },
    /// The overlay rung was asked for.
    #[error("overlays cannot be mounted where the store is: {failure}")]
    NoOverlay { failure: Failure },
    /// A system call failed while the sandbox was being set up; the command was not started.
    #[error("cannot set up the sandbox: {0}")]
    Setup(Failure),
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure { call, errno, .. } if call == "clone3" && errno == libc::EPERM => {
                Self::NotPermitted { errno }
            }
            Failure { call, errno: 0, .. } => Self::InvalidSpec { reason: call },
            failure => Self::Setup(failure),
        }
    }
}

/// Why the process could not be given the rights that steps need, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    #[error(
        "namespaces must be entered before any thread exists, and there are {count} threads: call this first in `main`"
    )]
    Threads { count: usize },
    #[error("`{program}` is missing: install the package `uidmap`")]
    NoIdMapProgram { program: &'static str },
    #[error(
        "user `{user}` has no subordinate ids: add the line `{user}:{suggested_start}:65536` to {file}"
    )]
    NoSubordinateIds {
        user: String,
        file: &'static str,
        suggested_start: u64,
    },
    #[error("user namespaces are forbidden here (os error {errno}): {hint}")]
    UserNamespacesForbidden { errno: i32, hint: &'static str },
    #[error(
        "a user namespace cannot mount a /proc of its own here (os error {errno}): the container's is covered in part"
    )]
    ProcMasked { errno: i32 },
    #[error(
        "chroot needs root with CAP_SYS_CHROOT, CHOWN, DAC_OVERRIDE, FOWNER, SETUID and SETGID, as a default container has it"
    )]
    NoChroot,
    #[error("this kernel or architecture has no system call filter that can ask the builder")]
    NoListener,
    #[error("no_new_privs is set, so `newuidmap` cannot map subordinate ids: start without it")]
    NoNewPrivileges,
    #[error("`{program}` refused the id map: {message}")]
    IdMapRefused {
        program: &'static str,
        message: String,
    },
    #[error("cannot enter namespaces: {call}")]
    System {
        call: &'static str,
        source: io::Error,
    },
}

impl InitError {
    /// Would user namespaces do, but for their ids?
    pub(super) fn is_about_ids(&self) -> bool {
        matches!(
            self,
            Self::NoIdMapProgram { .. } | Self::NoSubordinateIds { .. } | Self::NoNewPrivileges
        )
    }

    /// May the process be in namespaces that it cannot use?
    pub(super) fn leaves_half_way(&self) -> bool {
        matches!(
            self,
            Self::Threads { .. } | Self::IdMapRefused { .. } | Self::System { .. }
        )
    }
}
