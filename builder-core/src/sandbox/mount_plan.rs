//! Decides what is mounted where, in which order, before any process exists. Pure.
//!
//! Order is by the depth of the target, what every step gets before what this step asks for: a mount never hides
//! one that was asked for below it, and a step may put its own over `/dev/shm`.
//!
//! Mount points are put into a *stub layer* below all layers of the image: they are then there in the merged view,
//! and nothing is made in the upper directory. Where the image hides the stub (an opaque directory, a dangling
//! symbolic link) the mount point is made for the time of the step; see `mount_point`.

use std::path::{Component, Path, PathBuf};

use super::protocol::Failure;
use super::spec::{MountSource, Network, Root, Security, Spec};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Directory,
    File,
}

/// What the plan needs to know of the machine.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// For each of the spec's mounts.
    pub(super) kinds: Vec<Kind>,
    /// The process is root of its network namespace's user namespace, so it may mount a new sysfs for that.
    pub(super) owns_network: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountStep {
    /// Absolute and without `.` or `..`; symbolic links in it are followed inside the root.
    pub(super) target: PathBuf,
    pub(super) kind: Kind,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Proc,
    /// A new sysfs.
    Sys {
        read_only: bool,
    },
    /// The host's, read-only, with an empty directory over its cgroups.
    HostSys,
    /// A tmpfs with the devices and links that runtimes make.
    Devices,
    DevPts,
    Mqueue,
    Tmpfs {
        size_bytes: Option<u64>,
        mode: u32,
        no_exec: bool,
        read_only: bool,
    },
    Bytes {
        bytes: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
        read_only: bool,
        no_exec: bool,
    },
    /// The same, but only where the root has a file there already: a mount of the step's own covers the directory.
    BytesOver {
        bytes: Vec<u8>,
    },
    Bind {
        source: PathBuf,
        read_only: bool,
    },
    Host {
        source: PathBuf,
        read_only: bool,
        no_suid: bool,
        no_exec: bool,
        no_devices: bool,
    },
    /// What is at `path` inside `root`.
    Inside {
        root: PathBuf,
        path: PathBuf,
        read_only: bool,
    },
    Overlay {
        layers: Layers,
        subpath: PathBuf,
        read_only: bool,
    },
    /// Hidden, if there: a file behind `/dev/null`, a directory behind an empty one.
    Mask,
    /// Made read-only, if there.
    Seal,
}

/// What an overlay is made of; `lowers` topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers {
    pub(super) lowers: Vec<PathBuf>,
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
    pub(super) userxattr: bool,
}

/// Docker's masked paths.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const SEALED: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

const SHM_BYTES: u64 = 64 << 20;

/// The steps, in the order in which they are to be done.
pub(super) fn mount_plan(spec: &Spec, facts: &Facts) -> Result<Vec<MountStep>, Failure> {
    let step = |target: &str, kind, what| MountStep {
        target: PathBuf::from(target),
        kind,
        what,
    };
    // a mount over /etc brings its own files, or none: nothing is made in it
    let covers = |target: &str| {
        let target = Path::new(target);
        let mut mounts = spec.mounts.iter();
        mounts.any(|it| target.starts_with(&it.target) && target != it.target)
    };
    let text = |target: &str, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        let what = match covers(target) {
            true => What::BytesOver { bytes },
            false => What::Bytes {
                bytes,
                mode: 0o644,
                uid: 0,
                gid: 0,
                read_only: false,
                no_exec: true,
            },
        };
        step(target, Kind::File, what)
    };
    let sys = match (spec.network, facts.owns_network) {
        (Network::None, _) | (Network::Host, true) => What::Sys {
            read_only: spec.security == Security::Sandbox,
        },
        (Network::Host, false) => What::HostSys,
    };
    let mut steps = vec![
        step("/proc", Kind::Directory, What::Proc),
        step("/sys", Kind::Directory, sys),
        step("/dev", Kind::Directory, What::Devices),
        step("/dev/pts", Kind::Directory, What::DevPts),
        step(
            "/dev/shm",
            Kind::Directory,
            What::Tmpfs {
                size_bytes: Some(spec.limits.shm_bytes.unwrap_or(SHM_BYTES)),
                mode: 0o1777,
                no_exec: true,
                read_only: false,
            },
        ),
        step("/dev/mqueue", Kind::Directory, What::Mqueue),
        text("/etc/resolv.conf", &spec.resolv_conf),
        text("/etc/hosts", &spec.hosts),
    ];
    if spec.security == Security::Sandbox {
        steps.extend(
            SEALED
                .iter()
                .map(|path| step(path, Kind::Directory, What::Seal)),
        );
        steps.extend(
            MASKED
                .iter()
                .map(|path| step(path, Kind::Directory, What::Mask)),
        );
    }
    for (mount, kind) in spec.mounts.iter().zip(&facts.kinds) {
        let target = absolute(&mount.target)?;
        if target == Path::new("/") {
            return Err(Failure::reason("a mount cannot have `/` as its target"));
        }
        let read_only = mount.read_only;
        let what = match &mount.source {
            MountSource::Bind(source) => What::Bind {
                source: source.clone(),
                read_only,
            },
            MountSource::Host {
                path,
                no_suid,
                no_exec,
                no_devices,
            } => What::Host {
                source: path.clone(),
                read_only,
                no_suid: *no_suid,
                no_exec: *no_exec,
                no_devices: *no_devices,
            },
            MountSource::Inside { root, path } => What::Inside {
                root: root.clone(),
                path: path.clone(),
                read_only,
            },
            MountSource::Overlay {
                lowers,
                upper,
                work,
                subpath,
                userxattr,
            } => What::Overlay {
                layers: Layers {
                    lowers: lowers.clone(),
                    upper: upper.clone(),
                    work: work.clone(),
                    userxattr: *userxattr,
                },
                subpath: subpath.clone(),
                read_only,
            },
            MountSource::Tmpfs { size_bytes, mode } => What::Tmpfs {
                size_bytes: *size_bytes,
                mode: *mode,
                no_exec: false,
                read_only,
            },
            MountSource::Bytes {
                bytes,
                mode,
                uid,
                gid,
                no_exec,
            } => What::Bytes {
                bytes: bytes.clone(),
                mode: *mode,
                uid: *uid,
                gid: *gid,
                read_only,
                no_exec: *no_exec,
            },
        };
        steps.push(MountStep {
            target,
            kind: *kind,
            what,
        });
    }
    steps.sort_by_key(|step| step.target.components().count());
    Ok(steps)
}

/// The layers of the step's root, the stub layer at the very bottom; `None` for a plain directory.
pub(super) fn root_layers(root: &Root, stub: Option<&Path>) -> Option<Layers> {
    match root {
        Root::Directory(_) | Root::Chroot { .. } => None,
        Root::Overlay {
            lowers,
            upper,
            work,
            userxattr,
            stubs: _,
        } => Some(Layers {
            lowers: lowers
                .iter()
                .cloned()
                .chain(stub.map(Path::to_owned))
                .collect(),
            upper: upper.clone(),
            work: work.clone(),
            userxattr: *userxattr,
        }),
    }
}

/// A path as the plan wants it: absolute, without `.`; `..` is refused, as it could mean two things beside links.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let mut out = PathBuf::from("/");
    if !path.is_absolute() {
        return Err(Failure::reason(format!(
            "the path `{}` is not absolute",
            path.display()
        )));
    }
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                return Err(Failure::reason(format!(
                    "the path `{}` has `..` in it",
                    path.display()
                )));
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Limits, Mount, User};

    fn spec(targets: &[&str], network: Network, security: Security) -> Spec {
        Spec {
            root: Root::Directory("/r".into()),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            user: User::default(),
            hostname: "h".into(),
            mounts: targets
                .iter()
                .map(|target| Mount {
                    target: target.into(),
                    source: MountSource::Tmpfs {
                        size_bytes: None,
                        mode: 0o755,
                    },
                    read_only: false,
                })
                .collect(),
            network,
            security,
            limits: Limits::default(),
            terminal: false,
            resolv_conf: Vec::new(),
            hosts: Vec::new(),
        }
    }

    fn planned(
        targets: &[&str],
        network: Network,
        security: Security,
        owns_network: bool,
    ) -> Vec<MountStep> {
        let facts = Facts {
            kinds: vec![Kind::Directory; targets.len()],
            owns_network,
        };
        mount_plan(&spec(targets, network, security), &facts).unwrap()
    }

    #[test]
    fn a_mount_never_comes_after_one_below_it() {
        let steps = planned(
            &["/a/b/c", "/etc", "/a", "/dev/shm", "/a/b"],
            Network::Host,
            Security::Sandbox,
            true,
        );
        for (index, step) in steps.iter().enumerate() {
            for earlier in &steps[..index] {
                assert!(
                    !(earlier.target.starts_with(&step.target) && earlier.target != step.target),
                    "{} after {}",
                    step.target.display(),
                    earlier.target.display()
                );
            }
        }
        let shm: Vec<_> = steps
            .iter()
            .filter(|step| step.target == Path::new("/dev/shm"))
            .collect();
        assert!(
            matches!(shm[0].what, What::Tmpfs { no_exec: true, .. }),
            "the runtime's first"
        );
        assert!(
            matches!(shm[1].what, What::Tmpfs { no_exec: false, .. }),
            "the step's over it"
        );
    }

    #[test]
    fn sysfs_is_new_where_the_network_namespace_allows_it() {
        let new = || What::Sys { read_only: true };
        for (network, owns, expected) in [
            (Network::Host, true, new()),
            (Network::Host, false, What::HostSys),
            (Network::None, true, new()),
            (Network::None, false, new()),
        ] {
            let steps = planned(&[], network, Security::Sandbox, owns);
            let sys = steps
                .iter()
                .find(|step| step.target == Path::new("/sys"))
                .unwrap();
            assert_eq!(sys.what, expected, "{network:?}, {owns}");
        }
    }

    #[test]
    fn a_mount_over_etc_keeps_its_own_files() {
        for (target, expected) in [("/etc", true), ("/etc/hosts", false), ("/srv", false)] {
            let steps = planned(&[target], Network::Host, Security::Sandbox, true);
            let over = steps
                .iter()
                .filter(|step| matches!(step.what, What::BytesOver { .. }))
                .count();
            assert_eq!(over > 0, expected, "{target}");
        }
    }

    #[test]
    fn nothing_is_masked_for_an_insecure_step() {
        let masked = |security| {
            planned(&[], Network::Host, security, true)
                .iter()
                .filter(|step| matches!(step.what, What::Mask | What::Seal))
                .count()
        };
        assert_eq!(masked(Security::Sandbox), MASKED.len() + SEALED.len());
        assert_eq!(masked(Security::Insecure), 0);
    }

    #[test]
    fn targets_are_absolute_and_plain() {
        for (path, expected) in [
            ("/a", Some("/a")),
            ("/a/./b//c/", Some("/a/b/c")),
            ("a", None),
            ("/a/../b", None),
            ("", None),
        ] {
            assert_eq!(
                absolute(Path::new(path)).ok(),
                expected.map(PathBuf::from),
                "{path}"
            );
        }
    }
}
