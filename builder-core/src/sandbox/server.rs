//! The helper process: one thread, waits for requests and for steps to end.
//!
//! It polls the builder's socket and a pidfd for each running step. It makes no choice that a step depends on but
//! where its stub layer is. When the builder is gone, for whatever reason, every step is killed and the helper ends.

use std::cell::RefCell;
use std::collections::hash_map::{Entry, HashMap};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::asks::Asks;
use super::cgroup::{Groups, Parents};
use super::child::{self, Launch};
use super::chroot::{children, kill_descendants};
use super::command::Command;
use super::id_map;
use super::isolation::Rung;
use super::mount_plan::{Facts, Kind, MountStep, absolute, mount_plan, root_layers};
use super::mounts::{RootMount, kind};
use super::protocol::{During, Failure, Outcome, Reply, Report, Request, receive, say, send};
use super::seccomp;
use super::spare::{Shape, Spare, Spares, namespaces};
use super::spec::{Network, Root, Security, Spec};
use super::stub::{Stub, StubKey, remove_copies, stub_entries};
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
    /// It may have another name by now.
    upper_identity: Option<Identity>,
    _groups: Groups,
    /// Runs without a pid namespace.
    chroot: bool,
}

/// Device and inode.
type Identity = (u64, u64);

/// What a process for the next step is made from.
type Next = (Shape, Vec<MountStep>);

/// A step's first process, as it was made.
struct Started {
    pidfd: OwnedFd,
    status: OwnedFd,
    /// The first process's.
    pid: Pid,
    stub: Option<Stub>,
    upper: Option<(PathBuf, Option<Identity>)>,
    groups: Groups,
    /// Runs without a pid namespace.
    chroot: bool,
    /// What another such step needs.
    next: Option<Next>,
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
    spares: RefCell<Spares>,
    /// Control groups in which those of steps are.
    parents: RefCell<Parents>,
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
            spares: RefCell::default(),
            parents: RefCell::default(),
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
                say(&end, &outcome);
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
        self.spares.take().end();
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
            Request::Run { id, more } => {
                // with fewer than four the builder hears of the end at once, by its pipe's
                let Ok([spec, stdout, stderr, end]) = <[OwnedFd; 4]>::try_from(descriptors) else {
                    return;
                };
                match self.launch(id, [spec, stdout, stderr], end, steps) {
                    Ok((step, next)) => {
                        steps.push(step);
                        if let Some((shape, plan)) = next.filter(|_| more) {
                            self.expect_another(shape, &plan);
                        }
                    }
                    Err((end, failure)) => say(&end, &Outcome::Failed(failure)),
                }
            }
        }
    }

    fn launch(
        &self,
        id: u64,
        given: [OwnedFd; 3],
        end: OwnedFd,
        others: &[Step],
    ) -> Result<(Step, Option<Next>), (OwnedFd, Failure)> {
        match self.start_step(id, given, &end, others) {
            Ok(started) => {
                let (upper, upper_identity) = started.upper.unzip();
                let step = Step {
                    id,
                    pid: started.pid,
                    pidfd: started.pidfd,
                    status: started.status,
                    end,
                    stub: started.stub,
                    upper,
                    upper_identity: upper_identity.flatten(),
                    _groups: started.groups,
                    chroot: started.chroot,
                };
                Ok((step, started.next))
            }
            Err(failure) => Err((end, failure)),
        }
    }

    fn start_step(
        &self,
        id: u64,
        [described, stdout, stderr]: [OwnedFd; 3],
        end: &OwnedFd,
        others: &[Step],
    ) -> Result<Started, Failure> {
        let spec = Spec::read(&described)?;
        let is_chroot = matches!(spec.root, Root::Chroot { .. });
        let rung = match is_chroot {
            true => Rung::Chroot,
            false if self.asks => Rung::SingleId,
            false => Rung::Overlay,
        };
        if let Some(what) = Asks::of(&spec).lack(rung) {
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
        let parents = &mut self.parents.borrow_mut();
        let mut groups = Groups::make(&spec.limits.cgroup, id, parents)?;
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
            Root::Overlay { upper, .. } => Some((upper.clone(), identity(upper))),
            Root::Directory(_) | Root::Chroot { .. } => None,
        };
        wait_for_maker(&spec.root, others);
        let shape = Shape::of(&spec);
        let (shape, spare) = match shape {
            Some(shape) => match self.spares.borrow_mut().take(&shape, &root)? {
                Some((spare, root)) => (None, Some((spare, root, shape))),
                None => (Some(shape), None),
            },
            None => (None, None),
        };
        if let Some((spare, root, shape)) = spare {
            let Spare {
                pid, pidfd, status, ..
            } = spare.give([&described, &stdout, &stderr, end, &root])?;
            drop(root);
            return Ok(Started {
                pid,
                pidfd,
                status,
                stub,
                upper,
                groups,
                chroot: false,
                next: Some((shape, steps)),
            });
        }
        let (status, status_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .during("make a pipe for the step's status")?;
        let next = shape.map(|shape| (shape, steps.clone()));
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
            end,
        };
        let mut namespaces = namespaces(spec.network);
        if is_chroot {
            namespaces = 0;
            // orphans of a step whose first process was killed
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
        let (pid, pidfd) = match sys::clone_child(&self.proof, namespaces).during("clone3")? {
            Side::Child => child::run(launch, &status_end, &self.proof),
            Side::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(status_end);
        Ok(Started {
            pid,
            pidfd: pidfd.ok_or_else(|| Failure::reason("clone3 gave no pidfd"))?,
            status,
            stub,
            upper,
            groups,
            chroot: is_chroot,
            next,
        })
    }

    /// Makes a process for the next step, which most likely has the same shape.
    fn expect_another(&self, shape: Shape, plan: &[MountStep]) {
        let filter = (self.filter.as_slice(), self.asks);
        let mut spares = self.spares.borrow_mut();
        spares.make(shape, plan, filter, &self.proof);
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

/// Waits until no mount holds the topmost layer any more: the step that made it may have told its end, and not be gone yet.
fn wait_for_maker(root: &Root, others: &[Step]) {
    let Root::Overlay { lowers, .. } = root else {
        return;
    };
    let Some(top) = lowers.first().and_then(|top| identity(top)) else {
        return;
    };
    for maker in others.iter().filter(|it| it.upper_identity == Some(top)) {
        // far more than the end of a namespace takes; one that still runs is none of ours to wait for
        let patience = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut polled = [PollFd::new(&maker.pidfd, PollFlags::IN)];
        while rustix::event::poll(&mut polled, Some(&patience)) == Err(Errno::INTR) {}
    }
}

fn identity(directory: &Path) -> Option<Identity> {
    let stat = rustix::fs::stat(directory).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
