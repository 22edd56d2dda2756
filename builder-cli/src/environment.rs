//! What this machine's environment says: variables, the user's folders, terminals. Nothing else reads them.
//!
//! Read once, before namespaces are entered: behind that, an ordinary user is root of a namespace, and the user id
//! that decides where things are kept would be another.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use builder_core::build::Engine;
use builder_core::registry::{CertificateDirs, Proxies};

use crate::exit::Failure;

/// Variables and standing of the caller.
#[derive(Debug)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    uid: u32,
    /// Whether standard error is a terminal.
    terminal: bool,
    /// SIGHUP was ignored before: `nohup`.
    outlives_terminal: bool,
    /// What stands before the command: it is for all of them, as a variable is.
    root: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        Environment {
            variables: std::env::vars_os().collect(),
            uid: rustix::process::geteuid().as_raw(),
            terminal: std::io::stderr().is_terminal(),
            outlives_terminal: ignores(
                &std::fs::read_to_string("/proc/self/status").unwrap_or_default(),
                rustix::process::Signal::HUP,
            ),
            root: None,
        }
    }

    /// Whether the build goes on when its terminal is closed.
    pub(crate) fn outlives_terminal(&self) -> bool {
        self.outlives_terminal
    }

    /// Sets where everything is kept, should the command's own flag not say.
    pub(crate) fn set_root(&mut self, root: Option<PathBuf>) {
        self.root = root;
    }

    /// Returns a variable's value as it is, empty ones included.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.variables.get(OsStr::new(name))?;
        Some(value.as_bytes().to_vec())
    }

    /// Returns a variable as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.variables.get(OsStr::new(name)) {
            None => Ok(None),
            Some(value) => value
                .to_str()
                .map(|text| Some(text.to_owned()))
                .ok_or_else(|| Failure::usage(format!("the variable `{name}` is not UTF-8"))),
        }
    }

    /// Returns a path from a variable; an empty one counts as unset.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// Returns a folder of the user: where `variable` says, else below the home folder.
    fn user_dir(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        // The XDG specification: a relative path counts as unset.
        let named = self.path(variable).filter(|path| path.is_absolute());
        named.or_else(|| Some(self.path("HOME")?.join(below_home)))
    }

    /// Returns where everything is kept.
    pub(crate) fn store_root(&self, flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
        let flag = flag.or_else(|| self.root.clone());
        if let Some(root) = flag.or_else(|| self.path("BUILDER_ROOT")) {
            return Ok(root);
        }
        if self.uid == 0 {
            return Ok(PathBuf::from("/var/lib/builder"));
        }
        let data = self.user_dir("XDG_DATA_HOME", ".local/share");
        data.map(|data| data.join("builder"))
            .ok_or_else(|| Failure::usage("no store: give --root DIR, or set BUILDER_ROOT or HOME"))
    }

    /// Returns the files that say which hosts stand for which names, in order; a later one wins.
    ///
    /// The user's own file stands for the system's, and the directories add to it, as with containers' other tools.
    pub(crate) fn registries_files(&self, flag: Option<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        let own = self.user_dir("XDG_CONFIG_HOME", ".config");
        let own = own.map(|dir| dir.join("containers"));
        let own_file = own.as_ref().map(|dir| dir.join("registries.conf"));
        let system = PathBuf::from("/etc/containers");
        let file = own_file.filter(|file| file.exists());
        let mut files = vec![file.unwrap_or_else(|| system.join("registries.conf"))];
        let dirs = [Some(system), own].into_iter().flatten();
        files.extend(dirs.map(|dir| dir.join("registries.conf.d")));
        if let Some(file) = flag.or_else(|| self.path("CONTAINERS_REGISTRIES_CONF")) {
            if !file.exists() {
                let file = file.display();
                return Err(Failure::usage(format!(
                    "--registries-conf {file}: no such file"
                )));
            }
            files.push(file);
        }
        Ok(files)
    }

    /// Returns the files of credentials, in order; an earlier one wins.
    pub(crate) fn auth_files(&self, flag: Option<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        if let Some(file) = flag.as_ref().filter(|file| !file.exists()) {
            let file = file.display();
            return Err(Failure::usage(format!("--authfile {file}: no such file")));
        }
        let runtime = self.path("XDG_RUNTIME_DIR");
        let config = self.user_dir("XDG_CONFIG_HOME", ".config");
        let docker = self.path("DOCKER_CONFIG");
        let docker = docker.or_else(|| Some(self.path("HOME")?.join(".docker")));
        let candidates = [
            flag,
            self.path("REGISTRY_AUTH_FILE"),
            runtime.map(|dir| dir.join("containers/auth.json")),
            // Root's podman makes the directory for itself alone: what cannot be entered has nothing of ours.
            Some(PathBuf::from(format!(
                "/run/containers/{}/auth.json",
                self.uid
            )))
            .filter(|file| file.try_exists().unwrap_or(false)),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        Ok(candidates.into_iter().flatten().collect())
    }

    /// Returns the file that a login is written to: the one that is named, else podman's.
    pub(crate) fn login_file(&self, flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
        let runtime = self.path("XDG_RUNTIME_DIR").filter(|it| it.is_dir());
        let own = || self.user_dir("XDG_CONFIG_HOME", ".config");
        flag.or_else(|| self.path("REGISTRY_AUTH_FILE"))
            .or_else(|| {
                let dir = runtime.or_else(own)?;
                Some(dir.join("containers/auth.json"))
            })
            .ok_or_else(|| {
                Failure::usage("no place for credentials: give --authfile FILE, or set HOME")
            })
    }

    /// Returns authorities that are trusted besides the system's.
    pub(crate) fn ca_certificates(&self) -> Vec<PathBuf> {
        self.path("SSL_CERT_FILE").into_iter().collect()
    }

    /// Returns the directories of certificates by host, the user's own first.
    pub(crate) fn certificate_dirs(&self) -> CertificateDirs {
        let own = self.user_dir("XDG_CONFIG_HOME", ".config");
        let own = own.map(|dir| dir.join("containers/certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        CertificateDirs {
            by_host: own.into_iter().chain(system).collect(),
            given: None,
        }
    }

    /// Returns where programs are looked for.
    pub(crate) fn program_dirs(&self) -> Vec<PathBuf> {
        let path = self.variables.get(OsStr::new("PATH"));
        path.map(|path| std::env::split_paths(path).collect())
            .unwrap_or_default()
    }

    /// Returns the proxies for registries. Steps get proxies by build arguments alone.
    pub(crate) fn proxies(&self) -> Proxies {
        let either = |name: &str| {
            [name.to_owned(), name.to_uppercase()]
                .iter()
                .find_map(|name| self.text(name).ok().flatten())
                .filter(|value| !value.is_empty())
        };
        Proxies {
            http: either("http_proxy"),
            https: either("https_proxy"),
            no_proxy: either("no_proxy").unwrap_or_default(),
        }
    }

    /// Returns the clamp of all times, in seconds since the epoch.
    pub(crate) fn source_date_epoch(&self) -> Result<Option<i64>, Failure> {
        match self.text("SOURCE_DATE_EPOCH")?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => match text.parse() {
                Ok(seconds) if seconds >= 0 => Ok(Some(seconds)),
                _ => Err(Failure::usage(format!(
                    "SOURCE_DATE_EPOCH `{text}` is not a number of seconds since 1970"
                ))),
            },
        }
    }

    /// Returns where an engine listens: as `DOCKER_HOST` says, or Podman's `CONTAINER_HOST`, else Docker's socket, else Podman's.
    pub(crate) fn engine(&self) -> Result<Engine, String> {
        let hosts = ["DOCKER_HOST", "CONTAINER_HOST"].into_iter();
        let mut hosts = hosts.filter_map(|name| Some((name, self.text(name).ok().flatten()?)));
        if let Some((name, host)) = hosts.find(|(_, host)| !host.is_empty()) {
            if let Some(path) = host.strip_prefix("unix://") {
                return Ok(Engine::Unix(PathBuf::from(path)));
            }
            let tls = self.text("DOCKER_TLS_VERIFY").ok().flatten();
            let tls = tls.filter(|_| name == "DOCKER_HOST");
            return match host.strip_prefix("tcp://") {
                Some(_) if tls.is_some_and(|it| !it.is_empty()) => Err(
                    "an engine behind TLS is not supported: use -o type=docker,dest=FILE and `docker load -i FILE`"
                        .to_owned(),
                ),
                Some(host) => Ok(Engine::Tcp(host.trim_end_matches('/').to_owned())),
                None => Err(format!(
                    "{name} `{host}` is not supported: unix:// or tcp:// is expected; \
                     else use -o type=docker,dest=FILE and `docker load -i FILE`"
                )),
            };
        }
        let runtime = self.path("XDG_RUNTIME_DIR");
        let own = runtime.map(|dir| dir.join("podman/podman.sock"));
        let sockets = [
            Some(PathBuf::from("/var/run/docker.sock")),
            own,
            Some(PathBuf::from("/run/podman/podman.sock")),
        ];
        let found = sockets.into_iter().flatten().find(|path| path.exists());
        found.map(Engine::Unix).ok_or_else(|| {
            "no engine is there: /var/run/docker.sock and podman's socket are missing, DOCKER_HOST and CONTAINER_HOST are not set; \
             use -o type=docker,dest=FILE and `docker load -i FILE`"
                .to_owned()
        })
    }

    /// Whether standard error is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether lines of the terminal can be drawn over.
    pub(crate) fn can_redraw(&self) -> bool {
        let term = self.variables.get(OsStr::new("TERM"));
        self.terminal && term.is_some_and(|term| term != "dumb" && !term.is_empty())
    }

    /// Whether messages may be coloured (no-color.org).
    pub(crate) fn colour(&self) -> bool {
        self.can_redraw() && self.path("NO_COLOR").is_none()
    }
}

/// Whether a process ignores a signal, by its `/proc/<pid>/status`.
fn ignores(status: &str, signal: rustix::process::Signal) -> bool {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(uid: u32, variables: &[(&str, &str)]) -> Environment {
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Environment {
            variables: variables.iter().map(pair).collect(),
            uid,
            terminal: false,
            outlives_terminal: false,
            root: None,
        }
    }

    #[test]
    fn store_roots() {
        for (uid, variables, flag, expected) in [
            (0, &[("HOME", "/root")][..], None, Some("/var/lib/builder")),
            (0, &[("BUILDER_ROOT", "/b")], None, Some("/b")),
            (0, &[("BUILDER_ROOT", "/b")], Some("/f"), Some("/f")),
            (9, &[("HOME", "/h")], None, Some("/h/.local/share/builder")),
            (
                9,
                &[("HOME", "/h"), ("XDG_DATA_HOME", "/d")],
                None,
                Some("/d/builder"),
            ),
            (
                9,
                &[("HOME", "/h"), ("XDG_DATA_HOME", "rel")],
                None,
                Some("/h/.local/share/builder"),
            ),
            (9, &[("BUILDER_ROOT", "")], None, None),
        ] {
            let mut environment = environment(uid, variables);
            let root = environment.store_root(flag.map(PathBuf::from));
            let expected = expected.map(PathBuf::from);
            assert_eq!(root.ok(), expected, "{uid} {variables:?} {flag:?}");
            environment.set_root(Some("/before".into()));
            let root = environment.store_root(flag.map(PathBuf::from));
            let expected = flag.unwrap_or("/before");
            assert_eq!(
                root.ok(),
                Some(expected.into()),
                "{uid} {variables:?} {flag:?}"
            );
        }
    }

    #[test]
    fn ignored_signals() {
        let hangup = rustix::process::Signal::HUP;
        for (status, expected) in [
            (
                "SigBlk:\t0000000000000001\nSigIgn:\t0000000000000000\n",
                false,
            ),
            ("SigIgn:\t0000000000001001\n", true),
            ("SigIgn:\t0000000000000002\n", false),
            ("", false),
        ] {
            assert_eq!(ignores(status, hangup), expected, "{status}");
        }
    }

    #[test]
    fn epochs() {
        for (text, expected) in [
            ("0", Some(Some(0))),
            ("1700000000", Some(Some(1_700_000_000))),
            ("", Some(None)),
            ("-1", None),
            ("now", None),
            ("1.5", None),
        ] {
            let environment = environment(0, &[("SOURCE_DATE_EPOCH", text)]);
            assert_eq!(environment.source_date_epoch().ok(), expected, "{text}");
        }
    }

    #[test]
    fn engines_are_named_by_variables() {
        for (variables, expected) in [
            (
                &[("CONTAINER_HOST", "unix:///p.sock")][..],
                Ok("unix:///p.sock"),
            ),
            (
                &[
                    ("DOCKER_HOST", "tcp://d:1/"),
                    ("CONTAINER_HOST", "unix:///p.sock"),
                ],
                Ok("tcp://d:1"),
            ),
            (
                &[("DOCKER_HOST", ""), ("CONTAINER_HOST", "tcp://p:2")],
                Ok("tcp://p:2"),
            ),
            (
                &[("CONTAINER_HOST", "ssh://p")],
                Err("CONTAINER_HOST `ssh://p` is not supported"),
            ),
            (
                &[("DOCKER_HOST", "tcp://d:1"), ("DOCKER_TLS_VERIFY", "1")],
                Err("behind TLS"),
            ),
        ] {
            match (environment(0, variables).engine(), expected) {
                (Ok(engine), Ok(expected)) => assert_eq!(engine.to_string(), expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
                other => panic!("{variables:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn proxies_are_found_in_both_spellings() {
        let environment = environment(
            0,
            &[("HTTP_PROXY", "a"), ("https_proxy", "b"), ("no_proxy", "")],
        );
        let proxies = environment.proxies();
        assert_eq!(proxies.http.as_deref(), Some("a"));
        assert_eq!(proxies.https.as_deref(), Some("b"));
        assert_eq!(proxies.no_proxy, "");
    }
}
