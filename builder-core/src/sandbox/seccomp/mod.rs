//! The system call filter of a step: Docker's default profile, as a classic BPF program.
//!
//! `profile` says what is allowed, by number and for four calls by argument; `numbers` holds the numbers;
//! `assemble` turns ranges of numbers into a program by halving, so that a call costs about eight comparisons.
//!
//! | asked for                                           | answer                                           |
//! |-----------------------------------------------------|--------------------------------------------------|
//! | a call of the profile                               | allowed                                          |
//! | `clone` with a `CLONE_NEW*` flag                    | EPERM                                            |
//! | `clone3`, whose flags a filter cannot read          | ENOSYS, so that libc falls back to `clone`       |
//! | `socket` of AF_VSOCK, AF_ALG, other odd families    | EPERM                                            |
//! | `personality` other than Linux, 32 bit and the like | EPERM                                            |
//! | any other call (mount, unshare, bpf, io_uring, keyctl, open_by_handle_at…) | EPERM                     |
//! | 32-bit x86 on x86_64                                | the same profile by its own numbers, as Docker   |
//! | x32 on x86_64, 32-bit ARM on aarch64                | EPERM (Docker allows them; nothing ships them)   |
//!
//! The rules are those that Docker's profile gives for its default capability set on a kernel from 4.8 on:
//! `ptrace`, `process_vm_readv` and `chroot` are allowed, all that CAP_SYS_ADMIN would open is not.

mod assemble;
mod numbers;
mod profile;

pub(super) use profile::{docker_default, docker_default_asking, everything_asking};
