//! Contexts from elsewhere, made into directories of this machine for one build.
//!
//! The main context must be here before there is a Dockerfile; named ones are had once the plan says that they are
//! used. What is made lives in the store's directory of unfinished work, and goes with the build.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::context::{Context, NamedSource};
use super::error::BuildError;
use super::file::MAX_DOCKERFILE_BYTES;
use super::request::Build;
use crate::attest::provenance::Material;
use crate::digest::Digest;
use crate::plan::{Op, Plan};
use crate::registry::Client;
use crate::solve::{ContextDir, Origin};
use crate::source::archive::{self, Stream};
use crate::source::{GitUrl, SourceError, git, http, without_credentials};
use crate::store::Store;

/// A build arg that asks for the `.git` of a context, as in BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// What messages call a Dockerfile that came without a context.
const STDIN: &str = "<stdin>";

/// A context that is here now.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// The root of the context.
    pub(super) path: PathBuf,
    pub(super) origin: Origin,
    /// Names the context in the same way at each build.
    pub(super) label: String,
    /// What anybody else could have too.
    pub(super) material: Option<Material>,
    /// Holds the files; goes with it.
    _dir: Arc<TempDir>,
}

impl Prepared {
    fn known_as(mut self, material: Material) -> Self {
        self.material = Some(material);
        self
    }
}

/// What came of a context: files, or a Dockerfile alone.
enum Had {
    Files(Prepared),
    Dockerfile(String),
}

impl Build {
    /// Returns the directory of the main context, where there is one.
    pub(super) fn context_dir(&self) -> Option<&Path> {
        match (&self.prepared.get(&None), &self.context) {
            (Some(prepared), _) => Some(&prepared.path),
            (None, Context::Dir(path)) => Some(path),
            _ => None,
        }
    }

    /// Names the main context in the same way at each build.
    pub(super) fn context_label(&self) -> String {
        match (self.prepared.get(&None), &self.context) {
            (Some(prepared), _) => prepared.label.clone(),
            (None, Context::Dir(path)) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                whole.display().to_string()
            }
            (None, context) => shown(context),
        }
    }

    /// Returns every directory that files are copied from.
    pub(super) fn context_dirs(&self) -> BTreeMap<Option<String>, ContextDir> {
        let dockerfile = self.text.is_none().then(|| self.dockerfile_path());
        let local = |path: &PathBuf, dockerfile: Option<PathBuf>| ContextDir {
            path: path.clone(),
            dockerfile,
            origin: Origin::Local,
        };
        let mut contexts = BTreeMap::new();
        if let Context::Dir(path) = &self.context {
            contexts.insert(None, local(path, dockerfile.clone()));
        }
        for (name, source) in &self.named {
            if let NamedSource::Dir(path) = source {
                contexts.insert(Some(name.clone()), local(path, None));
            }
        }
        for (name, prepared) in &self.prepared {
            let dir = ContextDir {
                path: prepared.path.clone(),
                dockerfile: dockerfile.clone().filter(|_| name.is_none()),
                origin: prepared.origin,
            };
            contexts.insert(name.clone(), dir);
        }
        contexts
    }

    /// Has the main context on this machine; a Dockerfile that comes in its place becomes the Dockerfile.
    pub(super) async fn with_context_here(mut self, store: &Store) -> Result<Self, BuildError> {
        if matches!(self.context, Context::Dir(_)) || self.prepared.contains_key(&None) {
            return Ok(self);
        }
        let context = self.context.clone();
        let (prepared, is_files) = match self.had(&context, store).await? {
            Had::Files(prepared) => (prepared, true),
            Had::Dockerfile(text) => {
                if self.text.is_some() || self.dockerfile.is_some() {
                    return Err(BuildError::NoContext {
                        place: shown(&context),
                        reason: "it is a Dockerfile, and another Dockerfile is given".to_owned(),
                    });
                }
                self.text = Some((shown(&context), text));
                (empty(store)?, false)
            }
        };
        if is_files && self.text.is_none() {
            self.dockerfile = Some(dockerfile_inside(
                &prepared.path,
                self.dockerfile.as_deref(),
            )?);
        }
        self.prepared.insert(None, prepared);
        Ok(self)
    }

    /// Has the named contexts on this machine that `plan` copies from.
    pub(super) async fn have_named(
        &mut self,
        plan: &Plan,
        store: &Store,
    ) -> Result<(), BuildError> {
        for vertex in &plan.vertices {
            let Op::Context { name: Some(name) } = &vertex.op else {
                continue;
            };
            let key = Some(name.clone());
            let context = match self.named.get(name) {
                _ if self.prepared.contains_key(&key) => continue,
                Some(NamedSource::Archive(path)) => Context::Archive(path.clone()),
                Some(NamedSource::Git(url)) => Context::Git(url.clone()),
                Some(NamedSource::Url(url)) => {
                    let prepared = self.file_or_archive(url, store).await?;
                    self.prepared.insert(key, prepared);
                    continue;
                }
                _ => continue,
            };
            if let Had::Files(prepared) = self.had(&context, store).await? {
                self.prepared.insert(key, prepared);
            }
        }
        Ok(())
    }

    async fn had(&self, context: &Context, store: &Store) -> Result<Had, BuildError> {
        match context {
            Context::Dir(_) | Context::Empty => Ok(Had::Files(empty(store)?)),
            Context::Git(url) => Ok(Had::Files(self.repository(url, store).await?)),
            Context::Archive(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|error| SourceError::io(format!("open {}", path.display()), error))?;
                let name = path.display().to_string();
                match read(store, Box::new(file), name).await? {
                    Had::Dockerfile(_) => {
                        let path = path.clone();
                        Err(SourceError::NotAnArchive { path }.into())
                    }
                    files => Ok(files),
                }
            }
            Context::Url(url) => {
                let shown = without_credentials(url);
                let (blob, digest) = self.download(url, store).await?;
                let material = Material::download(&shown, digest);
                match read(store, Box::new(blob), shown).await? {
                    Had::Files(prepared) => Ok(Had::Files(prepared.known_as(material))),
                    other => Ok(other),
                }
            }
            Context::Stream(stream) => {
                let taken = stream.0.lock().ok().and_then(|mut it| it.take());
                let reader = taken.ok_or_else(|| BuildError::NoContext {
                    place: STDIN.to_owned(),
                    reason: "it was read already".to_owned(),
                })?;
                read(store, reader, STDIN.to_owned()).await
            }
        }
    }

    async fn download(
        &self,
        url: &str,
        store: &Store,
    ) -> Result<(std::fs::File, Digest), BuildError> {
        let client = Client::new(self.client.clone());
        let wanted = http::Wanted {
            checksum: None,
            anew: self.no_cache.all,
        };
        let found = http::fetch(&client, store, url, wanted, &|_, _| ()).await?;
        Ok((store.blobs().open(&found.digest)?, found.digest))
    }

    /// A named context's address: an archive's files, or the one file.
    async fn file_or_archive(&self, url: &str, store: &Store) -> Result<Prepared, BuildError> {
        let shown = without_credentials(url);
        let (mut blob, digest) = self.download(url, store).await?;
        let material = Material::download(&shown, digest);
        let mut head = [0; 512];
        let mut filled = 0;
        while filled < head.len() {
            match blob.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(SourceError::io(format!("read {shown}"), error).into()),
            }
        }
        let blob = store.blobs().open(&digest)?;
        if archive::starts_archive(&head[..filled]) {
            return match read(store, Box::new(blob), shown).await? {
                Had::Files(prepared) => Ok(prepared.known_as(material)),
                Had::Dockerfile(_) => empty(store),
            };
        }
        let mut prepared = empty(store)?;
        let path = prepared.path.join(http::file_name(url));
        let mut blob = blob;
        let copied =
            std::fs::File::create(&path).and_then(|mut to| std::io::copy(&mut blob, &mut to));
        copied.map_err(|error| SourceError::io(format!("write {}", path.display()), error))?;
        prepared.label = shown;
        Ok(prepared.known_as(material))
    }

    async fn repository(&self, url: &GitUrl, store: &Store) -> Result<Prepared, BuildError> {
        let dir = directory(store)?;
        let client = Client::new(self.client.clone());
        let asked = self.plan.build_args.get(KEEP_GIT_DIR);
        let asked = asked
            .is_some_and(|it| matches!(it.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let keep = url.keep_git_dir.unwrap_or(asked);
        let checkout = git::checkout(&client, store, url, &self.secrets, keep, dir.path());
        let commit = checkout.await?.commit;
        let root = inside(dir.path(), Path::new(&url.subdir))?;
        let Some(path) = root.filter(|path| path.is_dir()) else {
            return Err(SourceError::NoSubdir {
                url: url.shown(),
                subdir: url.subdir.clone(),
            }
            .into());
        };
        Ok(Prepared {
            path,
            origin: Origin::Fetched,
            label: format!("{}:{}", url.shown(), url.subdir),
            material: Some(Material::commit(&place_of(url), &commit)),
            _dir: Arc::new(dir),
        })
    }
}

/// Unpacks a stream that is an archive, and returns the text of any other.
async fn read(
    store: &Store,
    stream: Box<dyn Read + Send>,
    name: String,
) -> Result<Had, BuildError> {
    let dir = directory(store)?;
    let work = move || -> Result<Had, BuildError> {
        let failed = |error| SourceError::io(format!("read {name}"), error);
        match archive::look(stream).map_err(failed)? {
            Stream::Archive(stream) => {
                let result = archive::unpack(stream, &name, dir.path());
                open_to_all(dir.path());
                result?;
                Ok(Had::Files(Prepared {
                    path: dir.path().to_owned(),
                    origin: Origin::Archive,
                    label: name,
                    material: None,
                    _dir: Arc::new(dir),
                }))
            }
            Stream::Other(stream) => {
                let mut bytes = Vec::new();
                let read = stream
                    .take(MAX_DOCKERFILE_BYTES + 1)
                    .read_to_end(&mut bytes);
                if read.map_err(failed)? as u64 > MAX_DOCKERFILE_BYTES {
                    let reason = "it is no archive, and larger than a Dockerfile may be".to_owned();
                    return Err(BuildError::NoContext {
                        place: name,
                        reason,
                    });
                }
                let text = String::from_utf8(bytes).map_err(|error| {
                    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                    BuildError::NotText {
                        path: PathBuf::from(&name),
                        line: valid.iter().filter(|&&b| b == b'\n').count() + 1,
                    }
                })?;
                Ok(Had::Dockerfile(text))
            }
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| BuildError::Worker(error.to_string()))?
}

/// The address of what is taken of a repository, without credentials: `REMOTE#REF:DIR`.
fn place_of(url: &GitUrl) -> String {
    let reference = url.reference.as_deref().unwrap_or_default();
    match (reference, url.subdir.trim_matches('/')) {
        ("", "" | ".") => url.shown(),
        (reference, "" | ".") => format!("{}#{reference}", url.shown()),
        (reference, subdir) => format!("{}#{reference}:{subdir}", url.shown()),
    }
}

fn shown(context: &Context) -> String {
    match context {
        Context::Url(url) => without_credentials(url),
        Context::Git(url) => url.shown(),
        Context::Dir(path) | Context::Archive(path) => path.display().to_string(),
        Context::Stream(_) => STDIN.to_owned(),
        Context::Empty => "an empty context".to_owned(),
    }
}

fn directory(store: &Store) -> Result<TempDir, BuildError> {
    let dir = tempfile::Builder::new()
        .prefix("context-")
        .tempdir_in(store.tmp_dir())
        .map_err(|error| SourceError::io("make a directory for a context", error))?;
    open_to_all(dir.path());
    Ok(dir)
}

/// The root of a context may be seen by a step of any user.
fn open_to_all(dir: &Path) {
    let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755));
}

fn empty(store: &Store) -> Result<Prepared, BuildError> {
    let dir = directory(store)?;
    Ok(Prepared {
        path: dir.path().to_owned(),
        origin: Origin::Fetched,
        label: String::new(),
        material: None,
        _dir: Arc::new(dir),
    })
}

/// Returns where `path` is below `root` once links are followed; `None`: nowhere.
fn inside(root: &Path, path: &Path) -> Result<Option<PathBuf>, BuildError> {
    let relative: PathBuf = path
        .components()
        .filter(|part| !matches!(part, std::path::Component::RootDir))
        .collect();
    let Ok(found) = root.join(relative).canonicalize() else {
        return Ok(None);
    };
    let root = root
        .canonicalize()
        .map_err(|error| SourceError::io("look at a context", error))?;
    if !found.starts_with(&root) {
        let path = path.display().to_string();
        return Err(SourceError::LeadsOut { path }.into());
    }
    Ok(Some(found))
}

/// Finds the Dockerfile of a context that somebody else made: no link in it, nor in its ignore files, may lead out.
fn dockerfile_inside(root: &Path, given: Option<&Path>) -> Result<PathBuf, BuildError> {
    let names: Vec<&Path> = match given {
        Some(given) => vec![given],
        None => vec![Path::new("Dockerfile"), Path::new("Containerfile")],
    };
    for ignore in [".dockerignore", ".containerignore"] {
        inside(root, Path::new(ignore))?;
    }
    for name in &names {
        let mut beside = name.as_os_str().to_owned();
        beside.push(".dockerignore");
        inside(root, Path::new(&beside))?;
        if inside(root, name)?.is_some() {
            return Ok(root.join(name.strip_prefix("/").unwrap_or(name)));
        }
    }
    Ok(root.join(names[0].strip_prefix("/").unwrap_or(names[0])))
}
