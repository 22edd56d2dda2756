//! Credentials kept: an entry in an auth file, or a secret that a helper of that file keeps.
//!
//! Files are those that `docker login` and `podman login` write; what else is in them stays. They are replaced by rename
//! and have mode 0600. A password in such a file is encoded, not encrypted: a helper is the better place.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::RegistryError;
use super::credentials::{TOKEN_USER, normalize};
use super::helper::Helpers;

/// A file of credentials that is written.
#[derive(Debug)]
pub struct LoginFile {
    path: PathBuf,
    helpers: Helpers,
}

/// Where a credential was put, or removed from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    File(PathBuf),
    Helper(String),
}

impl LoginFile {
    /// Names a file, which need not be there; `directories` is where the helpers that it names are looked for.
    pub fn new(path: impl Into<PathBuf>, directories: Vec<PathBuf>) -> Self {
        LoginFile {
            path: path.into(),
            helpers: Helpers::new(directories),
        }
    }

    /// Keeps a user's password for `host` (`docker.io`, `localhost:5000`), or for names below it alone (`a.io/team`).
    ///
    /// # Errors
    /// Where the file is no such document or cannot be written, or the helper fails.
    pub fn keep(&self, host: &str, username: &str, password: &str) -> Result<Kept, RegistryError> {
        let mut document = self.read()?.unwrap_or_default();
        if let Some(helper) = helper(&document, bare(host)) {
            if bare(host) != host {
                let why = format!(
                    "it keeps a password for a whole registry: log in to {}",
                    bare(host)
                );
                return Err(self.failed(host, &helper, why));
            }
            let stored = self.helpers.store(&helper, host, username, password);
            stored.map_err(|why| self.failed(host, &helper, why))?;
            return Ok(Kept::Helper(helper));
        }
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        let Value::Object(auths) = auths else {
            return Err(self.wrong("`auths` is not a table"));
        };
        auths.retain(|key, _| normalize(key) != host);
        let entry = match username {
            TOKEN_USER => json!({ "identitytoken": password }),
            _ => json!({ "auth": STANDARD.encode(format!("{username}:{password}")) }),
        };
        auths.insert(written(host).to_owned(), entry);
        self.write(&document)?;
        Ok(Kept::File(self.path.clone()))
    }

    /// Forgets what is kept for `host`, or for just these names below it; `None` where there is nothing.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn forget(&self, host: &str) -> Result<Option<Kept>, RegistryError> {
        let Some(mut document) = self.read()? else {
            return Ok(None);
        };
        let mut kept = None;
        if bare(host) == host
            && let Some(helper) = helper(&document, host)
            && let Ok(Some(_)) = self.helpers.get(&helper, host)
        {
            let erased = self.helpers.erase(&helper, host);
            erased.map_err(|why| self.failed(host, &helper, why))?;
            kept = Some(Kept::Helper(helper));
        }
        if let Some(Value::Object(auths)) = document.get_mut("auths") {
            let before = auths.len();
            auths.retain(|key, _| normalize(key) != host);
            if auths.len() != before {
                self.write(&document)?;
                kept = kept.or(Some(Kept::File(self.path.clone())));
            }
        }
        Ok(kept)
    }

    /// Lists the hosts that the file has entries for.
    ///
    /// # Errors
    /// Where the file is no such document.
    pub fn hosts(&self) -> Result<Vec<String>, RegistryError> {
        let document = self.read()?.unwrap_or_default();
        let auths = document.get("auths").and_then(Value::as_object);
        let hosts = auths.into_iter().flatten().map(|(key, _)| normalize(key));
        Ok(hosts.collect())
    }

    fn read(&self) -> Result<Option<Map<String, Value>>, RegistryError> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RegistryError::File {
                path: self.path.clone(),
                source,
            }),
            // The parser's own text could quote a secret.
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(document) => Ok(Some(document)),
                Err(error) => {
                    Err(self.wrong(&format!("line {}, column {}", error.line(), error.column())))
                }
            },
        }
    }

    fn write(&self, document: &Map<String, Value>) -> Result<(), RegistryError> {
        let failed = |source| RegistryError::WriteFile {
            path: self.path.clone(),
            source,
        };
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !parent.is_dir() {
            fs::create_dir_all(parent).map_err(failed)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(failed)?;
        let bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
        file.write_all(&bytes).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn wrong(&self, why: &str) -> RegistryError {
        RegistryError::Configuration {
            path: self.path.clone(),
            what: "file of credentials",
            why: why.to_owned(),
        }
    }

    fn failed(&self, host: &str, helper: &str, why: String) -> RegistryError {
        RegistryError::CredentialHelper {
            host: host.to_owned(),
            helper: helper.to_owned(),
            why,
        }
    }
}

/// Returns the registry of a key.
fn bare(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// Returns the helper that keeps the secrets of `host`.
fn helper(document: &Map<String, Value>, host: &str) -> Option<String> {
    let by_host = document.get("credHelpers").and_then(Value::as_object);
    let own = by_host
        .into_iter()
        .flatten()
        .find(|(key, _)| normalize(key) == host)
        .map(|(_, name)| name);
    let name = own.or(document.get("credsStore"))?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// How Docker and Podman write a host, so that both find it.
fn written(host: &str) -> &str {
    match host {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{AuthFiles, Credential, Credentials, Lookup};

    #[test]
    fn keys_with_a_path_stand_for_themselves() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("auth.json");
        let file = LoginFile::new(&path, Vec::new());
        let mut expected = Vec::new();
        for key in ["a.io", "a.io/team/x", "a.io/team/y", "docker.io/team"] {
            file.keep(key, "u", "p").expect("keep");
            expected.push(key);
            assert_eq!(file.hosts().expect("hosts"), expected);
        }
        for key in ["a.io/team", "b.io/team/x"] {
            assert_eq!(file.forget(key).expect("forget"), None, "{key}");
        }
        for key in ["a.io/team/x", "a.io"] {
            assert!(file.forget(key).expect("forget").is_some(), "{key}");
            expected.retain(|it| *it != key);
            assert_eq!(file.hosts().expect("hosts"), expected);
        }
        fs::write(&path, r#"{"credsStore": "absent"}"#).expect("write");
        let error = file.keep("a.io/team", "u", "p").expect_err("no paths");
        assert!(error.to_string().contains("log in to a.io"), "{error}");
        // The helper, which is not there, is not asked.
        assert_eq!(file.forget("a.io/team").expect("forget"), None);
    }

    #[test]
    fn logins_come_and_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("new/auth.json");
        let file = LoginFile::new(&path, Vec::new());
        assert_eq!(file.forget("a.io").expect("nothing"), None);
        file.keep("a.io", "u", "p:q").expect("keep");
        file.keep("docker.io", "u", "old").expect("keep");
        file.keep("docker.io", "u", "new").expect("keep again");
        file.keep("t.io", "<token>", "T").expect("keep");
        let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("parent")), 0o700);
        let files = AuthFiles::load(std::slice::from_ref(&path)).expect("load");
        for (host, username, secret) in [
            ("a.io", "u", "p:q"),
            ("docker.io", "u", "new"),
            ("t.io", "<token>", "T"),
        ] {
            let expected = Lookup::Found(Credential::of(username, secret));
            assert_eq!(files.lookup(host, "x"), expected, "{host}");
        }
        let mut document: Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        document["odd"] = json!([1]);
        document["auths"]["https://a.io/v2/"] = json!({"auth": "dTpw"});
        fs::write(&path, document.to_string()).expect("write");
        let kept = file.forget("a.io").expect("forget");
        assert_eq!(kept, Some(Kept::File(path.clone())));
        assert_eq!(file.hosts().expect("hosts"), ["docker.io", "t.io"]);
        let document: Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        assert_eq!(document["odd"], json!([1]));
        fs::write(&path, r#"{"auths": "hunter2"}"#).expect("write");
        let error = file.keep("a.io", "u", "p").expect_err("no table");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        fs::write(&path, r#"{"credsStore": "absent"}"#).expect("write");
        let error = file.keep("a.io", "u", "hunter2").expect_err("no helper");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("docker-credential-absent") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
