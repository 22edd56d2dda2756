//! `--mount=type=ssh`: a socket of the step's own, behind which the caller's agent answers, or one of ours.
//!
//! ```text
//! a process of the step ──▶ the step's socket ──relay──▶ the agent's socket
//!                                                └─────▶ keys from files (`key`), by an agent in this process (`agent`)
//! ```
//!
//! The agent trusts whoever reaches its socket; a step is not to be trusted that far. So the agent's own socket is
//! never in a step: only requests to list keys and to sign pass, all others (to add or remove keys, to lock, and
//! extensions) are answered as an agent answers what it does not do. The socket goes with the step. Of keys from files
//! a step sees the public half and signatures: the private one stays in this process.

mod agent;
mod key;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::SolveErrorKind;
use crate::sandbox::{self, MountSource};
pub use key::{SshKey, SshKeyError};

/// The variable that tells programs where their agent is.
pub(super) const VARIABLE: &str = "SSH_AUTH_SOCK";

/// What OpenSSH's agent takes as one message, at most.
const MAX_MESSAGE: usize = 256 << 10;
/// A step that opens more at a time waits: descriptors of the builder are not its to use up.
const MAX_CONNECTIONS: usize = 32;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const FAILURE: u8 = 5;

/// Who answers a step that has an ssh mount.
#[derive(Debug, Clone)]
pub enum SshSource {
    /// The agent behind this socket.
    Agent(PathBuf),
    /// The builder itself, with these keys.
    Keys(Vec<SshKey>),
}

impl<P: Into<PathBuf>> From<P> for SshSource {
    fn from(socket: P) -> Self {
        SshSource::Agent(socket.into())
    }
}

/// An agent that a step uses: where it sees the socket, and who may use that.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct SshUse {
    pub id: String,
    pub target: PathBuf,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A step's socket, gone when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) mount: sandbox::Mount,
    relay: JoinHandle<()>,
    _place: TempDir,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// Opens a socket for a step, in a directory of its own in `tmp`, and relays what comes to `source`. Within a runtime.
pub(crate) fn open(
    tmp: &Path,
    used: &SshUse,
    source: &SshSource,
) -> Result<Socket, SolveErrorKind> {
    if let SshSource::Agent(agent) = source {
        // now: a program in the step would only say that it found no keys
        std::os::unix::net::UnixStream::connect(agent).map_err(|source| {
            SolveErrorKind::SshAgent {
                id: used.id.clone(),
                socket: agent.to_owned(),
                source,
            }
        })?;
    }
    let failed = |error: io::Error| SolveErrorKind::io("make a socket for an ssh agent", error);
    let place = tempfile::Builder::new()
        .prefix("ssh-")
        .tempdir_in(tmp)
        .map_err(failed)?;
    let path = place.path().join("agent");
    let listener = listen(place.path(), &path, used).map_err(failed)?;
    let relay = tokio::runtime::Handle::current().spawn(relay(listener, source.clone()));
    Ok(Socket {
        mount: sandbox::Mount {
            target: used.target.clone(),
            source: MountSource::Bind(path),
            read_only: false,
        },
        relay,
        _place: place,
    })
}

fn listen(directory: &Path, path: &Path, used: &SshUse) -> io::Result<UnixListener> {
    let &SshUse { mode, uid, gid, .. } = used;
    // an address holds 107 bytes; a store's path may be longer
    let handle = std::fs::File::open(directory)?;
    let short = format!("/proc/self/fd/{}/agent", handle.as_raw_fd());
    let listener = std::os::unix::net::UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    chown(path, Some(uid), Some(gid)).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("its owner cannot be {uid}:{gid} here: {error}"),
        )
    })?;
    let _guard = tokio::runtime::Handle::current().enter();
    UnixListener::from_std(listener)
}

async fn relay(listener: UnixListener, source: SshSource) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // ends with this task
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((client, _)) = listener.accept().await else {
            // out of descriptors, most likely: one that closes makes room
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let source = source.clone();
        connections.spawn(async move {
            let _place = place;
            // whichever side is gone: the other one sees its connection end
            let _ = match &source {
                SshSource::Agent(agent) => serve(client, agent).await,
                SshSource::Keys(keys) => serve_keys(client, keys).await,
            };
        });
    }
}

async fn serve(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    loop {
        let request = message(&mut client).await?;
        if passes(&request) {
            agent.write_all(&framed(&request)).await?;
            let reply = message(&mut agent).await?;
            client.write_all(&framed(&reply)).await?;
        } else {
            client.write_all(&framed(&[FAILURE])).await?;
        }
    }
}

async fn serve_keys(mut client: UnixStream, keys: &[SshKey]) -> io::Result<()> {
    loop {
        let request = message(&mut client).await?;
        let reply = agent::answer(keys, &request);
        client.write_all(&framed(&reply)).await?;
    }
}

/// Whether a request reaches the agent.
fn passes(request: &[u8]) -> bool {
    matches!(request.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)))
}

async fn message(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await? as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn framed(message: &[u8]) -> Vec<u8> {
    // its length was checked as it was read
    let length = u32::try_from(message.len()).unwrap_or_default();
    [&length.to_be_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_to_list_and_to_sign_pass() {
        for (request, expected) in [
            (&[11][..], true),
            (&[13, 0, 0, 0, 0], true),
            (&[], false),
            (&[1], false),  // list, protocol 1
            (&[17], false), // add
            (&[18], false), // remove
            (&[19], false), // remove all
            (&[20], false), // add from a smart card
            (&[22], false), // lock
            (&[23], false), // unlock
            (&[25], false), // add, with constraints
            (&[27], false), // extension
            (&[255], false),
        ] {
            assert_eq!(passes(request), expected, "{request:?}");
        }
    }

    #[tokio::test]
    async fn what_does_not_pass_is_answered_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("agent");
        let agent = UnixListener::bind(&path).expect("bind");
        // an agent that tells what it was asked
        tokio::spawn(async move {
            let (mut client, _) = agent.accept().await.expect("accept");
            while let Ok(request) = message(&mut client).await {
                client.write_all(&framed(&request)).await.expect("answer");
            }
        });
        let (mut near, far) = UnixStream::pair().expect("pair");
        let served = tokio::spawn(async move { serve(far, &path).await });
        for (request, expected) in [
            (&[17, 1, 2][..], &[5][..]),
            (&[11], &[11]),
            (&[19], &[5]),
            (&[13, 7], &[13, 7]),
        ] {
            near.write_all(&framed(request)).await.expect("ask");
            assert_eq!(message(&mut near).await.expect("answer"), expected);
        }
        // too long, and empty: the connection ends
        near.write_all(&u32::MAX.to_be_bytes()).await.expect("ask");
        assert!(message(&mut near).await.is_err());
        let ended = served.await.expect("no panic").expect_err("an error");
        assert_eq!(ended.kind(), io::ErrorKind::InvalidData);
    }
}
