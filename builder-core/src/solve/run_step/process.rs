//! The process of a step: its output to events, its end, or that of its time, to a result.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::mask::{Mask, Masked};
use crate::plan::RunOp;
use crate::progress::{Event, Stream};
use crate::sandbox::{Exit, Killer, Running, SandboxError, Spec};
use crate::solve::SolveErrorKind;
use crate::solve::job::Job;
use crate::solve::tail::Tail;

/// Why a step is ended from outside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    Cancelled,
    /// A limit, and the flag that sets it.
    Time(Duration, &'static str),
}

impl Why {
    pub(super) fn error(self, op: &RunOp, tail: Vec<String>) -> SolveErrorKind {
        match self {
            Why::Cancelled => SolveErrorKind::Cancelled,
            Why::Time(limit, flag) => SolveErrorKind::Timeout {
                command: shown_command(&op.args),
                limit,
                flag,
                tail,
            },
        }
    }
}

/// Waits until the step has to end.
pub(super) async fn end_of_time(job: &Job) -> Why {
    let options = &job.inputs.options;
    let step = async {
        match options.step_timeout {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = job.inputs.cancel.cancelled() => Why::Cancelled,
        limit = step => Why::Time(limit, "--step-timeout"),
        limit = end_of_build(options.deadline) => Why::Time(limit, "--timeout"),
    }
}

async fn end_of_build(deadline: Option<(Instant, Duration)>) -> Duration {
    match deadline {
        Some((at, limit)) => {
            tokio::time::sleep_until(at.into()).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Ends a step from outside its thread, at any time: also before its process is there.
#[derive(Default)]
pub(super) struct Stop {
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    stopped: bool,
    killer: Option<Killer>,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        if let Some(killer) = &state.killer {
            killer.kill();
        }
    }

    /// Says whom to kill; whether that is asked for already.
    fn arm(&self, killer: Killer) -> bool {
        let mut state = self.state();
        state.killer = Some(killer);
        state.stopped
    }
}

/// Kills a step that nobody waits for any more.
pub(super) struct StopOnDrop(pub(super) Option<Arc<Stop>>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop.stop();
        }
    }
}

pub(super) fn run_process(
    job: &Job,
    op: &RunOp,
    spec: Spec,
    stop: &Stop,
) -> Result<(), SolveErrorKind> {
    let failed = |error: Errno| SolveErrorKind::io("make a pipe", error);
    let (out_reader, out_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (err_reader, err_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let helper = job.shared.helper.get().ok_or(SandboxError::HelperGone)?;
    let running = match job.shared.runs_left.fetch_sub(1, Ordering::Relaxed) {
        1 => helper.run_last(spec, out_writer, err_writer)?,
        _ => helper.run(spec, out_writer, err_writer)?,
    };
    if stop.arm(running.killer()) {
        return Err(SolveErrorKind::Cancelled);
    }
    let mut output = Output::new(job);
    output
        .forward(&running, out_reader, err_reader)
        .map_err(|error| SolveErrorKind::io("read a step's output", error))?;
    let command = || shown_command(&op.args);
    match running.wait()? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(SolveErrorKind::Exit {
            command: command(),
            code,
            tail: output.tail.lines(),
        }),
        Exit::Signal(signal) => Err(SolveErrorKind::Signal {
            command: command(),
            signal,
            tail: output.tail.lines(),
        }),
    }
}

/// What a step writes, on its way to the events: secrets masked, the last lines kept.
struct Output<'a> {
    job: &'a Job,
    tail: Tail,
    masks: [Masked; 2],
}

impl<'a> Output<'a> {
    fn new(job: &'a Job) -> Self {
        let mask = Mask::of(job.inputs.secrets.values());
        Output {
            job,
            tail: Tail::default(),
            masks: [Masked::new(mask.clone()), Masked::new(mask)],
        }
    }

    fn hand_on(&mut self, stream: Stream, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.tail.push(&bytes);
        self.job.inputs.events.emit(Event::Log {
            vertex: self.job.vertex,
            stream,
            bytes,
        });
    }

    fn mask(&mut self, stream: Stream) -> &mut Masked {
        match stream {
            Stream::Stdout => &mut self.masks[0],
            Stream::Stderr => &mut self.masks[1],
        }
    }

    /// Hands on what comes through the pipes until their end and the step's.
    fn forward(&mut self, running: &Running, out: OwnedFd, err: OwnedFd) -> Result<(), Errno> {
        let result = self.read(running, out, err);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.mask(stream).finish();
            self.hand_on(stream, rest);
        }
        result
    }

    fn read(&mut self, running: &Running, out: OwnedFd, err: OwnedFd) -> Result<(), Errno> {
        let mut open = vec![(Stream::Stdout, out), (Stream::Stderr, err)];
        let mut buffer = vec![0u8; 16 << 10];
        while !open.is_empty() {
            let mut polled: Vec<PollFd<'_>> = open
                .iter()
                .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
                .collect();
            let end = running.end();
            // The end alone wakes nobody up as long as there is output: that comes first.
            polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
            match rustix::event::poll(&mut polled, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            let ready: Vec<bool> = polled[..open.len()]
                .iter()
                .map(|one| !one.revents().is_empty())
                .collect();
            if !ready.contains(&true) {
                // Every process of the step is gone: what it wrote has been read, and nobody else has the pipes.
                return Ok(());
            }
            for at in (0..ready.len()).rev().filter(|at| ready[*at]) {
                match rustix::io::read(&open[at].1, &mut buffer) {
                    Ok(0) => drop(open.remove(at)),
                    Ok(n) => {
                        let stream = open[at].0;
                        let bytes = self.mask(stream).push(&buffer[..n]);
                        self.hand_on(stream, bytes);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// A command may be a whole file long; a message is not.
const SHOWN_CHARS: usize = 200;

fn shown_command(args: &[String]) -> String {
    let text = args.join(" ");
    let first = text.lines().next().unwrap_or_default();
    let shown: String = first.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.trim_end().len() {
        format!("{shown} …")
    } else {
        shown
    }
}
