//! The builder's side: starts the helper, hands it steps, and waits for their ends.
//!
//! A step's end comes through a pipe of its own, read by whoever waits: no thread stands between.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, MemfdFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::error::SandboxError;
use super::protocol::{HELPER_ARGUMENT, Outcome, Reply, Request, receive, send};
use super::spec::Spec;
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(5);

/// Which program is the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperPath {
    /// This program again.
    Current,
    /// Another that calls [`init_if_child`](super::init_if_child) first.
    Path(PathBuf),
}

/// A process that makes the processes of steps: one for a build, any number of steps at once.
///
/// Dropping it kills its steps and waits for the helper's end.
#[derive(Debug)]
pub struct Helper {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    next: AtomicU64,
}

/// A step that was handed to the helper. Dropping it before its end kills it.
#[derive(Debug)]
pub struct Running {
    killer: Killer,
    end: OwnedFd,
    ended: bool,
}

/// Ends a step from elsewhere.
#[derive(Debug, Clone)]
pub struct Killer {
    shared: Arc<Shared>,
    id: u64,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Helper {
    /// Starts the helper and waits until it answers, at most five seconds.
    ///
    /// # Errors
    /// The program cannot be started, or does not answer as a helper does.
    pub fn start(exe: HelperPath) -> Result<Self, SandboxError> {
        if super::is_helper() {
            // a host program that does not call `init_if_child` would start itself for ever
            return Err(SandboxError::InsideHelper);
        }
        let (path, sealed) = match exe {
            HelperPath::Current => {
                let path = PathBuf::from("/proc/self/exe");
                let sealed = read_only(&path).ok();
                (path, sealed)
            }
            HelperPath::Path(path) => (path, None),
        };
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(talk)?;
        let shared = Arc::new(Shared {
            socket,
            next: AtomicU64::new(0),
        });
        let (started, answer) = sync_channel(1);
        let for_reader = Arc::clone(&shared);
        // the helper's death signal is tied to the thread that starts it: this one outlives it
        let reader = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(
                move || match spawn(&path, sealed, theirs, &for_reader.socket) {
                    Ok(mut child) => {
                        let _ = started.send(Ok(()));
                        for_reader.read();
                        let _ = child.wait();
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                },
            )
            .map_err(SandboxError::Talk)?;
        let helper = Self {
            shared,
            reader: Some(reader),
        };
        answer.recv().map_err(|_| SandboxError::HelperGone)??;
        Ok(helper)
    }

    /// Hands a step to the helper. Both outputs are closed here at once; the step holds them until its end.
    ///
    /// # Errors
    /// The helper is gone. What is wrong with the step itself is told by [`Running::wait`].
    pub fn run(
        &self,
        spec: Spec,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Running, SandboxError> {
        self.hand_over(spec, stdout, stderr, true)
    }

    /// [`Helper::run`] for a step that most likely is the last one: nothing is made ready for another.
    ///
    /// # Errors
    /// As [`Helper::run`].
    pub fn run_last(
        &self,
        spec: Spec,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Running, SandboxError> {
        self.hand_over(spec, stdout, stderr, false)
    }

    #[expect(clippy::needless_pass_by_value, reason = "a step is handed over whole")]
    fn hand_over(
        &self,
        spec: Spec,
        stdout: OwnedFd,
        stderr: OwnedFd,
        more: bool,
    ) -> Result<Running, SandboxError> {
        let memory = rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC).map_err(talk)?;
        let bytes = serde_json::to_vec(&spec).map_err(|error| SandboxError::InvalidSpec {
            reason: error.to_string(),
        })?;
        File::from(memory.try_clone().map_err(SandboxError::Talk)?)
            .write_all(&bytes)
            .map_err(SandboxError::Talk)?;
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (end, their_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(talk)?;
        let mut running = Running {
            killer: Killer {
                shared: Arc::clone(&self.shared),
                id,
            },
            end,
            ended: true, // not begun
        };
        self.shared.tell(
            &Request::Run { id, more },
            &[
                memory.as_fd(),
                stdout.as_fd(),
                stderr.as_fd(),
                their_end.as_fd(),
            ],
        )?;
        running.ended = false;
        Ok(running)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // the helper takes this for the builder's end: it kills its steps and goes
        let _ = rustix::net::shutdown(&self.shared.socket, Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Running {
    /// Waits for the command's end.
    ///
    /// # Errors
    /// The sandbox could not be set up, or the helper is gone.
    pub fn wait(mut self) -> Result<Exit, SandboxError> {
        let mut said = Vec::new();
        let end = self.end.try_clone().map_err(SandboxError::Talk)?;
        let heard = BufReader::new(File::from(end)).read_until(b'\n', &mut said);
        self.ended = true;
        heard.map_err(SandboxError::Talk)?;
        match serde_json::from_slice(&said).map_err(|_| SandboxError::HelperGone)? {
            Outcome::Code(code) => Ok(Exit::Code(code)),
            Outcome::Signal(signal) => Ok(Exit::Signal(signal)),
            Outcome::Failed(failure) => Err(failure.into()),
        }
    }

    /// Becomes readable at the command's end: [`Running::wait`] then returns at once.
    #[must_use]
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Something to end the step with while another thread waits.
    #[must_use]
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.killer.kill();
        }
    }
}

impl Killer {
    /// Kills every process of the step at once. One that has ended stays ended.
    pub fn kill(&self) {
        // a helper that is gone took its steps with it
        let _ = self.shared.tell(&Request::Kill { id: self.id }, &[]);
    }
}

impl Shared {
    fn tell(
        &self,
        request: &Request,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), SandboxError> {
        send(&self.socket, request, descriptors).map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => SandboxError::HelperGone,
            errno => talk(errno),
        })
    }

    /// Waits until the helper is gone.
    fn read(&self) {
        while let Ok(Some((Reply::Ready, _))) = receive(&self.socket) {}
    }
}

fn talk(errno: Errno) -> SandboxError {
    SandboxError::Talk(errno.into())
}

/// A program through a read-only mount of its own.
///
/// A step that gets hold of its first process's `/proc/…/exe` could otherwise wait for the end of the build and write
/// into the builder's own program. Without CAP_SYS_ADMIN there is no such mount, and no step that is root outside.
fn read_only(program: &Path) -> Result<OwnedFd, Errno> {
    // by its name: the process's own file is in the mount namespace where it was started
    let name = rustix::fs::readlink(program, Vec::new())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, &name, flags)?;
    let (there, here) = (rustix::fs::fstat(&mount)?, rustix::fs::stat(program)?);
    if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) {
        return Err(Errno::STALE); // replaced since
    }
    sys::set_mount_attributes(&mount, false, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(mount)
}

/// Starts the program with the socket as its standard input and waits for its first word.
fn spawn(
    path: &Path,
    sealed: Option<OwnedFd>,
    theirs: OwnedFd,
    ours: &OwnedFd,
) -> Result<Child, SandboxError> {
    let started = match &sealed {
        Some(sealed) => PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd())),
        None => path.to_owned(),
    };
    let mut child = Command::new(started)
        .arg(HELPER_ARGUMENT)
        // a step's first process is a copy of the helper: it should hold nothing of the builder's
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|source| SandboxError::StartHelper {
            path: path.to_owned(),
            source,
        })?;
    let began = Instant::now();
    if is_ready(ours, began) {
        return Ok(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(SandboxError::HelperSilent {
        path: path.to_owned(),
        waited: PATIENCE,
    })
}

fn is_ready(socket: &OwnedFd, began: Instant) -> bool {
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return matches!(receive(socket), Ok(Some((Reply::Ready, _)))),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
