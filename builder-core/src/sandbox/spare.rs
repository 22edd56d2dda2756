//! A step's first process, made while the step before runs.
//!
//! To make the namespaces, and the mounts that are the same for every step, takes longer than to run a small command.
//! Most steps of a build want the same of them, their [`Shape`]: so the helper keeps one process ready that has all that, and
//! gives it the next step of that shape. Any other step gets a process of its own, see `child`.
//!
//! | when           | what                                                                                          |
//! |----------------|-----------------------------------------------------------------------------------------------|
//! | made           | namespaces; shut off; /proc, /sys, /dev and the files of /etc, see `prepared`; says that it is ready |
//! | gets its step  | output; host name; the root, which the helper has mounted; the rest as any first process      |
//!
//! It holds nothing of a step before it gets one, and never gets a second.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::child::{Ends, enter_cgroup_namespace, guard, run_command, shut_off};
use super::command::Command;
use super::limits::CgroupLimits;
use super::mount_plan::{MountStep, absolute};
use super::mounts::{RootMount, detached};
use super::network::bring_loopback_up;
use super::prepared::Prepared;
use super::protocol::{During, Failure, Reply, receive, send};
use super::spec::{Network, Root, Security, Spec};
use crate::sys::{self, Instruction, Side, SingleThread};

/// What a spare process is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    network: Network,
    security: Security,
    shm_bytes: Option<u64>,
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
}

impl Shape {
    /// `None` for a step that wants what only a process of its own can have.
    pub(super) fn of(spec: &Spec) -> Option<Shape> {
        let is_plain = !matches!(spec.root, Root::Chroot { .. })
            && spec.mounts.is_empty()
            && spec.limits.cgroup == CgroupLimits::default();
        is_plain.then(|| Shape {
            network: spec.network,
            security: spec.security,
            shm_bytes: spec.limits.shm_bytes,
            resolv_conf: spec.resolv_conf.clone(),
            hosts: spec.hosts.clone(),
        })
    }
}

/// A process that waits for its step.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) shape: Shape,
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) status: OwnedFd,
    orders: OwnedFd,
}

impl Spare {
    /// Makes one; `plan` are the mounts of a step of its shape.
    pub(super) fn make(
        shape: Shape,
        plan: &[MountStep],
        filter: (&[Instruction], bool),
        proof: &SingleThread,
    ) -> Result<Spare, Failure> {
        let (orders, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .during("make a socket for the next step")?;
        let (status, status_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .during("make a pipe for the step's status")?;
        match sys::clone_child(proof, namespaces(shape.network)).during("clone3")? {
            Side::Child => guard(&status_end, || {
                live(&shape, plan, filter, &theirs, &status_end, proof)
            }),
            Side::Parent { pid, pidfd } => Ok(Spare {
                shape,
                pid,
                pidfd: pidfd.ok_or_else(|| Failure::reason("clone3 gave no pidfd"))?,
                status,
                orders,
            }),
        }
    }

    /// Waits until it can be given a step; `false` where it never will be.
    pub(super) fn is_ready(&self) -> bool {
        matches!(receive(&self.orders), Ok(Some((Reply::Ready, _))))
    }

    /// Gives it the step: the spec, both outputs, the end, the root.
    pub(super) fn give(self, step: [&OwnedFd; 5]) -> Result<Spare, Failure> {
        let given = send(&self.orders, &(), &step.map(AsFd::as_fd))
            .during("give the step to the process made for it");
        match given {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.end();
                Err(failure)
            }
        }
    }

    /// Ends one that got no step.
    pub(super) fn end(self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// The process that waits for the next step.
#[derive(Debug, Default)]
pub(super) enum Spares {
    #[default]
    None,
    One(Box<Spare>),
    /// They do not work on this machine.
    Never,
}

impl Spares {
    /// Takes the process that waits, if it is made for such a step, and mounts the root for it.
    pub(super) fn take(
        &mut self,
        shape: &Shape,
        root: &RootMount<'_>,
    ) -> Result<Option<(Spare, OwnedFd)>, Failure> {
        let Spares::One(spare) = std::mem::replace(self, Spares::None) else {
            return Ok(None);
        };
        if spare.shape != *shape {
            spare.end();
            return Ok(None);
        }
        let mounted = match spare.is_ready() {
            true => detached(root),
            false => Ok(None),
        };
        match mounted {
            Ok(Some(root)) => Ok(Some((*spare, root))),
            Ok(None) => {
                *self = Spares::Never;
                spare.end();
                Ok(None)
            }
            Err(failure) => {
                spare.end();
                Err(failure)
            }
        }
    }

    /// Makes one, if there is none.
    pub(super) fn make(
        &mut self,
        shape: Shape,
        plan: &[MountStep],
        filter: (&[Instruction], bool),
        proof: &SingleThread,
    ) {
        if matches!(self, Spares::None) {
            *self = match Spare::make(shape, plan, filter, proof) {
                Ok(spare) => Spares::One(Box::new(spare)),
                Err(_) => Spares::Never,
            };
        }
    }

    /// Ends the one that got no step.
    pub(super) fn end(self) {
        if let Spares::One(spare) = self {
            spare.end();
        }
    }
}

/// The namespaces of a step (`CLONE_NEW*`).
pub(super) fn namespaces(network: Network) -> u64 {
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let network = match network {
        Network::None => libc::CLONE_NEWNET,
        Network::Host => 0,
    };
    (all | network) as u64
}

fn live(
    shape: &Shape,
    plan: &[MountStep],
    (filter, asks): (&[Instruction], bool),
    orders: &OwnedFd,
    status: &OwnedFd,
    proof: &SingleThread,
) -> Result<(), Failure> {
    shut_off()?;
    sys::close_all_but(proof, &[orders, status]);
    enter_cgroup_namespace(proof)?;
    rustix::process::umask(Mode::empty());
    if shape.network == Network::None {
        bring_loopback_up()?;
    }
    let prepared = Prepared::make(plan)?;
    send(orders, &Reply::Ready, &[]).during("say that the process is ready")?;

    let Some(((), given)) = receive::<()>(orders).during("wait for the step")? else {
        return Ok(()); // there is none
    };
    let Ok([spec, stdout, stderr, end, root]) = <[OwnedFd; 5]>::try_from(given) else {
        return Err(Failure::reason("the step's descriptors are missing"));
    };
    let spec = Spec::read(&spec)?;
    let command = Command::new(&spec, filter, asks)?;
    let cwd = absolute(&spec.cwd)?;
    rustix::stdio::dup2_stdout(&stdout).during("take standard output")?;
    rustix::stdio::dup2_stderr(&stderr).during("take standard error")?;
    drop((stdout, stderr));
    rustix::system::sethostname(spec.hostname.as_bytes()).during("set the host name")?;
    let interior = prepared.enter(root, spec.security == Security::Insecure)?;
    let ends = Ends {
        helper: status,
        builder: &end,
    };
    run_command(interior, &command, &cwd, ends, proof)
}
