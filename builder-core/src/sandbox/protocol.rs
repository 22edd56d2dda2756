//! What the builder and its helper say to each other.
//!
//! A SOCK_SEQPACKET pair, one JSON value a packet. A step's spec may be longer than a packet: it goes as a memfd,
//! beside the step's output descriptors and a pipe of its own, which brings its [`Outcome`], one JSON value in a line: the first
//! one counts, and the pipe's end without one is the helper's end. Who says it is the step's first process itself, once no
//! other process of the step is left, or the helper, where that had more to do or was killed. The first process also tells
//! the helper how things went, through a pipe, one JSON value a line. A [`spare`](super::spare) process gets its step as
//! the helper got it, and the root beside.

use std::fmt;
use std::io::{IoSlice, IoSliceMut, Read, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use super::spec::Spec;

/// `argv[1]` of the helper.
pub(super) const HELPER_ARGUMENT: &str = "__builder-sandbox";

/// From the builder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// With four descriptors: the spec as JSON, standard output, standard error, where the outcome goes.
    Run {
        id: u64,
        /// Another step is to be expected.
        more: bool,
    },
    /// Answered by the step's end.
    Kill { id: u64 },
}

/// From the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Once, at the start.
    Ready,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Code(i32),
    Signal(i32),
    Failed(Failure),
}

/// From the step's first process to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The first one counts: what failed before the command ran comes before the exit of the process that failed.
    Outcome(Outcome),
    /// What was put into the tree for the step could not be taken out again.
    Unclean(Failure),
    /// Directories that were copied into the upper directory for a mount point's sake only, deepest first.
    CopiedUp(Vec<PathBuf>),
}

/// A system call that failed; `errno` 0 says that `call` is a reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The call and what it was for: `mount proc`.
    pub call: String,
    pub path: Option<PathBuf>,
    pub errno: i32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl Failure {
    pub(super) fn reason(reason: impl Into<String>) -> Self {
        Self {
            call: reason.into(),
            path: None,
            errno: 0,
        }
    }
}

/// Turns a call's error into a [`Failure`] that says what it was for.
pub(super) trait During<T> {
    fn during(self, call: &str) -> Result<T, Failure>;
    fn during_at(self, call: &str, path: impl Into<PathBuf>) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error>> During<T> for Result<T, E> {
    fn during(self, call: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            call: call.to_owned(),
            path: None,
            errno: error.into().raw_os_error().unwrap_or(libc::EIO),
        })
    }

    fn during_at(self, call: &str, path: impl Into<PathBuf>) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            call: call.to_owned(),
            path: Some(path.into()),
            errno: error.into().raw_os_error().unwrap_or(libc::EIO),
        })
    }
}

/// Says how a step ended. A builder that is gone is noticed at the next look at the socket.
pub(super) fn say(end: &OwnedFd, outcome: &Outcome) {
    if let Ok(mut line) = serde_json::to_vec(outcome) {
        line.push(b'\n');
        let _ = rustix::io::write(end, &line);
    }
}

impl Spec {
    /// Reads the description of a step from the file that it came in.
    pub(super) fn read(memory: &OwnedFd) -> Result<Spec, Failure> {
        let mut file =
            std::fs::File::from(memory.try_clone().during("read the step's description")?);
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bytes))
            .during("read the step's description")?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::reason(format!("the step's description: {error}")))
    }
}

const MOST_DESCRIPTORS: usize = 5;
/// More than any message: paths are the longest part.
const LONGEST: usize = 64 * 1024;

/// Sends one message with its descriptors.
pub(super) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    loop {
        match rustix::net::sendmsg(
            &socket,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits for one message; `None` when the other side is gone.
pub(super) fn receive<T: for<'a> Deserialize<'a>>(
    socket: impl AsFd,
) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => break received.bytes,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    };
    let descriptors = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    if received == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes[..received]).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, descriptors)))
}
