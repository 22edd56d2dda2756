//! `--progress=rawjson`: one event a line, for programs.

use builder_core::progress::Event;

use super::{Renderer, progress};

#[derive(Debug)]
pub(super) struct Json;

impl Renderer for Json {
    fn event(&mut self, event: Event) {
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            progress(&line);
        }
    }
}
