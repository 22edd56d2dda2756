//! What is asked of every RUN: limits, hosts, time, privileges.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::request::Build;
use crate::sandbox::Limits;
use crate::solve::{CDI_DIRS, Entitlement};

/// `/etc/hosts` of a step, as BuildKit writes it.
fn hosts(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// What steps get.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    pub(super) hosts: Vec<(String, IpAddr)>,
    pub(super) limits: Limits,
    pub(super) timeout: Option<Duration>,
    pub(super) build_timeout: Option<Duration>,
    pub(super) allow: BTreeSet<Entitlement>,
    /// `None`: the usual ones.
    pub(super) device_dirs: Option<Vec<PathBuf>>,
}

impl Steps {
    pub(super) fn device_dirs(&self) -> Vec<PathBuf> {
        let usual = || CDI_DIRS.map(PathBuf::from).to_vec();
        self.device_dirs.clone().unwrap_or_else(usual)
    }

    /// The text of `/etc/hosts`.
    pub(super) fn hosts_file(&self, hostname: &str) -> Vec<u8> {
        let mut text = hosts(hostname);
        for (name, ip) in &self.hosts {
            text += &format!("{ip}\t{name}\n");
        }
        text.into_bytes()
    }
}

impl Build {
    /// Adds a line to `/etc/hosts` of every step.
    #[must_use]
    pub fn add_host(mut self, name: impl Into<String>, ip: IpAddr) -> Self {
        let name = name.into();
        self.plan.extra_hosts.push((name.clone(), ip));
        self.steps.hosts.push((name, ip));
        self
    }

    /// Sets what a step may use at most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.steps.limits = limits;
        self
    }

    /// Sets how long one RUN may take; every process of it is then killed, and the build fails.
    #[must_use]
    pub fn step_timeout(mut self, limit: Duration) -> Self {
        self.steps.timeout = Some(limit);
        self
    }

    /// Sets how long the whole build may take; what still runs is then killed, and the build fails.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.steps.build_timeout = Some(limit);
        self
    }

    /// Allows steps what they only get on request.
    #[must_use]
    pub fn allow(mut self, entitlement: Entitlement) -> Self {
        self.steps.allow.insert(entitlement);
        self
    }

    /// Adds a directory of CDI specs, in place of [`CDI_DIRS`]; a later one wins.
    #[must_use]
    pub fn device_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        let directories = self.steps.device_dirs.get_or_insert_default();
        directories.push(directory.into());
        self
    }
}
