//! Gives the whole process the rights that steps need, once, before any thread exists.
//!
//! | who calls                        | what happens                                                             |
//! |----------------------------------|--------------------------------------------------------------------------|
//! | root, or root of a user namespace, with CAP_SYS_ADMIN | a mount namespace of its own: every mount dies with the process |
//! | root without it                  | a user namespace with root's own map, and a mount namespace              |
//! | an ordinary user without such ids | a user namespace with one id, the user's, as root; and a mount namespace |
//! | an ordinary user                 | a user namespace: the user is its root, the ids after it are those of `/etc/subuid` and `/etc/subgid`, mapped by newuidmap and newgidmap; and a mount namespace |

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags};
use rustix::process::{DumpableBehavior, Gid, Pid, Uid, WaitOptions};
use rustix::thread::CapabilitySet;

use super::doctor::Missed;
use super::error::{InitError, SandboxError};
use super::id_map::{self, IdRange, in_initial_namespace, parse_map};
use super::isolation::{Isolation, Rung};
use super::mount_plan::Layers;
use super::overlay_mount::{new_overlay, try_old_overlay};
use super::protocol::{During, Failure};
use super::user_namespace::{enter_user_namespace, forbidden_hint, system};
use crate::sys::{self, Side, SingleThread};

/// How the process stands after [`enter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// In a user namespace: overlays need `userxattr`.
    pub rootless: bool,
    /// Of the caller, before.
    pub uid: u32,
    pub gid: u32,
    /// Of user ids, as it is in force now.
    pub id_map: Vec<IdRange>,
    /// Of group ids.
    pub gid_map: Vec<IdRange>,
    /// What was asked for.
    pub isolation: Isolation,
    pub rung: Rung,
    /// Steps' roots are overlays.
    pub overlay: bool,
    /// Why this rung, in words.
    pub reason: String,
    /// Better ones, and why they are not to be had.
    pub missed: Vec<Missed>,
}

impl Standing {
    /// Tries an overlay whose directories are in `directory`, and goes down a rung where that cannot be mounted.
    ///
    /// # Errors
    /// `directory` cannot be written; the rung that was asked for is not to be had.
    pub fn settle(&mut self, directory: &Path) -> Result<(), SandboxError> {
        if !self.overlay {
            return Ok(());
        }
        let Some(failure) = probe_overlay(directory, self.rootless)? else {
            return Ok(());
        };
        if self.isolation == Isolation::Only(Rung::Overlay) {
            return Err(SandboxError::NoOverlay { failure });
        }
        self.overlay = false;
        self.missed.push(Missed {
            rung: Rung::Overlay,
            why: failure.to_string(),
            allow: Some(
                "put the store (`--root`) on a file system that can hold an overlay's upper directory: ext4, xfs, btrfs, tmpfs"
                    .to_owned(),
            ),
        });
        if self.rung == Rung::Overlay {
            self.rung = Rung::Copied;
        }
        self.reason = format!("{}; no overlay: {failure}", self.reason);
        Ok(())
    }
}

/// Tries to make an overlay in `directory`; the call that failed, if one did. Nothing stays mounted or on disk, but for a
/// moment.
///
/// # Errors
/// `directory` cannot be written.
pub fn probe_overlay(directory: &Path, userxattr: bool) -> Result<Option<Failure>, SandboxError> {
    let place = tempfile::Builder::new()
        .prefix("overlay-probe-")
        .tempdir_in(directory)
        .during_at("make a directory in", directory)?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.path().join(name));
    for path in [&lower, &upper, &work] {
        fs::create_dir(path).during_at("make the directory", path)?;
    }
    let layers = Layers {
        lowers: vec![lower],
        upper,
        work,
        userxattr,
    };
    match new_overlay(&layers) {
        Ok(mount) => {
            // The kernel takes milliseconds to take it down: nobody waits for that.
            let away = move || drop((mount, place));
            let _ = std::thread::Builder::new()
                .name("overlay-probe".to_owned())
                .spawn(away);
            Ok(None)
        }
        // an old kernel, which has mount(2) for it; or a file system that cannot hold an upper directory
        Err(Errno::INVAL | Errno::NOSYS) => {
            let on = place.path().join("on");
            fs::create_dir(&on).during_at("make the directory", &on)?;
            Ok(try_old_overlay(&layers, &on)
                .during_at("mount an overlay in", directory)
                .err())
        }
        Err(errno) => Ok(Err::<(), _>(errno)
            .during_at("mount an overlay in", directory)
            .err()),
    }
}

/// Enters the namespaces that steps need.
///
/// Call it in `main` before any thread exists; see the module for what it does for whom. A process that has entered
/// already may call it again: as root of its namespace it only gets another mount namespace.
///
/// # Errors
/// What is missing, and what to do about it. After [`InitError::IdMapRefused`] and [`InitError::System`] the process
/// may be half way in, and should end.
pub fn enter() -> Result<Standing, InitError> {
    enter_by(Isolation::Auto)
}

/// [`enter`], on the rung that is asked for.
///
/// # Errors
/// As [`enter`]; the rung is not to be had.
pub fn enter_by(isolation: Isolation) -> Result<Standing, InitError> {
    let proof = SingleThread::prove().map_err(|count| InitError::Threads { count })?;
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut missed = Vec::new();
    let (rung, reason) = match isolation {
        Isolation::Only(Rung::Chroot) => (Rung::Chroot, may_chroot()?),
        Isolation::Only(Rung::None) => (Rung::None, "asked for".to_owned()),
        Isolation::Only(Rung::SingleId) => (Rung::SingleId, enter_single(&proof, uid, gid)?),
        Isolation::Only(rung) => (rung, enter_namespaces(&proof, uid, gid)?.to_owned()),
        Isolation::Auto => match enter_namespaces(&proof, uid, gid) {
            Ok(reason) if id_map::is_single() => (Rung::SingleId, format!("{reason}, with one id")),
            Ok(reason) => (Rung::Overlay, reason.to_owned()),
            Err(error) if error.leaves_half_way() => return Err(error),
            Err(error) => {
                missed.extend([Rung::Overlay, Rung::Copied].map(|rung| error.missed(rung)));
                lower_rung(&proof, uid, gid, &error, &mut missed)?
            }
        },
    };
    if rung == Rung::Chroot {
        // steps can see this process
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(system("prctl"))?;
    }
    let map = |file| {
        fs::read_to_string(file)
            .map(|text| parse_map(&text))
            .unwrap_or_default()
    };
    Ok(Standing {
        rootless: !in_initial_namespace(),
        uid,
        gid,
        id_map: map("/proc/self/uid_map"),
        gid_map: map("/proc/self/gid_map"),
        isolation,
        rung,
        overlay: matches!(rung, Rung::Overlay | Rung::SingleId),
        reason,
        missed,
    })
}

/// What is to be had where the ids of the first rungs are not.
fn lower_rung(
    proof: &SingleThread,
    uid: u32,
    gid: u32,
    error: &InitError,
    missed: &mut Vec<Missed>,
) -> Result<(Rung, String), InitError> {
    if error.is_about_ids() {
        match enter_single(proof, uid, gid) {
            Ok(reason) => return Ok((Rung::SingleId, format!("{reason}; {error}"))),
            Err(error) if error.leaves_half_way() => return Err(error),
            Err(error) => missed.push(error.missed(Rung::SingleId)),
        }
    }
    Ok(match may_chroot() {
        Ok(reason) => (Rung::Chroot, format!("{reason}; {error}")),
        Err(_) => (Rung::None, error.to_string()),
    })
}

fn effective() -> CapabilitySet {
    rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |capabilities| {
        capabilities.effective
    })
}

/// Can steps be run by chroot? As whom, then.
pub(super) fn may_chroot() -> Result<String, InitError> {
    let needed = CapabilitySet::SYS_CHROOT
        | CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID;
    if effective().contains(needed) {
        Ok("root without namespaces".to_owned())
    } else {
        Err(InitError::NoChroot)
    }
}

/// Enters what is needed, and says as whom.
fn enter_namespaces(proof: &SingleThread, uid: u32, gid: u32) -> Result<&'static str, InitError> {
    let unshared = uid == 0
        && effective().contains(CapabilitySet::SYS_ADMIN)
        && sys::unshare(proof, libc::CLONE_NEWNS).is_ok();
    let reason = if !unshared {
        try_user_namespace(proof)?;
        enter_user_namespace(proof, uid, gid)?;
        "user namespace with subordinate ids"
    } else if in_initial_namespace() {
        "root"
    } else {
        "root of a user namespace"
    };
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(system("make mounts private"))?;
    Ok(reason)
}

/// Enters a user namespace that knows one id, and says so.
fn enter_single(proof: &SingleThread, uid: u32, gid: u32) -> Result<String, InitError> {
    if !super::listener::is_supported() {
        return Err(InitError::NoListener);
    }
    try_user_namespace(proof)?;
    sys::unshare(proof, libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|errno| {
        InitError::UserNamespacesForbidden {
            errno: errno.raw_os_error(),
            hint: forbidden_hint(errno),
        }
    })?;
    let write = |file: &'static str, text: String| {
        fs::write(file, text).map_err(|source| InitError::System { call: file, source })
    };
    // the kernel asks for it before an ordinary user may map a group
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(group, group, group).map_err(system("setresgid"))?;
    rustix::thread::set_thread_res_uid(root, root, root).map_err(system("setresuid"))?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(system("make mounts private"))?;
    Ok("user namespace with one id".to_owned())
}

/// Set in the exit code of the child that tries things, where it was /proc that failed.
const PROC: i32 = 0x80;

fn new_proc() -> Result<(), Errno> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::empty();
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(drop)
}

fn exit_code(child: Pid) -> i32 {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => return status.exit_status().unwrap_or(libc::EPERM),
            _ => return libc::EPERM,
        }
    }
}

/// Lets a child enter a user namespace and do what needs rights in it: a filter, or a security module, may forbid the
/// one or the other, and there would be no way back.
fn try_user_namespace(proof: &SingleThread) -> Result<(), InitError> {
    let child = match sys::fork(proof).map_err(system("fork"))? {
        Side::Parent { pid, .. } => pid,
        Side::Child => {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
            let done = sys::unshare(proof, flags).and_then(|()| {
                let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags)
            });
            if let Err(errno) = done {
                sys::exit_now(errno.raw_os_error() & 0x7f)
            }
            // only a child of this one is in the new pid namespace
            let errno = match sys::fork(proof) {
                Ok(Side::Child) => {
                    let done = new_proc();
                    sys::exit_now(done.map_or_else(|errno| errno.raw_os_error() & 0x7f, |()| 0))
                }
                Ok(Side::Parent { pid, .. }) => exit_code(pid),
                Err(errno) => errno.raw_os_error(),
            };
            sys::exit_now(if errno == 0 { 0 } else { PROC | (errno & 0x7f) })
        }
    };
    let code = exit_code(child);
    if code & PROC != 0 {
        return Err(InitError::ProcMasked {
            errno: code & !PROC,
        });
    }
    if code == 0 {
        return Ok(());
    }
    let errno = Errno::from_raw_os_error(code);
    Err(InitError::UserNamespacesForbidden {
        errno: code,
        hint: forbidden_hint(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_before_anything_is_done() {
        // the test harness has threads of its own
        match enter() {
            Err(InitError::Threads { count }) => assert!(count > 1, "{count}"),
            other => panic!("{other:?}"),
        }
    }
}
