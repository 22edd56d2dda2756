//! A step without namespaces, as a default container of Docker allows it to root: chroot.
//!
//! | namespaces give                    | here                                                                    |
//! |------------------------------------|-------------------------------------------------------------------------|
//! | mounts                             | [`StandIns`]: put in place before, taken away after                     |
//! | /proc, /sys                        | nothing: a mount is not to be had                                       |
//! | an end of all processes            | the first process adopts every orphan (subreaper), and kills until none is left |
//! | processes out of reach             | the step lacks capabilities that the builder has, so it cannot trace it; but signals reach |
//! | a network, host name, IPC of its own | the builder's; `--network=none` is an error                           |
//!
//! The step itself gets the tree as its root, and neither CAP_SYS_CHROOT, which would let it out again, nor CAP_MKNOD.
//! The first process stays outside. It is ended by SIGTERM, so that it can kill what it adopted; the same signal comes
//! when the helper dies.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use super::child::{Launch, give_output_to, outcome_of, report};
use super::mount_point::Interior;
use super::mounts::RootMount;
use super::protocol::{During, Failure, Outcome, Report};
use super::stand_in::StandIns;
use crate::sys::{self, Side, SingleThread};

/// The first process's whole life, after it was forked.
pub(super) fn live(
    launch: Launch<'_>,
    status: &OwnedFd,
    proof: &SingleThread,
) -> Result<(), Failure> {
    let RootMount::Chroot { tree, hold } = launch.root else {
        return Err(Failure::reason(
            "a step without namespaces needs a copied tree",
        ));
    };
    sys::block_signals(&[libc::SIGTERM, libc::SIGCHLD]).during("block signals")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .during("set the death signal")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during("adopt orphans")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during("make undumpable")?;
    for group in &launch.groups {
        rustix::io::write(group, b"0").during("join the step's control group")?;
    }
    rustix::stdio::dup2_stdout(&launch.stdout).during("take standard output")?;
    rustix::stdio::dup2_stderr(&launch.stderr).during("take standard error")?;
    sys::close_all_but(proof, &[status]);
    std::mem::forget((launch.stdout, launch.stderr, launch.groups)); // closed by number just now
    rustix::process::umask(Mode::empty());
    let root = rustix::fs::open(
        tree,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during_at("open", tree)?;
    let mut stand_ins = StandIns::new(Interior::new(root), hold);
    let placed = stand_ins.place_all(&launch.steps);
    let outcome = placed.and_then(|()| {
        let cwd = stand_ins.interior().directory(&launch.cwd)?;
        let root = stand_ins.interior().root().try_clone();
        let root = root.during("keep the root open")?;
        give_output_to(launch.command.user().uid)?;
        match sys::fork(proof).during("fork")? {
            Side::Child => {
                let entered = enter(&root, launch.command.has_terminal());
                let Err(failure) = entered.and_then(|()| launch.command.become_command(&cwd, None));
                report(status, &Report::Outcome(Outcome::Failed(failure)));
                sys::exit_now(1)
            }
            Side::Parent { pid, .. } => wait_for(pid),
        }
    });
    kill_descendants();
    let cleared = stand_ins.clear();
    report(status, &Report::Outcome(outcome?));
    if let Err(failure) = cleared {
        report(status, &Report::Unclean(failure));
    }
    Ok(())
}

/// What the command does before it gives its rights up.
fn enter(root: &OwnedFd, terminal: bool) -> Result<(), Failure> {
    if terminal {
        rustix::stdio::dup2_stdin(rustix::stdio::stdout()).during("take standard input")?;
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .during_at("open", "/dev/null")?;
        rustix::stdio::dup2_stdin(&null).during("take standard input")?;
    }
    rustix::process::fchdir(root).during("enter the new root")?;
    rustix::process::chroot(".").during("chroot")
}

/// Waits for the command's end, or for the signal to end it.
fn wait_for(main: Pid) -> Result<Outcome, Failure> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == main => {
                if let Some(outcome) = outcome_of(status) {
                    return Ok(outcome);
                }
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                let signals = [libc::SIGTERM, libc::SIGCHLD];
                if sys::wait_signal(&signals).during("wait for a signal")? == libc::SIGTERM {
                    return Ok(Outcome::Signal(libc::SIGKILL));
                }
            }
            Err(errno) => return Err(errno).during("wait for the command"),
        }
    }
}

/// Kills children until there are none: the children of one that dies become children of this process.
pub(super) fn kill_descendants() {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                for child in children() {
                    // one that has ended meanwhile is still there to be waited for, so the number is nobody else's
                    let _ = rustix::process::kill_process(child, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

/// The process's children, adopted ones included.
pub(super) fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_pid();
    let list = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let pid = |text: &str| text.parse().ok().and_then(Pid::from_raw);
    if let Ok(list) = list {
        return list.split_whitespace().filter_map(pid).collect();
    }
    // a kernel without that file
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let name = entry.file_name();
        let number = pid(name.to_str()?)?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // the name before it may hold anything but ends at the last parenthesis
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
        (parent.parse() == Ok(own)).then_some(number)
    })
    .collect()
}
