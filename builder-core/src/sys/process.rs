//! Processes: clone, fork, exec, and what a fresh process sets on itself.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, PidfdFlags};

/// Proof that this process had one thread when it was made.
#[derive(Debug)]
pub(crate) struct SingleThread(());

impl SingleThread {
    /// Counts the process's threads.
    ///
    /// # Errors
    /// Their number where there is more than one; 0 where `/proc` does not tell.
    pub(crate) fn prove() -> Result<Self, usize> {
        match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
            Ok(1) => Ok(Self(())),
            Ok(count) => Err(count),
            Err(_) => Err(0),
        }
    }
}

/// Which process a call returned in.
#[derive(Debug)]
pub(crate) enum Side {
    Child,
    Parent { pid: Pid, pidfd: Option<OwnedFd> },
}

pub(super) fn last_errno() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::INVAL, Errno::from_raw_os_error)
}

/// Makes a child in new namespaces (`CLONE_NEW*` of `flags`), with a pidfd for it.
pub(crate) fn clone_child(proof: &SingleThread, flags: u64) -> Result<Side, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is plain integers; all zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM and with no stack given this is fork with namespaces; the process has one thread
    // (`proof`), so the child's memory is consistent. `pidfd` outlives the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            size_of_val(&args),
        )
    };
    match pid {
        0 => Ok(Side::Child),
        pid if pid > 0 => Ok(Side::Parent {
            pid: as_pid(pid)?,
            // SAFETY: the kernel wrote a new descriptor there (CLONE_PIDFD), owned by nobody else.
            pidfd: Some(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        }),
        // Docker's filter of containers answers so for clone3
        _ if flags == 0 && last_errno() == Errno::NOSYS => match fork(proof)? {
            Side::Child => Ok(Side::Child),
            Side::Parent { pid, .. } => Ok(Side::Parent {
                pid,
                pidfd: Some(rustix::process::pidfd_open(pid, PidfdFlags::empty())?),
            }),
        },
        _ => Err(last_errno()),
    }
}

/// Duplicates the process.
pub(crate) fn fork(_proof: &SingleThread) -> Result<Side, Errno> {
    // SAFETY: the process has one thread (`_proof`), so the child may do all that the parent may.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        pid if pid > 0 => Ok(Side::Parent {
            pid: as_pid(pid.into())?,
            pidfd: None,
        }),
        _ => Err(last_errno()),
    }
}

/// Room for what a child does on the way to another program.
const STACK_BYTES: usize = 256 << 10;

/// Makes a child that uses this process's memory, and waits until that has become another program or has ended: nothing is
/// copied, neither pages nor the tables of them.
///
/// `work` runs in the child, which ends where it comes back. What it changes in memory stays changed; descriptors,
/// directories, credentials and the system call filter are the child's own.
pub(crate) fn fork_to_exec(_proof: &SingleThread, work: &dyn Fn()) -> Result<Pid, Errno> {
    extern "C" fn begin(work: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is the pointer made below; what it points to lives in the frame of the parent, which waits.
        let work: &&dyn Fn() = unsafe { &*work.cast() };
        // nothing unwinds into the frames of another process
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        exit_now(1)
    }
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is this frame's own, aligned as its elements are, and grows down from its end; the process has one
    // thread (`_proof`), which is stopped (CLONE_VFORK) until the child has left this memory, so the two never run at the
    // same time, and both `stack` and `work` outlive the child's use of them.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity());
        let work = std::ptr::from_ref(&work).cast_mut().cast();
        libc::clone(begin, top.cast(), flags, work)
    };
    match pid {
        pid if pid > 0 => as_pid(pid.into()),
        _ => Err(last_errno()),
    }
}

fn as_pid(raw: i64) -> Result<Pid, Errno> {
    i32::try_from(raw)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::INVAL)
}

/// Replaces the process's program; returns only with the error.
pub(crate) fn exec(program: &CString, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|one| one.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Ends the process at once: no destructors, no handlers of exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no requirements.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default meaning and blocks none: std ignores SIGPIPE, and exec would hand that on.
pub(crate) fn reset_signals() {
    // `struct sigaction` of the kernel, all zero: SIG_DFL, no flags, no restorer, an empty mask. libc's own call
    // leaves out the two signals that it uses itself, which a builder's parent may have ignored
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads one such struct, of at most this size, and writes none; SIGKILL and SIGSTOP
        // answer an error, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
    // SAFETY: an all-zero set is what `sigemptyset` makes on Linux; both pointers are valid or null.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Moves the calling thread into new namespaces (`CLONE_NEW*`).
pub(crate) fn unshare(_proof: &SingleThread, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no memory is involved; the process has one thread, so no other one is left behind.
    if unsafe { libc::unshare(flags) } == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

/// Adds attributes to the mount that `mount` refers to and, if `recursive`, to those below it.
pub(crate) fn set_mount_attributes(
    mount: impl AsFd,
    recursive: bool,
    set: MountAttrFlags,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set.bits().into(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attributes` is alive for the call and its true size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of_val(&attributes),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Gives the process a session keyring of its own, so that the builder's keys are out of reach.
pub(crate) fn leave_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring. Kernels without keyrings answer an error: nothing to leave.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
}

/// Brings the `lo` interface of the process's network namespace up.
pub(crate) fn set_loopback_up(socket: impl AsFd) -> Result<(), Errno> {
    // SAFETY: `ifreq` is plain data; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::INVAL)?;
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which is alive for the call.
    let done = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Closes all descriptors from 3 on but a few. For a fresh child that never returns to its parent's code.
pub(crate) fn close_all_but(_proof: &SingleThread, keep: &[&OwnedFd]) {
    let mut keep: Vec<u32> = keep
        .iter()
        .map(|one| one.as_raw_fd().unsigned_abs())
        .collect();
    keep.sort_unstable();
    let firsts = std::iter::once(3).chain(keep.iter().map(|kept| kept + 1));
    let lasts = keep.iter().map(|kept| kept.saturating_sub(1));
    for (first, last) in firsts.zip(lasts.chain([u32::MAX])) {
        if first <= last {
            // SAFETY: the values that owned these descriptors live in frames that this child never goes back to, so
            // none is used or closed again.
            let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if done != 0 {
                // a container's filter that does not know the call
                let most = last.min(1 << 20);
                for number in first..=most {
                    // SAFETY: as above.
                    unsafe { libc::close(number.cast_signed()) };
                }
            }
        }
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: an all-zero set is what `sigemptyset` makes on Linux; `sigaddset` gets a valid one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Keeps `signals` for [`wait_signal`].
pub(crate) fn block_signals(signals: &[libc::c_int]) -> Result<(), Errno> {
    let set = signal_set(signals);
    // SAFETY: both pointers are valid or null.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Waits for one of `signals`, which are blocked, and returns which.
pub(crate) fn wait_signal(signals: &[libc::c_int]) -> Result<libc::c_int, Errno> {
    let set = signal_set(signals);
    loop {
        // SAFETY: both pointers are valid or null.
        match unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) } {
            signal if signal > 0 => return Ok(signal),
            _ if last_errno() == Errno::INTR => {}
            _ => return Err(last_errno()),
        }
    }
}

/// Kills every process that the caller can see but itself: for the first process of a pid namespace.
pub(crate) fn kill_all_others() {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: no memory is involved; pid -1 is the caller's pid namespace without its init, which this is.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}
