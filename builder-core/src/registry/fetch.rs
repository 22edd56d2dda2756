//! One blob on its way into the store: streamed, verified, and gone on with where a connection was cut.

use std::io::Write;
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
use crate::image::Descriptor;
use crate::progress::{Event, EventSink, VertexId};
use crate::store::{BlobWriter, Blobs, StoreError};

const BYTES_PER_EVENT: u64 = 512 << 10;
/// A connection that brought this much before it was cut was worth it: attempts are counted anew.
const BYTES_WORTH_IT: u64 = 1 << 20;
/// A blob of which less comes in the time that silence is borne does not come.
const LEAST_BYTES: usize = 4 << 10;

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
