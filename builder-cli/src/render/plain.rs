//! `--progress=plain`: every line of every step, in the words of buildx.
//!
//! ```text
//! #3 [build 2/5] RUN make
//! #3 why: src/main.c changed (content)
//! #3 0.412 cc -o app main.c
//! #3 DONE 1.2s
//! ```
//!
//! The number is the vertex's, as `builder plan` shows it. A step's name is printed when it is first heard of.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use builder_core::progress::{Event, Outcome, Stream, VertexId};

use super::lines::{Lines, coloured, visible};
use super::{Renderer, progress};

pub(super) struct Plain {
    terminal: bool,
    steps: BTreeMap<VertexId, Step>,
}

#[derive(Default)]
struct Step {
    name: String,
    announced: bool,
    started: Option<Instant>,
    stdout: Lines,
    stderr: Lines,
    /// When each was last told of; `None` once it has ended.
    transfers: BTreeMap<String, Option<Instant>>,
}

/// How often a transfer that goes on is told.
const TRANSFER: Duration = Duration::from_secs(3);

impl Plain {
    pub(super) fn new(terminal: bool) -> Self {
        Plain {
            terminal,
            steps: BTreeMap::new(),
        }
    }

    fn lines(&mut self, event: Event, out: &mut Vec<u8>) {
        let terminal = self.terminal;
        match event {
            Event::Planned { vertices } => {
                for vertex in vertices {
                    self.steps.entry(vertex.id).or_default().name = vertex.name;
                }
            }
            Event::Isolation { rung, reason } => {
                let _ = writeln!(out, "isolation: {rung} ({reason})");
            }
            Event::Started { vertex } => {
                self.step(vertex, out).started = Some(Instant::now());
            }
            Event::Cached { vertex } => {
                self.step(vertex, out);
                let _ = writeln!(out, "#{} CACHED", vertex.0);
            }
            Event::Missed { vertex, reason, .. } => {
                self.step(vertex, out);
                let _ = writeln!(out, "#{} why: {}", vertex.0, one_line(&reason));
            }
            Event::Log {
                vertex,
                stream,
                bytes,
            } => {
                let step = self.step(vertex, out);
                let seconds = step.seconds();
                let lines = match stream {
                    Stream::Stdout => &mut step.stdout,
                    Stream::Stderr => &mut step.stderr,
                };
                lines.push(&bytes, |line| log(out, vertex, seconds, line, terminal));
            }
            Event::Transfer {
                vertex,
                what,
                done,
                total,
            } => {
                let step = self.step(vertex, out);
                let told = step.transfers.entry(what.clone());
                let told = told.or_insert_with(|| Some(Instant::now()));
                let tell = match told {
                    // its end was told already
                    None => false,
                    Some(at) => total == Some(done) || at.elapsed() >= TRANSFER,
                };
                if tell {
                    *told = (total != Some(done)).then(Instant::now);
                    let _ = writeln!(out, "#{} {}", vertex.0, transfer(&what, done, total));
                }
            }
            Event::Warning {
                vertex,
                line,
                message,
            } => {
                if let Some(vertex) = vertex {
                    self.step(vertex, out);
                    let _ = write!(out, "#{} ", vertex.0);
                }
                let _ = writeln!(out, "{}", warning(line, &message));
            }
            Event::CacheFailed { to, error } => {
                let _ = writeln!(out, "{}", unwritten(&to, &error));
            }
            Event::Finished {
                vertex,
                took,
                outcome,
            } => {
                let step = self.step(vertex, out);
                step.flush(vertex, out, terminal);
                let _ = match outcome {
                    Outcome::Done => writeln!(out, "#{} DONE {}", vertex.0, seconds(took)),
                    Outcome::Failed { error } => {
                        writeln!(out, "#{} ERROR: {}", vertex.0, one_line(&error))
                    }
                    Outcome::Cancelled => writeln!(out, "#{} CANCELED", vertex.0),
                };
            }
            Event::Exported { what } => {
                let _ = writeln!(out, "{}", one_line(&what));
            }
            Event::Found { vertex, from } => {
                self.step(vertex, out);
                let _ = writeln!(out, "#{} found in {}", vertex.0, one_line(&from));
            }
            Event::CacheRead { .. } | Event::CacheWritten { .. } => {
                let _ = writeln!(out, "{}", cache(&event));
            }
            Event::Pruned { count, bytes } => {
                let _ = writeln!(out, "removed {} of the store, {count} things", size(bytes));
            }
            _ => {}
        }
    }

    /// Returns the step's state; its name is printed before anything else of it.
    fn step(&mut self, vertex: VertexId, out: &mut Vec<u8>) -> &mut Step {
        let step = self.steps.entry(vertex).or_default();
        if !step.announced {
            step.announced = true;
            let _ = writeln!(out, "#{} {}", vertex.0, one_line(&step.name));
        }
        step
    }
}

impl Renderer for Plain {
    fn event(&mut self, event: Event) {
        let mut out = Vec::new();
        self.lines(event, &mut out);
        if !out.is_empty() {
            progress(&out);
        }
    }

    fn end(&mut self) {
        let mut out = Vec::new();
        for (vertex, step) in &mut self.steps {
            step.flush(*vertex, &mut out, self.terminal);
        }
        progress(&out);
    }
}

impl Step {
    fn seconds(&self) -> f64 {
        self.started.map_or(0.0, |at| at.elapsed().as_secs_f64())
    }

    fn flush(&mut self, vertex: VertexId, out: &mut Vec<u8>, terminal: bool) {
        let seconds = self.seconds();
        for lines in [&mut self.stdout, &mut self.stderr] {
            lines.flush(|line| log(out, vertex, seconds, line, terminal));
        }
    }
}

/// A pipe gets the bytes as they are.
fn log(out: &mut Vec<u8>, vertex: VertexId, seconds: f64, line: &[u8], terminal: bool) {
    let _ = write!(out, "#{} {seconds:.3} ", vertex.0);
    match terminal {
        true => out.extend_from_slice(coloured(line).as_bytes()),
        false => out.extend_from_slice(line),
    }
    out.push(b'\n');
}

pub(super) fn warning(line: Option<u32>, message: &str) -> String {
    let message = one_line(message);
    match line {
        Some(line) => format!("WARN: {message} (line {line})"),
        None => format!("WARN: {message}"),
    }
}

/// Of a shared cache.
pub(super) fn unwritten(to: &str, error: &str) -> String {
    warning(None, &format!("the cache {to} is not written: {error}"))
}

pub(super) fn transfer(what: &str, done: u64, total: Option<u64>) -> String {
    let what = one_line(what);
    match total {
        Some(total) if total != done => format!("{what} {} / {}", size(done), size(total)),
        _ => format!("{what} {}", size(done)),
    }
}

pub(super) fn seconds(took: Duration) -> String {
    format!("{:.1}s", took.as_secs_f64())
}

/// Tells what was read of a shared cache, or written to it.
pub(super) fn cache(event: &Event) -> String {
    match event {
        Event::CacheRead {
            from,
            steps,
            layers,
            bytes,
        } => {
            let (from, bytes) = (one_line(from), size(*bytes));
            format!("importing cache manifest from {from}: {steps} steps, {layers} layers, {bytes}")
        }
        Event::CacheWritten {
            to,
            steps,
            sent,
            mounted,
            there,
            sent_bytes,
        } => {
            let (to, bytes) = (one_line(to), size(*sent_bytes));
            format!(
                "exported cache to {to}: {steps} steps; {sent} blobs sent ({bytes}), {mounted} mounted, {there} there"
            )
        }
        _ => String::new(),
    }
}

/// Names and messages may hold line ends, of heredocs for one.
pub(crate) fn one_line(text: &str) -> String {
    visible(
        text.replace("\r\n", "\n")
            .replace('\n', "\u{23ce}")
            .as_bytes(),
    )
}

pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let bytes_f = bytes as f64;
    match UNITS.iter().find(|(_, unit)| bytes_f >= *unit) {
        Some((name, unit)) => format!("{:.2}{name}", bytes_f / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use builder_core::progress::VertexInfo;

    use super::*;

    fn shown(terminal: bool, events: Vec<Event>) -> String {
        let (mut plain, mut out) = (Plain::new(terminal), Vec::new());
        for event in events {
            plain.lines(event, &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn planned(name: &str) -> Event {
        let vertices = vec![VertexInfo {
            id: VertexId(1),
            name: name.to_owned(),
            line: Some(2),
            inputs: vec![],
        }];
        Event::Planned { vertices }
    }

    fn wrote(bytes: &[u8]) -> Event {
        Event::Log {
            vertex: VertexId(1),
            stream: Stream::Stdout,
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn steps_are_named_once_and_their_lines_come_whole() {
        let vertex = VertexId(1);
        let done = Event::Finished {
            vertex,
            took: Duration::from_millis(1230),
            outcome: Outcome::Done,
        };
        let out = shown(
            false,
            vec![
                planned("[2/2] RUN cat <<E\nx\nE"),
                wrote(b"on"),
                wrote(b"e\n\x1b[0mtwo"),
                Event::Warning {
                    vertex: None,
                    line: Some(7),
                    message: "odd".to_owned(),
                },
                done,
            ],
        );
        assert_eq!(
            out,
            "#1 [2/2] RUN cat <<E\u{23ce}x\u{23ce}E\n#1 0.000 one\nWARN: odd (line 7)\n\
             #1 0.000 \x1b[0mtwo\n#1 DONE 1.2s\n"
        );
        assert_eq!(
            shown(true, vec![planned("n"), wrote(b"\x07\n")]),
            "#1 n\n#1 0.000 \u{2407}\n"
        );
    }

    #[test]
    fn a_transfer_is_told_when_it_ends_and_once() {
        let transfer = |done| Event::Transfer {
            vertex: VertexId(1),
            what: "blob".to_owned(),
            done,
            total: Some(9),
        };
        assert_eq!(
            shown(
                false,
                vec![planned("n"), transfer(1), transfer(9), transfer(9)]
            ),
            "#1 n\n#1 blob 9B\n"
        );
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1500, "1.50kB"),
            (2_000_000, "2.00MB"),
            (3_210_000_000, "3.21GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
