//! Who we are to a registry: `auth.json` (podman) and `config.json` (docker).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;
use super::helper::Helpers;

/// The user name that says that the secret is an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// What proves who we are. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    Password {
        username: String,
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken {
        token: String,
    },
    /// A bearer token as it is shown to the registry itself.
    RegistryToken {
        token: String,
    },
}

impl Credential {
    /// Returns a password, or an identity token, which helpers give under the name `<token>`.
    pub fn of(username: impl Into<String>, secret: impl Into<String>) -> Self {
        let (username, secret) = (username.into(), secret.into());
        match username.as_str() {
            TOKEN_USER => Credential::IdentityToken { token: secret },
            _ => Credential::Password {
                username,
                password: secret,
            },
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password { .. } => "Password(…)",
            Credential::IdentityToken { .. } => "IdentityToken(…)",
            Credential::RegistryToken { .. } => "RegistryToken(…)",
        })
    }
}

/// What is known of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing.
    Anonymous,
    Found(Credential),
    /// A helper program of this name should know, and does not say; it matters only if the registry insists.
    Helper {
        name: String,
        why: String,
    },
}

/// Knows credentials by registry.
pub trait Credentials: Send + Sync + fmt::Debug {
    /// Returns what is known for `repository` at `host` (`docker.io`, `library/python`).
    fn lookup(&self, host: &str, repository: &str) -> Lookup;
}

/// Knows none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn lookup(&self, _host: &str, _repository: &str) -> Lookup {
        Lookup::Anonymous
    }
}

/// Knows one registry's; others are asked of somebody else.
#[derive(Debug, Clone)]
pub struct GivenCredential {
    pub host: String,
    pub credential: Credential,
    pub others: Arc<dyn Credentials>,
}

impl Credentials for GivenCredential {
    fn lookup(&self, host: &str, repository: &str) -> Lookup {
        match host == self.host {
            true => Lookup::Found(self.credential.clone()),
            false => self.others.lookup(host, repository),
        }
    }
}

/// The credentials of files; an earlier file wins.
#[derive(Debug, Default)]
pub struct AuthFiles {
    files: Vec<AuthFile>,
    helpers: Helpers,
}

#[derive(Debug, Default)]
struct AuthFile {
    /// By host, or by host and leading path; `None` for an entry without a secret in it.
    auths: BTreeMap<String, Option<Credential>>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl AuthFiles {
    /// Says where helper programs (`docker-credential-NAME`) are looked for; else none is run.
    #[must_use]
    pub fn helpers(mut self, directories: Vec<PathBuf>) -> Self {
        self.helpers = Helpers::new(directories);
        self
    }

    /// Reads the files that are there.
    ///
    /// # Errors
    /// Where a file cannot be read or is no such document.
    pub fn load(paths: &[PathBuf]) -> Result<Self, RegistryError> {
        let mut files = Vec::new();
        for path in paths {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => {
                    return Err(RegistryError::File {
                        path: path.clone(),
                        source,
                    });
                }
            };
            // The parser's own text could quote a secret: only the place is told.
            let bad = |why: String| RegistryError::Configuration {
                path: path.clone(),
                what: "file of credentials",
                why,
            };
            let document: Document = serde_json::from_slice(&bytes)
                .map_err(|it| bad(format!("line {}, column {}", it.line(), it.column())))?;
            files.push(AuthFile::new(document).map_err(bad)?);
        }
        Ok(AuthFiles {
            files,
            helpers: Helpers::default(),
        })
    }
}

impl AuthFile {
    fn new(document: Document) -> Result<Self, String> {
        let mut auths = BTreeMap::new();
        for (key, entry) in document.auths {
            let credential = credential(entry)
                .ok_or_else(|| format!("`auth` of `{key}` is not base64 of `user:password`"))?;
            auths.insert(normalize(&key), credential);
        }
        let helpers = document.cred_helpers.into_iter();
        Ok(AuthFile {
            auths,
            helpers: helpers.map(|(key, name)| (normalize(&key), name)).collect(),
            store: document.creds_store.filter(|it| !it.is_empty()),
        })
    }

    /// Returns what stands in the file itself.
    fn entry(&self, host: &str, repository: &str) -> Option<&Credential> {
        // The most specific key first: host/a/b, host/a, host.
        let mut key = format!("{host}/{repository}");
        loop {
            if let Some(Some(credential)) = self.auths.get(&key) {
                return Some(credential);
            }
            key.truncate(key.rfind('/')?);
        }
    }
}

impl Credentials for AuthFiles {
    /// In each file: a helper for the host, then an entry, then the helper for all hosts.
    fn lookup(&self, host: &str, repository: &str) -> Lookup {
        let mut silent = None;
        let mut ask = |helper: Option<&String>| {
            let helper = helper?;
            match self.helpers.get(helper, host) {
                Ok(found) => found.map(Lookup::Found),
                Err(why) => {
                    silent.get_or_insert(Lookup::Helper {
                        name: helper.clone(),
                        why,
                    });
                    None
                }
            }
        };
        for file in &self.files {
            let found = ask(file.helpers.get(host))
                .or_else(|| file.entry(host, repository).cloned().map(Lookup::Found))
                .or_else(|| ask(file.store.as_ref()));
            if let Some(found) = found {
                return found;
            }
        }
        silent.unwrap_or(Lookup::Anonymous)
    }
}

/// `https://index.docker.io/v1/` is how docker writes `docker.io`; `https://host/v2/` is a host.
pub(super) fn normalize(key: &str) -> String {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let key = ["/v1", "/v2"]
        .iter()
        .find_map(|version| key.strip_suffix(version))
        .unwrap_or(key);
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (key, None),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io",
        other => other,
    };
    match path {
        Some(path) => format!("{host}/{path}"),
        None => host.to_owned(),
    }
}

/// `None`: not readable; `Some(None)`: an entry without a secret.
fn credential(entry: Entry) -> Option<Option<Credential>> {
    if !entry.identitytoken.is_empty() {
        return Some(Some(Credential::IdentityToken {
            token: entry.identitytoken,
        }));
    }
    if !entry.registrytoken.is_empty() {
        return Some(Some(Credential::RegistryToken {
            token: entry.registrytoken,
        }));
    }
    let (username, password) = if entry.auth.is_empty() {
        (entry.username, entry.password)
    } else {
        let text = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0');
        (username.to_owned(), password.to_owned())
    };
    if username.is_empty() && password.is_empty() {
        return Some(None);
    }
    Some(Some(Credential::of(username, password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AuthFiles, RegistryError> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("auth.json");
        fs::write(&path, text).expect("write");
        AuthFiles::load(&[dir.path().join("absent"), path])
    }

    #[test]
    fn the_most_specific_entry_is_found() {
        // "dTpw" is "u:p", "djpxOng=" is "v:q:x".
        let files = load(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
                "quay.io/team": {"auth": "djpxOng="}, "quay.io": {"auth": "dTpw"},
                "id.io": {"auth": "dTpw", "identitytoken": "T"}, "kept.io": {}},
                "credHelpers": {"help.io": "pass"}}"#,
        )
        .expect("load");
        let password = |username: &str, password: &str| {
            Lookup::Found(Credential::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            })
        };
        let token = Lookup::Found(Credential::IdentityToken {
            token: "T".to_owned(),
        });
        for (host, repository, expected) in [
            ("docker.io", "library/python", password("u", "p")),
            ("quay.io", "team/app", password("v", "q:x")),
            ("quay.io", "teams/app", password("u", "p")),
            ("id.io", "a", token),
            ("kept.io", "a", Lookup::Anonymous),
            (
                "help.io",
                "a",
                Lookup::Helper {
                    name: "pass".to_owned(),
                    why: "`docker-credential-pass` is not found".to_owned(),
                },
            ),
            ("other.io", "a", Lookup::Anonymous),
        ] {
            assert_eq!(
                files.lookup(host, repository),
                expected,
                "{host}/{repository}"
            );
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let files = load(r#"{"auths": {"a.io": {"username": "u", "password": "hunter2"}}}"#);
        assert!(!format!("{:?}", files.expect("load")).contains("hunter2"));
        let error = load(r#"{"auths": {"a.io": {"auth": "hunter2!"}}}"#).expect_err("base64");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let error = load(r#"{"auths": {"a.io": "hunter2"}}"#).expect_err("shape");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
