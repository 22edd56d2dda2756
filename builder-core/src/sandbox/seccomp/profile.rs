//! Docker's default profile as a table from call number to rule.

use std::collections::BTreeMap;

use super::assemble::{Architecture, Rule, assemble};
use super::numbers;
use crate::sys::Instruction;

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

/// CLONE_NEW* of `clone`'s first argument, without CLONE_NEWTIME, which shares a bit with the exit signal.
const CLONE_NEW: u32 = 0x7e02_0000;

/// Address families up to 45 without DECnet, Econet, ATM SVC, IrDA, WAN pipe, IUCV, CAIF, ALG, NFC's neighbours and
/// VSOCK, as in Docker's list.
const FAMILIES: &[(u32, u32)] = &[
    (0, 11),
    (13, 18),
    (21, 22),
    (24, 24),
    (26, 33),
    (35, 36),
    (39, 39),
    (41, 45),
];

/// PER_LINUX, PER_LINUX32, the two with UNAME26, and the question for the present value.
const PERSONALITIES: &[(u32, u32)] = &[
    (0, 0),
    (8, 8),
    (0x2_0000, 0x2_0000),
    (0x2_0008, 0x2_0008),
    (u32::MAX, u32::MAX),
];

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;

/// The program for the architecture that this was built for; empty on one that has no table.
pub(in crate::sandbox) fn docker_default() -> Vec<Instruction> {
    program(|_, _| None, Rule::Errno(EPERM))
}

/// [`docker_default`], where the listener answers for owners and ids.
pub(in crate::sandbox) fn docker_default_asking() -> Vec<Instruction> {
    program(asked, Rule::Errno(EPERM))
}

/// The listener answers for owners and ids, and nothing is refused.
pub(in crate::sandbox) fn everything_asking() -> Vec<Instruction> {
    program(
        |id, name| asked(id, name).or(Some(Rule::Allow)),
        Rule::Allow,
    )
}

/// The calls that the listener answers; of another architecture's, none.
fn asked(id: u32, name: &str) -> Option<Rule> {
    let own = if cfg!(target_arch = "x86_64") {
        AUDIT_ARCH_X86_64
    } else {
        AUDIT_ARCH_AARCH64
    };
    if id != own {
        return None;
    }
    // a directory stands for nothing; with a path alone nothing is read
    let bits = (libc::O_DIRECTORY | libc::O_PATH).cast_unsigned();
    match name {
        "open" => Some(Rule::AskWithout { argument: 1, bits }),
        "openat" => Some(Rule::AskWithout { argument: 2, bits }),
        "utimensat" => Some(Rule::AskWith {
            argument: 3,
            bits: libc::AT_SYMLINK_NOFOLLOW.cast_unsigned(),
        }),
        name if ASKED.contains(&name) => Some(Rule::Ask),
        _ => None,
    }
}

/// Owners, ids, what shows owners, and what makes files with one.
const ASKED: &[&str] = &[
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "openat2",
    "mknod",
    "mknodat",
    "creat",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
];

fn program(change: impl Fn(u32, &str) -> Option<Rule>, other: Rule) -> Vec<Instruction> {
    let tables: &[(u32, &[(u32, &str)])] = if cfg!(target_arch = "x86_64") {
        &[
            (AUDIT_ARCH_X86_64, numbers::X86_64),
            (AUDIT_ARCH_I386, numbers::I386),
        ]
    } else if cfg!(target_arch = "aarch64") {
        &[(AUDIT_ARCH_AARCH64, numbers::AARCH64)]
    } else {
        return Vec::new();
    };
    let architectures: Vec<_> = tables
        .iter()
        .map(|(id, table)| architecture(*id, table, &change))
        .collect();
    assemble(&architectures, EPERM, other)
}

fn architecture(
    id: u32,
    table: &[(u32, &'static str)],
    change: impl Fn(u32, &str) -> Option<Rule>,
) -> Architecture {
    let rules: BTreeMap<u32, Rule> = table
        .iter()
        .map(|(number, name)| (*number, change(id, name).unwrap_or_else(|| rule(name))))
        .collect();
    Architecture { id, rules }
}

fn rule(name: &str) -> Rule {
    match name {
        "clone" => Rule::AllowWithout {
            argument: 0,
            bits: CLONE_NEW,
        },
        "clone3" => Rule::Errno(ENOSYS),
        "socket" => Rule::AllowAmong {
            argument: 0,
            ranges: FAMILIES,
        },
        "personality" => Rule::AllowAmong {
            argument: 0,
            ranges: PERSONALITIES,
        },
        _ => Rule::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::super::assemble::run;
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn errno(value: u32) -> u32 {
        libc::SECCOMP_RET_ERRNO | value
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_filter_answers_as_the_profile_says() {
        let program = docker_default();
        let x64 = AUDIT_ARCH_X86_64;
        let deny = errno(EPERM);
        let rows: &[(&str, u32, i64, u32, u32)] = &[
            ("read", x64, libc::SYS_read, 0, ALLOW),
            ("write", x64, libc::SYS_write, 0, ALLOW),
            ("execve", x64, libc::SYS_execve, 0, ALLOW),
            ("setxattr", x64, libc::SYS_setxattr, 0, ALLOW),
            ("ptrace", x64, libc::SYS_ptrace, 0, ALLOW),
            ("chroot", x64, libc::SYS_chroot, 0, ALLOW),
            ("mount", x64, libc::SYS_mount, 0, deny),
            ("umount2", x64, libc::SYS_umount2, 0, deny),
            ("unshare", x64, libc::SYS_unshare, 0, deny),
            ("setns", x64, libc::SYS_setns, 0, deny),
            ("bpf", x64, libc::SYS_bpf, 0, deny),
            ("perf_event_open", x64, libc::SYS_perf_event_open, 0, deny),
            ("keyctl", x64, libc::SYS_keyctl, 0, deny),
            ("add_key", x64, libc::SYS_add_key, 0, deny),
            ("request_key", x64, libc::SYS_request_key, 0, deny),
            ("io_uring_setup", x64, libc::SYS_io_uring_setup, 0, deny),
            (
                "open_by_handle_at",
                x64,
                libc::SYS_open_by_handle_at,
                0,
                deny,
            ),
            ("reboot", x64, libc::SYS_reboot, 0, deny),
            ("clone3", x64, libc::SYS_clone3, 0, errno(ENOSYS)),
            ("clone SIGCHLD", x64, libc::SYS_clone, 17, ALLOW),
            ("clone NEWUSER", x64, libc::SYS_clone, 0x1000_0000, deny),
            ("clone NEWNS", x64, libc::SYS_clone, 0x0002_0000, deny),
            ("socket UNIX", x64, libc::SYS_socket, 1, ALLOW),
            ("socket NETLINK", x64, libc::SYS_socket, 16, ALLOW),
            ("socket ALG", x64, libc::SYS_socket, 38, deny),
            ("socket VSOCK", x64, libc::SYS_socket, 40, deny),
            ("socket XDP", x64, libc::SYS_socket, 44, ALLOW),
            ("socket 46", x64, libc::SYS_socket, 46, deny),
            ("personality 0", x64, libc::SYS_personality, 0, ALLOW),
            (
                "personality query",
                x64,
                libc::SYS_personality,
                u32::MAX,
                ALLOW,
            ),
            (
                "personality no-random",
                x64,
                libc::SYS_personality,
                0x4_0000,
                deny,
            ),
            ("x32 read", x64, 0x4000_0000, 0, deny),
            ("a number of no call", x64, 9999, 0, deny),
            ("i386 write", AUDIT_ARCH_I386, 4, 0, ALLOW),
            ("i386 mount", AUDIT_ARCH_I386, 21, 0, deny),
            ("i386 clone NEWNS", AUDIT_ARCH_I386, 120, 0x0002_0000, deny),
            ("arm read", 0x4000_0028, 3, 0, deny),
        ];
        for (name, arch, number, argument, expected) in rows {
            let answer = run(&program, *arch, u32::try_from(*number).unwrap(), *argument);
            assert_eq!(answer, *expected, "{name}");
        }
    }

    #[test]
    fn the_tables_are_in_order_and_agree_with_libc() {
        for (name, table) in [
            ("x86_64", numbers::X86_64),
            ("i386", numbers::I386),
            ("aarch64", numbers::AARCH64),
        ] {
            assert!(table.is_sorted_by_key(|(number, _)| *number), "{name}");
        }
        let native = if cfg!(target_arch = "x86_64") {
            numbers::X86_64
        } else {
            numbers::AARCH64
        };
        for (name, number) in [
            ("openat2", libc::SYS_openat2),
            ("statx", libc::SYS_statx),
            ("getrandom", libc::SYS_getrandom),
            ("seccomp", libc::SYS_seccomp),
            ("clone3", libc::SYS_clone3),
            ("renameat2", libc::SYS_renameat2),
        ] {
            let found = native
                .iter()
                .find(|row| row.1 == name)
                .map(|row| i64::from(row.0));
            assert_eq!(found, Some(number), "{name}");
        }
    }

    #[test]
    fn the_program_is_short() {
        let length = docker_default().len();
        assert!(length < 512, "{length} instructions");
    }
}
