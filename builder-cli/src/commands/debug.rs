//! `builder debug`, and `--on-error=shell`: a shell in the step that failed.
//!
//! The command gets a pseudo terminal. Where ours is one, it is passed through raw; where input comes from a pipe, it
//! is handed on as it is, and its end is the end of the command's input.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use builder_core::build::{Debug, Given};
use builder_core::sandbox::{self, Exit, HelperPath};
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, Termios};
use tokio::signal::unix::{SignalKind, signal};

use crate::environment::Environment;
use crate::exit::Failure;
use crate::{render, secrets, ssh};

#[derive(Debug, clap::Args)]
pub(crate) struct DebugArgs {
    /// What to run in place of a shell
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
    /// Secret of the step, as for `build`; none is kept
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Agent or keys of the step, as for `build`; none are kept
    #[arg(long, value_name = "SSH")]
    ssh: Vec<String>,
    /// Where everything is kept, as for `build`
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(super) fn run(args: DebugArgs, environment: &Environment) -> Result<(), Failure> {
    let root = environment.store_root(args.root)?;
    let mut values = BTreeMap::new();
    for text in &args.secret {
        let (id, value) = secrets::read(text, environment)?;
        values.insert(id, value);
    }
    let mut sources = BTreeMap::new();
    for text in &args.ssh {
        let (id, source) = ssh::read(text, environment)?;
        sources.insert(id, source);
    }
    sandbox::enter().map_err(Failure::Enter)?;
    let debug = Debug::last(&root)?.ok_or_else(|| {
        Failure::Io("no step is kept: the last build did not fail in a RUN".to_owned())
    })?;
    let given = Given {
        secrets: &values,
        ssh: &sources,
    };
    shell(debug, args.command, given)
}

/// Runs a command, or a shell, in the step that failed last; the process must be in its namespaces.
pub(super) fn shell(debug: Debug, command: Vec<OsString>, given: Given<'_>) -> Result<(), Failure> {
    let lacks = |id: &&str| !given.secrets.contains_key(*id);
    let secrets: Vec<&str> = debug.secrets().filter(lacks).collect();
    let lacks = |id: &&str| !given.ssh.contains_key(*id);
    let agents: Vec<&str> = debug.ssh().filter(lacks).collect();
    if command.is_empty() {
        let line = debug
            .line()
            .map_or(String::new(), |line| format!(" (line {line})"));
        render::note(&format!("{}{line}\n", render::one_line(debug.step())));
    }
    for (missing, what, flag) in [
        (secrets, "secrets", "--secret"),
        (agents, "ssh agents", "--ssh"),
    ] {
        if !missing.is_empty() {
            let missing = missing.join(", ");
            render::note(&format!(
                "without its {what}: {missing}; {flag} gives them\n"
            ));
        }
    }
    let io = |error: std::io::Error| Failure::Io(format!("cannot make a terminal: {error}"));
    let (near, far) = terminal().map_err(io)?;
    let ours = std::io::stdin().is_terminal();
    let before = match ours {
        true => Some(Raw::enter(&near).map_err(|error| io(error.into()))?),
        false => {
            plain(&far).map_err(|error| io(error.into()))?;
            None
        }
    };
    let resized = match ours {
        true => Some(follow_size(&near).map_err(io)?),
        false => None,
    };
    // relays what the step says to its agents
    let runtime = super::runtime()?;
    let inside = runtime.enter();
    let session = debug.start(command, given, far, HelperPath::Current)?;
    drop(inside);
    let input = near.try_clone().map_err(io)?;
    // ends with the process: nothing waits for input that nobody reads any more
    std::thread::spawn(move || forward_input(File::from(input)));
    forward_output(File::from(near));
    drop((before, resized));
    match session.wait()? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(Failure::Command(u8::try_from(code).unwrap_or(1))),
        Exit::Signal(signal) => Err(Failure::Command(u8::try_from(128 + signal).unwrap_or(1))),
    }
}

fn terminal() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&near)?;
    rustix::pty::unlockpt(&near)?;
    let far = rustix::pty::ioctl_tiocgptpeer(&near, flags)?;
    Ok((near, far))
}

/// No echo, and line ends as they are written: what comes out is what the command wrote.
fn plain(far: &OwnedFd) -> rustix::io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(far)?;
    modes.local_modes -= LocalModes::ECHO;
    modes.output_modes -= OutputModes::OPOST;
    modes.input_modes -= InputModes::ICRNL | InputModes::IXON;
    rustix::termios::tcsetattr(far, OptionalActions::Now, &modes)
}

/// Our own terminal, passed through; as it was again when dropped.
struct Raw(Termios);

impl Raw {
    fn enter(near: &OwnedFd) -> rustix::io::Result<Raw> {
        let ours = std::io::stdin();
        let before = rustix::termios::tcgetattr(&ours)?;
        if let Ok(size) = rustix::termios::tcgetwinsize(&ours) {
            rustix::termios::tcsetwinsize(near, size)?;
        }
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&ours, OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

const END_OF_INPUT: u8 = 4;

/// Makes the window as large as ours whenever that changes, until what is returned is dropped.
fn follow_size(near: &OwnedFd) -> std::io::Result<tokio::runtime::Runtime> {
    let near = near.try_clone()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut changes = {
        let _inside = runtime.enter();
        signal(SignalKind::window_change())?
    };
    runtime.spawn(async move {
        while changes.recv().await.is_some() {
            if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdin().as_fd()) {
                // one that is gone needs none
                let _ = rustix::termios::tcsetwinsize(&near, size);
            }
        }
    });
    Ok(runtime)
}

fn forward_input(mut near: File) {
    let mut buffer = [0; 4096];
    let mut last = b'\n';
    while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
        if near.write_all(&buffer[..n]).is_err() {
            return;
        }
        last = buffer[n - 1];
    }
    // one ends the line that was begun, the next one the input
    let ends: &[u8] = match last {
        b'\n' => &[END_OF_INPUT],
        _ => &[END_OF_INPUT, END_OF_INPUT],
    };
    let _ = near.write_all(ends);
}

/// Until the last process that has the terminal is gone, which reads as an error.
fn forward_output(mut near: File) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = near.read(&mut buffer) {
        if render::result_bytes(&buffer[..n]).is_err() {
            return;
        }
    }
}
