//! `--progress=tty`: what is done as lines that stay, and below them what runs now, drawn over.
//!
//! ```text
//!  => CACHED [2/5] COPY requirements.txt .
//!  => [3/5] RUN make                                         12.3s
//!     cc -o app main.c
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use builder_core::progress::{Event, Outcome, VertexId};

use super::lines::{Lines, cut, visible};
use super::plain::{cache, one_line, seconds, transfer, unwritten, warning};
use super::{Renderer, progress};

pub(super) struct Tty {
    colour: bool,
    begun: Instant,
    planned: bool,
    names: BTreeMap<VertexId, String>,
    running: BTreeMap<VertexId, Running>,
    reasons: BTreeMap<VertexId, String>,
    /// Lines of the live part, as it stands on the terminal.
    drawn: usize,
}

struct Running {
    started: Instant,
    lines: Lines,
    last: String,
}

impl Tty {
    pub(super) fn new(colour: bool) -> Self {
        Tty {
            colour,
            begun: Instant::now(),
            planned: false,
            names: BTreeMap::new(),
            running: BTreeMap::new(),
            reasons: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// Takes the event in; returns lines that stay.
    fn take(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Planned { vertices } => {
                let pairs = vertices.into_iter().map(|it| (it.id, one_line(&it.name)));
                self.names.extend(pairs);
                self.planned = true;
            }
            Event::Started { vertex } => {
                self.running(vertex);
            }
            Event::Missed { vertex, reason, .. } => {
                self.reasons.insert(vertex, one_line(&reason));
            }
            Event::Log { vertex, bytes, .. } => {
                let running = self.running(vertex);
                let last = &mut running.last;
                running.lines.push(&bytes, |line| *last = visible(line));
            }
            Event::Transfer {
                vertex,
                what,
                done,
                total,
            } => self.running(vertex).last = transfer(&what, done, total),
            Event::Cached { vertex } => {
                self.running.remove(&vertex);
                return Some(format!(" => CACHED {}", self.name(vertex)));
            }
            Event::Warning { line, message, .. } => {
                return Some(self.paint("33", &format!(" {}", warning(line, &message))));
            }
            Event::CacheFailed { to, error } => {
                return Some(self.paint("33", &format!(" {}", unwritten(&to, &error))));
            }
            Event::Finished {
                vertex,
                took,
                outcome,
            } => {
                self.running.remove(&vertex);
                let reason = self.reasons.remove(&vertex);
                let name = self.name(vertex);
                return Some(match outcome {
                    Outcome::Done => {
                        let why = reason.map(|it| format!(" ({it})")).unwrap_or_default();
                        format!(" => {name}  {}{why}", seconds(took))
                    }
                    Outcome::Failed { error } => {
                        let error = one_line(&error);
                        self.paint("31", &format!(" => ERROR {name}: {error}"))
                    }
                    Outcome::Cancelled => format!(" => CANCELED {name}"),
                });
            }
            Event::CacheRead { .. } | Event::CacheWritten { .. } => {
                return Some(format!(" => {}", cache(&event)));
            }
            Event::Exported { what } => return Some(format!(" => {}", one_line(&what))),
            _ => {}
        }
        None
    }

    fn running(&mut self, vertex: VertexId) -> &mut Running {
        self.running.entry(vertex).or_insert_with(|| Running {
            started: Instant::now(),
            lines: Lines::default(),
            last: String::new(),
        })
    }

    fn name(&self, vertex: VertexId) -> &str {
        self.names.get(&vertex).map_or("", String::as_str)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Returns what runs now, no wider and no higher than the terminal.
    fn live(&self, columns: usize, rows: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let width = columns.saturating_sub(1);
        if !self.planned {
            let took = seconds(self.begun.elapsed());
            lines.push(cut(
                &format!(" => [internal] look up base images  {took}"),
                width,
            ));
        }
        for (vertex, running) in &self.running {
            let took = seconds(running.started.elapsed());
            let name = cut(
                &format!(" => {}", self.name(*vertex)),
                width.saturating_sub(12),
            );
            lines.push(cut(&format!("{name}  {took}"), width));
            if !running.last.is_empty() {
                lines.push(cut(&format!("    {}", running.last), width));
            }
        }
        // Whoever runs longest stands first; the rest is counted.
        let most = rows.saturating_sub(2).max(1);
        if lines.len() > most {
            let more = lines.len() - most + 1;
            lines.truncate(most - 1);
            lines.push(format!("    … {more} lines more"));
        }
        lines
    }

    fn draw(&mut self, stays: Option<String>) {
        let (columns, rows) = size();
        let mut out = String::new();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A\r\x1b[J", self.drawn);
        }
        if let Some(line) = stays {
            out += &line;
            out.push('\n');
        }
        let live = self.live(columns, rows);
        for line in &live {
            out += &self.paint("2", line);
            out.push('\n');
        }
        self.drawn = live.len();
        if !out.is_empty() {
            progress(out.as_bytes());
        }
    }
}

impl Renderer for Tty {
    fn event(&mut self, event: Event) {
        let stays = self.take(event);
        if stays.is_some() {
            self.draw(stays);
        }
    }

    fn tick(&mut self) {
        self.draw(None);
    }

    fn end(&mut self) {
        self.running.clear();
        self.planned = true;
        self.draw(None);
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (80, 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use builder_core::progress::{Stream, VertexInfo};

    use super::*;

    #[test]
    fn running_steps_are_drawn_and_finished_ones_stay() {
        let mut tty = Tty::new(false);
        let vertex = VertexId(4);
        let info = VertexInfo {
            id: vertex,
            name: "[2/2] RUN make".to_owned(),
            line: None,
            inputs: vec![],
        };
        let vertices = vec![info];
        assert_eq!(tty.take(Event::Planned { vertices }), None);
        assert_eq!(tty.take(Event::Started { vertex }), None);
        let bytes = b"first\nsecond \x1b[1m\nthi".to_vec();
        let stream = Stream::Stderr;
        assert_eq!(
            tty.take(Event::Log {
                vertex,
                stream,
                bytes
            }),
            None
        );
        let live = tty.live(80, 24);
        assert_eq!(live, [" => [2/2] RUN make  0.0s", "    second \u{241b}[1m"]);
        assert!(tty.live(20, 24).iter().all(|line| line.len() < 20));
        let finished = Event::Finished {
            vertex,
            took: Duration::from_secs(2),
            outcome: Outcome::Done,
        };
        assert_eq!(
            tty.take(finished).as_deref(),
            Some(" => [2/2] RUN make  2.0s")
        );
        assert!(tty.live(80, 24).is_empty());
    }
}
