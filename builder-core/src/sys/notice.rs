//! A system call filter that asks another process, and what that process needs to answer.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::filter::Instruction;
use super::process::last_errno;

/// A call that waits for its answer (`struct seccomp_notif`).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Notice {
    pub(crate) id: u64,
    /// Of the calling thread, as the listener's pid namespace has it.
    pub(crate) pid: u32,
    flags: u32,
    pub(crate) number: i32,
    architecture: u32,
    instruction: u64,
    pub(crate) arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct NewDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    new_flags: u32,
}

const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ADD_DESCRIPTOR: u64 = 0x4018_2103;
const SET_FLAGS: u64 = 0x4008_2104;
const WAKE_AT_ONCE: u64 = 1;
const NEW_LISTENER: u64 = 1 << 3;
const WAIT_KILLABLE: u64 = 1 << 5;
const CONTINUE: u32 = 1;
const ANSWER_WITH_IT: u32 = 1 << 1;

const _: () = assert!(size_of::<Notice>() == 80);
const _: () = assert!(size_of::<Response>() == 24);
const _: () = assert!(size_of::<NewDescriptor>() == 24);

/// What a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Value(i64),
    Error(Errno),
    /// The kernel carries the call out.
    Continue,
}

/// As [`super::load_filter`]; returns the descriptor that the filter's questions come from.
pub(crate) fn load_asking_filter(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let header = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    // a signal must not make a call be carried out twice; a kernel before 5.19 does not know how
    for flags in [NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER] {
        // SAFETY: as in `load_filter`; the result is a new descriptor or an error.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&header),
            )
        };
        if let Ok(number @ 0..) = i32::try_from(done) {
            // SAFETY: the kernel has just made it for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(number) });
        }
        if last_errno() != Errno::INVAL {
            break;
        }
    }
    Err(last_errno())
}

/// Does the kernel know filters that ask?
pub(crate) fn can_ask() -> bool {
    const GET_ACTION_AVAIL: libc::c_int = 2;
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the kernel reads one `u32`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0,
            std::ptr::from_ref(&action),
        )
    };
    done == 0
}

/// Has caller and answerer run on the same processor, in turn: a call takes a third of the time. A kernel before 6.6
/// does not know how.
pub(crate) fn wake_at_once(listener: impl AsFd) {
    // SAFETY: the third argument is a plain number.
    unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SET_FLAGS as _, WAKE_AT_ONCE) };
}

/// Waits for the next call.
///
/// # Errors
/// `NOENT`: the caller is gone meanwhile.
pub(crate) fn receive_notice(listener: impl AsFd) -> Result<Notice, Errno> {
    let mut notice = Notice::default();
    // SAFETY: the kernel writes one `seccomp_notif`, whose size is checked above, into zeroed memory.
    let done = unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            RECEIVE as _,
            std::ptr::from_mut(&mut notice),
        )
    };
    if done == 0 {
        Ok(notice)
    } else {
        Err(last_errno())
    }
}

/// Answers a call. A caller that is gone needs none.
pub(crate) fn answer_notice(listener: impl AsFd, notice: &Notice, answer: Answer) {
    let (value, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(errno) => (0, -errno.raw_os_error(), 0),
        Answer::Continue => (0, 0, CONTINUE),
    };
    let response = Response {
        id: notice.id,
        value,
        error,
        flags,
    };
    // SAFETY: the kernel reads one `seccomp_notif_resp`, whose size is checked above.
    unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            SEND as _,
            std::ptr::from_ref(&response),
        )
    };
}

/// Gives the caller a copy of `file`, whose number is the call's answer.
pub(crate) fn answer_with_descriptor(
    listener: impl AsFd,
    notice: &Notice,
    file: impl AsFd,
    close_on_exec: bool,
) -> Result<(), Errno> {
    let new = NewDescriptor {
        id: notice.id,
        flags: ANSWER_WITH_IT,
        source: file.as_fd().as_raw_fd().cast_unsigned(),
        number: 0,
        new_flags: match close_on_exec {
            true => libc::O_CLOEXEC.cast_unsigned(),
            false => 0,
        },
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`, whose size is checked above.
    let done = unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            ADD_DESCRIPTOR as _,
            std::ptr::from_ref(&new),
        )
    };
    if done >= 0 { Ok(()) } else { Err(last_errno()) }
}

/// Reads another process's memory up to what is not there.
pub(crate) fn read_memory(pid: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    const PAGE: u64 = 4096;
    let first = usize::try_from(PAGE - address % PAGE)
        .unwrap_or(into.len())
        .min(into.len());
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // in two parts: one that is there in part only is not read at all
    let remote = [
        (address, first),
        (address + first as u64, into.len() - first),
    ]
    .map(|(base, iov_len)| libc::iovec {
        iov_base: base as *mut libc::c_void,
        iov_len,
    });
    // SAFETY: `local` is exactly `into`; `remote` is looked up by the kernel in the other process.
    let done = unsafe {
        libc::process_vm_readv(
            pid.cast_signed(),
            std::ptr::from_ref(&local),
            1,
            remote.as_ptr(),
            2,
            0,
        )
    };
    usize::try_from(done).map_err(|_| last_errno())
}

/// Writes another process's memory.
pub(crate) fn write_memory(pid: u32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: `local` is exactly `bytes`, which are only read; `remote` is looked up in the other process.
    let done = unsafe {
        libc::process_vm_writev(
            pid.cast_signed(),
            std::ptr::from_ref(&local),
            1,
            std::ptr::from_ref(&remote),
            1,
            0,
        )
    };
    match usize::try_from(done) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(last_errno()),
    }
}

/// The number that a process was given by [`set_inherited_number`], or the one that it had its children from.
pub(crate) fn inherited_number(pid: u32) -> Result<u64, Errno> {
    Ok(limit_of_locks(pid, None)?.rlim_cur)
}

/// Gives a process a number that its children inherit.
///
/// # Errors
/// `INVAL`: a limit of locks is in force.
pub(crate) fn set_inherited_number(pid: u32, number: u64) -> Result<(), Errno> {
    let mut limit = limit_of_locks(pid, None)?;
    limit.rlim_cur = number;
    limit_of_locks(pid, Some(limit)).map(drop)
}

fn limit_of_locks(pid: u32, new: Option<libc::rlimit64>) -> Result<libc::rlimit64, Errno> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the kernel reads `new`, where it is not null, and writes `old`; both are alive for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            libc::RLIMIT_LOCKS,
            new,
            &raw mut old,
        )
    };
    if done == 0 {
        Ok(old)
    } else {
        Err(last_errno())
    }
}

/// What `stat` shows in place of what the kernel knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// File type (as in `st_mode`) and device number's halves.
    pub(crate) node: Option<(u32, u32, u32)>,
}

const EMPTY: *const libc::c_char = c"".as_ptr();

/// The bytes of a `struct stat` of the open file, as the calling convention has it.
pub(crate) fn stat_bytes(file: impl AsFd, shown: Shown) -> Result<Vec<u8>, Errno> {
    // SAFETY: plain integers; all zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the path is a C string, `stat` is alive for the call.
    if unsafe { libc::fstatat(file, EMPTY, &raw mut stat, libc::AT_EMPTY_PATH) } != 0 {
        return Err(last_errno());
    }
    (stat.st_uid, stat.st_gid) = (shown.uid, shown.gid);
    if let Some((kind, major, minor)) = shown.node {
        stat.st_mode = kind | stat.st_mode & 0o7777;
        stat.st_rdev = libc::makedev(major, minor);
    }
    Ok(bytes_of(&stat))
}

/// The bytes of a `struct statx` of the open file.
pub(crate) fn statx_bytes(
    file: impl AsFd,
    flags: i32,
    mask: u32,
    shown: Shown,
) -> Result<Vec<u8>, Errno> {
    // SAFETY: plain integers; all zero is valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let file = file.as_fd().as_raw_fd();
    let sync = flags & libc::AT_STATX_SYNC_TYPE;
    let flags = libc::AT_EMPTY_PATH | sync;
    // SAFETY: the path is a C string, `stat` is alive for the call.
    if unsafe { libc::statx(file, EMPTY, flags, mask, &raw mut stat) } != 0 {
        return Err(last_errno());
    }
    (stat.stx_uid, stat.stx_gid) = (shown.uid, shown.gid);
    if let Some((kind, major, minor)) = shown.node {
        let kind = u16::try_from(kind).unwrap_or_default();
        stat.stx_mode = kind | stat.stx_mode & 0o7777;
        (stat.stx_rdev_major, stat.stx_rdev_minor) = (major, minor);
    }
    Ok(bytes_of(&stat))
}

/// The bytes of a structure of the kernel's, which all have a value: it was zero before the kernel wrote it.
fn bytes_of<T: Copy>(value: &T) -> Vec<u8> {
    // SAFETY: `value` is alive and of this size; padding was zeroed with the rest.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
        .to_vec()
}
