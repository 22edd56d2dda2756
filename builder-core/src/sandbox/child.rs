//! The step's first process: sets the sandbox up, starts the command, and is its init.
//!
//! | when                    | what                                                                              |
//! |-------------------------|-----------------------------------------------------------------------------------|
//! | made by the helper      | in new mount, pid, ipc, uts (and network) namespaces; all decided, see [`Launch`] |
//! | set up                  | dies with the helper; control groups; own descriptors only; mounts; host name      |
//! | command                 | forked; takes on identity and rights; exec                                        |
//! | until the command ends  | reaps everything, forwards nothing                                                |
//! | after                   | kills the rest; takes away what was made for mount points; reports; exits         |
//!
//! The kernel takes its time over the end of a mount namespace: where nothing is left to be taken away, the builder hears of
//! the command's end before.
//!
//! It keeps the capabilities that it needs for the last row; a step cannot trace it or open its memory: it is not
//! dumpable, and holds capabilities that the step has not.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

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
use super::protocol::{During, Failure, Outcome, Report, receive, say};
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
    /// Where the builder hears of the command's end.
    pub(super) end: &'a OwnedFd,
}

/// Where a step's first process says how things went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) helper: &'a OwnedFd,
    pub(super) builder: &'a OwnedFd,
}

/// The process's whole life; never goes back to the helper's code.
pub(super) fn run(launch: Launch<'_>, status: &OwnedFd, proof: &SingleThread) -> ! {
    guard(status, || live(launch, status, proof))
}

/// Does the work of a step's first process, and reports what goes wrong.
pub(super) fn guard(status: &OwnedFd, work: impl FnOnce() -> Result<(), Failure>) -> ! {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
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
        end,
    } = launch;
    shut_off()?;
    for group in &groups {
        rustix::io::write(group, b"0").during("join the step's control group")?;
    }
    enter_cgroup_namespace(proof)?;
    rustix::stdio::dup2_stdout(&stdout).during("take standard output")?;
    rustix::stdio::dup2_stderr(&stderr).during("take standard error")?;
    sys::close_all_but(proof, &[status, end]);
    std::mem::forget((stdout, stderr, groups)); // closed by number just now

    rustix::process::umask(Mode::empty());
    rustix::system::sethostname(&hostname).during("set the host name")?;
    if loopback {
        bring_loopback_up()?;
    }
    let interior = enter_root(root, &steps, any_device)?;
    let ends = Ends {
        helper: status,
        builder: end,
    };
    run_command(interior, &command, &cwd, ends, proof)
}

/// Leaves no way to and from the process but those that the helper has.
pub(super) fn shut_off() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("set the death signal")?;
    make_undumpable()
}

fn make_undumpable() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).during("make undumpable")
}

pub(super) fn enter_cgroup_namespace(proof: &SingleThread) -> Result<(), Failure> {
    match sys::unshare(proof, libc::CLONE_NEWCGROUP) {
        // a kernel without control groups has none to show
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno).during("enter a cgroup namespace"),
    }
}

/// Runs the command in the root that was entered, until nothing of it is left.
pub(super) fn run_command(
    mut interior: Interior,
    command: &Command,
    cwd: &Path,
    ends: Ends<'_>,
    proof: &SingleThread,
) -> Result<(), Failure> {
    let cwd = interior.directory(cwd)?;
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
    // comes back only where it failed
    let become_command = |listener| {
        let Err(failure) = command.become_command(&cwd, listener);
        report(ends.helper, &Report::Outcome(Outcome::Failed(failure)));
    };
    let main = match pair {
        None => {
            let main = sys::fork_to_exec(proof, &|| become_command(None)).during("fork")?;
            // it is the memory's, which the command had while it changed its identity
            make_undumpable()?;
            main
        }
        // the command waits for answers before it has a program of its own
        Some((ours, theirs)) => match sys::fork(proof).during("fork")? {
            Side::Child => {
                drop(ours);
                become_command(Some(theirs));
                sys::exit_now(1)
            }
            Side::Parent { pid, .. } => {
                drop(theirs);
                start_listener(ours, proof)?;
                pid
            }
        },
    };
    drop(cwd);
    let outcome = reap_until(main)?;
    // what still runs could go on writing, or put things in the way
    sys::kill_all_others();
    while !matches!(
        rustix::process::wait(WaitOptions::empty()),
        Err(rustix::io::Errno::CHILD)
    ) {}
    // a failure may have been reported before the command ran: the helper knows
    if interior.is_untouched() && matches!(outcome, Outcome::Code(0)) {
        say(ends.builder, &outcome);
    }
    report(ends.helper, &Report::Outcome(outcome));
    if !interior.is_untouched() {
        report(ends.helper, &Report::CopiedUp(interior.clear()));
    }
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
