//! What each process believes to be, by its number; a process that was not heard of is what its parent is.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::ids::Ids;

/// Beyond these the dead are looked for.
const MANY: usize = 256;

#[derive(Debug)]
struct Known {
    ids: Ids,
    /// Tells whether it still lives: numbers are used again.
    pidfd: OwnedFd,
}

impl Known {
    fn lives(&self) -> bool {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(
            rustix::event::poll(&mut polled, Some(&Timespec::default())),
            Ok(0)
        )
    }
}

/// All that are, or were, not root.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: HashMap<u32, Known>,
}

/// What the kernel says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Status {
    pub(super) process: u32,
    pub(super) parent: u32,
    pub(super) umask: u32,
}

/// Reads `/proc/<thread>/status`.
pub(super) fn status(thread: u32) -> Option<Status> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    Some(parse_status(&text))
}

fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key {
            "Umask" => status.umask = u32::from_str_radix(value, 8).unwrap_or(0o022),
            "Tgid" => status.process = value.parse().unwrap_or_default(),
            "PPid" => {
                status.parent = value.parse().unwrap_or_default();
                break;
            }
            _ => {}
        }
    }
    status
}

impl Processes {
    /// What the process of `thread` believes to be.
    pub(super) fn ids(&mut self, thread: u32) -> Ids {
        if self.known.is_empty() {
            return Ids::default();
        }
        let mut number = thread;
        let mut own = None;
        // a chain of parents is no longer than there are processes
        for _ in 0..1 << 16 {
            let Some(status) = status(number) else { break };
            own.get_or_insert(status.process);
            if let Some(known) = self.known.get(&status.process).filter(|it| it.lives()) {
                let ids = known.ids.clone();
                if let Some(own) = own.filter(|own| *own != status.process) {
                    // the parent may change, or go
                    self.remember(own, ids.clone());
                }
                return ids;
            }
            if status.parent <= 1 {
                break;
            }
            number = status.parent;
        }
        Ids::default()
    }

    pub(super) fn set(&mut self, thread: u32, ids: Ids) {
        let process = status(thread).map_or(thread, |status| status.process);
        if self.known.is_empty() && ids.is_root() {
            return;
        }
        self.remember(process, ids);
    }

    fn remember(&mut self, process: u32, ids: Ids) {
        if self.known.len() >= MANY {
            self.known.retain(|_, known| known.lives());
        }
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        let pidfd = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
        if let Some(Ok(pidfd)) = pidfd {
            self.known.insert(process, Known { ids, pidfd });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let text = "Name:\ta: b\nUmask:\t0027\nState:\tS\nTgid:\t12\nNgid:\t0\nPid:\t13\nPPid:\t7\nx:\ty\n";
        let expected = Status {
            process: 12,
            parent: 7,
            umask: 0o027,
        };
        assert_eq!(parse_status(text), expected);
    }
}
