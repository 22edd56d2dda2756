//! Puts the process into a user namespace with root's own map, or with the subordinate ids of an ordinary user.
//!
//! It is entered in place, as `unshare --map-auto` does it: a child made before stays outside, where the two
//! set-user-id programs may write the map of the process inside.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, Uid, WaitOptions};

use super::error::InitError;
use super::id_map::{IdRange, free_start, map_of, parse_map, subordinate_ranges};
use crate::sys::{self, Side, SingleThread};

/// How the child outside writes the maps.
#[derive(Debug)]
enum Mapper {
    /// By the two set-user-id programs, with their paths and maps.
    Programs([(&'static str, PathBuf, Vec<IdRange>); 2]),
    /// By itself, being root: the map that is in force outside.
    Same {
        users: Vec<IdRange>,
        groups: Vec<IdRange>,
    },
}

pub(super) fn enter_user_namespace(
    proof: &SingleThread,
    uid: u32,
    gid: u32,
) -> Result<(), InitError> {
    let mapper = if uid == 0 {
        let map = |file| parse_map(&fs::read_to_string(file).unwrap_or_default());
        let same = |map: Vec<IdRange>| {
            map.into_iter()
                .map(|range| IdRange {
                    outside: range.inside,
                    ..range
                })
                .collect()
        };
        Mapper::Same {
            users: same(map("/proc/self/uid_map")),
            groups: same(map("/proc/self/gid_map")),
        }
    } else {
        programs(uid, gid)?
    };
    let (go_read, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe"))?;
    let (answer, answer_write) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe"))?;
    let target = rustix::process::getpid().as_raw_pid();
    let child = match sys::fork(proof).map_err(system("fork"))? {
        Side::Child => {
            drop((go, answer));
            map_from_outside(go_read, answer_write, target, &mapper)
        }
        Side::Parent { pid, .. } => pid,
    };
    drop((go_read, answer_write));
    let entered = sys::unshare(proof, libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    let mut go = fs::File::from(go);
    if entered.is_ok() {
        // a child that is gone says so by an empty answer
        let _ = go.write_all(b"x");
    }
    drop(go);
    let mut message = String::new();
    let _ = fs::File::from(answer).read_to_string(&mut message);
    let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
    entered.map_err(|errno| InitError::UserNamespacesForbidden {
        errno: errno.raw_os_error(),
        hint: forbidden_hint(errno),
    })?;
    if message != "mapped" {
        let (program, message) = match message.split_once('\n') {
            Some(("newgidmap", message)) => ("newgidmap", message),
            Some((_, message)) => ("newuidmap", message),
            None => ("newuidmap", "its process ended early"),
        };
        return Err(InitError::IdMapRefused {
            program,
            message: message.trim().to_owned(),
        });
    }
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(group, group, group).map_err(system("setresgid"))?;
    rustix::thread::set_thread_res_uid(root, root, root).map_err(system("setresuid"))
}

pub(super) fn system(call: &'static str) -> impl Fn(Errno) -> InitError {
    move |errno| InitError::System {
        call,
        source: errno.into(),
    }
}

/// Finds the programs and the ranges before anything is done.
fn programs(uid: u32, gid: u32) -> Result<Mapper, InitError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| {
        line.strip_prefix("NoNewPrivs:")
            .is_some_and(|value| value.trim() == "1")
    }) {
        return Err(InitError::NoNewPrivileges);
    }
    let user = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let find = |program: &'static str, file: &'static str, id: u32| {
        let path = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.exists())
            .ok_or(InitError::NoIdMapProgram { program })?;
        let text = fs::read_to_string(file).unwrap_or_default();
        let ranges = subordinate_ranges(&text, &user, uid);
        if ranges.is_empty() {
            return Err(InitError::NoSubordinateIds {
                user: user.clone(),
                file,
                suggested_start: free_start(&text),
            });
        }
        Ok((program, path, map_of(id, &ranges)))
    };
    Ok(Mapper::Programs([
        find("newuidmap", "/etc/subuid", uid)?,
        find("newgidmap", "/etc/subgid", gid)?,
    ]))
}

fn user_name(passwd: &str, uid: u32) -> String {
    let uid = uid.to_string();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
            (number == uid).then(|| name.to_owned())
        })
        .unwrap_or(uid)
}

/// The child outside: waits until the parent is inside, writes its maps, says how that went.
fn map_from_outside(go: OwnedFd, answer: OwnedFd, target: i32, mapper: &Mapper) -> ! {
    let mut byte = [0];
    if fs::File::from(go).read_exact(&mut byte).is_err() {
        sys::exit_now(1)
    }
    let result = match mapper {
        Mapper::Programs(programs) => programs.iter().try_for_each(|(program, path, map)| {
            let mut command = Command::new(path);
            command.arg(target.to_string());
            for range in map {
                command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
            }
            match command.output() {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(format!(
                    "{program}\n{}",
                    String::from_utf8_lossy(&output.stderr)
                )),
                Err(error) => Err(format!("{program}\n{error}")),
            }
        }),
        Mapper::Same { users, groups } => [
            ("newuidmap", "uid_map", users),
            ("newgidmap", "gid_map", groups),
        ]
        .into_iter()
        .try_for_each(|(program, file, map)| {
            let text: String = map
                .iter()
                .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
                .collect();
            fs::write(format!("/proc/{target}/{file}"), text)
                .map_err(|error| format!("{program}\nwriting the map of root: {error}"))
        }),
    };
    let text = result.err().unwrap_or_else(|| "mapped".to_owned());
    let _ = fs::File::from(answer).write_all(text.as_bytes());
    sys::exit_now(0)
}

/// It is none of the known locks.
pub(super) const REFUSED: &str =
    "a seccomp filter or security module refuses them, as a container's default profile does";

/// Which of the known locks it is.
pub(super) fn forbidden_hint(errno: Errno) -> &'static str {
    let reads =
        |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    if errno == Errno::NOSPC || reads("/proc/sys/user/max_user_namespaces", "0") {
        "too few are allowed: sysctl -w user.max_user_namespaces=15000"
    } else if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1"
    } else if reads(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give this program an AppArmor profile"
    } else {
        REFUSED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_passwd_names_them() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (uid, expected) in [(0, "root"), (1000, "ann"), (10, "10")] {
            assert_eq!(user_name(passwd, uid), expected, "{uid}");
        }
    }
}
