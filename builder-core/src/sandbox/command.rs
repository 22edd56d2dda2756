//! The command of a step: from the fork in the step's first process to exec.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::limits::Rlimit;
use super::protocol::{During, Failure, send};
use super::seccomp;
use super::spec::{Root, Security, Spec, User};
use crate::sys::{self, Instruction};

/// Docker's default capabilities: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// mknod and sys_chroot.
const WAYS_OUT_OF_CHROOT: u64 = 1 << 27 | 1 << 18;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All that exec needs, ready before the step's process exists.
#[derive(Debug)]
pub(super) struct Command {
    args: Vec<CString>,
    env: Vec<CString>,
    /// Where the program may be, in order.
    candidates: Vec<CString>,
    user: User,
    rlimits: Vec<Rlimit>,
    terminal: bool,
    /// `None`: the step runs with all rights that there are.
    filter: Option<Vec<Instruction>>,
    capabilities: u64,
    /// The filter that asks the listener about owners and ids, where there is one.
    asks: Vec<Instruction>,
}

impl Command {
    /// `asks`: `filter` asks the listener.
    pub(super) fn new(spec: &Spec, filter: &[Instruction], asks: bool) -> Result<Self, Failure> {
        let list = |name: &str, list: &[std::ffi::OsString]| {
            list.iter()
                .map(|one| CString::new(one.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| Failure::reason(format!("a NUL byte in {name}")))
        };
        let program = spec
            .args
            .first()
            .ok_or_else(|| Failure::reason("no program to run"))?;
        let ids = [spec.user.uid, spec.user.gid];
        if ids
            .iter()
            .chain(&spec.user.groups)
            .any(|id| *id == u32::MAX)
        {
            return Err(Failure::reason(format!(
                "{} is no user or group id",
                u32::MAX
            )));
        }
        let path = spec
            .env
            .iter()
            .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="))
            .unwrap_or(DEFAULT_PATH);
        Ok(Self {
            args: list("the arguments", &spec.args)?,
            env: list("the environment", &spec.env)?,
            candidates: list("PATH", &candidates(program.as_bytes(), path))?,
            user: spec.user.clone(),
            rlimits: spec.limits.rlimits.clone(),
            terminal: spec.terminal,
            filter: match spec.security {
                Security::Sandbox => Some(filter.to_vec()),
                Security::Insecure => None,
            },
            capabilities: match spec.root {
                Root::Chroot { .. } => DEFAULT_CAPABILITIES & !WAYS_OUT_OF_CHROOT,
                _ => DEFAULT_CAPABILITIES,
            },
            asks: match spec.security {
                _ if !asks => Vec::new(),
                Security::Sandbox => filter.to_vec(),
                Security::Insecure => seccomp::everything_asking(),
            },
        })
    }

    fn is_chroot(&self) -> bool {
        self.capabilities & WAYS_OUT_OF_CHROOT == 0
    }

    /// Does the command need a listener?
    pub(super) fn asks(&self) -> bool {
        !self.asks.is_empty()
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// Takes on the step's identity and rights and becomes the command.
    ///
    /// # Errors
    /// What failed before exec. A failed exec is the command's failure: it is told on standard error, and ends the
    /// process with 127 or 126.
    pub(super) fn become_command(
        &self,
        cwd: &OwnedFd,
        listener: Option<OwnedFd>,
    ) -> Result<std::convert::Infallible, Failure> {
        rustix::process::setsid().during("setsid")?;
        if self.terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).during("take the terminal")?;
        }
        rustix::process::fchdir(cwd).during("enter the working directory")?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        sys::leave_session_keyring();
        self.set_limits()?;
        if let Some(filter) = &self.filter {
            limit_capabilities(self.capabilities)?;
            // while CAP_SYS_ADMIN is held: no_new_privs stays off, and setuid programs work. In a container without it,
            // where no step has namespaces either, the container's own filter has to do
            let may = rustix::thread::capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
            if listener.is_none() && !filter.is_empty() && (may || !self.is_chroot()) {
                sys::load_filter(filter).during("load the system call filter")?;
            }
        }
        if let Some(socket) = &listener {
            let notices = sys::load_asking_filter(&self.asks)
                .during("load the system call filter that asks the builder")?;
            send(socket, &(), &[notices.as_fd()]).during("start the listener")?;
        }
        self.switch_user()?;
        // with a listener it is the builder's word alone that the user is another
        if self.filter.is_some() && (self.user.uid == 0 || self.asks()) {
            drop_capabilities(self.capabilities)?;
        }
        sys::reset_signals();
        let errno = self.exec();
        let (text, code) = explain(&self.args[0], errno);
        let _ = rustix::stdio::stderr().try_clone_to_owned().map(|stderr| {
            let _ = std::fs::File::from(stderr).write_all(text.as_bytes());
        });
        sys::exit_now(code)
    }

    /// While all rights are held: to raise a hard limit takes CAP_SYS_RESOURCE outside any user namespace.
    fn set_limits(&self) -> Result<(), Failure> {
        for limit in &self.rlimits {
            let Some(resource) = limit.resource() else {
                return Err(Failure::reason(format!("unknown limit `{}`", limit.name)));
            };
            let (current, maximum) = (limit.soft, limit.hard);
            let value = rustix::process::Rlimit { current, maximum };
            rustix::process::setrlimit(resource, value).during(&format!("set --ulimit {limit}"))?;
        }
        Ok(())
    }

    fn switch_user(&self) -> Result<(), Failure> {
        let User { uid, gid, groups } = &self.user;
        let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        rustix::thread::set_thread_groups(&groups).during("set supplementary groups")?;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .during(&format!("switch to group {gid}, is it in the id map?"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .during(&format!("switch to user {uid}, is it in the id map?"))
    }

    /// As execvpe does, but a file without a known format is not given to a shell.
    fn exec(&self) -> Errno {
        let mut denied = false;
        for candidate in &self.candidates {
            if is_magic(candidate) {
                denied = true;
                continue;
            }
            match sys::exec(candidate, &self.args, &self.env) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => denied = true,
                other => return other,
            }
        }
        if denied { Errno::ACCESS } else { Errno::NOENT }
    }
}

/// Whether the path leads through a link of /proc that is no path: `/proc/self/exe` is the builder's own program here,
/// which no image should run.
fn is_magic(program: &CString) -> bool {
    let open = |resolve| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(CWD, program, flags, Mode::empty(), resolve)
    };
    open(ResolveFlags::NO_MAGICLINKS).is_err_and(|errno| errno == Errno::LOOP)
}

/// What to say and to exit with when exec failed.
fn explain(program: &CString, errno: Errno) -> (String, i32) {
    let name = String::from_utf8_lossy(program.as_bytes());
    let (reason, code) = match errno {
        Errno::NOENT if name.contains('/') => ("no such file or directory".to_owned(), 127),
        Errno::NOENT => ("executable file not found in $PATH".to_owned(), 127),
        Errno::ACCESS => ("permission denied".to_owned(), 126),
        Errno::NOEXEC => ("exec format error".to_owned(), 126),
        other => (std::io::Error::from(other).to_string(), 126),
    };
    (format!("exec: {name:?}: {reason}\n"), code)
}

fn candidates(program: &[u8], path: &[u8]) -> Vec<std::ffi::OsString> {
    if program.is_empty() || program.contains(&b'/') {
        return vec![std::ffi::OsString::from_vec(program.to_vec())];
    }
    path.split(|byte| *byte == b':')
        .map(|directory| {
            let directory: &[u8] = if directory.is_empty() {
                b"."
            } else {
                directory
            };
            std::ffi::OsString::from_vec([directory, b"/", program].concat())
        })
        .collect()
}

/// Leaves the default capabilities only in the bounding set: no program started later can have others.
fn limit_capabilities(capabilities: u64) -> Result<(), Failure> {
    rustix::thread::clear_ambient_capability_set()
        .or_else(ignore_unknown)
        .during("clear ambient capabilities")?;
    for number in 0..u64::BITS {
        let bit = 1u64 << number;
        if capabilities & bit != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            bit,
        )) {
            Ok(()) => {}
            // past the last one that this kernel knows
            Err(Errno::INVAL) => break,
            // without CAP_SETPCAP: then no program may gain any
            Err(Errno::PERM) => {
                return rustix::thread::set_no_new_privs(true).during("set no_new_privs");
            }
            Err(errno) => return Err(errno).during(&format!("drop capability {number}")),
        }
    }
    Ok(())
}

fn drop_capabilities(capabilities: u64) -> Result<(), Failure> {
    let now = rustix::thread::capabilities(None).during("capget")?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(capabilities);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
    .during("capset")
}

fn ignore_unknown(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::INVAL {
        Ok(())
    } else {
        Err(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_as_execvpe_does() {
        for (program, path, expected) in [
            ("/bin/sh", "/x", vec!["/bin/sh"]),
            ("./run", "/x", vec!["./run"]),
            ("sh", "/a:/b", vec!["/a/sh", "/b/sh"]),
            ("sh", ":/b", vec!["./sh", "/b/sh"]),
            ("", "/a", vec![""]),
        ] {
            assert_eq!(
                candidates(program.as_bytes(), path.as_bytes()),
                expected,
                "{program} in {path}"
            );
        }
    }

    #[test]
    fn a_failed_exec_says_why() {
        for (program, errno, expected) in [
            (
                "/bin/foo",
                Errno::NOENT,
                ("exec: \"/bin/foo\": no such file or directory\n", 127),
            ),
            (
                "foo",
                Errno::NOENT,
                ("exec: \"foo\": executable file not found in $PATH\n", 127),
            ),
            (
                "/etc",
                Errno::ACCESS,
                ("exec: \"/etc\": permission denied\n", 126),
            ),
            (
                "/text",
                Errno::NOEXEC,
                ("exec: \"/text\": exec format error\n", 126),
            ),
        ] {
            let (text, code) = explain(&CString::new(program).unwrap(), errno);
            assert_eq!((text.as_str(), code), expected, "{program}");
        }
    }
}
