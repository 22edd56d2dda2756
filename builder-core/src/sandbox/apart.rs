//! Work in a process of its own, before this one enters its namespaces: a process with threads cannot enter any more.

use rustix::process::{Signal, WaitOptions};

use crate::sys::{self, Side, SingleThread};

/// The child's exit code where nothing came of the work. `EX_TEMPFAIL`; the codes of a build are smaller.
const NOTHING: i32 = 75;

/// Does `work` in a child, which may have threads, and returns the exit code that it came to; `None` where nothing came of
/// it, or where no child was to be had.
///
/// The child gets the terminal's signals as this process does, and dies with it.
pub fn apart(work: impl FnOnce() -> Option<u8>) -> Option<u8> {
    let proof = SingleThread::prove().ok()?;
    let before = rustix::process::getpid();
    match sys::fork(&proof).ok()? {
        Side::Child => {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            if rustix::process::getppid() != Some(before) {
                sys::exit_now(NOTHING);
            }
            // Nothing unwinds into what the other process does next.
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            std::process::exit(code.ok().flatten().map_or(NOTHING, i32::from))
        }
        Side::Parent { pid, .. } => loop {
            match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(Some((_, status))) => {
                    let code = status.exit_status().filter(|code| *code != NOTHING)?;
                    return u8::try_from(code).ok();
                }
                _ => return None,
            }
        },
    }
}
