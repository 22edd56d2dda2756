//! Answers the system calls that one mapped id would let fail, or would answer with that one id.
//!
//! ```text
//! first process ──fork──▶ command: loads the filter, hands its descriptor over, becomes the program
//!               └──fork──▶ listener: in the step's root; ends with the last process that the filter asks for
//! ```
//!
//! | call                                   | answer                                                              |
//! |----------------------------------------|---------------------------------------------------------------------|
//! | chown and its like                     | the owner is remembered, see `owner`                                |
//! | stat and its like                      | the kernel's, with the remembered owner; the kernel itself answers where none is |
//! | setuid, setgroups, getuid and their like | what the process then believes to be; its children believe the same |
//! | open with O_CREAT, mkdir, symlink, mknod | the kernel's own for root; for others the file is made here, and its owner remembered |
//! | rename, link, utimensat of a symbolic link | the kernel's own; its owner is remembered in the new place, and of the new time |
//! | open                                   | the kernel's own; EACCES for what stands for a device, as on mounts without devices |
//!
//! All of it is a pretence within the step: what the kernel allows is what the user who builds may do. A process that
//! believes to be another user is not kept from root's files.

mod calls;
mod files;
mod ids;
mod make;
mod processes;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use self::calls::{Asked, Form, How, Make, Place, asked};
use self::files::Memory;
use self::ids::{Change, Ids};
use self::make::Made;
use self::processes::Processes;
use crate::sys::{self, Answer, Notice, Shown};

/// More groups no process can have.
const MOST_GROUPS: u64 = 65_536;

/// Can such filters be had here?
pub(super) fn is_supported() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) && sys::can_ask()
}

/// Answers until no process is left that could ask.
pub(super) fn serve(notices: &OwnedFd) {
    rustix::process::umask(Mode::empty());
    sys::wake_at_once(notices);
    let mut listener = Listener::default();
    loop {
        let mut polled = [PollFd::new(notices, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let events = polled[0].revents();
        if events.contains(PollFlags::IN) {
            // the caller may be gone by now
            if let Ok(notice) = sys::receive_notice(notices) {
                listener.answer(notices, &notice);
            }
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
    }
}

#[derive(Debug, Default)]
struct Listener {
    processes: Processes,
    memory: Memory,
}

impl Listener {
    fn answer(&mut self, notices: &OwnedFd, notice: &Notice) {
        let made = self
            .made(notice)
            .unwrap_or_else(|errno| Made::Answer(Answer::Error(errno)));
        match made {
            Made::Answer(answer) => sys::answer_notice(notices, notice, answer),
            Made::Open {
                file,
                close_on_exec,
            } => {
                let done = sys::answer_with_descriptor(notices, notice, &file, close_on_exec);
                if let Err(errno) = done {
                    sys::answer_notice(notices, notice, Answer::Error(errno));
                }
            }
        }
    }

    fn made(&mut self, notice: &Notice) -> Result<Made, Errno> {
        let thread = notice.pid;
        let answer = match asked(notice) {
            Asked::Make { at, what } => {
                let ids = self.processes.ids(thread);
                return make::make(thread, &ids, &mut self.memory, at, what);
            }
            Asked::Open { at, how } => return self.open(thread, at, how, true),
            Asked::OpenBy { at, how } => {
                let mut bytes = [0; 24];
                if sys::read_memory(thread, how, &mut bytes)? != bytes.len() {
                    return Err(Errno::FAULT);
                }
                let (how, resolve) = How::from_bytes(bytes);
                return self.open(thread, at, how, resolve == 0);
            }
            Asked::Move { from, to, exchange } => {
                self.memory.follow(thread, from, to)?;
                if exchange {
                    self.memory.follow(thread, to, from)?;
                }
                Answer::Continue
            }
            Asked::Touch { at, times } => self.memory.touch(thread, at, times)?,
            Asked::Look { at, into, form } => self.look(thread, at, into, form),
            Asked::SetOwner { of, uid, gid } => self.set_owner(thread, of, uid, gid)?,
            Asked::SetUser(set) => self.change(thread, Change::User(set))?,
            Asked::SetGroup(set) => self.change(thread, Change::Group(set))?,
            Asked::SetGroups { count, from } => {
                let groups = read_ids(thread, from, count)?;
                self.change(thread, Change::Groups(groups))?
            }
            Asked::Get { group, effective } => {
                let ids = self.processes.ids(thread);
                let trio = if group { ids.group } else { ids.user };
                let id = if effective { trio.effective } else { trio.real };
                Answer::Value(id.into())
            }
            Asked::GetThree { group, into } => {
                let ids = self.processes.ids(thread);
                let trio = if group { ids.group } else { ids.user };
                for (id, address) in [trio.real, trio.effective, trio.saved].iter().zip(into) {
                    sys::write_memory(thread, address, &id.to_ne_bytes())?;
                }
                Answer::Value(0)
            }
            Asked::GetGroups { room, into } => {
                let Ids { groups, .. } = self.processes.ids(thread);
                let room = usize::try_from(room & 0xffff_ffff).unwrap_or_default();
                if room != 0 && room < groups.len() {
                    return Err(Errno::INVAL);
                }
                if room != 0 && !groups.is_empty() {
                    let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
                    sys::write_memory(thread, into, &bytes)?;
                }
                Answer::Value(i64::try_from(groups.len()).unwrap_or_default())
            }
            Asked::Other => Answer::Continue,
        };
        Ok(Made::Answer(answer))
    }

    /// Opens nothing that stands for a device: the file in its place is empty, and anybody's. `makes`: a file may be
    /// made here for the process.
    fn open(&mut self, thread: u32, at: Place, how: How, makes: bool) -> Result<Made, Errno> {
        let no_follow = how.flags.contains(OFlags::NOFOLLOW);
        let at = if no_follow { at.not_followed() } else { at };
        if !how.only_new()
            && let Ok(found) = files::find(thread, at)
            && self.memory.is_device(&found)
        {
            return Err(Errno::ACCESS);
        }
        if !makes || !how.flags.contains(OFlags::CREATE) {
            return Ok(Made::Answer(Answer::Continue));
        }
        let ids = self.processes.ids(thread);
        let at = at.not_followed();
        make::make(thread, &ids, &mut self.memory, at, Make::File(how))
    }

    fn change(&mut self, thread: u32, change: Change) -> Result<Answer, Errno> {
        let mut ids = self.processes.ids(thread);
        let value = ids.change(change)?;
        self.processes.set(thread, ids)?;
        Ok(Answer::Value(value))
    }

    /// What cannot be found, and what nobody remembers, the kernel answers by itself.
    fn look(&self, thread: u32, at: Place, into: u64, form: Form) -> Answer {
        let shown = || -> Result<Option<Vec<u8>>, Errno> {
            let found = files::find(thread, at)?;
            let Some(owner) = self.memory.owner(&found)? else {
                return Ok(None);
            };
            let shown = Shown {
                uid: owner.uid,
                gid: owner.gid,
                node: owner
                    .node
                    .map(|node| (node.kind.as_raw_mode(), node.major, node.minor)),
            };
            match form {
                Form::Stat => sys::stat_bytes(&found.file, shown),
                Form::Statx { flags, mask } => sys::statx_bytes(&found.file, flags, mask, shown),
            }
            .map(Some)
        };
        match shown() {
            Ok(Some(bytes)) => match sys::write_memory(thread, into, &bytes) {
                Ok(()) => Answer::Value(0),
                Err(errno) => Answer::Error(errno),
            },
            _ => Answer::Continue,
        }
    }

    fn set_owner(&mut self, thread: u32, of: Place, uid: u32, gid: u32) -> Result<Answer, Errno> {
        let found = files::find(thread, of)?;
        let ids = self.processes.ids(thread);
        let old = self.memory.owner(&found)?.unwrap_or_default();
        let mut new = old;
        if uid != u32::MAX {
            new.uid = uid;
        }
        if gid != u32::MAX {
            new.gid = gid;
        }
        if !ids.may_give((old.uid, old.gid), (new.uid, new.gid)) {
            return Err(Errno::PERM);
        }
        self.memory.give(&found, new)?;
        Ok(Answer::Value(0))
    }
}

fn read_ids(thread: u32, address: u64, count: u64) -> Result<Vec<u32>, Errno> {
    let count = count & 0xffff_ffff;
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; usize::try_from(count).unwrap_or_default() * size_of::<u32>()];
    if !bytes.is_empty() && sys::read_memory(thread, address, &mut bytes)? != bytes.len() {
        return Err(Errno::FAULT);
    }
    Ok(bytes
        .chunks_exact(size_of::<u32>())
        .map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]]))
        .collect())
}
