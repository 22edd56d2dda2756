//! RUN: a process on a snapshot, and what it changed.

mod cache_mount;
mod context_view;
mod device;
mod failed;
mod keep;
mod mask;
mod mount_files;
mod mounts;
mod process;
mod seed;
mod ssh;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::file::{Account, Accounts};
use super::inputs::{HOSTNAME, Inputs};
use super::job::Job;
use super::layers::worker;
use super::trees::{chains, view};
use super::{SolveErrorKind, able};
use crate::cache::Layer;
use crate::plan::{MountOp, MountSource, RunOp};
use crate::sandbox::{self, Root, Rung, Spec, User};
use crate::snapshot::Active;

use cache_mount::Caches;
pub(super) use cache_mount::cache_name;
pub use failed::{FailedStep, SecretUse};
pub(crate) use failed::{LOCK, directory, forget};
use keep::keep;
pub use mount_files::pack_mount;
use process::{Stop, StopOnDrop, end_of_time, run_process};
pub(crate) use ssh::{Socket as SshSocket, open as open_ssh};
pub use ssh::{SshKey, SshKeyError, SshSource, SshUse};

/// Runs `op` on `parent` and returns the layer it made.
pub(super) async fn run(job: &Job, op: &RunOp, parent: &[Layer]) -> Result<Layer, SolveErrorKind> {
    let inputs = &job.inputs;
    if inputs.options.rung == Rung::None {
        let reason = inputs.options.rung_reason.clone();
        return Err(SolveErrorKind::NoSteps { reason });
    }
    job.loader.unpack(inputs, parent, job.vertex).await?;
    for mount in &op.mounts {
        if let Some(layers) = job.mounted_layers(mount) {
            job.loader.unpack(inputs, &layers, job.vertex).await?;
        }
    }
    let caches = cache_mount::lock(job, op).await?;
    job.helper().await?;
    // One thread does it all: to hand over to another costs as much as to mount.
    let stop = Arc::new(Stop::default());
    let mut on_drop = StopOnDrop(Some(stop.clone()));
    let work = {
        let (job, op, parent, stop) = (job.clone(), op.clone(), parent.to_vec(), stop.clone());
        tokio::task::spawn_blocking(move || work(&job, &op, &parent, caches, &stop))
    };
    tokio::pin!(work);
    let why = tokio::select! {
        worked = &mut work => {
            on_drop.0 = None;
            return worked.map_err(worker)?;
        }
        why = end_of_time(job) => why,
    };
    stop.stop();
    let worked = work.await;
    on_drop.0 = None;
    match worked.map_err(worker)? {
        Ok(_) | Err(SolveErrorKind::Cancelled) => Err(why.error(op, Vec::new())),
        Err(SolveErrorKind::Exit { tail, .. } | SolveErrorKind::Signal { tail, .. }) => {
            Err(why.error(op, tail))
        }
        Err(other) => Err(other),
    }
}

fn work(
    job: &Job,
    op: &RunOp,
    parent: &[Layer],
    caches: Caches,
    stop: &Stop,
) -> Result<Layer, SolveErrorKind> {
    let Prepared {
        spec,
        active,
        scratch,
        caches,
        accounts,
        secrets,
        sockets,
    } = prepare(job, op, parent, caches)?;
    let inputs = &job.inputs;
    let without_secrets = spec.clone();
    let mut spec = spec;
    for (secret, bytes) in &secrets {
        secret.put(bytes, &mut spec);
    }
    spec.mounts
        .extend(sockets.iter().map(|(_, it)| it.mount.clone()));
    if let Err(error) = run_process(job, op, spec, stop) {
        if let SolveErrorKind::Exit { .. } | SolveErrorKind::Signal { .. } = &error {
            let vertex = &inputs.plan.vertices[job.vertex.0 as usize];
            let step = FailedStep {
                name: vertex.name.clone(),
                line: vertex.line,
                spec: without_secrets,
                secrets: secrets.into_iter().map(|(secret, _)| secret).collect(),
                ssh: sockets.into_iter().map(|(used, _)| used).collect(),
            };
            let places = std::iter::once(active).chain(scratch).collect();
            // to look at it is an extra: the step's own error is what counts
            let _ = failed::keep(&inputs.store, step, places);
        }
        return Err(error);
    }
    drop((scratch, caches, sockets));
    keep(job, active, parent, accounts)
}

/// All that a process needs, made.
struct Prepared {
    spec: Spec,
    active: Active,
    /// Upper directories of mounts whose writes are thrown away.
    scratch: Vec<Active>,
    caches: Caches,
    accounts: Arc<Accounts>,
    /// With their values, which go nowhere but into the step.
    secrets: Vec<(SecretUse, Vec<u8>)>,
    /// Behind which agents answer as long as the step runs.
    sockets: Vec<(SshUse, ssh::Socket)>,
}

fn prepare(
    job: &Job,
    op: &RunOp,
    parent: &[Layer],
    caches: Caches,
) -> Result<Prepared, SolveErrorKind> {
    let inputs = &job.inputs;
    let accounts = accounts(job, parent)?;
    let account = accounts.account(&op.user)?;
    let active = inputs.snapshots.prepare(&chains(parent))?;
    let mut prepared = Prepared {
        spec: spec(inputs, op, &account, &active),
        active,
        scratch: Vec::new(),
        caches,
        accounts,
        secrets: Vec::new(),
        sockets: Vec::new(),
    };
    for (at, mount) in op.mounts.iter().enumerate() {
        mounts::mount(job, op, at, &mut prepared).map_err(|kind| kind.in_span(mount.span))?;
    }
    device::devices(job, op, &mut prepared)?;
    for (name, content) in &op.scripts {
        prepared.spec.mounts.push(sandbox::Mount {
            target: PathBuf::from(format!("/dev/pipes/{name}")),
            source: sandbox::MountSource::Bytes {
                bytes: content.clone().into_bytes(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                no_exec: false,
            },
            read_only: true,
        });
    }
    Ok(prepared)
}

/// Returns the users and groups of a root file system; they are read once.
fn accounts(job: &Job, layers: &[Layer]) -> Result<Arc<Accounts>, SolveErrorKind> {
    let Some(top) = chains(layers).last().copied() else {
        return Ok(Arc::new(Accounts::read(None)));
    };
    let known = || {
        job.shared
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(accounts) = known().get(&top) {
        return Ok(accounts.clone());
    }
    let root = view(&job.inputs, layers)?;
    let accounts = Arc::new(Accounts::read(Some(root.tree.as_ref())));
    known().insert(top, accounts.clone());
    Ok(accounts)
}

fn spec(inputs: &Inputs, op: &RunOp, account: &Account, active: &Active) -> Spec {
    let mut env: Vec<OsString> = Vec::new();
    // What the Dockerfile sets wins over a proxy variable of the same name.
    let is_set = |name: &str| op.env.iter().any(|(known, _)| known == name);
    let proxies = op.proxy_env.iter().filter(|(name, _)| !is_set(name));
    for (name, value) in proxies.chain(&op.env) {
        env.push(format!("{name}={value}").into());
    }
    if !is_set("HOME") {
        env.push(format!("HOME={}", account.home).into());
    }
    // The first one's, and also where no agent was given for it: the reference has it so.
    let is_ssh = |it: &&MountOp| matches!(it.source, MountSource::Ssh { .. });
    if let Some(mount) = op.mounts.iter().find(is_ssh)
        && !is_set(ssh::VARIABLE)
    {
        env.push(format!("{}={}", ssh::VARIABLE, mount.target).into());
    }
    let options = &inputs.options;
    Spec {
        root: root_of(inputs, active),
        args: op.args.iter().map(OsString::from).collect(),
        env,
        cwd: PathBuf::from(&op.cwd),
        user: User {
            uid: account.uid,
            gid: account.gid,
            groups: with_primary(account),
        },
        hostname: options
            .hostname
            .clone()
            .unwrap_or_else(|| HOSTNAME.to_owned()),
        mounts: Vec::new(),
        network: able::network(op.network),
        security: able::security(op.security),
        limits: options.limits.clone(),
        terminal: false,
        resolv_conf: options.resolv_conf.clone(),
        hosts: options.hosts.clone(),
    }
}

fn root_of(inputs: &Inputs, active: &Active) -> Root {
    if inputs.options.rung == Rung::Chroot {
        return Root::Chroot {
            tree: active.upper.clone(),
            hold: active.work.clone(),
        };
    }
    if active.is_copy() {
        return Root::Directory(active.upper.clone());
    }
    Root::Overlay {
        lowers: active.lowers.clone(),
        upper: active.upper.clone(),
        work: active.work.clone(),
        userxattr: inputs.options.userxattr,
        stubs: Some(inputs.store.tmp_dir().to_owned()),
    }
}

/// The primary group is one of the supplementary ones too: a set-group-id program cannot give it up.
fn with_primary(account: &Account) -> Vec<u32> {
    let others = account.groups.iter().filter(|it| **it != account.gid);
    std::iter::once(&account.gid)
        .chain(others)
        .copied()
        .collect()
}
