//! Credential helpers: programs `docker-credential-NAME` that keep secrets (docker/docker-credential-helpers).
//!
//! A helper gets one word as argument (`get`, `store`, `erase`) and one document on its input. It is looked for in the
//! directories that the caller names, runs for [`PATIENCE`] at most, and what it prints is never repeated: it may be a
//! secret.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Credential;

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How Docker calls its own registry.
const HUB: &str = "https://index.docker.io/v1/";

/// Runs helpers, each once a host.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    directories: Vec<PathBuf>,
    /// By helper and host.
    known: Mutex<HashMap<(String, String), Answer>>,
}

/// What a helper knows, or why it does not say.
type Answer = Result<Option<Credential>, String>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helpers {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Helpers {
            directories,
            known: Mutex::default(),
        }
    }

    /// Asks for what is kept of `host`.
    pub(super) fn get(&self, name: &str, host: &str) -> Answer {
        let key = (name.to_owned(), host.to_owned());
        // Held while the helper runs: it may ask the user something, and should ask once.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.get(&key) {
            return answer.clone();
        }
        let answer = self.ask(name, host);
        known.insert(key, answer.clone());
        answer
    }

    fn ask(&self, name: &str, host: &str) -> Answer {
        let output = self.run(name, "get", server(host).as_bytes())?;
        let Some(output) = output else {
            return Ok(None);
        };
        let secret: Secret = serde_json::from_slice(&output)
            .map_err(|_| "it answers with something else than a secret".to_owned())?;
        Ok(Some(Credential::of(secret.username, secret.secret)))
    }

    /// Has a secret kept.
    pub(super) fn store(
        &self,
        name: &str,
        host: &str,
        username: &str,
        secret: &str,
    ) -> Result<(), String> {
        let secret = Secret {
            server_url: server(host).to_owned(),
            username: username.to_owned(),
            secret: secret.to_owned(),
        };
        let input = serde_json::to_vec(&secret).map_err(|error| error.to_string())?;
        self.run(name, "store", &input).map(drop)
    }

    /// Has a secret forgotten.
    pub(super) fn erase(&self, name: &str, host: &str) -> Result<(), String> {
        self.run(name, "erase", server(host).as_bytes()).map(drop)
    }

    /// Returns what the helper prints; `None` where it has nothing of the kind.
    fn run(&self, name: &str, action: &str, input: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let program = format!("docker-credential-{name}");
        // A name, never a path.
        let path = (!name.contains('/'))
            .then(|| self.directories.iter().map(|dir| dir.join(&program)))
            .and_then(|mut paths| paths.find(|path| path.is_file()))
            .ok_or_else(|| format!("`{program}` is not found"))?;
        let failed = |error: std::io::Error| format!("`{program}` cannot be run: {error}");
        let mut child = Command::new(path)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read is known by its answer.
            let _ = stdin.write_all(input);
        }
        let stdout = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stdout) = stdout {
                let _ = stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes);
            }
            bytes
        });
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() >= end => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("`{program}` says nothing for {PATIENCE:?}"));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let output = reader.join().unwrap_or_default();
        if status.success() {
            return Ok(Some(output));
        }
        // The words of the protocol for "there is none".
        match String::from_utf8_lossy(&output).contains("credentials not found") {
            true => Ok(None),
            false => Err(format!("`{program} {action}` ends with {status}")),
        }
    }
}

/// Returns what helpers know a host by.
fn server(host: &str) -> &str {
    match host {
        "docker.io" => HUB,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn helpers_are_asked_once_and_betray_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let helper = |name: &str, script: &str| {
            let path = dir.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        };
        let log = dir.path().join("log").display().to_string();
        helper(
            "kept",
            &format!(
                "read host; echo $1 $host >> {log}\n\
                 case $host in\n\
                 a.io) echo '{{\"Username\":\"u\",\"Secret\":\"hunter2\"}}';;\n\
                 t.io) echo '{{\"Username\":\"<token>\",\"Secret\":\"T\"}}';;\n\
                 https://index.docker.io/v1/) echo '{{\"Username\":\"h\",\"Secret\":\"p\"}}';;\n\
                 *) echo credentials not found in native keychain; exit 1;; esac"
            ),
        );
        helper("broken", "echo hunter2; exit 3");
        helper("odd", "echo hunter2");
        let helpers = Helpers::new(vec![dir.path().join("absent"), dir.path().to_owned()]);
        let password = |username: &str, password: &str| Credential::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let token = "T".to_owned();
        for (host, expected) in [
            ("a.io", Some(password("u", "hunter2"))),
            ("t.io", Some(Credential::IdentityToken { token })),
            ("docker.io", Some(password("h", "p"))),
            ("none.io", None),
        ] {
            for _ in 0..2 {
                assert_eq!(helpers.get("kept", host), Ok(expected.clone()), "{host}");
            }
        }
        let asked = std::fs::read_to_string(&log).expect("log");
        assert_eq!(asked.lines().count(), 4, "{asked}");
        for (name, expected) in [
            ("broken", "exit status: 3"),
            ("odd", "something else"),
            ("absent", "not found"),
            ("../kept", "not found"),
        ] {
            let error = helpers.get(name, "a.io").expect_err(name);
            assert!(error.contains(expected), "{name}: {error}");
            assert!(!error.contains("hunter2"), "{name}: {error}");
        }
        helpers.store("kept", "s.io", "u", "p").unwrap_or_default();
        helpers.erase("kept", "a.io").expect("erase");
        let asked = std::fs::read_to_string(&log).expect("log");
        assert!(asked.contains("erase a.io"), "{asked}");
        assert!(
            asked.contains(r#"store {"ServerURL":"s.io","Username":"u","Secret":"p"}"#),
            "{asked}"
        );
    }
}
