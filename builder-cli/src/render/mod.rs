//! How things look; the only place that prints. Progress and messages go to standard error, results to standard output.
//!
//! Events come from many threads; a thread of the [`Reporter`] draws them in the order in which they came. A reader
//! that went away (a closed pipe) is no error: the build goes on unseen.

pub(crate) mod diagnostic;
mod json;
mod lines;
mod plain;
mod tty;

use std::io::{ErrorKind, Write};
use std::sync::Arc;
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
    thread: Option<JoinHandle<()>>,
}

const TICK: Duration = Duration::from_millis(100);

impl Reporter {
    pub(crate) fn start(mode: Mode) -> Self {
        let (sender, receiver) = channel();
        let renderer: Option<Box<dyn Renderer>> = match mode {
            Mode::Quiet => None,
            Mode::RawJson => Some(Box::new(json::Json)),
            Mode::Plain { terminal } => Some(Box::new(plain::Plain::new(terminal))),
            Mode::Tty { colour } => Some(Box::new(tty::Tty::new(colour))),
        };
        let thread = renderer.map(|renderer| std::thread::spawn(move || draw(renderer, &receiver)));
        Reporter { sender, thread }
    }

    pub(crate) fn sink(&self) -> Arc<dyn EventSink> {
        let sender = self.sender.clone();
        Arc::new(move |event: Event| {
            // Without a thread nobody listens, on purpose.
            let _ = sender.send(Message::Event(Box::new(event)));
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

fn draw(mut renderer: Box<dyn Renderer>, receiver: &Receiver<Message>) {
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Message::Event(event)) => renderer.event(*event),
            Err(RecvTimeoutError::Timeout) => renderer.tick(),
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    renderer.end();
}

/// Prints what a command was asked for.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Io(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Tells something beside the result.
pub(crate) fn note(text: &str) {
    progress(text.as_bytes());
}

/// One write, so that lines of several processes do not mix.
fn progress(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}
