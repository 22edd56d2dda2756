//! What this machine cannot run, or not in this way: told before the first step runs, not when its turn comes.
//!
//! A step whose definition key leads nowhere may still be found by its content key, and then nothing of this counts. So what
//! the way of running steps lacks is an error here only for a step that cannot be found: the store has no result of
//! its command on anything, and no shared cache is asked. For others it is one when they are started.

use std::collections::BTreeSet;

use super::SolveErrorKind;
use super::devices::Devices;
use super::inputs::{Inputs, SolveOptions};
use crate::cache::{Cache, Key};
use crate::image::Platform;
use crate::plan::{Input, MountOp, MountSource, NetworkMode, Op, RunOp, SecurityMode, Vertex};
use crate::sandbox::{
    self, Asks, Emulation, Limits, Network, Rung, SandboxError, Security, emulation, has_level,
};

/// Refuses what is `needed` and cannot be run.
pub(super) fn check(
    inputs: &Inputs,
    cache: &Cache,
    definitions: &[Option<Key>],
    needed: &BTreeSet<Input>,
) -> Result<(), (Input, SolveErrorKind)> {
    let options = &inputs.options;
    for &index in needed {
        runs_here(&inputs.plan.vertices[index]).map_err(|kind| (index, kind))?;
    }
    let must_run = |index: Input| {
        let known = |key: &Key| !inputs.shared.is_empty() || cache.knows_command(&key.parts);
        options.no_cache
            || options.forced.contains(&index)
            || !definitions[index].as_ref().is_some_and(known)
    };
    let limited = match options.limits == Limits::default() {
        true => None,
        false => sandbox::try_limits(&options.limits).err(),
    };
    let mut limited = limited.map(SolveErrorKind::from);
    for &index in needed {
        let Op::Run(run) = &inputs.plan.vertices[index].op else {
            continue;
        };
        let refused = refused(run, options);
        if (refused.is_some() || limited.is_some()) && must_run(index) {
            return Err((
                index,
                refused
                    .or(limited.take())
                    .unwrap_or(SolveErrorKind::Cancelled),
            ));
        }
    }
    Ok(())
}

/// What the way in which steps are run cannot give a step.
fn refused(run: &RunOp, options: &SolveOptions) -> Option<SolveErrorKind> {
    if options.rung == Rung::None {
        let reason = options.rung_reason.clone();
        return Some(SolveErrorKind::NoSteps { reason });
    }
    let is_sized = |mount: &&MountOp| {
        let MountSource::Tmpfs { size_bytes } = &mount.source else {
            return false;
        };
        size_bytes.is_some()
    };
    let device = || {
        let devices = Devices::read(&options.device_dirs);
        let mut names = run.devices.iter();
        names.any(|it| !devices.find(&it.name).is_empty())
    };
    let asks = Asks {
        network: network(run.network),
        security: security(run.security),
        shm_size: options.limits.shm_bytes.is_some(),
        locks_limit: options.limits.limits_locks(),
        ..Asks::default()
    };
    let lack = |asks: Asks| {
        let reason = asks.lack(options.rung)?.to_owned();
        Some(SolveErrorKind::from(SandboxError::InvalidSpec { reason }))
    };
    let of_mount = || {
        let asks = Asks {
            tmpfs_size: true,
            ..Asks::default()
        };
        let mount = run.mounts.iter().find(is_sized)?;
        Some(lack(asks)?.in_span(mount.span))
    };
    let of_device = || {
        let asks = Asks {
            device: !run.devices.is_empty() && device(),
            ..Asks::default()
        };
        lack(asks)
    };
    lack(asks).or_else(of_mount).or_else(of_device)
}

pub(super) fn network(mode: NetworkMode) -> Network {
    match mode {
        NetworkMode::None => Network::None,
        NetworkMode::Default | NetworkMode::Host => Network::Host,
    }
}

pub(super) fn security(mode: SecurityMode) -> Security {
    match mode {
        SecurityMode::Sandbox => Security::Sandbox,
        SecurityMode::Insecure => Security::Insecure,
    }
}

/// Refuses, before anything runs, a RUN whose programs this machine cannot execute.
fn runs_here(vertex: &Vertex) -> Result<(), SolveErrorKind> {
    let (Op::Run(_), Some(platform)) = (&vertex.op, &vertex.platform) else {
        return Ok(());
    };
    let host = Platform::host();
    if host.runs(platform) {
        return Ok(());
    }
    let level = (platform.os == host.os && platform.architecture == host.architecture)
        .then(|| platform.variant.as_deref().and_then(has_level))
        .flatten();
    if level == Some(true) {
        return Ok(());
    }
    let reason = match emulation(&platform.architecture) {
        _ if platform.os != host.os => "it is another operating system",
        Emulation::By(_) => return Ok(()),
        Emulation::NotFixed(_) => {
            "the emulator that binfmt_misc has for it is not opened beforehand (flag F is missing)"
        }
        Emulation::None if level == Some(false) => {
            "this processor lacks what that level asks for, and binfmt_misc has no emulator for it"
        }
        Emulation::None => "binfmt_misc has no emulator for it",
    };
    Err(SolveErrorKind::NoEmulation {
        platform: Box::new(platform.clone()),
        host: Box::new(host),
        reason,
    })
}
