//! What to run: a value, complete, so that it could run elsewhere unchanged.

use std::ffi::OsString;
use std::path::PathBuf;

use super::limits::Limits;

/// One process to run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    pub root: Root,
    /// Program and arguments; the program is looked up in `PATH` of `env`, inside the root.
    pub args: Vec<OsString>,
    /// `K=V`, complete: nothing is inherited.
    pub env: Vec<OsString>,
    /// Absolute, inside the root; made (0755, root) where it is missing.
    pub cwd: PathBuf,
    pub user: User,
    pub hostname: String,
    pub mounts: Vec<Mount>,
    pub network: Network,
    pub security: Security,
    pub limits: Limits,
    /// Standard output is a terminal, which the command gets as its own, for its input too.
    pub terminal: bool,
    /// Contents of `/etc/resolv.conf` and `/etc/hosts` inside; in no layer.
    pub resolv_conf: Vec<u8>,
    pub hosts: Vec<u8>,
}

/// The step's root file system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Root {
    /// Mounted in the child. `lowers` topmost first, at least one; `upper` and `work` exist and are empty.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// The mount is made inside a user namespace: `userxattr` is set.
        userxattr: bool,
        /// A directory on the same file system that outlives the helper: what all steps need for their mount points is
        /// made there once. `None`: made beside `work`, for this step.
        stubs: Option<PathBuf>,
    },
    /// A directory as it is.
    Directory(PathBuf),
    /// A directory that is entered by chroot, without any namespace; `hold` is an empty one on the same file system.
    Chroot { tree: PathBuf, hold: PathBuf },
}

/// Numbers only: names are looked up before.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Something put over a path of the root for the length of the step. Mount points that are missing are made and
/// taken away afterwards: nothing of them stays in the upper directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// Absolute, resolved inside the root.
    pub target: PathBuf,
    pub source: MountSource,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind(PathBuf),
    /// The same, as a device's description asks for it.
    Host {
        path: PathBuf,
        no_suid: bool,
        no_exec: bool,
        /// No device node of it can be opened, as everywhere else.
        no_devices: bool,
    },
    /// What is at `path` of the host's directory `root`; never anything outside it, whatever links there are.
    Inside { root: PathBuf, path: PathBuf },
    /// An overlay over `lowers` (topmost first) whose writes go to `upper` and are thrown away by the caller;
    /// `subpath` of it is mounted.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        subpath: PathBuf,
        userxattr: bool,
    },
    /// `size_bytes` of `None`: the kernel's default.
    Tmpfs { size_bytes: Option<u64>, mode: u32 },
    /// A file of these bytes, on memory only (secrets, heredoc scripts); no device, and no set-user-id program.
    Bytes {
        bytes: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
        /// Not a program either.
        no_exec: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Network {
    /// The builder's own.
    #[default]
    Host,
    /// A loopback interface only.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Security {
    /// Docker's default capabilities, seccomp profile, masked and read-only paths.
    #[default]
    Sandbox,
    /// All capabilities, no filter, nothing masked (`RUN --security=insecure`).
    Insecure,
}
