//! A shell in the step that failed last.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::error::BuildError;
use super::request::Build;
use crate::sandbox::{Exit, Helper, HelperPath, Killer, Running};
use crate::solve::{
    FAILED_STEP_LOCK, FailedStep, SshSocket, SshSource, failed_step_directory, open_ssh,
};
use crate::store::{Lock, Store};

/// The step that the last build failed at, with its files; held against the next build until it is dropped.
#[derive(Debug)]
pub struct Debug {
    step: FailedStep,
    store: Store,
    _lock: Lock,
}

/// A command that runs there. Dropping it kills it.
#[derive(Debug)]
pub struct DebugSession {
    running: Running,
    _helper: Helper,
    _sockets: Vec<SshSocket>,
    _debug: Debug,
}

/// What a step was given by whoever built, and nobody keeps: by id.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub secrets: &'a BTreeMap<String, Vec<u8>>,
    pub ssh: &'a BTreeMap<String, SshSource>,
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
            store,
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

    /// Returns the ids of the ssh agents that the step uses.
    pub fn ssh(&self) -> impl Iterator<Item = &str> {
        self.step.ssh.iter().map(|it| it.id.as_str())
    }

    /// Starts `command` as the step was started: its files, mounts, environment and user. An empty one is a shell.
    /// `terminal` is the near side of a pseudo terminal. Where the step has ssh mounts, this is to be called within a runtime,
    /// which relays.
    ///
    /// # Errors
    /// The sandbox helper cannot be started; an agent does not answer. What is wrong with the step itself is told by [`DebugSession::wait`].
    pub fn start(
        self,
        command: Vec<OsString>,
        given: Given<'_>,
        terminal: OwnedFd,
        helper: HelperPath,
    ) -> Result<DebugSession, BuildError> {
        let mut spec = self.step.spec.clone();
        for secret in &self.step.secrets {
            if let Some(bytes) = given.secrets.get(&secret.id) {
                secret.put(bytes, &mut spec);
            }
        }
        let mut sockets = Vec::new();
        for used in &self.step.ssh {
            if let Some(source) = given.ssh.get(&used.id) {
                let socket = open_ssh(self.store.tmp_dir(), used, source);
                let socket =
                    socket.map_err(|error| BuildError::Debug(std::io::Error::other(error)))?;
                spec.mounts.push(socket.mount.clone());
                sockets.push(socket);
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
            _sockets: sockets,
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

    /// Returns the secrets and agents that were given.
    pub fn given(&self) -> Given<'_> {
        Given {
            secrets: &self.secrets,
            ssh: &self.ssh,
        }
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
