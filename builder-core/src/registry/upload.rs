//! One blob on its way to a registry.
//!
//! ```text
//! HEAD ── there ─────────────────────────────▶ done
//!  │ absent
//! POST ?mount=… ── 201 ──────────────────────▶ done
//!  │ 202
//! PUT, the whole ── 201 ─────────────────────▶ done
//!  │ cut
//! GET: how far? ─▶ PATCH, a piece ─▶ … ─▶ PUT, the last ─▶ done
//!  │ the registry does not know any more
//! DELETE, HEAD …
//! ```
//!
//! The whole goes first, since some registries take nothing else, and since pieces cost a round trip each. Once a
//! connection was cut, [`Pieces`] make sure that the next cut costs one of them at most. Attempts are counted anew only
//! when the registry has acknowledged more than ever before, so an upload that starts over again and again ends. One that
//! is given up is deleted, as far as the registry lets it.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::attempts::{Attempts, Trouble};
use super::call::{Access, Request};
use super::part::Part;
use super::pieces::Pieces;
use super::push::Arrival;
use super::relay;
use super::transport::Body;
use super::{Client, Endpoint, Progress, RegistryError, Source};
use crate::digest::Digest;
use crate::image::{Descriptor, Reference};
use crate::store::{Blobs, StoreError};

const TELL_EVERY: Duration = Duration::from_millis(200);
/// For how long the registry is asked to forget an upload.
const DELETE_WITHIN: Duration = Duration::from_secs(5);

/// Where an upload stands.
#[derive(Debug, Clone)]
struct Session {
    url: Url,
    /// What the registry has.
    offset: u64,
    /// The smallest piece that it takes.
    least: u64,
}

enum Begun {
    Done(Arrival),
    Session(Session),
}

struct Upload<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    blob: &'a Descriptor,
    what: String,
    progress: Option<Progress<'a>>,
}

impl Client {
    /// Has a blob in a repository.
    pub(super) async fn upload(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        origins: &[Reference],
        blobs: &Blobs,
        progress: Option<Progress<'_>>,
    ) -> Result<Arrival, RegistryError> {
        let upload = Upload {
            client: self,
            endpoint,
            blob,
            what: format!("blob {}", blob.digest),
            progress,
        };
        let mount = self.mountable(endpoint, origins);
        let arrival = upload.run(mount, origins, blobs).await;
        match arrival {
            // The registry may be right that this is not what it should be.
            Err(RegistryError::Status { status: 400, .. }) => {
                let (blobs, digest) = (blobs.clone(), blob.digest);
                let checked = tokio::task::spawn_blocking(move || check(&blobs, digest)).await;
                if let Ok(Err(damaged)) = checked {
                    return Err(damaged.into());
                }
            }
            Ok(arrival) => upload.arrived(arrival),
            _ => {}
        }
        arrival
    }

    /// Returns a repository of the same registry that has the blob.
    fn mountable(&self, endpoint: &Endpoint, origins: &[Reference]) -> Option<String> {
        let registries = &self.inner.options.registries;
        let found = origins
            .iter()
            .filter_map(|it| registries.push_endpoint(it).ok());
        let other =
            |it: &Endpoint| it.host == endpoint.host && it.repository != endpoint.repository;
        found.filter(other).map(|it| it.repository).next()
    }
}

impl Upload<'_> {
    async fn run(
        &self,
        mut mount: Option<String>,
        origins: &[Reference],
        blobs: &Blobs,
    ) -> Result<Arrival, RegistryError> {
        let options = &self.client.inner.options;
        let mut attempts = Attempts::new(options);
        let mut session: Option<Session> = None;
        let mut pieces = Pieces::new(options.upload_chunk_bytes);
        let mut relayed = false;
        let mut file: Option<Arc<File>> = None;
        loop {
            let stepped = async {
                let mut at = match session.take() {
                    Some(at) => at,
                    None => match self.begin(mount.take()).await? {
                        Begun::Done(arrival) => return Ok(Err(arrival)),
                        Begun::Session(at) => at,
                    },
                };
                let big = self.blob.size >= relay::LEAST_BYTES;
                let absent = || !blobs.has_sized(&self.blob.digest, self.blob.size);
                if big && file.is_none() && at.offset == 0 && !relayed && absent() {
                    relayed = true;
                    if self.relay(&at, origins).await {
                        return Ok(Err(Arrival::Sent));
                    }
                    // What has become of the upload is not known: another one starts.
                    self.forget(&at).await;
                    at = match self.begin(None).await? {
                        Begun::Done(arrival) => return Ok(Err(arrival)),
                        Begun::Session(at) => at,
                    };
                }
                let file = match &file {
                    Some(file) => file.clone(),
                    None => {
                        let opened = Arc::new(self.open(origins, blobs).await?);
                        file.insert(opened).clone()
                    }
                };
                Ok::<_, Trouble>(Ok((at, file)))
            };
            let outcome = match stepped.await {
                Ok(Err(arrival)) => return Ok(arrival),
                Ok(Ok((at, file))) => {
                    let left = self.blob.size - at.offset;
                    let sent = match pieces.next(left, at.least) {
                        Some(piece) => self.patch(&at, file, piece).await.map(Some),
                        None => {
                            let finished = self.finish(&at, file, left, pieces.apart());
                            finished.await.map(|()| None)
                        }
                    };
                    sent.map_err(|it| (at, it))
                }
                Err(trouble) => {
                    attempts.again(trouble).await?;
                    continue;
                }
            };
            match outcome {
                Ok(None) => return Ok(Arrival::Sent),
                Ok(Some(next)) => {
                    if pieces.acknowledged(next.offset) {
                        attempts.progress();
                    }
                    session = Some(next);
                }
                Err((at, trouble)) => {
                    // What it has by now says whether this attempt was worth it.
                    let next = match trouble.retry {
                        true => self.status(&at).await,
                        false => None,
                    };
                    if next
                        .as_ref()
                        .is_some_and(|it| pieces.acknowledged(it.offset))
                    {
                        attempts.progress();
                    }
                    pieces.cut();
                    if next.is_none() {
                        self.forget(&at).await;
                    }
                    if let Err(error) = attempts.again(trouble).await {
                        if let Some(at) = &next {
                            self.forget(at).await;
                        }
                        return Err(error);
                    }
                    session = next;
                }
            }
        }
    }

    /// Finds out whether the blob is there, else has it mounted, else starts an upload.
    async fn begin(&self, mount: Option<String>) -> Result<Begun, Trouble> {
        let digest = self.blob.digest;
        let head = self.request(Method::HEAD, format!("blobs/{digest}"));
        match self.call(&head).await {
            Ok(_) => return Ok(Begun::Done(Arrival::There)),
            Err(Trouble {
                error: RegistryError::NotFound { .. },
                ..
            }) => {}
            Err(trouble) => return Err(trouble),
        }
        if let Some(from) = mount {
            let mut query = form_query(&[("mount", &digest.to_string()), ("from", &from)]);
            query.insert_str(0, "blobs/uploads/?");
            let mut request = self.request(Method::POST, query);
            request.also_pull = Some(from);
            match self.call(&request).await {
                Ok(response) if response.status() == StatusCode::CREATED => {
                    return Ok(Begun::Done(Arrival::Mounted));
                }
                Ok(response) => return Ok(Begun::Session(self.session(&response, None)?)),
                // It may not be allowed to us; an upload still may.
                Err(trouble) if !trouble.retry => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let request = self.request(Method::POST, "blobs/uploads/".to_owned());
        let response = self.call(&request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Begun::Done(Arrival::There)),
            _ => Ok(Begun::Session(self.session(&response, None)?)),
        }
    }

    /// Sends a piece; returns where the upload stands then.
    async fn patch(&self, at: &Session, file: Arc<File>, piece: u64) -> Result<Session, Trouble> {
        let last = at.offset + piece - 1;
        let mut request = self.request(Method::PATCH, String::new());
        request.url = Some(at.url.clone());
        let range = format!("{}-{last}", at.offset);
        let range = HeaderValue::from_str(&range).map_err(|_| self.broken("an odd range"))?;
        request.headers.insert(CONTENT_RANGE, range);
        apart(&mut request);
        let response = self.send(request, file, at.offset, piece).await?;
        let mut next = self.session(&response, Some(at))?;
        // One that does not say has all of it.
        next.offset = acknowledged(response.headers()).unwrap_or(last + 1);
        Ok(self.plausible(next)?)
    }

    /// Sends the blob as it comes from where it is known to be; says whether all went well.
    async fn relay(&self, at: &Session, origins: &[Reference]) -> bool {
        let Some(body) = self.client.relayed(self.blob, origins).await else {
            return false;
        };
        let mut request = self.last(at);
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(CONTENT_TYPE, kind);
        request.body = Body::Passing(body.clone());
        let mut sending = std::pin::pin!(self.call(&request));
        loop {
            match tokio::time::timeout(TELL_EVERY, &mut sending).await {
                Ok(answer) => return answer.is_ok_and(|it| self.is_right(&it).is_ok()),
                Err(_) => self.tell(body.moved()),
            }
        }
    }

    /// Returns the request that ends an upload.
    fn last(&self, at: &Session) -> Request {
        let mut url = at.url.clone();
        url.query_pairs_mut()
            .append_pair("digest", &self.blob.digest.to_string());
        let mut request = self.request(Method::PUT, String::new());
        request.url = Some(url);
        request
    }

    /// Sends what is left, and ends the upload.
    async fn finish(
        &self,
        at: &Session,
        file: Arc<File>,
        left: u64,
        alone: bool,
    ) -> Result<(), Trouble> {
        let mut request = self.last(at);
        if alone {
            apart(&mut request);
        }
        if at.offset > 0 && left > 0 {
            let range = format!("{}-{}", at.offset, at.offset + left - 1);
            let range = HeaderValue::from_str(&range).map_err(|_| self.broken("an odd range"))?;
            request.headers.insert(CONTENT_RANGE, range);
        }
        let response = self.send(request, file, at.offset, left).await?;
        Ok(self.is_right(&response)?)
    }

    /// Refuses what the registry says to be another blob.
    fn is_right(&self, response: &Response) -> Result<(), RegistryError> {
        match super::documents::said_digest(response.headers()) {
            Some(actual) if actual != self.blob.digest => Err(RegistryError::WrongDigest {
                what: self.what.clone(),
                host: self.endpoint.host.clone(),
                expected: self.blob.digest,
                actual,
            }),
            _ => Ok(()),
        }
    }

    /// Asks how far an upload has come; `None` where it has to start over.
    async fn status(&self, at: &Session) -> Option<Session> {
        let mut request = self.request(Method::GET, String::new());
        request.url = Some(at.url.clone());
        let response = self.call(&request).await.ok()?;
        let mut next = self.session(&response, Some(at)).ok()?;
        next.offset = acknowledged(response.headers())?;
        self.plausible(next).ok()
    }

    /// Has the registry forget an upload that nobody goes on with; some cannot, and nothing depends on it.
    async fn forget(&self, at: &Session) {
        let mut request = self.request(Method::DELETE, String::new());
        request.url = Some(at.url.clone());
        let _ = tokio::time::timeout(DELETE_WITHIN, self.call(&request)).await;
    }

    /// Sends a part of the file as the body of `request`, and tells how far it is.
    async fn send(
        &self,
        mut request: Request,
        file: Arc<File>,
        from: u64,
        len: u64,
    ) -> Result<Response, Trouble> {
        let part = Part::new(file, from, len);
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(CONTENT_TYPE, kind);
        request.body = Body::File(part.clone());
        let mut sending = std::pin::pin!(self.call(&request));
        let answer = loop {
            match tokio::time::timeout(TELL_EVERY, &mut sending).await {
                Ok(answer) => break answer,
                Err(_) => self.tell(from + part.moved().min(len)),
            }
        };
        answer.map_err(|mut trouble| {
            // The upload has got lost or mixed up, which starting over mends.
            if let RegistryError::Status { status, .. } = &trouble.error {
                trouble.retry |= matches!(status, 400 | 409 | 416);
            }
            trouble.retry |= matches!(trouble.error, RegistryError::NotFound { .. });
            trouble
        })
    }

    /// Opens the blob, which is fetched first where the store lacks it.
    async fn open(&self, origins: &[Reference], blobs: &Blobs) -> Result<File, RegistryError> {
        let blob = self.blob;
        if !blobs.has_sized(&blob.digest, blob.size) {
            let origins = BTreeMap::from([(blob.digest, origins.to_vec())]);
            let source = Source::Held { origins };
            self.client
                .fetch_blob(&source, blob, blobs, self.progress)
                .await?;
        }
        Ok(blobs.open(&blob.digest)?)
    }

    fn request(&self, method: Method, path: String) -> Request {
        Request::new(method, path, &self.what).access(Access::Push)
    }

    fn call<'r>(
        &'r self,
        request: &'r Request,
    ) -> impl Future<Output = Result<Response, Trouble>> + 'r {
        self.client.inner.call_once(self.endpoint, request)
    }

    /// Reads where an upload goes on.
    fn session(
        &self,
        response: &Response,
        earlier: Option<&Session>,
    ) -> Result<Session, RegistryError> {
        let headers = response.headers();
        let said = headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let mut url = match (said, earlier) {
            (Some(said), _) => response
                .url()
                .join(said)
                .map_err(|_| self.broken("it names no place to upload to"))?,
            (None, Some(earlier)) => earlier.url.clone(),
            (None, None) => return Err(self.broken("it names no place to upload to")),
        };
        let asked = response.url();
        if asked.scheme() == "https" && url.scheme() == "http" {
            // A registry behind a proxy that does not know of TLS. Never without it.
            if url.host_str() != asked.host_str() || url.set_scheme("https").is_err() {
                return Err(self.broken("it names a place without TLS to upload to"));
            }
        }
        let least = headers
            .get("oci-chunk-min-length")
            .and_then(|it| it.to_str().ok()?.parse().ok())
            .or(earlier.map(|it| it.least))
            .unwrap_or(0);
        Ok(Session {
            url,
            offset: 0,
            least,
        })
    }

    fn plausible(&self, session: Session) -> Result<Session, RegistryError> {
        match session.offset <= self.blob.size {
            true => Ok(session),
            false => Err(self.broken("it has more of a blob than was sent")),
        }
    }

    fn broken(&self, why: &str) -> RegistryError {
        RegistryError::Protocol {
            host: self.endpoint.host.clone(),
            why: why.to_owned(),
        }
    }

    fn tell(&self, done: u64) {
        if let Some(progress) = self.progress {
            progress.sending("pushing", self.blob, done.min(self.blob.size));
        }
    }

    fn arrived(&self, arrival: Arrival) {
        let how = match arrival {
            Arrival::Sent => "pushing",
            Arrival::Mounted => "mounted",
            Arrival::There => "there already:",
        };
        if let Some(progress) = self.progress {
            progress.sending(how, self.blob, self.blob.size);
        }
    }
}

/// Reads `Range: 0-41`: 42 bytes are there. `0-0` is what an empty upload says.
fn acknowledged(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    match (first, last) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

/// Has a connection end with this request: what comes next starts with a fresh one.
fn apart(request: &mut Request) {
    let close = HeaderValue::from_static("close");
    request.headers.insert(CONNECTION, close);
}

fn form_query(pairs: &[(&str, &str)]) -> String {
    // Only its query is used.
    let mut url: Url = match "http://query/".parse() {
        Ok(url) => url,
        Err(_) => return String::new(),
    };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

fn check(blobs: &Blobs, digest: Digest) -> Result<(), StoreError> {
    blobs.verify(&digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-41", Some(42)),
            ("bytes=0-41", Some(42)),
            ("1-41", None),
            ("0-", None),
            ("41", None),
            ("0-18446744073709551615", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            assert_eq!(acknowledged(&headers), expected, "{text}");
        }
    }
}
