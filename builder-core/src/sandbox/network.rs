//! The network of a step that gets none: a namespace of its own whose loopback interface is up.

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::protocol::{During, Failure};
use crate::sys;

/// Brings `lo` up in the calling process's network namespace.
pub(super) fn bring_loopback_up() -> Result<(), Failure> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .during("socket for the loopback interface")?;
    sys::set_loopback_up(&socket).during("bring up the loopback interface")
}
