//! `builder debug` and `--on-error=shell` on a terminal: a pseudo terminal that the test types into and reads.
//!
//! What is awaited is never what was typed, which the terminal echoes: the shell works it out.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::fixture;

/// Far longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    near: File,
    far: File,
    /// What came and was not awaited yet.
    text: String,
    process: Child,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Terminal {
    /// Starts `command` with a terminal of its own, in a session of its own.
    fn start(command: &Command) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let near = rustix::pty::openpt(flags).expect("openpt");
        rustix::pty::grantpt(&near).expect("grantpt");
        rustix::pty::unlockpt(&near).expect("unlockpt");
        let far = File::from(rustix::pty::ioctl_tiocgptpeer(&near, flags).expect("the far side"));
        size(&near, 33, 101);
        let end = || Stdio::from(far.try_clone().expect("clone"));
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]);
        session.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.stdin(end()).stdout(end()).stderr(end());
        let process = session.spawn().expect("setsid");
        Terminal {
            near: near.into(),
            far,
            text: String::new(),
            process,
        }
    }

    fn enter(&mut self, line: &str) {
        self.send(line.as_bytes());
        self.send(b"\r");
    }

    fn send(&mut self, bytes: &[u8]) {
        self.near.write_all(bytes).expect("type");
    }

    /// Reads until `wanted` comes.
    #[track_caller]
    fn await_text(&mut self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.comes(wanted) {
            assert!(Instant::now() < end, "no `{wanted}`: {:?}", self.text);
        }
    }

    /// Sends a key until `wanted` comes: it does nothing before the shell has given the terminal to a program.
    #[track_caller]
    fn send_until(&mut self, key: &[u8], wanted: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.send(key);
            if self.comes(wanted) {
                return;
            }
            assert!(Instant::now() < end, "no `{wanted}`: {:?}", self.text);
        }
    }

    /// Waits a moment; says whether `wanted` has come, and drops what was up to it.
    fn comes(&mut self, wanted: &str) -> bool {
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        let mut ready = [PollFd::new(&self.near, PollFlags::IN)];
        if !self.text.contains(wanted) && poll(&mut ready, Some(&tick)).expect("poll") > 0 {
            let mut buffer = [0; 4096];
            let read = self.near.read(&mut buffer).unwrap_or_default();
            self.text += &String::from_utf8_lossy(&buffer[..read]);
        }
        let found = self.text.find(wanted).map(|at| at + wanted.len());
        if let Some(end) = found {
            self.text.drain(..end);
        }
        found.is_some()
    }

    /// Types `line` until the process ends, and returns its exit code: a shell that has stopped jobs is told twice.
    #[track_caller]
    fn end(&mut self, line: &str) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.text);
            self.enter(line);
            // what it still writes is read, so that it is not in its way
            self.comes("\0");
        }
    }
}

fn size(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("size");
}

/// A project whose RUN fails; `None` where this machine cannot run the test.
fn failing() -> Option<(&'static Path, tempfile::TempDir)> {
    if !fixture::has("setsid") {
        fixture::skip("terminal", "setsid (Debian package util-linux)");
        return None;
    }
    let base = fixture::base("terminal")?;
    let dir = fixture::temp_dir();
    let dockerfile = "FROM busybox\nENV WHO=step\nRUN echo made > /t; exit 5\n";
    fixture::write_files(dir.path(), &[("Dockerfile", dockerfile)]);
    Some((base, dir))
}

#[test]
fn a_shell_of_debug_has_job_control_and_the_size_of_the_window() {
    let Some((base, dir)) = failing() else { return };
    let store = dir.path().join("store");
    let ran = fixture::run(fixture::build(base, &store).arg(dir.path()));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let mut debug = Command::new(fixture::program());
    debug.arg("debug").arg("--root").arg(&store);
    let mut terminal = Terminal::start(&debug);
    let before = tcgetattr(&terminal.far).expect("modes");

    terminal.enter("echo $WHO $(cat /t) $((1 + 1))");
    terminal.await_text("step made 2");
    terminal.enter("echo size $(stty size)");
    terminal.await_text("size 33 101");
    terminal.enter("echo set $((2 + 2)); until [ \"$(stty size)\" = '44 202' ]; do sleep 0.1; done; echo now $((3 + 4))");
    terminal.await_text("set 4");
    // and nothing is typed any more
    size(&terminal.near, 44, 202);
    terminal.await_text("now 7");

    terminal.enter("echo wait $((5 + 4)); sleep 1000");
    terminal.await_text("wait 9");
    terminal.send_until(b"\x03", "# ");
    terminal.enter("echo after $((3 + 3))");
    terminal.await_text("after 6");
    terminal.enter("echo start $((4 + 4)); sleep 1000");
    terminal.await_text("start 8");
    terminal.send_until(b"\x1a", "Stopped");
    terminal.enter("echo again $((5 + 5)); fg");
    terminal.await_text("again 10");
    terminal.await_text("sleep 1000");
    terminal.send_until(b"\x03", "# ");
    assert_eq!(terminal.end("exit 7"), Some(7));
    let after = tcgetattr(&terminal.far).expect("modes");
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
}

#[test]
fn a_build_that_fails_opens_a_shell() {
    let Some((base, dir)) = failing() else { return };
    let mut build = fixture::build(base, &dir.path().join("store"));
    build.arg("--on-error=shell").arg(dir.path());
    let mut terminal = Terminal::start(&build);
    terminal.await_text("exited with code 5");
    terminal.enter("echo $WHO $(cat /t) $((1 + 1))");
    terminal.await_text("step made 2");
    assert_eq!(terminal.end("exit 3"), Some(1));
}

#[test]
fn the_words_of_an_image_do_not_steer_the_terminal() {
    if !fixture::has("setsid") {
        fixture::skip("terminal", "setsid (Debian package util-linux)");
        return;
    }
    let dir = fixture::temp_dir();
    let dockerfile = "FROM scratch\nLABEL said=\"\u{1b}]0;mine\u{7}\"\nCOPY Dockerfile /\n";
    fixture::write_files(dir.path(), &[("Dockerfile", dockerfile)]);
    let program = |arguments: &[&str]| {
        let mut command = Command::new(fixture::program());
        command
            .args(arguments)
            .arg("--root")
            .arg(dir.path().join("store"));
        command
    };
    let mut build = program(&["build", "-q", "-t", "odd:1"]);
    fixture::run(build.arg(dir.path())).ok();
    for arguments in [
        &["inspect", "-f", "{{.Config.Labels.said}}", "odd:1"][..],
        &[
            "history",
            "--no-trunc",
            "--format",
            "{{.CreatedBy}}",
            "odd:1",
        ],
    ] {
        let command = program(arguments);
        let mut terminal = Terminal::start(&command);
        terminal.await_text("\u{241b}]0;mine\u{2407}");
        let ran = fixture::run(&mut program(arguments)).ok();
        assert!(ran.stdout.contains("\u{1b}]0;mine\u{7}"), "{arguments:?}");
    }
}
