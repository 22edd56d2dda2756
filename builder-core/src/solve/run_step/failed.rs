//! The files of a step that failed, kept until the next build, so that somebody can look.
//!
//! ```text
//! failed/step.json    the step: what to run where, without any secret's value, and without its agents
//! failed/<n>/         what it had written: 0 its root, the rest the mounts whose writes are thrown away
//! ```

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::ssh::SshUse;
use crate::sandbox::{Mount, MountSource, Root, Spec};
use crate::snapshot::Active;
use crate::store::Store;

/// A secret that a step uses.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct SecretUse {
    pub id: String,
    /// Empty where it is a variable only.
    pub target: PathBuf,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub env: Option<String>,
}

impl SecretUse {
    /// Gives the step the value.
    pub(crate) fn put(&self, bytes: &[u8], spec: &mut Spec) {
        use std::os::unix::ffi::OsStringExt;
        if let Some(name) = &self.env {
            let pair = [name.as_bytes(), b"=", bytes].concat();
            spec.env.push(OsString::from_vec(pair));
        }
        if self.target != Path::new("") {
            spec.mounts.push(Mount {
                target: self.target.clone(),
                source: MountSource::Bytes {
                    bytes: bytes.to_vec(),
                    mode: self.mode,
                    uid: self.uid,
                    gid: self.gid,
                    no_exec: true,
                },
                read_only: true,
            });
        }
    }
}

/// A step that failed, as it is kept.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct FailedStep {
    pub name: String,
    /// 1-based, in the Dockerfile.
    pub line: Option<u32>,
    pub spec: Spec,
    pub secrets: Vec<SecretUse>,
    #[serde(default)]
    pub ssh: Vec<SshUse>,
}

/// The lock that whoever looks at a failed step holds.
pub(crate) const LOCK: &str = "failed-step";

pub(crate) fn directory(store: &Store) -> PathBuf {
    store.root().join("failed")
}

/// Removes the step that an earlier build kept, unless somebody looks at it.
pub(crate) fn forget(store: &Store) {
    if let Ok(Some(_lock)) = store.try_lock(LOCK) {
        remove(&directory(store));
    }
}

fn remove(path: &Path) {
    // what cannot be removed now is in nobody's way
    let _ = std::fs::remove_dir_all(path);
}

/// Keeps a step. The first one of a build that fails stays; so does one that somebody looks at.
pub(super) fn keep(store: &Store, mut step: FailedStep, places: Vec<Active>) -> io::Result<()> {
    let Ok(Some(_lock)) = store.try_lock(LOCK) else {
        return Ok(());
    };
    let place = directory(store);
    if place.join("step.json").exists() {
        return Ok(());
    }
    remove(&place);
    std::fs::create_dir_all(&place)?;
    for (number, active) in places.into_iter().enumerate() {
        let to = place.join(number.to_string());
        let from = active.keep(&to)?;
        step.spec.move_paths(&from, &to);
    }
    let text = serde_json::to_vec(&step)?;
    let fresh = place.join("step.json.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, place.join("step.json"))
}

impl Spec {
    /// Follows a directory that was moved.
    fn move_paths(&mut self, from: &Path, to: &Path) {
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = to.join(rest);
            }
        };
        match &mut self.root {
            Root::Directory(path) => moved(path),
            Root::Chroot { tree, hold } => {
                moved(tree);
                moved(hold);
            }
            Root::Overlay {
                lowers,
                upper,
                work,
                stubs,
                ..
            } => {
                lowers.iter_mut().for_each(moved);
                moved(upper);
                moved(work);
                *stubs = None;
            }
        }
        for mount in &mut self.mounts {
            match &mut mount.source {
                MountSource::Bind(path) => moved(path),
                MountSource::Inside { root, .. } => moved(root),
                MountSource::Overlay {
                    lowers,
                    upper,
                    work,
                    ..
                } => {
                    lowers.iter_mut().for_each(moved);
                    moved(upper);
                    moved(work);
                }
                MountSource::Host { .. }
                | MountSource::Tmpfs { .. }
                | MountSource::Bytes { .. } => {}
            }
        }
    }

    /// Makes the work directories fresh: a volatile overlay refuses those of an earlier mount.
    pub(crate) fn renew_work(&self) -> io::Result<()> {
        let root = match &self.root {
            Root::Overlay { work, .. } => Some(work),
            Root::Directory(_) | Root::Chroot { .. } => None,
        };
        let mounts = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Overlay { work, .. } => Some(work),
            _ => None,
        });
        for work in root.into_iter().chain(mounts) {
            let _ = std::fs::remove_dir_all(work);
            std::fs::create_dir_all(work)?;
        }
        Ok(())
    }
}
