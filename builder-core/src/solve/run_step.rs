//! RUN: a process on a snapshot, and what it changed.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::file::{Account, Accounts};
use super::inputs::Inputs;
use super::job::Job;
use super::layers::worker;
use super::tail::Tail;
use super::trees::{chains, view};
use super::{SolveErrorKind, file_step};
use crate::cache::Layer;
use crate::digest::ContentDigest;
use crate::dockerfile::instruction::mount::Sharing;
use crate::layer::{EntryKind, Writer, WriterOptions};
use crate::plan::{MountOp, MountSource, NetworkMode, Op, RunOp, SecurityMode};
use crate::progress::{Event, Stream};
use crate::sandbox::{
    self, Exit, Killer, Network, Root, Running, SandboxError, Security, Spec, User,
};
use crate::snapshot::{Active, open_data};
use crate::store::Lock;

/// Runs `op` on `parent` and returns the layer it made.
pub(super) async fn run(job: &Job, op: &RunOp, parent: &[Layer]) -> Result<Layer, SolveErrorKind> {
    refuse(op)?;
    let inputs = &job.inputs;
    job.loader.unpack(inputs, parent, job.vertex).await?;
    for mount in &op.mounts {
        if let Some(layers) = job.mounted_layers(mount) {
            job.loader.unpack(inputs, &layers, job.vertex).await?;
        }
    }
    job.helper().await?;
    // One thread does it all: to hand over to another costs as much as to mount.
    let stop = Arc::new(Stop::default());
    let mut on_drop = StopOnDrop(Some(stop.clone()));
    let work = {
        let (job, op, parent, stop) = (job.clone(), op.clone(), parent.to_vec(), stop.clone());
        tokio::task::spawn_blocking(move || work(&job, &op, &parent, &stop))
    };
    tokio::pin!(work);
    let worked = tokio::select! {
        worked = &mut work => worked,
        () = job.inputs.cancel.cancelled() => {
            stop.stop();
            let _ = work.await;
            return Err(SolveErrorKind::Cancelled);
        }
    };
    on_drop.0 = None;
    worked.map_err(worker)?
}

fn work(job: &Job, op: &RunOp, parent: &[Layer], stop: &Stop) -> Result<Layer, SolveErrorKind> {
    let Prepared {
        spec,
        active,
        scratch,
        locks,
        accounts,
    } = prepare(job, op, parent)?;
    run_process(job, op, spec, stop)?;
    drop((scratch, locks));
    keep(job, active, parent, accounts)
}

/// Names what is planned but cannot be run yet.
fn refuse(op: &RunOp) -> Result<(), SolveErrorKind> {
    let unsupported = |what: &str| {
        Err(SolveErrorKind::Unsupported {
            what: what.to_owned(),
        })
    };
    if op.security == SecurityMode::Insecure {
        return unsupported("RUN --security=insecure");
    }
    for mount in &op.mounts {
        match &mount.source {
            MountSource::Ssh { .. } => return unsupported("RUN --mount=type=ssh"),
            MountSource::Cache { from: Some(_), .. } => {
                return unsupported("RUN --mount=type=cache with from=");
            }
            _ => {}
        }
    }
    Ok(())
}

/// All that a process needs, made.
struct Prepared {
    spec: Spec,
    active: Active,
    /// Upper directories of mounts whose writes are thrown away.
    scratch: Vec<Active>,
    locks: Vec<Lock>,
    accounts: Arc<Accounts>,
}

fn prepare(job: &Job, op: &RunOp, parent: &[Layer]) -> Result<Prepared, SolveErrorKind> {
    let inputs = &job.inputs;
    let accounts = accounts(job, parent)?;
    let account = accounts.account(&op.user)?;
    let active = inputs.snapshots.prepare(&chains(parent))?;
    let mut prepared = Prepared {
        spec: spec(inputs, op, &account, &active),
        active,
        scratch: Vec::new(),
        locks: Vec::new(),
        accounts,
    };
    for mount in &op.mounts {
        self::mount(job, mount, &mut prepared)?;
    }
    for (name, content) in &op.scripts {
        prepared.spec.mounts.push(sandbox::Mount {
            target: PathBuf::from(format!("/dev/pipes/{name}")),
            source: sandbox::MountSource::Bytes {
                bytes: content.clone().into_bytes(),
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
            read_only: true,
        });
    }
    Ok(prepared)
}

/// Returns the users and groups of a root file system; they are read once.
fn accounts(job: &Job, layers: &[Layer]) -> Result<Arc<Accounts>, SolveErrorKind> {
    let Some(top) = chains(layers).last().copied() else {
        return Ok(Arc::new(Accounts::read(None)));
    };
    let known = || {
        job.shared
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(accounts) = known().get(&top) {
        return Ok(accounts.clone());
    }
    let root = view(&job.inputs, layers)?;
    let accounts = Arc::new(Accounts::read(Some(root.tree.as_ref())));
    known().insert(top, accounts.clone());
    Ok(accounts)
}

fn spec(inputs: &Inputs, op: &RunOp, account: &Account, active: &Active) -> Spec {
    let mut env: Vec<OsString> = Vec::new();
    // What the Dockerfile sets wins over a proxy variable of the same name.
    let is_set = |name: &str| op.env.iter().any(|(known, _)| known == name);
    let proxies = op.proxy_env.iter().filter(|(name, _)| !is_set(name));
    for (name, value) in proxies.chain(&op.env) {
        env.push(format!("{name}={value}").into());
    }
    if !is_set("HOME") {
        env.push(format!("HOME={}", account.home).into());
    }
    let options = &inputs.options;
    Spec {
        root: root_of(inputs, active),
        args: op.args.iter().map(OsString::from).collect(),
        env,
        cwd: PathBuf::from(&op.cwd),
        user: User {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
        },
        hostname: options.hostname.clone(),
        mounts: Vec::new(),
        network: match op.network {
            NetworkMode::None => Network::None,
            NetworkMode::Default | NetworkMode::Host => Network::Host,
        },
        security: Security::Sandbox,
        resolv_conf: options.resolv_conf.clone(),
        hosts: options.hosts.clone(),
    }
}

fn root_of(inputs: &Inputs, active: &Active) -> Root {
    if active.is_copy() {
        return Root::Directory(active.upper.clone());
    }
    Root::Overlay {
        lowers: active.lowers.clone(),
        upper: active.upper.clone(),
        work: active.work.clone(),
        userxattr: inputs.options.userxattr,
        stubs: Some(inputs.store.tmp_dir().to_owned()),
    }
}

/// Finds `path` in a copied tree; links in it lead where they would with the tree as `/`.
fn in_copy(tree: &Path, path: &str) -> std::io::Result<PathBuf> {
    let open = |at: BorrowedFd<'_>, path: &str, resolve| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
    };
    let root = File::open(tree)?;
    let inside = path.trim_start_matches('/');
    let inside = if inside.is_empty() { "." } else { inside };
    let found = open(root.as_fd(), inside, ResolveFlags::IN_ROOT)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

fn mount(job: &Job, mount: &MountOp, prepared: &mut Prepared) -> Result<(), SolveErrorKind> {
    let inputs = &job.inputs;
    let mut push = |source, read_only| {
        prepared.spec.mounts.push(sandbox::Mount {
            target: PathBuf::from(&mount.target),
            source,
            read_only,
        });
    };
    match &mount.source {
        MountSource::Tmpfs { size_bytes } => push(
            sandbox::MountSource::Tmpfs {
                size_bytes: *size_bytes,
                mode: 0o1777,
            },
            false,
        ),
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
            if !mount.target.is_empty() {
                push(
                    sandbox::MountSource::Bytes {
                        bytes: bytes.clone(),
                        mode: *mode,
                        uid: *uid,
                        gid: *gid,
                    },
                    true,
                );
            }
            if let Some(name) = env {
                use std::os::unix::ffi::OsStringExt;
                let pair = [name.as_bytes(), b"=", bytes].concat();
                prepared.spec.env.push(OsString::from_vec(pair));
            }
        }
        MountSource::Cache {
            id,
            sharing,
            mode,
            uid,
            gid,
            read_only,
            ..
        } => {
            let (path, lock) = cache_directory(inputs, id, *sharing, (*mode, *uid, *gid))?;
            push(sandbox::MountSource::Bind(path), *read_only);
            prepared.locks.extend(lock);
        }
        MountSource::Bind {
            from,
            path,
            read_write,
        } => {
            let layers = job.mounted_layers(mount).unwrap_or_default();
            if let Some(context) = from.and_then(|from| job.context_dir(from.vertex)) {
                if *read_write {
                    return Err(SolveErrorKind::Unsupported {
                        what: "RUN --mount=type=bind,rw of a build context".to_owned(),
                    });
                }
                let source = file_step::context_path(&context, path)?;
                push(sandbox::MountSource::Bind(source), true);
                return Ok(());
            }
            let scratch = inputs.snapshots.prepare(&chains(&layers))?;
            if scratch.is_copy() {
                let source = in_copy(&scratch.upper, path)
                    .map_err(|error| SolveErrorKind::io(format!("find {path} to mount"), error))?;
                push(sandbox::MountSource::Bind(source), !*read_write);
                prepared.scratch.push(scratch);
                return Ok(());
            }
            push(
                sandbox::MountSource::Overlay {
                    lowers: scratch.lowers.clone(),
                    upper: scratch.upper.clone(),
                    work: scratch.work.clone(),
                    subpath: PathBuf::from(path),
                    userxattr: inputs.options.userxattr,
                },
                !*read_write,
            );
            prepared.scratch.push(scratch);
        }
        MountSource::Ssh { .. } => {}
    }
    Ok(())
}

/// Finds, or makes, the directory of a cache mount, and takes the lock that its sharing asks for.
fn cache_directory(
    inputs: &Inputs,
    id: &str,
    sharing: Sharing,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<(PathBuf, Option<Lock>), SolveErrorKind> {
    let name = ContentDigest::of(id.as_bytes()).to_string();
    let name = &name[..32];
    let (name, lock) = match sharing {
        Sharing::Shared => (name.to_owned(), None),
        Sharing::Locked => {
            let lock = inputs.store.lock(&format!("mount-{name}"))?;
            (name.to_owned(), Some(lock))
        }
        Sharing::Private => {
            let mut number = 0;
            loop {
                let name = format!("{name}-{number}");
                if let Some(lock) = inputs.store.try_lock(&format!("mount-{name}"))? {
                    break (name, Some(lock));
                }
                number += 1;
            }
        }
    };
    let path = inputs.store.cache_dir().join("mounts").join(name);
    if !path.is_dir() {
        make_cache_directory(&path, mode, uid, gid)
            .map_err(|error| SolveErrorKind::io("make a cache mount's directory", error))?;
    }
    Ok((path, lock))
}

fn make_cache_directory(path: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path)?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Ends a step from outside its thread, at any time: also before its process is there.
#[derive(Default)]
struct Stop {
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    stopped: bool,
    killer: Option<Killer>,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        if let Some(killer) = &state.killer {
            killer.kill();
        }
    }

    /// Says whom to kill; whether that is asked for already.
    fn arm(&self, killer: Killer) -> bool {
        let mut state = self.state();
        state.killer = Some(killer);
        state.stopped
    }
}

/// Kills a step that nobody waits for any more.
struct StopOnDrop(Option<Arc<Stop>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop.stop();
        }
    }
}

fn run_process(job: &Job, op: &RunOp, spec: Spec, stop: &Stop) -> Result<(), SolveErrorKind> {
    let failed = |error: rustix::io::Errno| SolveErrorKind::io("make a pipe", error);
    let (out_reader, out_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (err_reader, err_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let helper = job.shared.helper.get().ok_or(SandboxError::HelperGone)?;
    let running = helper.run(spec, out_writer, err_writer)?;
    if stop.arm(running.killer()) {
        return Err(SolveErrorKind::Cancelled);
    }
    let mut tail = Tail::default();
    forward(job, &running, out_reader, err_reader, &mut tail)
        .map_err(|error| SolveErrorKind::io("read a step's output", error))?;
    let command = || shown_command(&op.args);
    match running.wait()? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(SolveErrorKind::Exit {
            command: command(),
            code,
            tail: tail.lines(),
        }),
        Exit::Signal(signal) => Err(SolveErrorKind::Signal {
            command: command(),
            signal,
            tail: tail.lines(),
        }),
    }
}

/// Hands on what comes through the pipes until their end and the step's.
fn forward(
    job: &Job,
    running: &Running,
    out: OwnedFd,
    err: OwnedFd,
    tail: &mut Tail,
) -> Result<(), Errno> {
    let mut open = vec![(Stream::Stdout, out), (Stream::Stderr, err)];
    let mut buffer = vec![0u8; 16 << 10];
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
            .collect();
        let end = running.end();
        // The end alone wakes nobody up as long as there is output: that comes first.
        polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = polled[..open.len()]
            .iter()
            .map(|one| !one.revents().is_empty())
            .collect();
        if !ready.contains(&true) {
            // Every process of the step is gone: what it wrote has been read, and nobody else has the pipes.
            return Ok(());
        }
        for at in (0..ready.len()).rev().filter(|at| ready[*at]) {
            match rustix::io::read(&open[at].1, &mut buffer) {
                Ok(0) => drop(open.remove(at)),
                Ok(n) => {
                    let bytes = buffer[..n].to_vec();
                    tail.push(&bytes);
                    job.inputs.events.emit(Event::Log {
                        vertex: job.vertex,
                        stream: open[at].0,
                        bytes,
                    });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// A command may be a whole file long; a message is not.
const SHOWN_CHARS: usize = 200;

fn shown_command(args: &[String]) -> String {
    let text = args.join(" ");
    let first = text.lines().next().unwrap_or_default();
    let shown: String = first.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.trim_end().len() {
        format!("{shown} …")
    } else {
        shown
    }
}

/// Writes what the process changed as a layer, and keeps its tree as a snapshot.
fn keep(
    job: &Job,
    active: Active,
    parent: &[Layer],
    accounts: Arc<Accounts>,
) -> Result<Layer, SolveErrorKind> {
    let inputs = &job.inputs;
    let clamp_mtime = inputs.plan.source_date_epoch;
    let upper = File::open(&active.upper)
        .map_err(|error| SolveErrorKind::io("open a step's changes", error))?;
    let changed = inputs.snapshots.changes(&active)?;
    let out = inputs.store.blobs().raw_writer()?;
    let mut writer = Writer::new(out, WriterOptions { clamp_mtime });
    let layer_error = |error| SolveErrorKind::File(super::FileError::Layer(error));
    for change in &changed {
        match change.entry.kind {
            EntryKind::File { .. } => {
                let mut data = open_data(upper.as_fd(), change)?;
                writer
                    .append(&change.entry, &mut data)
                    .map_err(layer_error)?;
            }
            _ => writer
                .append(&change.entry, &mut std::io::empty())
                .map_err(layer_error)?,
        }
    }
    let (out, written) = writer.finish().map_err(layer_error)?;
    let layer = file_step::keep_blob(inputs, out, &written, parent)?;
    // An earlier layer with the same content stays: its times are in the image, so its snapshot must be used too.
    if layer.diff_id == written.diff_id {
        let mut stack = parent.to_vec();
        stack.push(layer.clone());
        let chains = chains(&stack);
        inputs.snapshots.commit(active, &changed, &chains)?;
        if let Some(top) = chains.last().copied() {
            job.loader.unpacked(top);
            if !accounts.may_change(changed.iter().map(|change| &change.entry)) {
                let known = job.shared.accounts.lock();
                known
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(top, accounts);
            }
        }
    }
    Ok(layer)
}

impl Job {
    /// Returns the layers that a bind mount shows; `None` where it shows none.
    fn mounted_layers(&self, mount: &MountOp) -> Option<Vec<Layer>> {
        let MountSource::Bind { from, .. } = &mount.source else {
            return None;
        };
        let vertex = from.as_ref()?.vertex;
        match self.inputs.plan.vertices[vertex].op {
            Op::Context { .. } => None,
            _ => self.results.get(&vertex).map(|layers| layers.to_vec()),
        }
    }
}
