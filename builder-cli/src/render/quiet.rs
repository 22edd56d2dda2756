//! `--quiet`: the result alone, and what was asked for and is not there although the build is well.

use builder_core::progress::Event;

use super::plain::unwritten;
use super::{Renderer, progress};

#[derive(Debug)]
pub(super) struct Quiet;

impl Renderer for Quiet {
    fn event(&mut self, event: Event) {
        if let Event::CacheFailed { to, error } = event {
            progress(format!("{}\n", unwritten(&to, &error)).as_bytes());
        }
    }
}
