//! How one process runs, shut in.
//!
//! ```text
//! builder ──Spec, outputs──▶ helper ──clone3──▶ first process ──fork──▶ command
//! (threads)  a socket       (one thread)        (mounts, init)          (identity, filter, exec)
//!            ◀────Exit────            ◀─status pipe, pidfd─
//! ```
//!
//! A clone costs what the page tables of the cloning process cost, and is unsafe beside threads. So the builder's own
//! program is run again as a small helper, once a build; the helper makes the processes of all steps. All that can be
//! decided is decided there before the clone: `mount_plan` (pure) turns a [`Spec`] into mounts in order, `command`
//! into arguments of exec, `seccomp` into a program. What follows is a list of system calls; the first that fails is
//! reported with its name, path and error, apart from the command's own exit codes.
//!
//! Namespaces and most mounts are the same for most steps: a process that has them waits for the next one, made while a step
//! runs (`spare`, `prepared`). What is not such a step gets a process of its own.
//!
//! # What a step gets
//! - Mount, pid, ipc, uts and cgroup namespaces, and a network namespace for [`Network::None`]; no user namespace of its own:
//!   [`enter`] puts the whole process into one where that is needed.
//! - Its root by pivot_root; a new /proc, /dev, /dev/pts, /dev/shm, /dev/mqueue; /sys read-only, without cgroups;
//!   Docker's masked and read-only paths; /etc/resolv.conf and /etc/hosts from memory.
//! - Docker's default capabilities and system call filter; no_new_privs off, so that set-user-id programs work.
//! - A session, standard input from /dev/null, umask 022, an init that reaps. Limits that are not set by
//!   [`Limits`] and the OOM score stay as they are; limits of all processes together are control groups, see `cgroup`.
//! - An upper directory that holds what the command did and nothing of ours, see `mount_point`. After a kill, or an
//!   error, it may hold made mount points: it is to be thrown away.
//!
//! # What it promises
//! - Whatever ends the builder ends every process of every step, and every mount.
//! - Paths of the image are resolved inside the root, always.
//! - No descriptor, environment variable or key of the builder reaches a step.
//!
//! # Calling order
//! [`init_if_child`] first in `main`, then, for work that runs steps, [`enter`], both before any thread exists
//! ([`init`] is the two). A program that is root and calls only the first works too: mounts are then made in the
//! step's own namespace alone.
//!
//! Needs Linux 5.12 (mount_setattr). Overlays are mounted by descriptors from 6.8 on, by mount(2) before; they are
//! volatile, so a step's end waits for no disk: who keeps an upper directory makes it durable.
//!
//! Not here: user-mode networking, looking up users by name.

mod apart;
mod asks;
mod cgroup;
mod cgroup_plan;
mod child;
mod chroot;
mod command;
mod detached;
mod doctor;
mod emulation;
mod enter;
mod error;
mod helper;
mod id_map;
mod isolation;
mod limit_values;
mod limits;
mod listener;
mod mount_plan;
mod mount_point;
mod mounts;
mod network;
mod overlay_mount;
mod prepared;
mod protocol;
mod seccomp;
mod server;
mod spare;
mod spec;
mod stand_in;
mod stub;
mod user_namespace;

pub use apart::apart;
pub use asks::Asks;
pub use cgroup::try_limits;
pub use doctor::{Diagnosis, DoctorError, Missed, examine};
pub use emulation::{Emulation, emulation, has_level};
pub use enter::{Standing, enter, enter_by, probe_overlay};
pub use error::{InitError, SandboxError};
pub use helper::{Exit, Helper, HelperPath, Killer, Running};
pub use id_map::IdRange;
pub(crate) use id_map::is_single as has_single_id;
pub use isolation::{Isolation, Rung};
pub use limits::{CgroupLimits, LimitError, Limits, Rlimit};
pub use protocol::Failure;
pub use spec::{Mount, MountSource, Network, Root, Security, Spec, User};

/// Does the helper's work and never returns, if this process was started as one; else does nothing.
pub fn init_if_child() {
    if is_helper() {
        crate::sys::exit_now(server::serve());
    }
}

/// [`init_if_child`], then [`enter`]: to be called first in `main`, before any thread exists.
///
/// # Errors
/// As [`enter`].
pub fn init() -> Result<Standing, InitError> {
    init_if_child();
    enter()
}

fn is_helper() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == protocol::HELPER_ARGUMENT)
}
