//! What ADD takes from elsewhere: had before anything is decided, so that its content is part of the definition key.
//!
//! Each address is fetched once a build, all at the same time. What the store has of an earlier build is asked after,
//! not downloaded again (see `source`). A file from a URL is a tree of one file, a repository a tree of its files;
//! from there on they are copied, unpacked and dressed like any other source.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::SolveErrorKind;
use super::inputs::Inputs;
use super::layers::worker;
use super::trees::KnownTree;
use crate::context::LocalTree;
use crate::context::digests::DigestCache;
use crate::digest::Digest;
use crate::plan::{CopyOp, CopySource, Input, Op};
use crate::progress::{Event, VertexId};
use crate::source::{GitUrl, SourceError, git, http, without_credentials};

/// A source from elsewhere, here now.
pub(super) struct Remote {
    pub(super) known: KnownTree,
    /// What of the tree is meant.
    pub(super) pattern: String,
    fetched: Fetched,
    /// Holds the tree's files; goes with it.
    _dir: TempDir,
}

/// What an address of the plan came to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fetched {
    /// Without credentials, as all addresses here.
    File {
        url: String,
        digest: Digest,
    },
    Commit {
        url: String,
        commit: String,
    },
}

/// All of a build's, by what is asked for.
#[derive(Default)]
pub(super) struct Remotes {
    by_wish: BTreeMap<Wish, Arc<Remote>>,
}

/// What shapes the files that come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    url: String,
    is_git: bool,
    checksum: Option<String>,
    keep_git_dir: bool,
}

impl Remotes {
    /// Tells what came, in the order of the addresses.
    pub(super) fn fetched(&self) -> Vec<Fetched> {
        self.by_wish.values().map(|it| it.fetched.clone()).collect()
    }

    /// Returns what came of a source of `op`.
    pub(super) fn get(&self, op: &CopyOp, source: &CopySource) -> Option<&Remote> {
        let wish = wish(op, source)?;
        self.by_wish.get(&wish).map(Arc::as_ref)
    }
}

fn wish(op: &CopyOp, source: &CopySource) -> Option<Wish> {
    let (url, is_git) = match source {
        CopySource::Url { url, .. } => (url, false),
        CopySource::Git { url, .. } => (url, true),
        CopySource::Tree { .. } | CopySource::Inline { .. } => return None,
    };
    Some(Wish {
        url: url.clone(),
        is_git,
        checksum: op.checksum.clone(),
        keep_git_dir: op.keep_git_dir && is_git,
    })
}

/// Fetches every URL and repository that the plan names; the error comes with the vertex that asks.
pub(super) async fn load(inputs: &Arc<Inputs>) -> Result<Remotes, (Input, SolveErrorKind)> {
    // who asks first, and whether any who asks is to run again
    let mut wishes: BTreeMap<Wish, (Input, bool)> = BTreeMap::new();
    for (index, vertex) in inputs.plan.vertices.iter().enumerate() {
        if let Op::Copy(copy) = &vertex.op {
            for wish in copy.sources.iter().filter_map(|source| wish(copy, source)) {
                let forced = inputs.options.forced.contains(&index);
                wishes.entry(wish).or_insert((index, false)).1 |= forced;
            }
        }
    }
    let mut fetching = JoinSet::new();
    for (wish, (index, forced)) in wishes {
        let inputs = inputs.clone();
        fetching.spawn(async move {
            let fetched = tokio::select! {
                fetched = fetch(&inputs, &wish, index, forced) => fetched,
                () = inputs.cancel.cancelled() => Err(SolveErrorKind::Cancelled),
            };
            (wish, index, fetched)
        });
    }
    let mut remotes = Remotes::default();
    while let Some(joined) = fetching.join_next().await {
        let (wish, index, fetched) = joined.map_err(|error| (0, worker(error)))?;
        let remote = fetched.map_err(|kind| (index, kind))?;
        remotes.by_wish.insert(wish, Arc::new(remote));
    }
    Ok(remotes)
}

async fn fetch(
    inputs: &Inputs,
    wish: &Wish,
    index: Input,
    forced: bool,
) -> Result<Remote, SolveErrorKind> {
    let dir = tempfile::Builder::new()
        .prefix("source-")
        .tempdir_in(inputs.store.tmp_dir())
        .map_err(|error| SourceError::io("make a directory for a source", error))?;
    if wish.is_git {
        return repository(inputs, wish, dir).await;
    }
    let checksum = wish.checksum.as_deref().map(sha256).transpose()?;
    let shown = without_credentials(&wish.url);
    let vertex = VertexId(u32::try_from(index).unwrap_or(u32::MAX));
    let progress = |done, total| {
        inputs.events.emit(Event::Transfer {
            vertex,
            what: shown.clone(),
            done,
            total,
        });
    };
    let (client, store) = (&inputs.client, &inputs.store);
    let anew = inputs.options.no_cache || forced;
    let wanted = http::Wanted { checksum, anew };
    let found = http::fetch(client, store, &wish.url, wanted, &progress).await?;
    let name = http::file_name(&wish.url);
    let blob = store.blobs().path(&found.digest);
    place(&blob, &dir.path().join(&name), found.last_modified)
        .map_err(|error| SourceError::io(format!("put {shown} into place"), error))?;
    let digest = found.digest;
    let fetched = Fetched::File { url: shown, digest };
    remote(dir, escaped(&name), "what was downloaded", fetched)
}

async fn repository(inputs: &Inputs, wish: &Wish, dir: TempDir) -> Result<Remote, SolveErrorKind> {
    let Some(url) = GitUrl::parse(&wish.url) else {
        let reason = "it names no git repository".to_owned();
        let url = without_credentials(&wish.url);
        return Err(SourceError::Address { url, reason }.into());
    };
    let mut url = url.map_err(SourceError::from)?;
    if let Some(checksum) = &wish.checksum {
        let hex = checksum.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || !(7..=64).contains(&checksum.len()) {
            return Err(SourceError::BadChecksum {
                checksum: checksum.clone(),
                reason: "a commit is 7 to 64 hexadecimal digits".to_owned(),
            }
            .into());
        }
        url.checksum = Some(checksum.clone());
        if url.reference.is_none() && checksum.len() >= 40 {
            url.reference = Some(checksum.clone());
        }
    }
    let keep = url.keep_git_dir.unwrap_or(wish.keep_git_dir);
    let (client, store) = (&inputs.client, &inputs.store);
    let checkout = git::checkout(client, store, &url, &inputs.secrets, keep, dir.path());
    let fetched = Fetched::Commit {
        commit: checkout.await?.commit,
        url: match &url.reference {
            Some(reference) => format!("{}#{reference}", url.shown()),
            None => url.shown(),
        },
    };
    let pattern = match url.subdir.as_str() {
        "" => "/".to_owned(),
        subdir => escaped(subdir),
    };
    remote(dir, pattern, "the git repository", fetched)
}

fn remote(
    dir: TempDir,
    pattern: String,
    place: &'static str,
    fetched: Fetched,
) -> Result<Remote, SolveErrorKind> {
    let tree = LocalTree::walk(dir.path(), None, place, None)?;
    Ok(Remote {
        known: KnownTree {
            tree: Arc::new(tree),
            digests: Arc::new(DigestCache::in_memory()),
        },
        pattern,
        fetched,
        _dir: dir,
    })
}

/// Makes the file that ADD copies: 0600, with the time that the server says, else 1970, as in BuildKit.
fn place(blob: &Path, file: &Path, last_modified: Option<i64>) -> std::io::Result<()> {
    std::fs::copy(blob, file)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
    let seconds = u64::try_from(last_modified.unwrap_or(0)).unwrap_or(0);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::File::options()
        .write(true)
        .open(file)?
        .set_modified(time)
}

fn sha256(checksum: &str) -> Result<Digest, SolveErrorKind> {
    checksum.parse::<Digest>().map_err(|error| {
        SourceError::BadChecksum {
            checksum: checksum.to_owned(),
            reason: error.to_string(),
        }
        .into()
    })
}

/// Writes a name so that a pattern means it and nothing else.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
