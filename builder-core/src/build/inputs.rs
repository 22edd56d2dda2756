//! What a request and its plan mean for `solve`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::BuildError;
use super::output::Output;
use super::planned::Parsed;
use super::request::Build;
use super::run::Round;
use crate::export::Compressor;
use crate::plan::{Base, HOSTNAME_ARG, Plan, takes_context};
use crate::progress::EventSink;
use crate::registry::{Client, Resolved};
use crate::sandbox::Rung;
use crate::share::Mode;
use crate::solve::{Ahead, HOSTNAME, Inputs, Reads, SolveOptions};

/// What the kernel holds.
const MAX_HOSTNAME: usize = 64;

impl Build {
    /// Returns the host name that is asked for; `None` for the usual one.
    fn hostname(&self) -> Result<Option<String>, BuildError> {
        let asked = self.plan.build_args.get(HOSTNAME_ARG);
        let Some(name) = asked.filter(|name| !name.is_empty() && *name != HOSTNAME) else {
            return Ok(None);
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.len() > MAX_HOSTNAME || !name.chars().all(is_plain) {
            return Err(BuildError::Hostname { name: name.clone() });
        }
        Ok(Some(name.clone()))
    }

    /// Begins to list the main context, where the target will want it: bases are looked up meanwhile. A store that is not
    /// there yet may come to be inside.
    pub(super) fn list_ahead(&self, parsed: &Parsed) -> Option<Ahead> {
        let root = self.store.clone().filter(|root| root.is_dir())?;
        if !takes_context(&parsed.ast, self.plan.target.as_deref()) {
            return None;
        }
        let dir = self.context_dirs().remove(&None)?;
        let cancel = self.cancel.clone();
        Some(Ahead::begin(dir, root, self.no_cache.all, cancel))
    }

    pub(super) fn inputs(
        &self,
        plan: Plan,
        bases: BTreeMap<Base, Resolved>,
        round: &Round<'_>,
        events: &Arc<dyn EventSink>,
    ) -> Result<Inputs, BuildError> {
        let &Round {
            store,
            standing,
            shared,
            snapshots,
            deadline,
            ..
        } = round;
        let contexts = self.context_dirs();
        let rootless = standing.is_some_and(|standing| standing.rootless);
        let resolv_conf = match &self.resolv_conf {
            Some(bytes) => bytes.clone(),
            // A machine without the file has no name service to offer.
            None => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        };
        let hostname = self.hostname()?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        Ok(Inputs {
            plan,
            bases,
            contexts,
            ahead: None,
            secrets: self.secrets.clone(),
            ssh: self.ssh.clone(),
            store: store.clone(),
            snapshots: snapshots.clone(),
            compressor: Compressor::new(
                store.clone(),
                self.outputs
                    .iter()
                    .filter_map(|it| Some(it.image()?.compression))
                    .chain(self.cache_compressions()),
                0,
            ),
            client: Client::new(self.client.clone()),
            shared: shared.clone(),
            helper: self.helper.clone(),
            events: events.clone(),
            options: SolveOptions {
                jobs: self.jobs,
                no_cache: self.no_cache.all,
                only_found: self.only_found,
                all_leave: self.cache_to.iter().any(|to| to.mode == Mode::Max),
                forced: BTreeSet::new(),
                project: self.project(),
                platform: String::new(),
                variant: self.variant(),
                hostname: hostname.clone(),
                resolv_conf,
                hosts: self
                    .steps
                    .hosts_file(hostname.as_deref().unwrap_or(HOSTNAME)),
                limits: self.steps.limits.clone().checked()?,
                step_timeout: self.steps.timeout,
                deadline,
                allow: self.steps.allow.clone(),
                device_dirs: self.steps.device_dirs(),
                now,
                reads: self
                    .outputs
                    .iter()
                    .map(Output::reads)
                    .max()
                    .unwrap_or(Reads::Nothing),
                max_layer_bytes: self.max_layer_bytes,
                userxattr: rootless,
                rung: standing.map_or(Rung::Overlay, |standing| standing.rung),
                rung_reason: standing.map_or(String::new(), |it| it.reason.clone()),
            },
            table: Arc::default(),
            cancel: self.cancel.clone(),
        })
    }
}
