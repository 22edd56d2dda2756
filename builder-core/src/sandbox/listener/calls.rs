//! From the numbers of a system call to what is asked.

use rustix::fs::OFlags;

use super::ids::Set;
use crate::sys::Notice;

/// What a step's process asks the listener.
///
/// A step's reads can be made known in the same way later (`Open` is asked already; `readlinkat`, `getdents64`): a new
/// kind here, and the filter's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    SetOwner {
        of: Place,
        uid: u32,
        gid: u32,
    },
    Look {
        at: Place,
        into: u64,
        form: Form,
    },
    Open {
        at: Place,
        how: How,
    },
    /// openat2: where its `struct open_how` is.
    OpenBy {
        at: Place,
        how: u64,
    },
    /// rename and link.
    Move {
        from: Place,
        to: Place,
        /// Each takes the other's place.
        exchange: bool,
    },
    /// utimensat of what is not followed; `times`: two `struct timespec`, or 0 for now.
    Touch {
        at: Place,
        times: u64,
    },
    Make {
        /// Never followed.
        at: Place,
        what: Make,
    },
    SetUser(Set),
    SetGroup(Set),
    SetGroups {
        count: u64,
        from: u64,
    },
    GetGroups {
        room: u64,
        into: u64,
    },
    /// getuid, geteuid, getgid, getegid
    Get {
        group: bool,
        effective: bool,
    },
    GetThree {
        group: bool,
        into: [u64; 3],
    },
    /// Nothing that we know.
    Other,
}

/// Which file a call speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Open(i32),
    Path {
        /// A descriptor or `AT_FDCWD`.
        dir: i32,
        address: u64,
        follow: bool,
        /// An empty path is `dir` itself.
        empty: bool,
    },
}

impl Place {
    pub(super) fn not_followed(self) -> Place {
        match self {
            Place::Open(_) => self,
            Place::Path {
                dir,
                address,
                empty,
                follow: _,
            } => Place::Path {
                dir,
                address,
                empty,
                follow: false,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Stat,
    Statx { flags: i32, mask: u32 },
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    pub(super) flags: OFlags,
    pub(super) mode: u32,
}

impl How {
    fn new(flags: u32, mode: u32) -> How {
        let flags = OFlags::from_bits_retain(flags);
        How { flags, mode }
    }

    /// As the kernel reads it: flags, mode, and how paths are to be looked up.
    pub(super) fn from_bytes(bytes: [u8; 24]) -> (How, u64) {
        let number = |nth: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[8 * nth..8 * nth + 8]);
            u64::from_ne_bytes(eight)
        };
        let half = |number: u64| (number & 0xffff_ffff) as u32;
        (How::new(half(number(0)), half(number(1))), number(2))
    }

    /// The call fails where the file is there.
    pub(super) fn only_new(self) -> bool {
        self.flags.contains(OFlags::CREATE | OFlags::EXCL)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    File(How),
    Directory { mode: u32 },
    Link { target: u64 },
    Node { mode: u32, device: u64 },
}

/// Reads a call.
pub(super) fn asked(notice: &Notice) -> Asked {
    let [a, b, c, d, e, _] = notice.arguments;
    // the kernel takes these as 32 bits
    let int = |value: u64| (value & 0xffff_ffff) as i32;
    let id = |value: u64| (value & 0xffff_ffff) as u32;
    let at = |dir: u64, address: u64, flags: i32, follow: bool| Place::Path {
        dir: int(dir),
        address,
        follow,
        empty: flags & libc::AT_EMPTY_PATH != 0,
    };
    let followed = |flags: i32| flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    if let Some(asked) = old_call(notice) {
        return asked;
    }
    match i64::from(notice.number) {
        libc::SYS_fchown => Asked::SetOwner {
            of: Place::Open(int(a)),
            uid: id(b),
            gid: id(c),
        },
        libc::SYS_fchownat => Asked::SetOwner {
            of: at(a, b, int(e), followed(int(e))),
            uid: id(c),
            gid: id(d),
        },
        libc::SYS_fstat => Asked::Look {
            at: Place::Open(int(a)),
            into: b,
            form: Form::Stat,
        },
        libc::SYS_newfstatat => Asked::Look {
            at: at(a, b, int(d), followed(int(d))),
            into: c,
            form: Form::Stat,
        },
        libc::SYS_statx => Asked::Look {
            at: at(a, b, int(c), followed(int(c))),
            into: e,
            form: Form::Statx {
                flags: int(c),
                mask: id(d),
            },
        },
        libc::SYS_openat => Asked::Open {
            at: at(a, b, 0, true),
            how: How::new(id(c), id(d)),
        },
        libc::SYS_openat2 => Asked::OpenBy {
            at: at(a, b, 0, true),
            how: c,
        },
        libc::SYS_renameat | libc::SYS_renameat2 => Asked::Move {
            from: at(a, b, 0, false),
            to: at(c, d, 0, false),
            exchange: i64::from(notice.number) == libc::SYS_renameat2
                && id(e) & libc::RENAME_EXCHANGE != 0,
        },
        libc::SYS_linkat => Asked::Move {
            from: at(a, b, int(e), int(e) & libc::AT_SYMLINK_FOLLOW != 0),
            to: at(c, d, 0, false),
            exchange: false,
        },
        libc::SYS_utimensat => Asked::Touch {
            at: at(a, b, 0, false),
            times: c,
        },
        libc::SYS_mkdirat => Asked::Make {
            at: at(a, b, 0, false),
            what: Make::Directory { mode: id(c) },
        },
        libc::SYS_symlinkat => Asked::Make {
            at: at(b, c, 0, false),
            what: Make::Link { target: a },
        },
        libc::SYS_mknodat => Asked::Make {
            at: at(a, b, 0, false),
            what: Make::Node {
                mode: id(c),
                device: d,
            },
        },
        libc::SYS_setuid => Asked::SetUser(Set::One(id(a))),
        libc::SYS_setgid => Asked::SetGroup(Set::One(id(a))),
        libc::SYS_setreuid => Asked::SetUser(Set::Two(id(a), id(b))),
        libc::SYS_setregid => Asked::SetGroup(Set::Two(id(a), id(b))),
        libc::SYS_setresuid => Asked::SetUser(Set::Three(id(a), id(b), id(c))),
        libc::SYS_setresgid => Asked::SetGroup(Set::Three(id(a), id(b), id(c))),
        libc::SYS_setfsuid => Asked::SetUser(Set::Files(id(a))),
        libc::SYS_setfsgid => Asked::SetGroup(Set::Files(id(a))),
        libc::SYS_setgroups => Asked::SetGroups { count: a, from: b },
        libc::SYS_getgroups => Asked::GetGroups { room: a, into: b },
        libc::SYS_getuid => get(false, false),
        libc::SYS_geteuid => get(false, true),
        libc::SYS_getgid => get(true, false),
        libc::SYS_getegid => get(true, true),
        libc::SYS_getresuid => Asked::GetThree {
            group: false,
            into: [a, b, c],
        },
        libc::SYS_getresgid => Asked::GetThree {
            group: true,
            into: [a, b, c],
        },
        _ => Asked::Other,
    }
}

fn get(group: bool, effective: bool) -> Asked {
    Asked::Get { group, effective }
}

/// Calls that younger architectures do not have.
#[cfg(target_arch = "x86_64")]
fn old_call(notice: &Notice) -> Option<Asked> {
    let [a, b, c, ..] = notice.arguments;
    let id = |value: u64| (value & 0xffff_ffff) as u32;
    let path = |address: u64, follow: bool| Place::Path {
        dir: libc::AT_FDCWD,
        address,
        follow,
        empty: false,
    };
    let look = |follow: bool| Asked::Look {
        at: path(a, follow),
        into: b,
        form: Form::Stat,
    };
    let make = |address: u64, what: Make| Asked::Make {
        at: path(address, false),
        what,
    };
    Some(match i64::from(notice.number) {
        libc::SYS_chown | libc::SYS_lchown => Asked::SetOwner {
            of: path(a, i64::from(notice.number) == libc::SYS_chown),
            uid: id(b),
            gid: id(c),
        },
        libc::SYS_stat => look(true),
        libc::SYS_lstat => look(false),
        libc::SYS_open => Asked::Open {
            at: path(a, true),
            how: How::new(id(b), id(c)),
        },
        libc::SYS_creat => Asked::Open {
            at: path(a, true),
            how: How {
                flags: OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC,
                mode: id(b),
            },
        },
        libc::SYS_rename | libc::SYS_link => Asked::Move {
            from: path(a, false),
            to: path(b, false),
            exchange: false,
        },
        libc::SYS_mkdir => make(a, Make::Directory { mode: id(b) }),
        libc::SYS_symlink => make(b, Make::Link { target: a }),
        libc::SYS_mknod => make(
            a,
            Make::Node {
                mode: id(b),
                device: c,
            },
        ),
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn old_call(_: &Notice) -> Option<Asked> {
    None
}
