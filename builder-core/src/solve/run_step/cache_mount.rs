//! `--mount=type=cache`: directories that outlive steps, shared by builds and processes.
//!
//! | sharing | lock on an instance | with others                                        |
//! |---------|---------------------|----------------------------------------------------|
//! | shared  | shared              | the same directory at the same time                |
//! | locked  | exclusive           | waits until nobody else has it                     |
//! | private | exclusive           | the first instance that nobody has, else a new one |
//!
//! Locks are flocks: they hold between processes and end with them. A step takes them in the order of their names, so
//! that two steps never wait for each other; a step that names a cache twice takes its lock once.
//!
//! With `from=` the first content of an instance is a copy of that tree, and another tree is another cache.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::{mount_files, seed};
use crate::cache::Layer;
use crate::digest::ContentDigest;
use crate::dockerfile::instruction::mount::Sharing;
use crate::owner::{self, Owner};
use crate::plan::{MountOp, MountSource, Op, RunOp};
use crate::progress::Event;
use crate::sandbox::{Rung, has_single_id};
use crate::share::Mount;
use crate::solve::SolveErrorKind;
use crate::solve::inputs::Inputs;
use crate::solve::job::Job;
use crate::solve::trees::{KnownTree, view};
use crate::store::Lock;

/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(20);

/// The instances that a step uses, locked.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// By the place of the mount in the step's list.
    instances: BTreeMap<usize, String>,
    /// Files from shared caches, by the names of mounts that have none yet.
    imported: BTreeMap<String, Mount>,
    _locks: Vec<Lock>,
}

/// Takes the locks of all cache mounts of `op`; waits for them, or until the build is cancelled.
pub(super) async fn lock(job: &Job, op: &RunOp) -> Result<Caches, SolveErrorKind> {
    let mut wanted: Vec<(String, Sharing, usize)> = Vec::new();
    for (at, mount) in op.mounts.iter().enumerate() {
        if let MountSource::Cache { id, sharing, .. } = &mount.source {
            // a directory that stands in for a mount is moved: it can be in one step at a time
            let sharing = match (*sharing, job.inputs.options.rung) {
                (Sharing::Shared, Rung::Chroot) => Sharing::Locked,
                (sharing, _) => sharing,
            };
            wanted.push((name(id, &origin(job, mount)), sharing, at));
        }
    }
    // exclusive before shared: of two mounts of one cache the stricter one decides
    wanted.sort_by_key(|(name, sharing, at)| (name.clone(), *sharing == Sharing::Shared, *at));
    let mut caches = Caches::default();
    let mut held: Vec<String> = Vec::new();
    for (name, sharing, at) in wanted {
        let instance = match sharing {
            _ if sharing != Sharing::Private && held.contains(&name) => name,
            Sharing::Private => private(job, &name, &mut caches)?,
            _ => {
                let lock = wait(job, &name, sharing).await?;
                caches._locks.push(lock);
                name
            }
        };
        held.push(instance.clone());
        caches.instances.insert(at, instance);
    }
    import(job, &mut caches).await;
    Ok(caches)
}

/// Fetches the first files of mounts that are used here for the first time. One that cannot be had starts empty.
async fn import(job: &Job, caches: &mut Caches) {
    let inputs = &job.inputs;
    let mounts = inputs.store.cache_dir().join("mounts");
    for instance in caches.instances.values() {
        if caches.imported.contains_key(instance) || mounts.join(instance).is_dir() {
            continue;
        }
        match inputs.shared.fetch_mount(instance).await {
            None => {}
            Some(Ok(mount)) => {
                caches.imported.insert(instance.clone(), mount);
            }
            Some(Err(lost)) => warn(job, format!("a cache mount starts empty: {lost}")),
        }
    }
}

fn warn(job: &Job, message: String) {
    job.inputs.events.emit(Event::Warning {
        vertex: Some(job.vertex),
        line: None,
        message,
    });
}

fn private(job: &Job, name: &str, caches: &mut Caches) -> Result<String, SolveErrorKind> {
    let mut number = 0;
    loop {
        let instance = match number {
            0 => name.to_owned(),
            number => format!("{name}-{number}"),
        };
        if let Some(lock) = job.inputs.store.try_lock(&format!("mount-{instance}"))? {
            caches._locks.push(lock);
            return Ok(instance);
        }
        number += 1;
    }
}

async fn wait(job: &Job, name: &str, sharing: Sharing) -> Result<Lock, SolveErrorKind> {
    let (store, name) = (&job.inputs.store, format!("mount-{name}"));
    loop {
        let lock = match sharing {
            Sharing::Shared => store.try_lock_shared(&name)?,
            _ => store.try_lock(&name)?,
        };
        if let Some(lock) = lock {
            return Ok(lock);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = job.inputs.cancel.cancelled() => return Err(SolveErrorKind::Cancelled),
        }
    }
}

/// Names a cache that starts empty.
pub(in crate::solve) fn cache_name(id: &str) -> String {
    name(id, "")
}

/// Names a cache: its id, and what its first content is.
fn name(id: &str, origin: &str) -> String {
    let mut text = id.as_bytes().to_vec();
    if !origin.is_empty() {
        text.push(0);
        text.extend_from_slice(origin.as_bytes());
    }
    ContentDigest::of(&text).to_string()[..32].to_owned()
}

/// Says where the first content comes from; empty for an empty cache.
fn origin(job: &Job, mount: &MountOp) -> String {
    let MountSource::Cache {
        from: Some(from),
        path,
        ..
    } = &mount.source
    else {
        return String::new();
    };
    let vertex = from.vertex;
    let tree = match (
        &job.inputs.plan.vertices[vertex].op,
        job.results.get(&vertex),
    ) {
        (Op::Context { name }, _) => format!("context {}", name.as_deref().unwrap_or_default()),
        (_, Some(layers)) => Layer::stack_content(layers).to_string(),
        (_, None) => return String::new(),
    };
    format!("{tree} {path}")
}

impl Caches {
    /// Finds, or makes, the directory of the mount at `at` in the step's list.
    pub(super) fn directory(
        &self,
        job: &Job,
        at: usize,
        mount: &MountOp,
    ) -> Result<PathBuf, SolveErrorKind> {
        let inputs = &job.inputs;
        let MountSource::Cache {
            id,
            from,
            path: source,
            mode,
            uid,
            gid,
            ..
        } = &mount.source
        else {
            return Ok(PathBuf::new());
        };
        let name = self.instances.get(&at).map_or("", String::as_str);
        let parent = inputs.store.cache_dir().join("mounts");
        let path = parent.join(name);
        if path.is_dir() {
            return Ok(path);
        }
        inputs.store.note(&format!("mount-{name}"), id)?;
        let io = |error| SolveErrorKind::io("make a cache mount's directory", error);
        std::fs::create_dir_all(&parent).map_err(io)?;
        // made apart, and renamed: a cache is there whole or not at all, and of two makers one wins
        let fresh = tempfile::tempdir_in(inputs.store.tmp_dir()).map_err(io)?;
        let new = fresh.path().join("cache");
        std::fs::create_dir(&new).map_err(io)?;
        let known = match from {
            None => None,
            Some(from) => known_tree(job, from.vertex)?,
        };
        match known {
            Some(known) => seed::fill(&known, source, &new)?,
            None => dress(&new, *mode, *uid, *gid).map_err(io)?,
        }
        if let Some(mount) = self.imported.get(name)
            && let Err(error) = mount_files::fill(inputs, mount, &new)
        {
            warn(job, format!("the cache mount `{id}` starts empty: {error}"));
            std::fs::remove_dir_all(&new).map_err(io)?;
            std::fs::create_dir(&new).map_err(io)?;
            dress(&new, *mode, *uid, *gid).map_err(io)?;
        }
        // An empty directory would be replaced by a plain rename, under the feet of a step that has it mounted.
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &new, cwd, &path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(path),
            Err(_) if path.is_dir() => Ok(path),
            // A file system that cannot keep from replacing.
            Err(Errno::INVAL) => std::fs::rename(&new, &path).map(|()| path).map_err(io),
            Err(error) => Err(io(error.into())),
        }
    }
}

fn known_tree(job: &Job, vertex: usize) -> Result<Option<KnownTree>, SolveErrorKind> {
    if let Some(context) = job.shared.contexts.get(&vertex) {
        return Ok(Some(context.known.clone()));
    }
    let inputs: &Inputs = &job.inputs;
    match job.results.get(&vertex) {
        Some(layers) if !layers.is_empty() => view(inputs, layers).map(Some),
        _ => Ok(None),
    }
}

fn dress(path: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::os::unix::fs::chown(path, Some(uid), Some(gid)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) && has_single_id() => {
            owner::put_open(std::fs::File::open(path)?.as_fd(), Owner::of(uid, gid))?;
        }
        other => other?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
