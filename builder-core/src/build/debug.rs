//! A shell in the step that failed last.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::error::BuildError;
use super::request::Build;
use crate::sandbox::{Exit, Helper, HelperPath, Killer, Running};
use crate::solve::{FAILED_STEP_LOCK, FailedStep, failed_step_directory};
use crate::store::{Lock, Store};

/// The step that the last build failed at, with its files; held against the next build until it is dropped.
#[derive(Debug)]
pub struct Debug {
    step: FailedStep,
    _store: Store,
    _lock: Lock,
}

/// A command that runs there. Dropping it kills it.
#[derive(Debug)]
pub struct DebugSession {
    running: Running,
    _helper: Helper,
    _debug: Debug,
}

impl Debug {
    /// Finds the step that the last build in the store at `root` failed at; `None` where it did not.
    ///
    /// # Errors
    /// Another process has it; its record cannot be read.
    pub fn last(root: &Path) -> Result<Option<Debug>, BuildError> {
        let store = Store::open(root)?;
        let Some(lock) = store.try_lock(FAILED_STEP_LOCK)? else {
            return Err(BuildError::DebugBusy);
        };
        let file = failed_step_directory(&store).join("step.json");
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(BuildError::Debug)?,
        };
        let step = serde_json::from_slice(&text)
            .map_err(|error| BuildError::Debug(std::io::Error::other(error)))?;
        Ok(Some(Debug {
            step,
            _store: store,
            _lock: lock,
        }))
    }

    /// As it is named in the events.
    pub fn step(&self) -> &str {
        &self.step.name
    }

    /// 1-based, in the Dockerfile.
    pub fn line(&self) -> Option<u32> {
        self.step.line
    }

    /// Returns the ids of the secrets that the step uses.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.step.secrets.iter().map(|it| it.id.as_str())
    }

    /// Starts `command` as the step was started: its files, mounts, environment and user. An empty one is a shell.
    /// `terminal` is the near side of a pseudo terminal.
    ///
    /// # Errors
    /// The sandbox helper cannot be started. What is wrong with the step itself is told by [`DebugSession::wait`].
    pub fn start(
        self,
        command: Vec<OsString>,
        secrets: &BTreeMap<String, Vec<u8>>,
        terminal: OwnedFd,
        helper: HelperPath,
    ) -> Result<DebugSession, BuildError> {
        let mut spec = self.step.spec.clone();
        for secret in &self.step.secrets {
            if let Some(bytes) = secrets.get(&secret.id) {
                secret.put(bytes, &mut spec);
            }
        }
        spec.args = match command.is_empty() {
            true => vec!["/bin/sh".into()],
            false => command,
        };
        spec.terminal = true;
        spec.renew_work().map_err(BuildError::Debug)?;
        let helper = Helper::start(helper)?;
        let errors = terminal.try_clone().map_err(BuildError::Debug)?;
        let running = helper.run_last(spec, terminal, errors)?;
        Ok(DebugSession {
            running,
            _helper: helper,
            _debug: self,
        })
    }
}

impl Build {
    /// Returns the step that this build, which has run and failed, failed at.
    ///
    /// # Errors
    /// As [`Debug::last`].
    pub fn failed_step(&self) -> Result<Option<Debug>, BuildError> {
        Debug::last(self.open_store()?.root())
    }

    /// Returns the secrets that were given.
    pub fn secrets(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.secrets
    }
}

impl DebugSession {
    /// Waits for the command's end.
    ///
    /// # Errors
    /// The sandbox could not be set up.
    pub fn wait(self) -> Result<Exit, BuildError> {
        Ok(self.running.wait()?)
    }

    /// Something to end it with from another thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        self.running.killer()
    }
}
