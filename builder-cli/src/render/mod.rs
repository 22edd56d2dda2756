//! How things look; the only place that prints. Progress and messages go to standard error, results to standard output.
//!
//! Events come from many threads; a thread of the [`Reporter`] draws them in the order in which they came. A reader
//! that went away (a closed pipe) is no error: the build goes on unseen. One that is slow holds nothing up either: what
//! steps write waits for it in memory up to [`MAX_WAITING_BYTES`], and beyond that is left out, with a warning.

pub(crate) mod call;
pub(crate) mod checks;
pub(crate) mod diagnostic;
pub(crate) mod explain;
pub(crate) mod holdings;
mod json;
mod lines;
mod plain;
mod quiet;
mod sarif;
pub(crate) mod table;
mod tty;
pub(crate) mod units;

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use builder_core::progress::{Event, EventSink};

use crate::exit::Failure;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain {
        /// Whether a person looks: what steps write is then made harmless for a terminal.
        terminal: bool,
    },
    Tty {
        colour: bool,
    },
    RawJson,
    Quiet,
}

/// One way to show events.
trait Renderer: Send {
    fn event(&mut self, event: Event);
    /// Called a few times a second.
    fn tick(&mut self) {}
    /// Nothing more comes.
    fn end(&mut self) {}
}

/// What the sink hands over.
enum Message {
    Event(Box<Event>),
    End,
}

/// Shows events until it is told to finish.
#[derive(Debug)]
pub(crate) struct Reporter {
    sender: Sender<Message>,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes of logs on their way to the thread that draws.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    /// Left out, and not told yet.
    dropped: AtomicUsize,
}

const MAX_WAITING_BYTES: usize = 32 << 20;
const TICK: Duration = Duration::from_millis(100);

impl Reporter {
    pub(crate) fn start(mode: Mode) -> Self {
        let (sender, receiver) = channel();
        let renderer: Box<dyn Renderer> = match mode {
            Mode::Quiet => Box::new(quiet::Quiet),
            Mode::RawJson => Box::new(json::Json),
            Mode::Plain { terminal } => Box::new(plain::Plain::new(terminal)),
            Mode::Tty { colour } => Box::new(tty::Tty::new(colour)),
        };
        let queue = Arc::new(Queue::default());
        let theirs = queue.clone();
        let thread = Some(std::thread::spawn(move || {
            draw(renderer, &receiver, &theirs);
        }));
        Reporter {
            sender,
            queue,
            thread,
        }
    }

    pub(crate) fn sink(&self) -> Arc<dyn EventSink> {
        let (sender, queue) = (self.sender.clone(), self.queue.clone());
        Arc::new(move |event: Event| {
            if queue.admits(&event) {
                // Without a thread nobody listens, on purpose.
                let _ = sender.send(Message::Event(Box::new(event)));
            }
        })
    }

    /// Waits until all that came before is shown.
    pub(crate) fn finish(self) {
        let _ = self.sender.send(Message::End);
        if let Some(Err(panic)) = self.thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Queue {
    /// Whether there is room for the event; counts its bytes if so.
    fn admits(&self, event: &Event) -> bool {
        let Event::Log { bytes, .. } = event else {
            return true;
        };
        let admitted = self.waiting.load(Ordering::Relaxed) < MAX_WAITING_BYTES;
        let counter = match admitted {
            true => &self.waiting,
            false => &self.dropped,
        };
        counter.fetch_add(bytes.len(), Ordering::Relaxed);
        admitted
    }

    /// Gives the event's bytes free, and returns a word on what was left out.
    fn taken(&self, event: &Event) -> Option<Event> {
        if let Event::Log { bytes, .. } = event {
            self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        match self.dropped.swap(0, Ordering::Relaxed) {
            0 => None,
            dropped => Some(Event::Warning {
                vertex: None,
                line: None,
                message: format!(
                    "{dropped} bytes that steps wrote are not shown: they come faster than they are read"
                ),
            }),
        }
    }
}

fn draw(mut renderer: Box<dyn Renderer>, receiver: &Receiver<Message>, queue: &Queue) {
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Message::Event(event)) => {
                let word = queue.taken(&event);
                renderer.event(*event);
                if let Some(word) = word {
                    renderer.event(word);
                }
            }
            Err(RecvTimeoutError::Timeout) => renderer.tick(),
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    renderer.end();
}

pub(crate) use plain::one_line;

/// Makes what a step wrote harmless for a terminal.
pub(crate) fn for_terminal(bytes: &[u8]) -> String {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| match line.strip_suffix(b"\n") {
            Some(line) => lines::coloured(line) + "\n",
            None => lines::coloured(line),
        })
        .collect()
}

/// Prints what a command was asked for; on a terminal, made harmless for it.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    match std::io::stdout().is_terminal() {
        true => result_bytes(lines::harmless(text).as_bytes()),
        false => result_bytes(text.as_bytes()),
    }
}

/// Prints bytes as they are.
pub(crate) fn result_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Io(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Tells something beside the result.
pub(crate) fn note(text: &str) {
    progress(lines::harmless(text).as_bytes());
}

/// One write, so that lines of several processes do not mix.
fn progress(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

#[cfg(test)]
mod tests {
    use builder_core::progress::{Stream, VertexId};

    use super::*;

    #[test]
    fn what_comes_too_fast_is_left_out_and_told() {
        let queue = Queue::default();
        let log = |length| Event::Log {
            vertex: VertexId(0),
            stream: Stream::Stdout,
            bytes: vec![b'x'; length],
        };
        let exported = Event::Exported {
            what: String::new(),
        };
        assert!(queue.admits(&log(MAX_WAITING_BYTES)));
        assert!(!queue.admits(&log(7)));
        assert!(queue.admits(&exported));
        let told = queue.taken(&log(MAX_WAITING_BYTES));
        assert!(
            matches!(told, Some(Event::Warning { message, .. }) if message.starts_with("7 bytes"))
        );
        assert!(queue.admits(&log(1)));
        assert_eq!(queue.taken(&log(1)), None);
    }
}
