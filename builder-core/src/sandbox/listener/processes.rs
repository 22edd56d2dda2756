//! What each process believes to be.
//!
//! A process carries its number in the table of ids with it, in a limit that the kernel hands on to children and over
//! exec, and has no use for since 2.4: RLIMIT_LOCKS. So a child is what its parent was when it was made, also when nobody heard
//! of it before that parent was gone.

use rustix::io::Errno;

use super::ids::Ids;
use crate::sys;

/// What lets a number be told from a limit that somebody set.
const MARK: u64 = 0x6275_696c_6400_0000;

/// All that somebody is, or was, besides root.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: Vec<Ids>,
}

impl Processes {
    /// What the process of `thread` believes to be.
    pub(super) fn ids(&self, thread: u32) -> Ids {
        if self.known.is_empty() {
            return Ids::default();
        }
        let number = sys::inherited_number(thread).unwrap_or(u64::MAX);
        let index = number
            .checked_sub(MARK)
            .and_then(|it| usize::try_from(it).ok());
        index
            .and_then(|index| self.known.get(index))
            .cloned()
            .unwrap_or_default()
    }

    /// # Errors
    /// The step has a limit of locks of its own, or the process is gone.
    pub(super) fn set(&mut self, thread: u32, ids: Ids) -> Result<(), Errno> {
        if self.known.is_empty() && ids.is_root() {
            return Ok(());
        }
        let index = match self.known.iter().position(|one| *one == ids) {
            Some(index) => index,
            None => {
                self.known.push(ids);
                self.known.len() - 1
            }
        };
        sys::set_inherited_number(thread, MARK + index as u64)
    }
}

/// The umask of a thread's process, from `/proc/<thread>/status`.
pub(super) fn umask(thread: u32) -> Option<u32> {
    parse_umask(&std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?)
}

fn parse_umask(status: &str) -> Option<u32> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_read() {
        let text = "Name:\ta: b\nUmask:\t0027\nState:\tS\nTgid:\t12\n";
        assert_eq!(parse_umask(text), Some(0o027));
        assert_eq!(parse_umask("Name:\ta\n"), None);
    }
}
