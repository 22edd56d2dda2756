//! A cache in a directory, which is an OCI layout: on a disk that machines share, or that a CI system keeps.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::ShareError;
use super::backend::{Backend, Means, Written, origin};
use super::documents::{self, Get, MAX_MANIFEST_BYTES, check_size};
use super::format::Contents;
use super::target::Place;
use super::write::Exported;
use crate::digest::Digest;
use crate::image::{ANNOTATION_REF_NAME, Descriptor, Index};
use crate::progress::Event;
use crate::registry::Progress;

/// Blobs that are copied at a time.
const PARALLEL: usize = 4;
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

#[derive(Clone)]
pub(super) struct Local {
    path: PathBuf,
    tag: String,
    digest: Option<Digest>,
    means: Means,
}

impl Local {
    pub(super) fn new(path: PathBuf, tag: String, digest: Option<Digest>, means: Means) -> Self {
        Local {
            path,
            tag,
            digest,
            means,
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// Finds the document that the tag, or the digest, stands for.
    fn top(&self) -> Result<Vec<u8>, ShareError> {
        let digest = match self.digest {
            Some(digest) => digest,
            None => {
                let path = self.path.join("index.json");
                let bytes = small(&path, MAX_MANIFEST_BYTES)?;
                let index = Index::parse(&bytes).map_err(|source| ShareError::Document {
                    what: path.display().to_string(),
                    source,
                })?;
                let tagged =
                    |it: &&Descriptor| it.annotations.get(ANNOTATION_REF_NAME) == Some(&self.tag);
                let missing = || ShareError::NoSuchTag {
                    path: self.path.clone(),
                    tag: self.tag.clone(),
                };
                let found = index.manifests.iter().rfind(tagged);
                found.ok_or_else(missing)?.digest
            }
        };
        self.verified(&digest, MAX_MANIFEST_BYTES)
    }

    fn verified(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, ShareError> {
        let bytes = small(&self.blob(digest), max)?;
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(ShareError::Damaged {
                path: self.blob(digest),
                expected: *digest,
                actual,
            }),
        }
    }

    /// Writes what names a cache: its document, and the entry of the layout's index.
    fn finish(&self, written: &Written<'_>) -> Result<(), ShareError> {
        let (kind, document) = written.document();
        let top = Descriptor::of(kind, &document).annotate(ANNOTATION_REF_NAME, &self.tag);
        put(&self.blob(&top.digest), &document[..])?;
        put(&self.path.join("oci-layout"), LAYOUT.as_bytes())?;
        // Two writers of one directory, with two tags, shall not undo each other's.
        let directory = File::open(&self.path).map_err(ShareError::file("open", &self.path))?;
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| ShareError::file("lock", &self.path)(error.into()))?;
        let path = self.path.join("index.json");
        let earlier = match fs::read(&path) {
            Ok(bytes) => Index::parse(&bytes).ok(),
            Err(_) => None,
        };
        let mut index = earlier.unwrap_or_else(|| Index::new(Vec::new()));
        index
            .manifests
            .retain(|it| it.annotations.get(ANNOTATION_REF_NAME) != Some(&self.tag));
        index.manifests.push(top);
        put(&path, &index.to_bytes()[..])
    }
}

impl Get for Local {
    fn get<'a>(&'a self, what: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>, ShareError>> {
        async move {
            let (local, what) = (self.clone(), what.clone());
            blocking(move || local.verified(&what.digest, check_size(&what)?)).await
        }
        .boxed()
    }
}

impl Backend for Local {
    fn read(&self) -> BoxFuture<'_, Result<Contents, ShareError>> {
        async move {
            let place = Place::Local {
                path: fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone()),
                tag: self.tag.clone(),
                digest: None,
            };
            let local = self.clone();
            let top = blocking(move || local.top()).await?;
            let what = self.path.display().to_string();
            documents::read(&top, &what, &origin(&place), self).await
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        _: Option<Progress<'a>>,
    ) -> BoxFuture<'a, Result<(), ShareError>> {
        let (path, digest) = (self.blob(&blob.digest), blob.digest);
        let blobs = self.means.store.blobs().clone();
        async move {
            blocking(move || {
                regular(&path)?;
                blobs.import(&path, &digest)?;
                Ok(())
            })
            .await
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        written: Written<'a>,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<Exported, ShareError>> {
        async move {
            let directory = self.path.join("blobs/sha256");
            refuse_other(&self.path)?;
            fs::create_dir_all(&directory).map_err(ShareError::file("make", &directory))?;
            let blobs = self.means.store.blobs();
            blobs.put(written.config)?;
            let config = written.config_descriptor();
            let all: Vec<Descriptor> = written.blobs.iter().cloned().chain([config]).collect();
            let copied = all.into_iter().map(|blob| {
                let (from, to) = (blobs.open(&blob.digest), self.blob(&blob.digest));
                async move {
                    if fs::metadata(&to).is_ok_and(|it| it.len() == blob.size) {
                        return Ok::<_, ShareError>((false, blob));
                    }
                    let from = from?;
                    blocking(move || put(&to, from)).await?;
                    Ok((true, blob))
                }
            });
            let mut copied = futures_util::stream::iter(copied).buffer_unordered(PARALLEL);
            let mut exported = Exported::default();
            while let Some((is_new, blob)) = copied.try_next().await? {
                match is_new {
                    false => exported.there += 1,
                    true => {
                        progress.events.emit(Event::Transfer {
                            vertex: progress.vertex,
                            what: format!("writing {}", blob.digest),
                            done: blob.size,
                            total: Some(blob.size),
                        });
                        exported.sent += 1;
                        exported.sent_bytes += blob.size;
                    }
                }
            }
            drop(copied);
            self.finish(&written)?;
            Ok(exported)
        }
        .boxed()
    }
}

/// Refuses a directory that holds something else than a layout.
fn refuse_other(path: &Path) -> Result<(), ShareError> {
    let is_used = fs::read_dir(path).is_ok_and(|mut it| it.next().is_some());
    match is_used && !path.join("oci-layout").exists() && !path.join("blobs").exists() {
        true => Err(ShareError::NotALayout {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Works on a thread that may wait for a disk, so that whoever asks can give up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ShareError> + Send + 'static,
) -> Result<T, ShareError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ShareError::Worker(error.to_string()))?
}

/// Refuses what is no file: a pipe would be waited for.
fn regular(path: &Path) -> Result<(), ShareError> {
    let found = fs::metadata(path).map_err(ShareError::file("read", path))?;
    match found.is_file() {
        true => Ok(()),
        false => Err(ShareError::file("read", path)(io::Error::other(
            "it is no file",
        ))),
    }
}

fn small(path: &Path, max: u64) -> Result<Vec<u8>, ShareError> {
    regular(path)?;
    let file = File::open(path).map_err(ShareError::file("read", path))?;
    let mut bytes = Vec::new();
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(ShareError::file("read", path))?;
    match bytes.len() as u64 > max {
        true => Err(ShareError::TooLarge {
            what: path.display().to_string(),
            max,
        }),
        false => Ok(bytes),
    }
}

/// Writes a file beside its place and renames it into it.
fn put(path: &Path, mut content: impl Read) -> Result<(), ShareError> {
    use std::os::unix::fs::PermissionsExt;
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".cache-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(ShareError::file("write", path))?;
    io::copy(&mut content, &mut file).map_err(ShareError::file("write", path))?;
    file.flush().map_err(ShareError::file("write", path))?;
    file.persist(path)
        .map_err(|error| ShareError::file("write", path)(error.error))?;
    Ok(())
}
