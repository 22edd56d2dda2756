//! One blob on its way into the store: streamed, verified, and gone on with where a connection was cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::attempts::Attempts;
use super::call::{Request, unreachable};
use super::client::{Inner, lock};
use super::documents::check_size;
use super::pull::is_final;
use super::transport::{NoAnswer, chunk};
use super::{Client, Endpoint, RegistryError, Source};
use crate::image::{Descriptor, Reference};
use crate::progress::{Event, EventSink, VertexId};
use crate::store::{Blobs, Download, Follower, StoreError};

const BYTES_PER_EVENT: u64 = 512 << 10;
/// A connection that brought this much before it was cut was worth it: attempts are counted anew.
const BYTES_WORTH_IT: u64 = 64 << 10;
/// A blob of which less comes in the time that silence is borne does not come.
const LEAST_BYTES: usize = 4 << 10;
/// How often it is asked whether another process is done with a blob.
const TURN_EVERY: Duration = Duration::from_millis(50);

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

/// Told of each beginning of a download, with a reader of the blob that keeps up with it; a reader that is given up ends with
/// an error of kind `BrokenPipe`.
pub type Begun<'a> = &'a (dyn Fn(Follower) + Sync);

impl Client {
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
        self.fetch_blob_followed(source, descriptor, blobs, progress, &drop)
            .await
    }

    /// The same, for who wants to read the blob while it comes. What is read is not verified before this returns; `begun` is
    /// not called where the blob is there, or another process fetches it.
    ///
    /// # Errors
    /// As [`fetch_blob`](Self::fetch_blob).
    pub async fn fetch_blob_followed(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
        begun: Begun<'_>,
    ) -> Result<(), RegistryError> {
        if blobs.has_sized(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let endpoints = self.endpoints_of(source, descriptor)?;
        let turn: Arc<tokio::sync::Mutex<()>> = lock(&self.inner.fetching)
            .entry(descriptor.digest)
            .or_default()
            .clone();
        let _turn = turn.lock().await;
        let fetch = Fetch {
            client: &self.inner,
            descriptor,
            what: format!("blob {}", descriptor.digest),
            blobs,
            progress,
            begun,
        };
        let mut outcome = Ok(());
        for endpoint in endpoints {
            outcome = fetch.from(&endpoint).await;
            match &outcome {
                Err(error) if !is_final(error) => {}
                _ => break,
            }
        }
        lock(&self.inner.fetching).remove(&descriptor.digest);
        match (outcome, source) {
            (Err(source), Source::Held { origins }) if !is_final(&source) => {
                let digest = descriptor.digest;
                let origins = origins.get(&digest).into_iter().flatten();
                Err(RegistryError::Gone {
                    digest,
                    origins: origins.map(Reference::repository).collect(),
                    source: Box::new(source),
                })
            }
            (outcome, _) => outcome,
        }
    }

    /// Returns who is asked for a blob, in order.
    pub(super) fn endpoints_of(
        &self,
        source: &Source,
        descriptor: &Descriptor,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let registries = &self.inner.options.registries;
        let digest = descriptor.digest;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let references = match source {
            Source::Registry {
                reference,
                endpoint,
            } => {
                endpoints.push(endpoint.clone());
                std::slice::from_ref(reference)
            }
            Source::Held { origins } => match origins.get(&digest) {
                Some(origins) if !origins.is_empty() => origins.as_slice(),
                _ => return Err(RegistryError::NotInStore { digest }),
            },
            Source::Local { path } => {
                return Err(RegistryError::Incomplete {
                    path: path.clone(),
                    what: digest.to_string(),
                });
            }
        };
        for reference in references {
            for endpoint in registries.endpoints(reference)? {
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        Ok(endpoints)
    }
}

/// One blob that is wanted.
struct Fetch<'a> {
    client: &'a Inner,
    descriptor: &'a Descriptor,
    what: String,
    blobs: &'a Blobs,
    progress: Option<Progress<'a>>,
    begun: Begun<'a>,
}

impl Fetch<'_> {
    /// Has the blob in the store: from `endpoint`, unless another process brings it.
    async fn from(&self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        loop {
            let Some(mut download) = self.turn().await? else {
                return Ok(());
            };
            let known = download.done();
            (self.begun)(download.follow()?);
            let streamed = self.stream(endpoint, &mut download).await;
            match streamed {
                Ok(()) => {}
                Err(error) => {
                    // More than there is of it: what came is something else.
                    if matches!(error, RegistryError::TooLarge { .. }) {
                        download.discard();
                    }
                    return Err(error);
                }
            }
            match download.commit() {
                Ok(()) => return Ok(()),
                // What an earlier download left was wrong, and is gone.
                Err(StoreError::Mismatch { .. }) if known > 0 => {}
                Err(StoreError::Mismatch { expected, actual }) => {
                    return Err(RegistryError::WrongDigest {
                        what: self.what.clone(),
                        host: endpoint.host.clone(),
                        expected,
                        actual,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until nobody else fetches the blob; `None` where it is there by then.
    async fn turn(&self) -> Result<Option<Download>, RegistryError> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        loop {
            if self.blobs.has_sized(&digest, size) {
                return Ok(None);
            }
            let blobs = self.blobs.clone();
            // What is there already is hashed.
            let start = tokio::task::spawn_blocking(move || blobs.download(&digest, size));
            match start.await {
                Ok(Ok(Some(download))) => return Ok(Some(download)),
                Ok(Ok(None)) => tokio::time::sleep(TURN_EVERY).await,
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }

    /// Streams what is missing of the blob; goes on where a connection was cut.
    async fn stream(
        &self,
        endpoint: &Endpoint,
        download: &mut Download,
    ) -> Result<(), RegistryError> {
        let (client, what) = (self.client, &self.what);
        let size = self.descriptor.size;
        if download.done() == size && size > 0 {
            return Ok(());
        }
        let mut arriving = Arriving {
            fetch: self,
            endpoint,
            told: download.done(),
            download,
        };
        let mut attempts = Attempts::new(&client.options);
        loop {
            let before = arriving.download.done();
            let request = blob_request(self.descriptor, before, what);
            let answer = client.call_again(endpoint, &request, &mut attempts).await;
            let response = match answer {
                // There is nothing behind what came: the manifest speaks of more.
                Err(RegistryError::Status { status: 416, .. }) if before > 0 => {
                    check_size(what, endpoint, before, size)?;
                    return Ok(());
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
                check_size(what, endpoint, length + behind, size)?;
            }
            match arriving.read(response, skip).await? {
                None => return Ok(()),
                Some(cut) => {
                    if arriving.download.done() >= before + BYTES_WORTH_IT {
                        attempts.progress();
                    }
                    attempts.again(unreachable(&endpoint.host, cut)).await?;
                }
            }
        }
    }
}

/// A download from one endpoint.
struct Arriving<'a> {
    fetch: &'a Fetch<'a>,
    endpoint: &'a Endpoint,
    download: &'a mut Download,
    /// How much was there as last told.
    told: u64,
}

impl Arriving<'_> {
    /// Writes a body, its first `skip` bytes left out; returns why it was cut.
    async fn read(
        &mut self,
        mut response: Response,
        mut skip: u64,
    ) -> Result<Option<NoAnswer>, RegistryError> {
        let patience = self.fetch.client.options.no_progress_timeout;
        let size = self.fetch.descriptor.size;
        let (mut window, mut came) = (Instant::now(), 0);
        loop {
            let chunk = match chunk(&mut response, patience).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.download.done() == size => {
                    self.tell(0);
                    return Ok(None);
                }
                Ok(None) => {
                    let cause = format!(
                        "the connection ended after {} of {size} bytes",
                        self.download.done()
                    );
                    return Ok(Some(NoAnswer::new(cause, true)));
                }
                Err(error) => return Ok(Some(error)),
            };
            let chunk = chunk.as_ref();
            came += chunk.len();
            if window.elapsed() >= patience {
                if came < LEAST_BYTES {
                    let cause = format!("only {came} bytes came in {patience:?}");
                    return Ok(Some(NoAnswer::new(cause, true)));
                }
                (window, came) = (Instant::now(), 0);
            }
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let fresh = &chunk[known..];
            if self.download.done() + fresh.len() as u64 > size {
                return Err(RegistryError::TooLarge {
                    what: self.fetch.what.clone(),
                    host: self.endpoint.host.clone(),
                    max: size,
                });
            }
            self.download.write(fresh)?;
            self.tell(BYTES_PER_EVENT);
        }
    }

    fn tell(&mut self, step: u64) {
        let done = self.download.done();
        if let Some(progress) = self.fetch.progress
            && done >= self.told + step
        {
            self.told = done;
            progress.transfer(self.fetch.descriptor, done);
        }
    }
}

pub(super) fn blob_request(descriptor: &Descriptor, from: u64, what: &str) -> Request {
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
