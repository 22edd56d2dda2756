//! Thin safe wrappers over the system calls that neither std nor rustix offers: the only `unsafe` in the workspace.
//!
//! Whatever duplicates a process asks for a [`SingleThread`]: after a fork beside other threads any allocation may
//! wait for ever on a lock that nobody holds, so the proof is a value and not a comment.

#![allow(
    unsafe_code,
    reason = "this room is where the workspace keeps its unsafe code"
)]

mod filter;
mod notice;
mod process;

pub(crate) use filter::{Instruction, load_filter};
pub(crate) use notice::{
    Answer, Notice, Shown, answer_notice, answer_with_descriptor, can_ask, inherited_number,
    load_asking_filter, read_memory, receive_notice, set_inherited_number, stat_bytes, statx_bytes,
    wake_at_once, write_memory,
};
pub(crate) use process::{
    Side, SingleThread, block_signals, clone_child, close_all_but, exec, exit_now, fork,
    fork_to_exec, kill_all_others, leave_session_keyring, reset_signals, set_loopback_up,
    set_mount_attributes, unshare, wait_signal,
};
