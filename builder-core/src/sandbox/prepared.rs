//! The mounts that do not depend on a step, made before there is one.
//!
//! The process moves onto a small tmpfs and leaves the host's mounts at once: to detach them waits for every processor, and
//! nobody waits for it here. What a step needs is put together there. When its root comes, that is mounted over the tmpfs,
//! the trees are moved into it, and it is entered by chroot: it lies on the root of the namespace as the root of any machine
//! lies on the kernel's own, so for the kernel this is no chroot, and what is below is a tmpfs that nobody can reach.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::detached::{attach, no_devices, stack, tmpfs};
use super::mount_plan::{Kind, MountStep, What};
use super::mount_point::{Interior, open_in};
use super::mounts::{check_alone, make_private, mount, source};
use super::protocol::{During, Failure};

/// Trees and files that wait for a root, by their place in it.
#[derive(Debug)]
pub(super) struct Prepared {
    mounts: Vec<(PathBuf, Kind, OwnedFd)>,
}

/// Where the trees are.
const TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Prepared {
    /// Makes what `plan` says, which is a plan without mounts of the step's own, and leaves the host's mounts.
    pub(super) fn make(plan: &[MountStep]) -> Result<Prepared, Failure> {
        make_private()?;
        let memory = tmpfs(None, 0o755, MountAttrFlags::empty())
            .during("mount a tmpfs for the step's files")?;
        stack(&memory).during("attach the tmpfs for the step's files")?;
        let base = memory.try_clone().during("keep the tmpfs open")?;
        let mut interior = Interior::new(base);
        let mut mounts = Vec::new();
        for (index, step) in plan.iter().enumerate() {
            if matches!(step.what, What::Bytes { .. }) {
                if let Some(file) = source(&memory, index, &step.what, &mut 0)? {
                    no_devices(&file).during_at("forbid devices in", &step.target)?;
                    mounts.push((step.target.clone(), step.kind, file));
                }
            } else if TREES.iter().any(|tree| step.target.starts_with(tree)) {
                mount(&mut interior, step, None, &memory)?;
            } else {
                return Err(Failure::reason("a mount that cannot be made beforehand"));
            }
        }
        rustix::process::fchdir(&memory).during("enter the tmpfs")?;
        rustix::process::pivot_root(".", ".").during("pivot_root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).during("detach the old root")?;
        rustix::process::chdir("/").during_at("chdir", "/")?;
        check_alone(&memory)?;
        for tree in TREES {
            let path = Path::new(tree);
            let found = open_in(&memory, path, OFlags::PATH).during_at("open", path)?;
            mounts.push((path.to_owned(), Kind::Directory, found));
        }
        mounts.sort_by_key(|(path, ..)| path.components().count());
        Ok(Prepared { mounts })
    }

    /// Puts all into `root`, a mount that hangs nowhere yet, and makes that the process's root.
    pub(super) fn enter(self, root: OwnedFd, any_device: bool) -> Result<Interior, Failure> {
        if !any_device {
            no_devices(&root).during_at("forbid devices in", "/")?;
        }
        stack(&root).during("attach the root")?;
        let mut interior = Interior::new(root);
        for (target, kind, made) in self.mounts {
            let found = interior.mount_point(&target, kind)?;
            attach(&made, &found.object).during_at("mount on", &target)?;
            interior.mounted(found);
        }
        rustix::process::fchdir(interior.root()).during("enter the new root")?;
        rustix::process::chroot(".").during("make it the root")?;
        check_alone(interior.root())?;
        Ok(interior)
    }
}
