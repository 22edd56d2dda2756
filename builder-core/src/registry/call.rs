//! One request to a repository: where it goes, who asks, and again where that may help.

use std::time::{Instant, SystemTime};

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};

use super::attempts::{Attempts, Trouble, retry_after};
use super::auth;
use super::client::{Inner, lock};
use super::host::{join, verify};
use super::transport::{Body, Call, NoAnswer, chunk, is_transient};
use super::{Endpoint, Lookup, RegistryError};

const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_REASON_CHARS: usize = 300;

/// What a request does to a repository, in the words of token scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
    Delete,
}

/// One request to a repository.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: Method,
    /// Below `/v2/<repository>/`.
    pub path: String,
    /// Where an answer of before said to go, in place of `path`.
    pub url: Option<Url>,
    pub headers: HeaderMap,
    pub body: Body,
    pub access: Access,
    /// Another repository that is read, for a mount.
    pub also_pull: Option<String>,
    /// What it is about, for errors.
    pub what: String,
}

impl Request {
    pub(super) fn new(method: Method, path: impl Into<String>, what: impl Into<String>) -> Self {
        Request {
            method,
            path: path.into(),
            url: None,
            headers: HeaderMap::new(),
            body: Body::EMPTY,
            access: Access::Pull,
            also_pull: None,
            what: what.into(),
        }
    }

    pub(super) fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Returns the token scopes that it needs.
    fn scopes(&self, endpoint: &Endpoint) -> Vec<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
            Access::Delete => "delete,pull",
        };
        let own = format!("repository:{}:{actions}", endpoint.repository);
        let other = self.also_pull.as_ref();
        let other = other.map(|it| format!("repository:{it}:pull"));
        [Some(own), other].into_iter().flatten().collect()
    }
}

impl Inner {
    /// Sends a request until there is a good answer or no hope of one.
    pub(super) async fn call(
        &self,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let mut attempts = Attempts::new(&self.options);
        self.call_again(endpoint, request, &mut attempts).await
    }

    /// Sends a request, on a count of attempts that the caller keeps.
    pub(super) async fn call_again(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        attempts: &mut Attempts<'_>,
    ) -> Result<Response, RegistryError> {
        loop {
            match self.call_once(endpoint, request).await {
                Ok(response) => return Ok(response),
                Err(trouble) => attempts.again(trouble).await?,
            }
        }
    }

    /// Sends a request once; twice where another token is wanted.
    pub(super) async fn call_once(
        &self,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<Response, Trouble> {
        let host = self.host(endpoint, &request.what).await?;
        let mut challenged = None;
        loop {
            let asked = challenged.as_ref().unwrap_or(&host.challenge);
            let scopes = request.scopes(endpoint);
            let authorization = self
                .authorize(endpoint, &host.base, asked, &scopes, &request.what)
                .await?;
            let url = match &request.url {
                Some(url) => url.clone(),
                None => {
                    let path = match endpoint.repository.as_str() {
                        "" => format!("/v2/{}", request.path),
                        repository => format!("/v2/{repository}/{}", request.path),
                    };
                    join(&host.base, &path, &endpoint.host)?
                }
            };
            let mut call = Call {
                method: request.method.clone(),
                headers: request.headers.clone(),
                body: request.body.clone(),
                url,
            };
            // Where an upload goes may be elsewhere; that place has its own signature.
            if let Some(value) = authorization
                && call.url.origin() == host.base.origin()
            {
                call.headers.insert(AUTHORIZATION, value);
            }
            let response = match self.http.send(call, verify(endpoint)).await? {
                Ok(response) => response,
                Err(error) => return Err(unreachable(&endpoint.host, error)),
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && challenged.is_none() {
                // Once: the token may have ended, or another scope may be wanted.
                lock(&self.tokens).retain(|(host, _), _| *host != endpoint.host);
                if let Some(challenge) = auth::challenge(response.headers()) {
                    challenged = Some(challenge);
                    continue;
                }
            }
            let asked = retry_after(response.headers(), SystemTime::now());
            return Err(Trouble {
                error: self.failure(endpoint, &request.what, response).await,
                retry: is_transient(status),
                asked,
            });
        }
    }

    /// Reads a small document, again where its body is cut; returns the head of the answer too.
    pub(super) async fn document(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        max: u64,
    ) -> Result<(Vec<u8>, HeaderMap), RegistryError> {
        let mut attempts = Attempts::new(&self.options);
        loop {
            let response = self.call_again(endpoint, request, &mut attempts).await?;
            let headers = response.headers().clone();
            match self.body(endpoint, response, max, &request.what).await {
                Ok(body) => return Ok((body, headers)),
                Err(trouble) => attempts.again(trouble).await?,
            }
        }
    }

    /// Turns an answer that is no success into an error.
    pub(super) async fn failure(
        &self,
        endpoint: &Endpoint,
        what: &str,
        response: Response,
    ) -> RegistryError {
        let status = response.status();
        let body = self.body(endpoint, response, MAX_ERROR_BYTES, "an error");
        let reason = reason(status, &body.await.unwrap_or_default());
        let (what, host) = (what.to_owned(), endpoint.host.clone());
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what, host },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match self.lookup(endpoint).await {
                Lookup::Helper { name, why } => RegistryError::CredentialHelper {
                    host,
                    helper: name,
                    why,
                },
                _ => RegistryError::Unauthorized { what, host, reason },
            },
            status => RegistryError::Status {
                what,
                host,
                status: status.as_u16(),
                reason,
            },
        }
    }

    /// Reads a small body whole; all of it must come before silence would end a larger one.
    pub(super) async fn body(
        &self,
        endpoint: &Endpoint,
        mut response: Response,
        max: u64,
        what: &str,
    ) -> Result<Vec<u8>, Trouble> {
        let too_large = || RegistryError::TooLarge {
            what: what.to_owned(),
            host: endpoint.host.clone(),
            max,
        };
        if response.content_length().is_some_and(|it| it > max) {
            return Err(too_large().into());
        }
        let end = Instant::now() + self.options.no_progress_timeout;
        let mut bytes = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match chunk(&mut response, left).await {
                Ok(None) => return Ok(bytes),
                Ok(Some(chunk)) => {
                    bytes.extend_from_slice(chunk.as_ref());
                    if bytes.len() as u64 > max {
                        return Err(too_large().into());
                    }
                }
                Err(_) if Instant::now() >= end => {
                    let all = self.options.no_progress_timeout;
                    let cause = match bytes.len() {
                        0 => format!("nothing came for {all:?}"),
                        n => format!("{what} came too slowly, {n} bytes in {all:?}"),
                    };
                    return Err(unreachable(&endpoint.host, NoAnswer::new(cause, true)));
                }
                Err(error) => return Err(unreachable(&endpoint.host, error)),
            }
        }
    }
}

pub(super) fn unreachable(host: &str, error: NoAnswer) -> Trouble {
    let (host, cause) = (host.to_owned(), error.cause);
    Trouble {
        error: match error.distrust {
            Some(why) => RegistryError::Untrusted { host, cause, why },
            None => RegistryError::Unreachable { host, cause },
        },
        retry: error.retry,
        asked: None,
    }
}

/// Returns what the registry says is wrong (distribution spec, "Error Codes"), in one line.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = &document["errors"][0];
    let text = ["message", "code"]
        .iter()
        .find_map(|key| first[key].as_str())
        .or_else(|| document["details"].as_str())
        .filter(|it| !it.is_empty())
        .or(status.canonical_reason())
        .unwrap_or("no reason given");
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_REASON_CHARS)
        .collect()
}
