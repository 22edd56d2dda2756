//! The step's first process: sets the sandbox up, starts the command, and is its init.
//!
//! | when                    | what                                                                              |
//! |-------------------------|-----------------------------------------------------------------------------------|
//! | made by the helper      | in new mount, pid, ipc, uts (and network) namespaces; all decided, see [`Launch`] |
//! | set up                  | dies with the helper; control groups; own descriptors only; mounts; host name      |
//! | command                 | forked; takes on identity and rights; exec                                        |
//! | until the command ends  | reaps everything, forwards nothing                                                |
//! | after                   | takes away what was made for mount points; reports; exits: the kernel kills the rest |
//!
//! It keeps the capabilities that it needs for the last row; a step cannot trace it or open its memory: it is not
//! dumpable, and holds capabilities that the step has not.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};

use super::chroot;
use super::command::Command;
use super::listener;
use super::mount_plan::MountStep;
use super::mount_point::Interior;
use super::mounts::{RootMount, enter_root};
use super::network::bring_loopback_up;
use super::protocol::{During, Failure, Outcome, Report, receive};
use crate::sys::{self, Side, SingleThread};

/// All that the step's first process needs, decided by the helper.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) root: RootMount<'a>,
    pub(super) steps: Vec<MountStep>,
    pub(super) command: Command,
    pub(super) cwd: PathBuf,
    pub(super) hostname: Vec<u8>,
    pub(super) loopback: bool,
    pub(super) any_device: bool,
    /// Files of control groups to join.
    pub(super) groups: Vec<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The process's whole life; never goes back to the helper's code.
pub(super) fn run(launch: Launch<'_>, status: &OwnedFd, proof: &SingleThread) -> ! {
    let ended =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(launch, status, proof)));
    let outcome = match ended {
        Ok(Ok(())) => sys::exit_now(0),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::reason("the step's first process panicked"),
    };
    report(status, &Report::Outcome(Outcome::Failed(outcome)));
    sys::exit_now(1)
}

fn live(launch: Launch<'_>, status: &OwnedFd, proof: &SingleThread) -> Result<(), Failure> {
    if let RootMount::Chroot { .. } = launch.root {
        return chroot::live(launch, status, proof);
    }
    let Launch {
        root,
        steps,
        command,
        cwd,
        hostname,
        loopback,
        any_device,
        groups,
        stdout,
        stderr,
    } = launch;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("set the death signal")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during("make undumpable")?;
    for group in &groups {
        rustix::io::write(group, b"0").during("join the step's control group")?;
    }
    match sys::unshare(proof, libc::CLONE_NEWCGROUP) {
        // a kernel without control groups has none to show
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(errno) => return Err(errno).during("enter a cgroup namespace"),
    }
    rustix::stdio::dup2_stdout(&stdout).during("take standard output")?;
    rustix::stdio::dup2_stderr(&stderr).during("take standard error")?;
    sys::close_all_but(proof, status);
    std::mem::forget((stdout, stderr, groups)); // closed by number just now

    rustix::process::umask(Mode::empty());
    rustix::system::sethostname(&hostname).during("set the host name")?;
    if loopback {
        bring_loopback_up()?;
    }
    let mut interior = enter_root(root, &steps, any_device)?;
    let cwd = interior.directory(&cwd)?;
    if command.has_terminal() {
        rustix::stdio::dup2_stdin(rustix::stdio::stdout()).during("take standard input")?;
    } else {
        let null = interior
            .open("/dev/null".as_ref(), OFlags::RDONLY)
            .during_at("open", "/dev/null")?;
        rustix::stdio::dup2_stdin(&null).during("take standard input")?;
    }
    give_output_to(command.user().uid)?;

    let asking = command.asks();
    let pair = match asking {
        false => None,
        true => Some(
            rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
            .during("make a socket for the listener")?,
        ),
    };
    let (ours, theirs) = pair.unzip();
    let main = match sys::fork(proof).during("fork")? {
        Side::Child => {
            drop(ours);
            let Err(failure) = command.become_command(&cwd, theirs);
            report(status, &Report::Outcome(Outcome::Failed(failure)));
            sys::exit_now(1)
        }
        Side::Parent { pid, .. } => pid,
    };
    drop((cwd, theirs));
    if let Some(socket) = ours {
        start_listener(socket, proof)?;
    }
    let outcome = reap_until(main)?;
    report(status, &Report::Outcome(outcome));
    finish(interior, status);
    Ok(())
}

/// Starts the process that answers the command's system calls.
fn start_listener(socket: OwnedFd, proof: &SingleThread) -> Result<(), Failure> {
    match sys::fork(proof).during("fork the listener")? {
        Side::Parent { .. } => Ok(()),
        Side::Child => {
            // a command that failed before has said so itself
            if let Ok(Some(((), descriptors))) = receive::<()>(&socket)
                && let [notices] = &descriptors[..]
            {
                listener::serve(notices);
            }
            sys::exit_now(0)
        }
    }
}

/// A pipe belongs to who made it: without this, `echo > /dev/stdout` is refused to another user.
pub(super) fn give_output_to(uid: u32) -> Result<(), Failure> {
    if uid == 0 {
        return Ok(());
    }
    for output in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = rustix::fs::fstat(output).during("stat the output")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            // a pipe of a user outside the id map cannot be given away, and works for writing all the same
            let _ = rustix::fs::fchown(output, Some(Uid::from_raw(uid)), None);
        }
    }
    Ok(())
}

fn reap_until(main: Pid) -> Result<Outcome, Failure> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => {
                if let Some(outcome) = outcome_of(status) {
                    return Ok(outcome);
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).during("wait for the command"),
        }
    }
}

pub(super) fn outcome_of(status: WaitStatus) -> Option<Outcome> {
    status
        .exit_status()
        .map(Outcome::Code)
        .or_else(|| status.terminating_signal().map(Outcome::Signal))
}

/// Leaves the root as the command left it, without the mount points that were made for it.
fn finish(interior: Interior, status: &OwnedFd) {
    if interior.is_untouched() {
        return;
    }
    // what still runs could put things in the way
    sys::kill_all_others();
    while !matches!(
        rustix::process::wait(WaitOptions::empty()),
        Err(rustix::io::Errno::CHILD)
    ) {}
    report(status, &Report::CopiedUp(interior.clear()));
}

pub(super) fn report(status: impl AsFd, report: &Report) {
    let Ok(mut line) = serde_json::to_vec(report) else {
        return;
    };
    line.push(b'\n');
    if let Ok(status) = status.as_fd().try_clone_to_owned() {
        // a reader that is gone is a helper that is gone: this process is about to die of it
        let _ = std::fs::File::from(status).write_all(&line);
    }
}
