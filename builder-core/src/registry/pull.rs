//! Pulling: a name to a manifest and a config, then blobs, as they are asked for.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

use super::attempts::Attempts;
use super::call::{Request, unreachable};
use super::client::{Inner, lock};
use super::transport::{NoAnswer, chunk};
use super::{Client, Endpoint, RegistryError};
use crate::digest::Digest;
use crate::image::{
    Descriptor, DocumentError, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use crate::progress::{Event, EventSink, VertexId};
use crate::store::{BlobWriter, Blobs, StoreError};

pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
pub(super) const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// An index may lead to an index, but not for ever.
pub(super) const MAX_INDEX_DEPTH: usize = 3;
const BYTES_PER_EVENT: u64 = 512 << 10;
/// A connection that brought this much before it was cut was worth it: attempts are counted anew.
const BYTES_WORTH_IT: u64 = 1 << 20;
/// A blob of which less comes in the time that silence is borne does not come.
const LEAST_BYTES: usize = 4 << 10;

/// An image's documents, verified and stored; its layers may still be elsewhere.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As asked for; `None` for an image of a layout or an archive.
    pub reference: Option<Reference>,
    /// What the name stands for: an index or a manifest.
    pub digest: Digest,
    pub manifest_descriptor: Descriptor,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub config: ImageConfig,
    pub config_bytes: Vec<u8>,
    /// Base first.
    pub layers: Vec<Descriptor>,
    pub source: Source,
}

/// Where the rest of an image can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Registry {
        reference: Reference,
        /// Who answered; asked first for the blobs.
        endpoint: Endpoint,
    },
    /// A layout or an archive, whose blobs are all in the store already.
    Local { path: PathBuf },
}

/// Whom to tell about bytes.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    pub events: &'a dyn EventSink,
    pub vertex: VertexId,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(&self.vertex).finish()
    }
}

impl Progress<'_> {
    fn transfer(&self, descriptor: &Descriptor, done: u64) {
        self.events.emit(Event::Transfer {
            vertex: self.vertex,
            what: descriptor.digest.to_string(),
            done,
            total: Some(descriptor.size),
        });
    }

    pub(super) fn sending(&self, how: &str, descriptor: &Descriptor, done: u64) {
        self.events.emit(Event::Transfer {
            vertex: self.vertex,
            what: format!("{how} {}", descriptor.digest),
            done,
            total: Some(descriptor.size),
        });
    }
}

impl Client {
    /// Finds the image that `reference` stands for on `platform`; its documents are then in `blobs`.
    ///
    /// Mirrors are asked in order, then the source; documents that are stored already are not fetched. A
    /// reference with a digest is asked for by that, whatever its tag says.
    ///
    /// # Errors
    /// What the source says, if no mirror has a better answer.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let endpoints = self.inner.options.registries.endpoints(reference)?;
        let mut mirrors = Vec::new();
        let mut outcome: Option<RegistryError> = None;
        for endpoint in endpoints {
            match self
                .inner
                .resolve(&endpoint, reference, platform, blobs)
                .await
            {
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => mirrors.extend(outcome.replace(error).map(|it| it.to_string())),
                found => return found,
            }
        }
        // There is always the source, and so an outcome.
        let source = outcome.unwrap_or_else(|| RegistryError::NotFound {
            what: reference.to_string(),
            host: reference.domain().to_owned(),
        });
        if mirrors.is_empty() {
            return Err(source);
        }
        let source = Box::new(source);
        Err(RegistryError::AfterMirrors { mirrors, source })
    }

    /// Fetches a blob into `blobs`, verified; does nothing where it is there.
    ///
    /// # Errors
    /// What the source says, if no mirror has a better answer.
    pub async fn fetch_blob(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
    ) -> Result<(), RegistryError> {
        if blobs.has_sized(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let (reference, answered) = match source {
            Source::Registry {
                reference,
                endpoint,
            } => (reference, endpoint),
            Source::Local { path } => {
                return Err(RegistryError::Incomplete {
                    path: path.clone(),
                    what: descriptor.digest.to_string(),
                });
            }
        };
        let turn: Arc<tokio::sync::Mutex<()>> = lock(&self.inner.fetching)
            .entry(descriptor.digest)
            .or_default()
            .clone();
        let _turn = turn.lock().await;
        if blobs.has_sized(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let mut endpoints = vec![answered.clone()];
        let all = self.inner.options.registries.endpoints(reference)?;
        endpoints.extend(all.into_iter().filter(|it| it != answered));
        let mut outcome = Ok(());
        for endpoint in endpoints {
            outcome = self
                .inner
                .fetch(&endpoint, descriptor, blobs, progress)
                .await;
            match &outcome {
                Err(error) if !is_final(error) => {}
                _ => break,
            }
        }
        lock(&self.inner.fetching).remove(&descriptor.digest);
        outcome
    }
}

impl Inner {
    async fn resolve(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<Resolved, RegistryError> {
        let what = reference.familiar();
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Asked::Digest(digest),
            (None, tag) => Asked::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let mut bytes = self.manifest(endpoint, &asked, &what, blobs).await?;
        let digest = Digest::of(&bytes);
        let document = |source| RegistryError::Document {
            what: what.clone(),
            source,
        };
        for _ in 0..MAX_INDEX_DEPTH {
            if !is_index(&bytes).map_err(document)? {
                break;
            }
            let index = Index::parse(&bytes).map_err(document)?;
            let entry = choose(&index, platform, &what)?;
            bytes = self
                .manifest(endpoint, &Asked::Digest(entry.digest), &what, blobs)
                .await?;
            check_size(&what, endpoint, bytes.len() as u64, entry.size)?;
        }
        let manifest = Manifest::parse(&bytes).map_err(document)?;
        check_manifest(&manifest, &what)?;
        let config_bytes = self
            .config(endpoint, &manifest.config, &what, blobs)
            .await?;
        let source = Source::Registry {
            reference: reference.clone(),
            endpoint: endpoint.clone(),
        };
        Resolved::assemble(&what, digest, bytes, config_bytes, source)
    }

    pub(super) async fn manifest(
        &self,
        endpoint: &Endpoint,
        asked: &Asked,
        what: &str,
        blobs: &Blobs,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Asked::Digest(digest) = asked
            && let Ok(bytes) = blobs.read(digest, MAX_MANIFEST_BYTES)
        {
            return Ok(bytes);
        }
        let name = match asked {
            Asked::Digest(digest) => digest.to_string(),
            Asked::Tag(tag) => tag.clone(),
        };
        let mut request = Request::new(Method::GET, format!("manifests/{name}"), what);
        request.headers = accept_manifests();
        let (bytes, headers) = self
            .document(endpoint, &request, MAX_MANIFEST_BYTES)
            .await?;
        let said = said_digest(&headers);
        let expected = match asked {
            Asked::Digest(digest) => Some(*digest),
            Asked::Tag(_) => said,
        };
        verify(what, endpoint, &bytes, expected)?;
        blobs.put(&bytes)?;
        Ok(bytes)
    }

    async fn config(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        what: &str,
        blobs: &Blobs,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Ok(bytes) = blobs.read(&descriptor.digest, MAX_CONFIG_BYTES) {
            return Ok(bytes);
        }
        let request = blob_request(descriptor, 0, &format!("the config of {what}"));
        if descriptor.size > MAX_CONFIG_BYTES {
            return Err(RegistryError::TooLarge {
                what: request.what,
                host: endpoint.host.clone(),
                max: MAX_CONFIG_BYTES,
            });
        }
        let (bytes, _) = self.document(endpoint, &request, MAX_CONFIG_BYTES).await?;
        check_size(&request.what, endpoint, bytes.len() as u64, descriptor.size)?;
        verify(&request.what, endpoint, &bytes, Some(descriptor.digest))?;
        blobs.put(&bytes)?;
        Ok(bytes)
    }

    /// Streams a blob into the store; goes on where a connection was cut.
    async fn fetch(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
    ) -> Result<(), RegistryError> {
        let what = format!("blob {}", descriptor.digest);
        let mut download = Download {
            writer: blobs.writer()?,
            descriptor,
            progress,
            done: 0,
            told: 0,
        };
        let mut attempts = Attempts::new(&self.options);
        loop {
            let before = download.done;
            let request = blob_request(descriptor, before, &what);
            let answer = self.call_again(endpoint, &request, &mut attempts).await;
            let response = match answer {
                // There is nothing behind what came: the manifest speaks of more.
                Err(RegistryError::Status { status: 416, .. }) if before > 0 => {
                    check_size(&what, endpoint, before, descriptor.size)?;
                    break;
                }
                answer => answer?,
            };
            let skip = match response.status() {
                StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(before) => 0,
                StatusCode::PARTIAL_CONTENT => {
                    return Err(RegistryError::Protocol {
                        host: endpoint.host.clone(),
                        why: "it sends another range than asked for".to_owned(),
                    });
                }
                // It knows no ranges: what we have comes again.
                _ => before,
            };
            let behind = before - skip;
            if let Some(length) = response.content_length() {
                check_size(&what, endpoint, length + behind, descriptor.size)?;
            }
            let patience = self.options.no_progress_timeout;
            match download
                .read(response, skip, endpoint, &what, patience)
                .await?
            {
                None => break,
                Some(cut) => {
                    if download.done >= before + BYTES_WORTH_IT {
                        attempts.progress();
                    }
                    attempts.again(unreachable(&endpoint.host, cut)).await?;
                }
            }
        }
        let Download { writer, .. } = download;
        match writer.commit(Some(descriptor.digest)) {
            Ok(_) => Ok(()),
            Err(StoreError::Mismatch { expected, actual }) => Err(RegistryError::WrongDigest {
                what,
                host: endpoint.host.clone(),
                expected,
                actual,
            }),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) enum Asked {
    Tag(String),
    Digest(Digest),
}

struct Download<'a> {
    writer: BlobWriter,
    descriptor: &'a Descriptor,
    progress: Option<Progress<'a>>,
    done: u64,
    /// `done` as last told.
    told: u64,
}

impl Download<'_> {
    /// Writes a body, its first `skip` bytes left out; returns why it was cut.
    async fn read(
        &mut self,
        mut response: Response,
        mut skip: u64,
        endpoint: &Endpoint,
        what: &str,
        patience: Duration,
    ) -> Result<Option<NoAnswer>, RegistryError> {
        let (mut window, mut came) = (Instant::now(), 0);
        loop {
            let chunk = match chunk(&mut response, patience).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.done == self.descriptor.size => {
                    self.tell(0);
                    return Ok(None);
                }
                Ok(None) => {
                    let cause = format!(
                        "the connection ended after {} of {} bytes",
                        self.done, self.descriptor.size
                    );
                    return Ok(Some(NoAnswer { cause, retry: true }));
                }
                Err(error) => return Ok(Some(error)),
            };
            let chunk = chunk.as_ref();
            came += chunk.len();
            if window.elapsed() >= patience {
                if came < LEAST_BYTES {
                    let cause = format!("only {came} bytes came in {patience:?}");
                    return Ok(Some(NoAnswer { cause, retry: true }));
                }
                (window, came) = (Instant::now(), 0);
            }
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let fresh = &chunk[known..];
            if self.done + fresh.len() as u64 > self.descriptor.size {
                return Err(RegistryError::TooLarge {
                    what: what.to_owned(),
                    host: endpoint.host.clone(),
                    max: self.descriptor.size,
                });
            }
            self.writer
                .write_all(fresh)
                .map_err(|error| self.writer.failed(error))?;
            self.done += fresh.len() as u64;
            self.tell(BYTES_PER_EVENT);
        }
    }

    fn tell(&mut self, step: u64) {
        if let Some(progress) = self.progress
            && self.done >= self.told + step
        {
            self.told = self.done;
            progress.transfer(self.descriptor, self.done);
        }
    }
}

impl Resolved {
    /// Puts together what has been read and verified.
    pub(super) fn assemble(
        what: &str,
        digest: Digest,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
        source: Source,
    ) -> Result<Self, RegistryError> {
        let document = |source| RegistryError::Document {
            what: what.to_owned(),
            source,
        };
        let manifest = Manifest::parse(&manifest_bytes).map_err(document)?;
        let config = ImageConfig::parse(&config_bytes).map_err(document)?;
        if manifest.layers.len() != config.diff_ids.len() {
            return Err(RegistryError::LayerCount {
                what: what.to_owned(),
                layers: manifest.layers.len(),
                diff_ids: config.diff_ids.len(),
            });
        }
        let reference = match &source {
            Source::Registry { reference, .. } => Some(reference.clone()),
            Source::Local { .. } => None,
        };
        Ok(Resolved {
            reference,
            digest,
            manifest_descriptor: Descriptor::of(manifest.media_type(), &manifest_bytes)
                .for_platform(config.platform()),
            layers: manifest.layers.clone(),
            manifest,
            manifest_bytes,
            config,
            config_bytes,
            source,
        })
    }
}

/// Whether a document is an index, by its media type, or by its fields where it names none.
pub(super) fn is_index(bytes: &[u8]) -> Result<bool, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).map_err(|source| DocumentError::Json {
        what: "manifest",
        source,
    })?;
    Ok(match shape.media_type {
        Some(it) => media_type::is_index(&it),
        None => shape.manifests.is_some(),
    })
}

/// Returns the media type of a manifest or an index: its own, or OCI's where it names none.
pub(super) fn kind_of(bytes: &[u8]) -> Result<String, DocumentError> {
    Ok(match is_index(bytes)? {
        true => Index::parse(bytes)?.media_type().to_owned(),
        false => Manifest::parse(bytes)?.media_type().to_owned(),
    })
}

/// Chooses from an index, or says what there is.
pub(super) fn choose<'a>(
    index: &'a Index,
    platform: &Platform,
    what: &str,
) -> Result<&'a Descriptor, RegistryError> {
    index
        .choose(platform)
        .ok_or_else(|| RegistryError::NoMatchingPlatform {
            what: what.to_owned(),
            platform: Box::new(platform.clone()),
            available: index.platforms(),
        })
}

/// Refuses what is an artifact of another kind.
pub(super) fn check_manifest(manifest: &Manifest, what: &str) -> Result<(), RegistryError> {
    if media_type::is_config(&manifest.config.media_type) {
        return Ok(());
    }
    Err(RegistryError::NotAnImage {
        what: what.to_owned(),
        media_type: manifest.config.media_type.clone(),
    })
}

/// Whether another endpoint cannot help: the fault is ours, or the image's own.
fn is_final(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Store(_)
            | RegistryError::Tls(_)
            | RegistryError::Blocked { .. }
            | RegistryError::NoMatchingPlatform { .. }
            | RegistryError::NotAnImage { .. }
    )
}

fn verify(
    what: &str,
    endpoint: &Endpoint,
    bytes: &[u8],
    expected: Option<Digest>,
) -> Result<(), RegistryError> {
    let actual = Digest::of(bytes);
    match expected {
        Some(expected) if expected != actual => Err(RegistryError::WrongDigest {
            what: what.to_owned(),
            host: endpoint.host.clone(),
            expected,
            actual,
        }),
        _ => Ok(()),
    }
}

/// Refuses what has another size than the document that names it says.
fn check_size(
    what: &str,
    endpoint: &Endpoint,
    actual: u64,
    expected: u64,
) -> Result<(), RegistryError> {
    if actual == expected {
        return Ok(());
    }
    Err(RegistryError::WrongSize {
        what: what.to_owned(),
        host: endpoint.host.clone(),
        expected,
        actual,
    })
}

/// Says which kinds of manifests are read here.
pub(super) fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for accept in [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_INDEX,
        media_type::DOCKER_MANIFEST,
    ] {
        headers.append(ACCEPT, HeaderValue::from_static(accept));
    }
    headers
}

/// Returns the digest that the registry says a document has.
pub(super) fn said_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn blob_request(descriptor: &Descriptor, from: u64, what: &str) -> Request {
    let mut request = Request::new(Method::GET, format!("blobs/{}", descriptor.digest), what);
    if from > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
    {
        request.headers.insert(RANGE, range);
    }
    request
}

/// Returns the first byte's position of a partial answer.
fn starts_at(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}
