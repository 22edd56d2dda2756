//! `--mount` of a RUN: what each kind becomes for the sandbox.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::context_view::context_view;
use super::ssh::{self, SshUse};
use super::{Prepared, SecretUse, SolveErrorKind};
use crate::cache::Layer;
use crate::plan::{MountOp, MountSource, Op, RunOp};
use crate::sandbox;
use crate::solve::job::Job;
use crate::solve::trees::chains;

/// Adds what the mount at `at` of the step's list asks for.
pub(super) fn mount(
    job: &Job,
    op: &RunOp,
    at: usize,
    prepared: &mut Prepared,
) -> Result<(), SolveErrorKind> {
    let inputs = &job.inputs;
    let mount = &op.mounts[at];
    let (source, read_only) = match &mount.source {
        MountSource::Tmpfs { size_bytes } => {
            let source = sandbox::MountSource::Tmpfs {
                size_bytes: *size_bytes,
                mode: 0o1777,
            };
            (source, false)
        }
        MountSource::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => {
            let Some(bytes) = inputs.secrets.get(id) else {
                if *required {
                    return Err(SolveErrorKind::MissingSecret { id: id.clone() });
                }
                return Ok(());
            };
            let secret = SecretUse {
                id: id.clone(),
                target: PathBuf::from(&mount.target),
                mode: *mode,
                uid: *uid,
                gid: *gid,
                env: env.clone(),
            };
            prepared.secrets.push((secret, bytes.clone()));
            return Ok(());
        }
        MountSource::Cache { read_only, .. } => {
            let path = prepared.caches.directory(job, at, mount)?;
            (sandbox::MountSource::Bind(path), *read_only)
        }
        MountSource::Bind {
            path, read_write, ..
        } => (bind(job, op, mount, path, prepared)?, !*read_write),
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => {
            if let Some(agent) = inputs.ssh.get(id) {
                let used = SshUse {
                    id: id.clone(),
                    target: PathBuf::from(&mount.target),
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                };
                let socket = ssh::open(inputs.store.tmp_dir(), &used, agent)?;
                prepared.sockets.push((used, socket));
            } else if *required {
                return Err(SolveErrorKind::MissingSsh { id: id.clone() });
            }
            return Ok(());
        }
    };
    if let sandbox::MountSource::Inside { root, path } = &source
        && prepared.scratch.last().is_some_and(|it| it.upper == *root)
    {
        // in a copy: an overlay gets its mount points while it is still writable
        let inner = op.mounts.iter().filter_map(|it| {
            let inner = Path::new(&it.target).strip_prefix(&mount.target).ok()?;
            (inner != Path::new("")).then(|| path.join(inner))
        });
        for inner in inner {
            make_directories(root, &inner)
                .map_err(|error| SolveErrorKind::io("make a mount point", error))?;
        }
    }
    prepared.spec.mounts.push(sandbox::Mount {
        target: PathBuf::from(&mount.target),
        source,
        read_only,
    });
    Ok(())
}

fn bind(
    job: &Job,
    op: &RunOp,
    mount: &MountOp,
    path: &str,
    prepared: &mut Prepared,
) -> Result<sandbox::MountSource, SolveErrorKind> {
    let inputs = &job.inputs;
    let MountSource::Bind {
        from, read_write, ..
    } = &mount.source
    else {
        return Ok(sandbox::MountSource::Bind(PathBuf::new()));
    };
    let vertex = from.map(|from| from.vertex);
    let context = vertex.and_then(|it| Some((job.shared.contexts.get(&it)?, job.context_dir(it)?)));
    if let Some((context, dir)) = context {
        let inside = |it: &MountOp| {
            it.target != mount.target && Path::new(&it.target).starts_with(&mount.target)
        };
        let needs_overlay = *read_write || op.mounts.iter().any(inside);
        let prepare = || Ok(inputs.snapshots.prepare(&[])?);
        let userxattr = inputs.options.userxattr;
        let view = context_view(context, &dir, path, needs_overlay, userxattr, prepare)?;
        prepared.scratch.extend(view.scratch);
        return Ok(view.source);
    }
    let layers = job.mounted_layers(mount).unwrap_or_default();
    let scratch = inputs.snapshots.prepare(&chains(&layers))?;
    let source = if layers.is_empty() || scratch.is_copy() {
        // writes are thrown away all the same
        sandbox::MountSource::Inside {
            root: scratch.upper.clone(),
            path: PathBuf::from(path.trim_start_matches('/')),
        }
    } else {
        sandbox::MountSource::Overlay {
            lowers: scratch.lowers.clone(),
            upper: scratch.upper.clone(),
            work: scratch.work.clone(),
            subpath: PathBuf::from(path),
            userxattr: inputs.options.userxattr,
        }
    };
    prepared.scratch.push(scratch);
    Ok(source)
}

/// Makes a directory and those above it inside `root`, wherever its links lead.
fn make_directories(root: &Path, path: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let mut so_far = PathBuf::from(".");
    for part in path.iter() {
        let inside = ResolveFlags::IN_ROOT;
        let parent = rustix::fs::openat2(&root, &so_far, flags, Mode::empty(), inside)?;
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        so_far.push(part);
    }
    Ok(())
}

impl Job {
    /// Returns the layers that a mount shows, or is first filled from; `None` where there are none.
    pub(super) fn mounted_layers(&self, mount: &MountOp) -> Option<Vec<Layer>> {
        let (MountSource::Bind { from, .. } | MountSource::Cache { from, .. }) = &mount.source
        else {
            return None;
        };
        let vertex = from.as_ref()?.vertex;
        match self.inputs.plan.vertices[vertex].op {
            Op::Context { .. } => None,
            _ => self.results.get(&vertex).map(|layers| layers.to_vec()),
        }
    }
}
