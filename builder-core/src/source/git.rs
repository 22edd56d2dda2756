//! A repository's files, by the program `git`.
//!
//! A bare repository a remote is kept in the store (`cache/git/<digest of the remote>`), so that only what is new
//! travels. A checkout is made of it afresh for each build: files are 0644 or 0755 whatever the umask, and all have the
//! time of the commit, so that the same commit gives the same bytes on any machine. A `.git` that is kept is
//! made the same way each time, its index without this machine's inodes.
//!
//! git runs without the user's and the system's configuration, asks nothing, and speaks only the protocols of
//! an address. A remote that is silent for as long as registries may be is given up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{GitUrl, SourceError};
use crate::digest::Digest;
use crate::registry::Client;
use crate::store::{Lock, Store};

/// Secrets that are for git, as buildx has them; `.host` may follow.
const TOKEN: &str = "GIT_AUTH_TOKEN";
const HEADER: &str = "GIT_AUTH_HEADER";
/// What a failed command may have said.
const MAX_OUTPUT: usize = 1 << 20;

/// What was checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The whole commit.
    pub commit: String,
}

/// Checks out what `url` means into `dest`, an empty directory.
///
/// # Errors
/// Where there is no git, the repository cannot be had, or it lacks what is meant.
pub async fn checkout(
    client: &Client,
    store: &Store,
    url: &GitUrl,
    secrets: &BTreeMap<String, Vec<u8>>,
    keep_git_dir: bool,
    dest: &Path,
) -> Result<Checkout, SourceError> {
    let (git, commit, lock) = fetched(client, store, url, secrets).await?;
    git.write(&commit, url.submodules, keep_git_dir, dest)
        .await?;
    drop(lock);
    Ok(Checkout { commit })
}

/// Returns when the commit that `url` means was made, in seconds since the epoch.
///
/// # Errors
/// As [`checkout`].
pub async fn time(
    client: &Client,
    store: &Store,
    url: &GitUrl,
    secrets: &BTreeMap<String, Vec<u8>>,
) -> Result<i64, SourceError> {
    let (git, commit, lock) = fetched(client, store, url, secrets).await?;
    let time = git.time(&git.bare, &commit).await?;
    drop(lock);
    Ok(time)
}

/// Has the commit that `url` means in its bare repository, which the lock keeps for whoever asked.
async fn fetched(
    client: &Client,
    store: &Store,
    url: &GitUrl,
    secrets: &BTreeMap<String, Vec<u8>>,
) -> Result<(Git, String, Lock), SourceError> {
    let name = Digest::of(url.remote.as_bytes()).hex();
    let bare = store.cache_dir().join("git").join(&name);
    let git = Git {
        shown: url.shown(),
        remote: url.remote.clone(),
        variables: variables(client, url, secrets),
        patience: client.patience(),
        bare,
    };
    let lock_name = format!("git-{name}");
    let lock = {
        let (store, lock_name) = (store.clone(), lock_name.clone());
        let taken = tokio::task::spawn_blocking(move || store.lock(&lock_name));
        taken
            .await
            .map_err(|error| SourceError::Worker(error.to_string()))??
    };
    store.note(&lock_name, &git.shown)?;
    let commit = git.fetch(url).await?;
    if let Some(expected) = &url.checksum
        && !commit.starts_with(&expected.to_ascii_lowercase())
    {
        return Err(SourceError::Commit {
            url: git.shown,
            expected: expected.clone(),
            actual: commit,
        });
    }
    Ok((git, commit, lock))
}

struct Git {
    shown: String,
    remote: String,
    variables: Vec<(String, String)>,
    patience: Duration,
    bare: PathBuf,
}

impl Git {
    /// Has the commit in the bare repository.
    async fn fetch(&self, url: &GitUrl) -> Result<String, SourceError> {
        let bare = self.bare.display().to_string();
        if !self.bare.join("HEAD").exists() {
            std::fs::create_dir_all(&self.bare)
                .map_err(|error| SourceError::io(format!("create {bare}"), error))?;
            let args = ["init", "-q", "--bare", "--template=", &bare];
            self.run("init", None, &args).await?;
        }
        if let Some(commit) = url.reference.as_deref().filter(|it| is_commit(it)) {
            let commit = commit.to_ascii_lowercase();
            if !self.has(&commit).await {
                self.fetch_commit(&commit).await?;
            }
            return Ok(commit);
        }
        let (name, commit) = self.resolve(url.reference.as_deref()).await?;
        if !self.has(&commit).await {
            self.fetch_name(&name, &commit).await?;
        }
        Ok(commit)
    }

    /// Asks the remote for the name and the commit that `reference` means: itself, else a branch, else a tag.
    async fn resolve(&self, reference: Option<&str>) -> Result<(String, String), SourceError> {
        let reference = reference.unwrap_or("HEAD");
        let bare = Some(self.bare.as_path());
        let peeled = format!("{reference}^{{}}");
        let args = ["ls-remote", "--", &self.remote, reference, &peeled];
        let listed = self.run("ls-remote", bare, &args).await?;
        let known: BTreeMap<&str, &str> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(commit, name)| (name, commit))
            .collect();
        let short = reference.strip_prefix("refs/").unwrap_or(reference);
        for name in [
            reference.to_owned(),
            format!("refs/heads/{reference}"),
            format!("refs/tags/{reference}"),
            format!("refs/{short}"),
        ] {
            let peeled = known.get(format!("{name}^{{}}").as_str());
            if let Some(commit) = peeled.or_else(|| known.get(name.as_str())) {
                if !is_commit(commit) {
                    break;
                }
                return Ok((name, (*commit).to_owned()));
            }
        }
        Err(SourceError::NoReference {
            url: self.shown.clone(),
            reference: reference.to_owned(),
        })
    }

    /// The committer's time.
    async fn time(&self, repository: &Path, commit: &str) -> Result<i64, SourceError> {
        let args = ["log", "-1", "--format=%ct", commit];
        let time = self.run("log", Some(repository), &args).await?;
        Ok(time.trim().parse().unwrap_or(0))
    }

    async fn has(&self, commit: &str) -> bool {
        let object = format!("{commit}^{{commit}}");
        let args = ["cat-file", "-e", &object];
        self.run("cat-file", Some(&self.bare), &args).await.is_ok()
    }

    async fn fetch_name(&self, name: &str, commit: &str) -> Result<(), SourceError> {
        let spec = format!("+{name}:refs/builder/{commit}");
        self.fetch_spec(&spec).await
    }

    /// Fetches a commit that no name is known for: by itself where the server allows that, else with all branches.
    async fn fetch_commit(&self, commit: &str) -> Result<(), SourceError> {
        let spec = format!("+{commit}:refs/builder/{commit}");
        if self.fetch_spec(&spec).await.is_ok() && self.has(commit).await {
            return Ok(());
        }
        let bare = Some(self.bare.as_path());
        let unshallow = self.bare.join("shallow").exists();
        let mut args = vec!["fetch", "--progress", "--no-write-fetch-head", "--tags"];
        if unshallow {
            args.push("--unshallow");
        }
        args.extend(["--", &self.remote, "+refs/heads/*:refs/remotes/builder/*"]);
        self.run("fetch", bare, &args).await?;
        if !self.has(commit).await {
            return Err(SourceError::NoReference {
                url: self.shown.clone(),
                reference: commit.to_owned(),
            });
        }
        let name = format!("refs/builder/{commit}");
        self.run("update-ref", bare, &["update-ref", &name, commit])
            .await?;
        Ok(())
    }

    async fn fetch_spec(&self, spec: &str) -> Result<(), SourceError> {
        let bare = Some(self.bare.as_path());
        let common = ["fetch", "--progress", "--no-write-fetch-head", "--no-tags"];
        let rest = ["--", &self.remote, spec];
        let shallow = [&common[..], &["--depth=1"], &rest].concat();
        match self.run("fetch", bare, &shallow).await {
            // A repository that is files behind a plain web server.
            Err(SourceError::Git { message, .. }) if message.contains("dumb http") => {
                let whole = [&common[..], &rest].concat();
                self.run("fetch", bare, &whole).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Writes the commit's files into `dest`.
    async fn write(
        &self,
        commit: &str,
        submodules: bool,
        keep_git_dir: bool,
        dest: &Path,
    ) -> Result<(), SourceError> {
        let name = format!("refs/builder/{commit}");
        let bare = self.bare.display().to_string();
        // An earlier build may have fetched the commit under another name.
        let update = ["update-ref", &name, commit];
        self.run("update-ref", Some(&self.bare), &update).await?;
        let shown = dest.display().to_string();
        let init = ["init", "-q", "--template=", "--", &shown];
        self.run("init", None, &init).await?;
        let here = Some(dest);
        let from = format!("file://{bare}");
        let spec = format!("{name}:refs/builder/head");
        let fetch = [
            "fetch",
            "-q",
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
            "--",
            &from,
            &spec,
        ];
        self.run("fetch", here, &fetch).await?;
        let checkout = ["checkout", "-q", "--force", "--detach", commit];
        self.run("checkout", here, &checkout).await?;
        let time = self.time(dest, commit).await?;
        if submodules && dest.join(".gitmodules").exists() {
            let remote = super::without_credentials(&self.remote);
            let add = ["remote", "add", "origin", &remote];
            self.run("remote", here, &add).await?;
            let update = [
                "submodule",
                "update",
                "--init",
                "--recursive",
                "--depth=1",
                "--progress",
            ];
            self.run("submodule", here, &update).await?;
        } else if keep_git_dir {
            let add = ["remote", "add", "origin", &self.shown];
            self.run("remote", here, &add).await?;
        }
        if keep_git_dir {
            let drop_name = ["update-ref", "-d", "refs/builder/head"];
            self.run("update-ref", here, &drop_name).await?;
            self.run("read-tree", here, &["read-tree", commit]).await?;
        }
        let dest = dest.to_owned();
        let dressed = tokio::task::spawn_blocking(move || dress(&dest, keep_git_dir, time));
        dressed
            .await
            .map_err(|error| SourceError::Worker(error.to_string()))?
            .map_err(|error| SourceError::io("settle a git checkout", error))
    }

    async fn run(
        &self,
        action: &'static str,
        dir: Option<&Path>,
        args: &[&str],
    ) -> Result<String, SourceError> {
        // What is checked out has the same modes for everybody.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "umask 022; exec git \"$@\"", "git"])
            .args(args)
            .envs(self.variables.iter().cloned())
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .current_dir(dir.unwrap_or(Path::new("/")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let failed = |error| SourceError::io("run git", error);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SourceError::NoGit {
                url: self.shown.clone(),
            },
            _ => failed(error),
        })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let patience = self.patience;
        // git tells its progress on stderr: silence on both is a remote that does not answer.
        let (beat, mut beats) = tokio::sync::mpsc::channel::<()>(1);
        let reading = async {
            let (out, err) = tokio::join!(drain(out, &beat), drain(err, &beat));
            drop(beat);
            (out, err)
        };
        tokio::pin!(reading);
        let (out, err) = loop {
            let quiet = tokio::time::timeout(patience, async {
                tokio::select! {
                    both = &mut reading => Some(both),
                    _ = beats.recv() => None,
                }
            });
            match quiet.await {
                Ok(Some(both)) => break both,
                Ok(None) => {}
                Err(_) => {
                    return Err(SourceError::Silent {
                        url: self.shown.clone(),
                        seconds: patience.as_secs(),
                    });
                }
            }
        };
        let status = child.wait().await.map_err(failed)?;
        match status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
            Some(127) => Err(SourceError::NoGit {
                url: self.shown.clone(),
            }),
            _ => Err(SourceError::Git {
                url: self.shown.clone(),
                action,
                message: self.said(&err),
            }),
        }
    }

    /// Returns the last lines of what git said, without credentials.
    fn said(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).replace(&self.remote, &self.shown);
        let lines: Vec<&str> = text
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .filter(|line| !line.starts_with("remote: Counting"))
            .collect();
        let from = lines.len().saturating_sub(4);
        lines[from..].join("; ")
    }
}

async fn drain<R: AsyncRead + Unpin>(
    stream: Option<R>,
    beat: &tokio::sync::mpsc::Sender<()>,
) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let _ = beat.try_send(());
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > MAX_OUTPUT {
            kept.drain(..kept.len() - MAX_OUTPUT / 2);
        }
    }
    kept
}

/// What git's environment gets: no configuration but ours, nobody to ask, and credentials where no list of processes shows them.
fn variables(
    client: &Client,
    url: &GitUrl,
    secrets: &BTreeMap<String, Vec<u8>>,
) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = [
        ("pack.threads", "1"),
        ("core.logAllRefUpdates", "false"),
        ("core.sharedRepository", "false"),
        ("core.autocrlf", "false"),
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("init.defaultBranch", "main"),
        ("advice.detachedHead", "false"),
        // `user`: what we fetch ourselves may be a local path, a submodule's may not.
        ("protocol.allow", "never"),
        ("protocol.file.allow", "user"),
        ("protocol.git.allow", "always"),
        ("protocol.ssh.allow", "always"),
        ("protocol.http.allow", "always"),
        ("protocol.https.allow", "always"),
        ("safe.directory", "*"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    if let Some((scheme, host)) = url.http_host() {
        let secret = |name: &str| {
            let own = secrets.get(&format!("{name}.{host}"));
            let bytes = own.or_else(|| secrets.get(name))?;
            Some(String::from_utf8_lossy(bytes).trim().to_owned())
        };
        let header = secret(HEADER).or_else(|| {
            let token = secret(TOKEN)?;
            let pair = STANDARD.encode(format!("x-access-token:{token}"));
            Some(format!("basic {pair}"))
        });
        if let Some(header) = header {
            settings.push((
                format!("http.{scheme}://{host}/.extraheader"),
                format!("Authorization: {header}"),
            ));
        }
    }
    let mut out: Vec<(String, String)> = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        (
            "GIT_SSH_COMMAND",
            "ssh -o BatchMode=yes -o ConnectTimeout=30",
        ),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    if let Some(file) = client.authorities() {
        out.push(("GIT_SSL_CAINFO".to_owned(), file.display().to_string()));
    }
    out.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
    for (at, (key, value)) in settings.into_iter().enumerate() {
        out.push((format!("GIT_CONFIG_KEY_{at}"), key));
        out.push((format!("GIT_CONFIG_VALUE_{at}"), value));
    }
    out
}

/// Whether a text is a whole commit: SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes git's own files unless they are kept, and gives everything the time of the commit.
fn dress(dest: &Path, keep_git_dir: bool, time: i64) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec {
        tv_sec: time,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let mut directories = vec![dest.to_owned()];
    let mut at = 0;
    while at < directories.len() {
        let directory = directories[at].clone();
        at += 1;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if !keep_git_dir && entry.file_name() == ".git" {
                match kind.is_dir() {
                    true => std::fs::remove_dir_all(&path)?,
                    false => std::fs::remove_file(&path)?,
                }
            } else if kind.is_dir() {
                directories.push(path);
            } else {
                utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
    }
    for directory in directories.iter().rev() {
        utimensat(CWD, directory, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
