//! The helper process: one thread, waits for requests and for steps to end.
//!
//! It polls the builder's socket and a pidfd for each running step. It makes no choice that a step depends on but
//! where its stub layer is. When the builder is gone, for whatever reason, every step is killed and the helper ends.

use std::cell::RefCell;
use std::collections::hash_map::{Entry, HashMap};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::cgroup::Groups;
use super::child::{self, Launch};
use super::chroot::{self, children, kill_descendants};
use super::command::Command;
use super::id_map;
use super::mount_plan::{Facts, Kind, absolute, mount_plan, root_layers, stub_entries};
use super::mount_point::open_in;
use super::mounts::{RootMount, kind_of};
use super::protocol::{During, Failure, Outcome, Reply, Report, Request, receive, send};
use super::seccomp;
use super::spec::{MountSource, Network, Root, Security, Spec};
use super::stub::{Stub, StubKey, remove_copies};
use crate::sys::{self, Instruction, Side, SingleThread};

/// A step that runs.
#[derive(Debug)]
struct Step {
    id: u64,
    pidfd: OwnedFd,
    status: OwnedFd,
    /// Where the builder hears of the end.
    end: OwnedFd,
    /// The first process's.
    pid: Pid,
    stub: Option<Stub>,
    upper: Option<PathBuf>,
    _groups: Groups,
    /// Runs without a pid namespace.
    chroot: bool,
}

/// A step's first process, as it was made.
struct Started {
    pidfd: OwnedFd,
    status: OwnedFd,
    /// The first process's.
    pid: Pid,
    stub: Option<Stub>,
    upper: Option<PathBuf>,
    groups: Groups,
    /// Runs without a pid namespace.
    chroot: bool,
}

/// What stays the same for all steps.
#[derive(Debug)]
struct Server {
    socket: OwnedFd,
    proof: SingleThread,
    filter: Vec<Instruction>,
    /// One id is mapped: the filter asks about owners and ids.
    asks: bool,
    owns_network: bool,
    /// Layers of mount points that steps share, by their place and what they hold.
    stubs: RefCell<HashMap<StubKey, Stub>>,
}

/// Serves the builder on standard input until it is gone; the helper's exit code.
pub(super) fn serve() -> i32 {
    match Server::start() {
        Ok(server) => {
            server.work();
            0
        }
        Err(_) => 2,
    }
}

impl Server {
    fn start() -> Result<Self, Errno> {
        // the builder's own thread waits for this process, so the signal comes when the builder dies, not before
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // out of the terminal's reach: Ctrl-C is for the builder to answer
        let _ = rustix::process::setsid();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        let asks = id_map::is_single();
        let server = Self {
            socket,
            proof: SingleThread::prove().map_err(|_| Errno::BUSY)?,
            filter: match asks {
                true => seccomp::docker_default_asking(),
                false => seccomp::docker_default(),
            },
            asks,
            owns_network: id_map::in_initial_namespace(),
            stubs: RefCell::default(),
        };
        send(&server.socket, &Reply::Ready, &[])?;
        Ok(server)
    }

    fn work(&self) {
        let mut steps: Vec<Step> = Vec::new();
        loop {
            let (asked, ended) = {
                let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(steps.len() + 1);
                polled.push(PollFd::new(&self.socket, PollFlags::IN));
                polled.extend(
                    steps
                        .iter()
                        .map(|step| PollFd::new(&step.pidfd, PollFlags::IN)),
                );
                match rustix::event::poll(&mut polled, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => break,
                }
                let ended: Vec<bool> = polled[1..]
                    .iter()
                    .map(|one| !one.revents().is_empty())
                    .collect();
                (!polled[0].revents().is_empty(), ended)
            };
            for index in (0..ended.len()).rev().filter(|index| ended[*index]) {
                let step = steps.swap_remove(index);
                let chroot = step.chroot;
                let (end, outcome) = step.end();
                if chroot {
                    kill_strays(&steps);
                }
                tell(&end, &outcome);
            }
            if !asked {
                continue;
            }
            match receive(&self.socket) {
                Ok(Some((request, descriptors))) => self.answer(&mut steps, request, descriptors),
                Ok(None) | Err(_) => break,
            }
        }
        for step in &steps {
            step.kill();
        }
        let mut chroot = false;
        for step in steps {
            chroot |= step.chroot;
            // the builder hears that the helper is gone, not how the step was killed
            step.end();
        }
        if chroot {
            kill_descendants();
        }
        for stub in self.stubs.borrow().values() {
            stub.remove();
        }
    }

    fn answer(&self, steps: &mut Vec<Step>, request: Request, descriptors: Vec<OwnedFd>) {
        match request {
            Request::Kill { id } => {
                if let Some(step) = steps.iter().find(|step| step.id == id) {
                    step.kill();
                }
            }
            Request::Run { id } => {
                // with fewer than four the builder hears of the end at once, by its pipe's
                let Ok([spec, stdout, stderr, end]) = <[OwnedFd; 4]>::try_from(descriptors) else {
                    return;
                };
                match self.launch(id, [spec, stdout, stderr], end) {
                    Ok(step) => steps.push(step),
                    Err((end, failure)) => tell(&end, &Outcome::Failed(failure)),
                }
            }
        }
    }

    fn launch(
        &self,
        id: u64,
        given: [OwnedFd; 3],
        end: OwnedFd,
    ) -> Result<Step, (OwnedFd, Failure)> {
        match self.start_step(id, given) {
            Ok(started) => Ok(Step {
                id,
                pid: started.pid,
                pidfd: started.pidfd,
                status: started.status,
                end,
                stub: started.stub,
                upper: started.upper,
                _groups: started.groups,
                chroot: started.chroot,
            }),
            Err(failure) => Err((end, failure)),
        }
    }

    fn start_step(
        &self,
        id: u64,
        [spec, stdout, stderr]: [OwnedFd; 3],
    ) -> Result<Started, Failure> {
        let spec = read_spec(spec)?;
        let is_chroot = matches!(spec.root, Root::Chroot { .. });
        if let Some(what) = chroot::lacks(&spec).filter(|_| is_chroot) {
            return Err(Failure::reason(what));
        }
        let facts = Facts {
            kinds: spec
                .mounts
                .iter()
                .map(|mount| kind(&mount.source))
                .collect::<Result<_, _>>()?,
            owns_network: self.owns_network,
        };
        let steps = mount_plan(&spec, &facts)?;
        let command = Command::new(&spec, &self.filter, self.asks)?;
        let cwd = absolute(&spec.cwd)?;
        let mut groups = Groups::make(&spec.limits.cgroup, id)?;
        let stub = match &spec.root {
            Root::Overlay { lowers, .. } if lowers.is_empty() => {
                return Err(Failure::reason(
                    "an overlay needs at least one lower directory",
                ));
            }
            Root::Overlay { work, stubs, .. } => {
                Some(self.stub(work, stubs.as_deref(), stub_entries(&steps))?)
            }
            Root::Directory(_) | Root::Chroot { .. } => None,
        };
        let root = match (
            &spec.root,
            root_layers(&spec.root, stub.as_ref().map(|stub| stub.path.as_path())),
        ) {
            (_, Some(layers)) => RootMount::Overlay(layers),
            (Root::Directory(path), _) => RootMount::Directory(path),
            (Root::Chroot { tree, hold }, _) => RootMount::Chroot { tree, hold },
            (Root::Overlay { .. }, None) => {
                return Err(Failure::reason("an overlay without layers"));
            }
        };
        let upper = match &spec.root {
            Root::Overlay { upper, .. } => Some(upper.clone()),
            Root::Directory(_) | Root::Chroot { .. } => None,
        };
        let (status, status_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .during("make a pipe for the step's status")?;
        let launch = Launch {
            root,
            steps,
            command,
            cwd,
            hostname: spec.hostname.as_bytes().to_vec(),
            loopback: spec.network == Network::None,
            any_device: spec.security == Security::Insecure,
            groups: std::mem::take(&mut groups.joins),
            stdout,
            stderr,
        };
        let mut namespaces =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if spec.network == Network::None {
            namespaces |= libc::CLONE_NEWNET;
        }
        if is_chroot {
            namespaces = 0;
            // orphans of a step whose first process was killed
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
        match sys::clone_child(&self.proof, namespaces as u64).during("clone3")? {
            Side::Child => child::run(launch, &status_end, &self.proof),
            Side::Parent { pid, pidfd } => Ok(Started {
                pid,
                pidfd: pidfd.ok_or_else(|| Failure::reason("clone3 gave no pidfd"))?,
                status,
                stub,
                upper,
                groups,
                chroot: is_chroot,
            }),
        }
    }

    /// The layer of mount points for a step: made anew, or, where there is a place for it, shared by all steps that
    /// need the same ones.
    fn stub(
        &self,
        work: &Path,
        stubs: Option<&Path>,
        entries: Vec<(PathBuf, Kind)>,
    ) -> Result<Stub, Failure> {
        let Some(stubs) = stubs else {
            let name = work
                .file_name()
                .ok_or_else(|| Failure::reason("the work directory has no name"))?;
            let mut name = name.to_owned();
            name.push(".stub");
            return Stub::make(work.with_file_name(name), &entries);
        };
        let mut shared = self.stubs.borrow_mut();
        let number = shared.len();
        match shared.entry((stubs.to_owned(), entries)) {
            Entry::Occupied(there) => Ok(Stub::shared(there.get())),
            Entry::Vacant(place) => {
                let name = format!("stub-{}-{number}", rustix::process::getpid());
                let stub = Stub::make(stubs.join(name), &place.key().1)?;
                Ok(Stub::shared(place.insert(stub)))
            }
        }
    }
}

impl Step {
    fn kill(&self) {
        // a process that is gone already needs no signal
        let signal = match self.chroot {
            true => Signal::TERM,
            false => Signal::KILL,
        };
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Reaps the step's first process and returns how the command ended, and where to say so.
    fn end(self) -> (OwnedFd, Outcome) {
        let status = loop {
            match rustix::process::waitid(
                WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.pidfd)),
                WaitIdOptions::EXITED,
            ) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        let mut text = Vec::new();
        // every writer is dead: this ends. What cannot be read counts as not said
        let _ = fs::File::from(self.status).read_to_end(&mut text);
        let (mut outcome, mut unclean) = (None, None);
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Report::Outcome(said)) => outcome = outcome.or(Some(said)),
                Ok(Report::Unclean(failure)) => unclean = Some(failure),
                Ok(Report::CopiedUp(directories)) => {
                    if let Some(upper) = &self.upper {
                        remove_copies(upper, &directories);
                    }
                }
                Err(_) => {}
            }
        }
        if let Some(stub) = self.stub.filter(|stub| !stub.is_shared) {
            stub.remove();
        }
        let outcome = outcome.unwrap_or_else(|| {
            match status
                .ok()
                .flatten()
                .and_then(|status| status.terminating_signal())
            {
                Some(signal) => Outcome::Signal(signal),
                None => Outcome::Failed(Failure::reason(
                    "the step's first process ended without a word",
                )),
            }
        });
        // a tree with a secret in it must not become a layer
        let outcome = unclean.map_or(outcome, Outcome::Failed);
        (self.end, outcome)
    }
}

/// Kills the processes of steps whose first process was killed before it could do that, until none is left.
fn kill_strays(steps: &[Step]) {
    loop {
        let known = |pid: &Pid| steps.iter().any(|step| step.pid == *pid);
        let strays: Vec<Pid> = children().into_iter().filter(|pid| !known(pid)).collect();
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            let _ = rustix::process::kill_process(stray, Signal::KILL);
            let _ = rustix::process::waitpid(Some(stray), WaitOptions::empty());
        }
    }
}

/// Says how a step ended. A builder that is gone is noticed at the next look at the socket.
fn tell(end: &OwnedFd, outcome: &Outcome) {
    if let (Ok(bytes), Ok(end)) = (serde_json::to_vec(outcome), end.try_clone()) {
        let _ = fs::File::from(end).write_all(&bytes);
    }
}

fn read_spec(memory: OwnedFd) -> Result<Spec, Failure> {
    let mut file = fs::File::from(memory);
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .during("read the step's description")?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::reason(format!("the step's description: {error}")))
}

/// Whether a mount's source is a directory: its mount point must be the same.
fn kind(source: &MountSource) -> Result<Kind, Failure> {
    match source {
        MountSource::Tmpfs { .. } => Ok(Kind::Directory),
        MountSource::Bytes { .. } => Ok(Kind::File),
        MountSource::Bind(path) | MountSource::Host { path, .. } => {
            let stat = rustix::fs::stat(path).during_at("find the mount's source", path)?;
            Ok(kind_of(FileType::from_raw_mode(stat.st_mode)))
        }
        MountSource::Inside { root, path } => {
            let failed = "find in the mount's source";
            let root = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .during_at(failed, root)?;
            let found = open_in(&root, path, OFlags::PATH).during_at(failed, path)?;
            let stat = rustix::fs::fstat(&found).during_at(failed, path)?;
            Ok(kind_of(FileType::from_raw_mode(stat.st_mode)))
        }
        MountSource::Overlay {
            lowers,
            upper,
            subpath,
            ..
        } => [upper]
            .into_iter()
            .chain(lowers)
            .find_map(|layer| {
                let layer =
                    rustix::fs::open(layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
                let found = open_in(&layer, subpath, OFlags::PATH).ok()?;
                let file_type = FileType::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode);
                // a whiteout, or the end of a link in another layer's tree
                (file_type != FileType::CharacterDevice).then(|| kind_of(file_type))
            })
            .ok_or(Errno::NOENT)
            .during_at("find in the mount's source", subpath),
    }
}
