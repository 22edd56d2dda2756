//! Engines of a test's own: a process that listens on a socket, and ends with the test.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Engine {
    child: Child,
    pub(crate) socket: PathBuf,
    /// What it leaves mounted when it has ended.
    mounted: Option<PathBuf>,
}

impl Engine {
    /// Starts a command that will listen on `socket`; where it does not, says why.
    pub(crate) fn start(
        command: &mut Command,
        socket: PathBuf,
        log: &Path,
    ) -> Result<Self, String> {
        let file = fs::File::create(log).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("clone"))
            .stderr(file)
            .spawn()
            .expect("the engine starts");
        let mut engine = Engine {
            child,
            socket,
            mounted: None,
        };
        let start = Instant::now();
        while UnixStream::connect(&engine.socket).is_err() {
            let ended = engine.child.try_wait().expect("wait").is_some();
            if ended || start.elapsed() > Duration::from_secs(60) {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default().to_owned();
                return Err(last);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(engine)
    }

    /// Starts a Docker Engine that keeps all it has in `dir`.
    pub(crate) fn docker_in(dir: &Path) -> Result<Self, String> {
        let dir = dir.join("docker");
        fs::create_dir_all(&dir).expect("mkdir");
        let path = |name: &str| dir.join(name).display().to_string();
        let socket = dir.join("s");
        let mut command = Command::new("dockerd");
        command
            .args(["--iptables=false", "--bridge=none", "-H"])
            .arg(format!("unix://{}", socket.display()))
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid"), "--storage-driver", "vfs"]);
        let mut engine = Engine::start(&mut command, socket, &dir.join("log"))?;
        engine.mounted = Some(dir.join("exec/netns/default"));
        Ok(engine)
    }

    /// Docker's client, for this engine.
    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host()]);
        command
    }

    /// One of several clients, asked to use BuildKit.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-H", &self.host()])
            .env("DOCKER_BUILDKIT", "1");
        command
    }

    /// As `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Asked, not killed: it has children of its own, and unmounts most of what it mounted.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        if let Some(mounted) = &self.mounted {
            let _ = Command::new("umount").arg(mounted).output();
        }
    }
}
