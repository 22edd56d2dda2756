//! What stands in for mounts where none can be made: files and directories put into the tree for the time of a step.
//!
//! What the image has in a stand-in's place is moved aside, into a directory of the same file system, and back
//! afterwards. A directory that the step writes to for others to see (a cache) is moved in, and back; one that it only
//! reads is copied.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::detached::{DEVICES, LINKS};
use super::mount_plan::{Kind, MountStep, What};
use super::mount_point::{Interior, open_in, restore_modified};
use super::protocol::{During, Failure};

#[derive(Debug)]
pub(super) struct StandIns<'a> {
    interior: Interior,
    hold: &'a Path,
    placed: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    parent: OwnedFd,
    before: Stat,
    name: OsString,
    /// Where what the image has is meanwhile.
    held: PathBuf,
    /// Where the stand-in itself goes back to.
    back: Option<PathBuf>,
}

impl<'a> StandIns<'a> {
    /// `hold`: a directory on the tree's file system, out of the step's reach.
    pub(super) fn new(interior: Interior, hold: &'a Path) -> Self {
        Self {
            interior,
            hold,
            placed: Vec::new(),
        }
    }

    pub(super) fn interior(&mut self) -> &mut Interior {
        &mut self.interior
    }

    pub(super) fn place_all(&mut self, steps: &[MountStep]) -> Result<(), Failure> {
        for step in steps {
            // these have a place in the directory of devices, or none at all
            let left_out = matches!(
                step.what,
                What::Proc
                    | What::Sys { .. }
                    | What::HostSys
                    | What::DevPts
                    | What::Mqueue
                    | What::Mask
                    | What::Seal
            );
            if !left_out && step.target != Path::new("/dev/shm") {
                self.place(step)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, step: &MountStep) -> Result<(), Failure> {
        let target = step.target.as_path();
        if matches!(step.what, What::BytesOver { .. })
            && self.interior.open(target, OFlags::PATH).is_err()
        {
            return Ok(());
        }
        let (parent, name) = self.interior.mount_point(target, step.kind)?.place();
        let before = rustix::fs::fstat(&parent).during_at("stat the parent of", target)?;
        let number = self.placed.len();
        let held = self.hold.join(format!("held-{number}"));
        rustix::fs::renameat(&parent, &name, rustix::fs::CWD, &held)
            .during_at("move aside", target)?;
        let mut placed = Placed {
            parent,
            before,
            name,
            held,
            back: None,
        };
        let made = self.hold.join(format!("made-{number}"));
        let done = make(step, &made, self.hold, &mut placed.back).and_then(|()| {
            let from = placed.back.as_ref().unwrap_or(&made);
            rustix::fs::renameat(rustix::fs::CWD, from, &placed.parent, &placed.name)
                .during_at("put in place", target)
        });
        if done.is_err() {
            placed.back = None;
        }
        self.placed.push(placed);
        done
    }

    /// Puts everything back, the last first.
    pub(super) fn clear(mut self) -> Result<(), Failure> {
        let mut first = Ok(());
        while let Some(placed) = self.placed.pop() {
            let done = put_back(&placed, self.hold);
            first = first.and(done);
        }
        self.interior.clear();
        first
    }
}

fn put_back(placed: &Placed, hold: &Path) -> Result<(), Failure> {
    let Placed {
        parent,
        before,
        name,
        held,
        back,
    } = placed;
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if there {
        let gone = hold.join("gone");
        let to = back.as_ref().unwrap_or(&gone);
        rustix::fs::renameat(parent, name, rustix::fs::CWD, to).during_at("take away", name)?;
        if back.is_none() {
            remove(&gone).during_at("remove", &gone)?;
        }
    }
    rustix::fs::renameat(rustix::fs::CWD, held, parent, name).during_at("put back", name)?;
    restore_modified(parent, before).during_at("set the time of the parent of", name)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Makes what a step mounts at `path`; `back` is set where it is somewhere else already, and is to go back there.
fn make(
    step: &MountStep,
    path: &Path,
    hold: &Path,
    back: &mut Option<PathBuf>,
) -> Result<(), Failure> {
    let target = step.target.as_path();
    match &step.what {
        What::Devices => devices(path).during_at("make the devices in", target),
        What::Tmpfs { mode, .. } => directory(path, *mode).during_at("make the directory", target),
        What::Bytes {
            bytes,
            mode,
            uid,
            gid,
            ..
        } => fs::write(path, bytes)
            .and_then(|()| std::os::unix::fs::chown(path, Some(*uid), Some(*gid)))
            .and_then(|()| Ok(rustix::fs::chmod(path, Mode::from_raw_mode(*mode))?))
            .during_at("make the file", target),
        What::BytesOver { bytes } => fs::write(path, bytes).during_at("make the file", target),
        What::Inside {
            root, path: inside, ..
        } => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let root = rustix::fs::open(root, flags, Mode::empty()).during_at("open", root)?;
            let found =
                open_in(&root, inside, flags).during_at("find in the mount's source", inside)?;
            let source = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
                .during_at("find in the mount's source", inside)?;
            let own = hold.parent().unwrap_or(hold);
            copy(&source, path, own).during_at("copy", source)
        }
        What::Bind {
            source,
            read_only: false,
        } if step.kind == Kind::Directory => {
            *back = Some(source.clone());
            Ok(())
        }
        // a second name of it: whoever listens there is found by either
        What::Bind { source, .. } if is_socket(source) => {
            fs::hard_link(source, path).during_at("link the socket", source)
        }
        What::Bind { source, .. } => {
            let own = hold.parent().unwrap_or(hold);
            copy(source, path, own).during_at("copy", source)
        }
        _ => Err(Failure::reason(format!(
            "{} needs a mount, which is not permitted here",
            target.display()
        ))),
    }
}

fn directory(path: &Path, mode: u32) -> Result<(), Errno> {
    rustix::fs::mkdir(path, Mode::RWXU)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
}

fn devices(path: &Path) -> Result<(), Errno> {
    directory(path, 0o755)?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(*major, *minor);
        let mode = Mode::from_raw_mode(0o666);
        let make = |kind, device| {
            rustix::fs::mknodat(rustix::fs::CWD, path.join(name), kind, mode, device)
        };
        match make(FileType::CharacterDevice, device) {
            // without CAP_MKNOD: what is written to a file that is thrown away is gone as well
            Err(Errno::PERM) if *name == "null" => make(FileType::RegularFile, 0)?,
            Err(Errno::PERM) => {}
            other => other?,
        }
    }
    for (name, target) in LINKS {
        rustix::fs::symlink(*target, path.join(name))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        directory(&path.join(name), mode)?;
    }
    Ok(())
}

/// Copies a file, or a directory with all in it but `own`, where the copy goes: modes, owners, times.
fn copy(from: &Path, to: &Path, own: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && is_same(&entry.path(), own)? {
                continue;
            }
            copy(&entry.path(), &to.join(entry.file_name()), own)?;
        }
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        return Ok(()); // a socket, a device: of no use to a step
    }
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, metadata.permissions())?;
    let times = rustix::fs::Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    rustix::fs::utimensat(rustix::fs::CWD, to, &times, AtFlags::empty())?;
    Ok(())
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn is_same(one: &Path, other: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let id = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    Ok(id(one)? == id(other)?)
}

fn time(tv_sec: i64, tv_nsec: i64) -> rustix::fs::Timespec {
    rustix::fs::Timespec { tv_sec, tv_nsec }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_put_back() {
        let place = tempfile::tempdir().expect("tempdir");
        let [tree, hold, cache] = ["tree", "hold", "cache"].map(|name| {
            let path = place.path().join(name);
            fs::create_dir(&path).expect("mkdir");
            path
        });
        fs::create_dir(tree.join("etc")).expect("mkdir");
        fs::write(tree.join("etc/hosts"), "the image's").expect("write");
        fs::write(cache.join("old"), "old").expect("write");
        let step = |target: &str, kind, what| MountStep {
            target: target.into(),
            kind,
            what,
        };
        let owner = |path: &Path| {
            let stat = rustix::fs::stat(path).expect("stat");
            (stat.st_uid, stat.st_gid)
        };
        let (uid, gid) = owner(&tree);
        let bytes = |bytes: &[u8]| What::Bytes {
            bytes: bytes.to_vec(),
            mode: 0o400,
            uid,
            gid,
            read_only: true,
            no_exec: false,
        };
        let steps = [
            step("/etc/hosts", Kind::File, bytes(b"the step's")),
            step("/run/secrets/one", Kind::File, bytes(b"secret")),
            step(
                "/var/cache",
                Kind::Directory,
                What::Bind {
                    source: cache.clone(),
                    read_only: false,
                },
            ),
            step(
                "/tmp/copy",
                Kind::Directory,
                What::Bind {
                    source: tree.join("etc"),
                    read_only: true,
                },
            ),
        ];
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&tree, flags, Mode::empty()).expect("open");
        let mut stand_ins = StandIns::new(Interior::new(root), &hold);
        stand_ins.place_all(&steps).expect("place");
        let read = |path: &str| fs::read_to_string(tree.join(path)).expect(path);
        assert_eq!(read("etc/hosts"), "the step's");
        assert_eq!(read("run/secrets/one"), "secret");
        assert_eq!(read("tmp/copy/hosts"), "the step's");
        assert_eq!(read("var/cache/old"), "old");
        fs::write(tree.join("var/cache/new"), "new").expect("write");
        stand_ins.clear().expect("clear");
        assert_eq!(read("etc/hosts"), "the image's");
        let left: Vec<_> = fs::read_dir(&tree).expect("read").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(cache.join("new")).expect("new"), "new");
        assert_eq!(fs::read_dir(&hold).expect("read").count(), 0);
    }
}
