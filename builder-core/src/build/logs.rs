//! What the steps of a build wrote, kept whole until a few builds later.
//!
//! One file a build, `logs/<time>-<pid>.jsonl` in the store, one JSON value a line, written while the build goes on: a
//! build that was killed has its log up to then. Output is text where it is UTF-8, else base64. Secrets were masked
//! before anything came here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::progress::{Event, EventSink, Outcome, Stream, VertexId};

/// Logs that are kept.
const KEPT: usize = 10;

/// What one step wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLog {
    /// As shown with `--progress=plain`.
    pub id: VertexId,
    pub name: String,
    pub line: Option<u32>,
    pub state: StepState,
    pub took: Option<Duration>,
    /// In the order in which it came, joined where the stream is the same.
    pub output: Vec<(Stream, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    /// It had not begun when the build ended.
    Waiting,
    /// It ran when the build was killed, or still runs.
    Running,
    Cached,
    Done,
    Failed(String),
    Cancelled,
}

impl StepState {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Cached => "cached",
            StepState::Done => "done",
            StepState::Failed(_) => "failed",
            StepState::Cancelled => "cancelled",
        }
    }
}

/// One line of a log.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Line {
    Step {
        step: u32,
        name: String,
        line: Option<u32>,
    },
    Started {
        step: u32,
    },
    Cached {
        step: u32,
    },
    Out {
        step: u32,
        text: String,
    },
    Err {
        step: u32,
        text: String,
    },
    OutBytes {
        step: u32,
        base64: String,
    },
    ErrBytes {
        step: u32,
        base64: String,
    },
    Ended {
        step: u32,
        seconds: f64,
        outcome: Ending,
    },
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Done,
    Failed(String),
    Cancelled,
}

/// Hands events on, and writes down what belongs into the log.
struct Recorder {
    inner: Arc<dyn EventSink>,
    out: Mutex<BufWriter<File>>,
}

/// Returns a sink that also keeps the log in `root`. A log that cannot be written is no reason not to build.
pub(super) fn recorded(root: &Path, inner: Arc<dyn EventSink>) -> Arc<dyn EventSink> {
    match start(root) {
        Ok(file) => Arc::new(Recorder {
            inner,
            out: Mutex::new(BufWriter::new(file)),
        }),
        Err(error) => {
            inner.emit(Event::Warning {
                vertex: None,
                line: None,
                message: format!("the steps' output is not kept: {error}"),
            });
            inner
        }
    }
}

fn directory(root: &Path) -> PathBuf {
    root.join("logs")
}

fn start(root: &Path) -> io::Result<File> {
    let dir = directory(root);
    std::fs::create_dir_all(&dir)?;
    let old = files(&dir)?;
    for path in old.iter().rev().skip(KEPT - 1) {
        // another build may have removed it
        let _ = std::fs::remove_file(path);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_micros());
    let name = format!("{now:020}-{}.jsonl", std::process::id());
    File::create_new(dir.join(name))
}

/// The logs, oldest first.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl EventSink for Recorder {
    fn emit(&self, event: Event) {
        let lines = lines(&event);
        if !lines.is_empty() {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            for line in lines {
                // a full disk shortens the log, not the build
                let _ = serde_json::to_writer(&mut *out, &line);
                let _ = out.write_all(b"\n");
            }
            if matches!(event, Event::Finished { .. } | Event::Started { .. }) {
                let _ = out.flush();
            }
        }
        self.inner.emit(event);
    }
}

fn lines(event: &Event) -> Vec<Line> {
    match event {
        Event::Planned { vertices } => vertices
            .iter()
            .map(|vertex| Line::Step {
                step: vertex.id.0,
                name: vertex.name.clone(),
                line: vertex.line,
            })
            .collect(),
        Event::Started { vertex } => vec![Line::Started { step: vertex.0 }],
        Event::Cached { vertex } => vec![Line::Cached { step: vertex.0 }],
        Event::Log {
            vertex,
            stream,
            bytes,
        } => {
            let step = vertex.0;
            let line = match (stream, std::str::from_utf8(bytes)) {
                (Stream::Stdout, Ok(text)) => Line::Out {
                    step,
                    text: text.to_owned(),
                },
                (Stream::Stderr, Ok(text)) => Line::Err {
                    step,
                    text: text.to_owned(),
                },
                (Stream::Stdout, Err(_)) => Line::OutBytes {
                    step,
                    base64: STANDARD.encode(bytes),
                },
                (Stream::Stderr, Err(_)) => Line::ErrBytes {
                    step,
                    base64: STANDARD.encode(bytes),
                },
            };
            vec![line]
        }
        Event::Finished {
            vertex,
            took,
            outcome,
        } => vec![Line::Ended {
            step: vertex.0,
            seconds: took.as_secs_f64(),
            outcome: match outcome {
                Outcome::Done => Ending::Done,
                Outcome::Failed { error } => Ending::Failed(error.clone()),
                Outcome::Cancelled => Ending::Cancelled,
            },
        }],
        _ => Vec::new(),
    }
}

/// Returns the last build's steps, in the order of the Dockerfile; `None` where there was no build.
///
/// # Errors
/// The log cannot be read.
pub fn last_logs(root: &Path) -> io::Result<Option<Vec<StepLog>>> {
    let files = match files(&directory(root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match files.last() {
        Some(last) => read(BufReader::new(File::open(last)?)).map(Some),
        None => Ok(None),
    }
}

fn read(log: impl BufRead) -> io::Result<Vec<StepLog>> {
    let mut steps: BTreeMap<u32, StepLog> = BTreeMap::new();
    for text in log.lines() {
        // the last line of a build that was killed may be half a one
        let Ok(line) = serde_json::from_str::<Line>(&text?) else {
            continue;
        };
        let (Line::Step { step, .. }
        | Line::Started { step }
        | Line::Cached { step }
        | Line::Out { step, .. }
        | Line::Err { step, .. }
        | Line::OutBytes { step, .. }
        | Line::ErrBytes { step, .. }
        | Line::Ended { step, .. }) = &line;
        let log = steps.entry(*step).or_insert_with(|| StepLog {
            id: VertexId(*step),
            name: String::new(),
            line: None,
            state: StepState::Waiting,
            took: None,
            output: Vec::new(),
        });
        let decode = |base64: String| STANDARD.decode(base64).unwrap_or_default();
        match line {
            Line::Step { name, line, .. } => (log.name, log.line) = (name, line),
            Line::Started { .. } => log.state = StepState::Running,
            Line::Cached { .. } => log.state = StepState::Cached,
            Line::Out { text, .. } => log.add(Stream::Stdout, text.into_bytes()),
            Line::Err { text, .. } => log.add(Stream::Stderr, text.into_bytes()),
            Line::OutBytes { base64, .. } => log.add(Stream::Stdout, decode(base64)),
            Line::ErrBytes { base64, .. } => log.add(Stream::Stderr, decode(base64)),
            Line::Ended {
                seconds, outcome, ..
            } => {
                log.took = Duration::try_from_secs_f64(seconds).ok();
                log.state = match outcome {
                    Ending::Done => StepState::Done,
                    Ending::Failed(error) => StepState::Failed(error),
                    Ending::Cancelled => StepState::Cancelled,
                };
            }
        }
    }
    Ok(steps.into_values().collect())
}

impl StepLog {
    fn add(&mut self, stream: Stream, bytes: Vec<u8>) {
        match self.output.last_mut() {
            Some((last, there)) if *last == stream => there.extend(bytes),
            _ => self.output.push((stream, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Null, VertexInfo};

    #[test]
    fn what_was_written_is_read_again_to_the_byte() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(last_logs(dir.path()).expect("no logs"), None);
        for _ in 0..KEPT + 3 {
            drop(recorded(dir.path(), Arc::new(Null)));
        }
        assert_eq!(files(&directory(dir.path())).expect("list").len(), KEPT);
        let vertex = VertexId(1);
        let log = |stream, bytes: &[u8]| Event::Log {
            vertex,
            stream,
            bytes: bytes.to_vec(),
        };
        let sink = recorded(dir.path(), Arc::new(Null));
        for event in [
            Event::Planned {
                vertices: vec![VertexInfo {
                    id: vertex,
                    name: "[1/1] RUN x".to_owned(),
                    line: Some(2),
                    inputs: Vec::new(),
                }],
            },
            Event::Started { vertex },
            log(Stream::Stdout, b"one \xff\n"),
            log(Stream::Stdout, b"two\0"),
            log(Stream::Stderr, b"\x1b[1m"),
            Event::Finished {
                vertex,
                took: Duration::from_millis(1500),
                outcome: Outcome::Failed {
                    error: "no".to_owned(),
                },
            },
        ] {
            sink.emit(event);
        }
        let expected = StepLog {
            id: vertex,
            name: "[1/1] RUN x".to_owned(),
            line: Some(2),
            state: StepState::Failed("no".to_owned()),
            took: Some(Duration::from_millis(1500)),
            output: vec![
                (Stream::Stdout, b"one \xff\ntwo\0".to_vec()),
                (Stream::Stderr, b"\x1b[1m".to_vec()),
            ],
        };
        assert_eq!(last_logs(dir.path()).expect("read"), Some(vec![expected]));
    }
}
