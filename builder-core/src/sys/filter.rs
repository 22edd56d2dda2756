//! Loading of a classic BPF program as a system call filter.

use rustix::io::Errno;

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) value: u32,
}

/// Installs `program` for the calling thread and all it starts.
///
/// Needs CAP_SYS_ADMIN in the thread's user namespace, or no_new_privs.
pub(crate) fn load_filter(program: &[Instruction]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let header = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    // SAFETY: `Instruction` has the layout of `sock_filter` (repr(C), same fields); `header` names exactly `len` of
    // them, alive for the call; the kernel copies and never writes them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&header),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(super::process::last_errno())
    }
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
