//! The client: whom it talks to, what it may say, and calls that are tried again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::auth::{self, Challenge, Token};
use super::transport::{Call, Http, is_loopback, is_transient, no_answer, pause};
use super::{Credential, Credentials, Endpoint, Lookup, NoCredentials, Registries, RegistryError};
use crate::digest::Digest;

/// Docker Hub's registry does not answer under its name.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_TOKEN_BYTES: u64 = 1 << 20;
const MAX_REASON_CHARS: usize = 300;

/// Proxies, as `http_proxy`, `https_proxy` and `no_proxy` say them.
#[derive(Clone, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    pub no_proxy: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may hold a password.
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// What a client is made from.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub registries: Registries,
    pub credentials: Arc<dyn Credentials>,
    /// PEM files of authorities that are trusted besides the system's.
    pub ca_certificates: Vec<PathBuf>,
    pub proxies: Proxies,
    pub user_agent: String,
    /// How long a peer may be silent.
    pub no_progress_timeout: Duration,
    /// How often a request is tried.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles from there.
    pub first_pause: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            registries: Registries::default(),
            credentials: Arc::new(NoCredentials),
            ca_certificates: Vec::new(),
            proxies: Proxies::default(),
            user_agent: concat!("builder/", env!("CARGO_PKG_VERSION")).to_owned(),
            no_progress_timeout: Duration::from_secs(60),
            attempts: 5,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Talks to registries. Clones share connections, tokens and what is known of hosts.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub options: ClientOptions,
    http: Http,
    hosts: Mutex<HashMap<(String, bool), Host>>,
    /// By host and scope.
    tokens: Mutex<HashMap<(String, String), Token>>,
    /// One download at a time of one blob.
    pub fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a ping has found out.
#[derive(Debug, Clone)]
struct Host {
    base: Url,
    challenge: Challenge,
}

/// One request to a repository.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: Method,
    /// Below `/v2/<repository>/`.
    pub path: String,
    pub headers: HeaderMap,
    /// What it is about, for errors.
    pub what: String,
}

impl Client {
    /// Makes a client; nothing is connected to.
    pub fn new(options: ClientOptions) -> Self {
        Client {
            inner: Arc::new(Inner {
                http: Http::new(options.clone()),
                options,
                hosts: Mutex::default(),
                tokens: Mutex::default(),
                fetching: Mutex::default(),
            }),
        }
    }
}

impl Inner {
    /// Sends a request until there is a good answer or no hope of one.
    pub(super) async fn call(
        &self,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 0;
        let mut challenged = None;
        let mut refused = false;
        loop {
            attempt += 1;
            let last = attempt >= self.options.attempts;
            let host = self.host(endpoint, &request.what).await?;
            let asked = challenged.as_ref().unwrap_or(&host.challenge);
            let authorization = self
                .authorize(endpoint, &host.base, asked, &request.what)
                .await?;
            let path = format!("/v2/{}/{}", endpoint.repository, request.path);
            let mut call = Call {
                method: request.method.clone(),
                url: join(&host.base, &path, &endpoint.host)?,
                headers: request.headers.clone(),
                body: Vec::new(),
            };
            if let Some(value) = authorization {
                call.headers.insert(AUTHORIZATION, value);
            }
            let response = match self.http.send(call, lenient(endpoint)).await? {
                Ok(response) => response,
                Err(error) if error.retry && !last => {
                    tokio::time::sleep(pause(self.options.first_pause, attempt, None)).await;
                    continue;
                }
                Err(error) => {
                    return Err(RegistryError::Unreachable {
                        host: endpoint.host.clone(),
                        cause: error.cause,
                    });
                }
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !refused {
                // Once: the token may have ended, or another scope may be wanted.
                refused = true;
                attempt -= 1;
                challenged = auth::challenge(response.headers());
                lock(&self.tokens).retain(|(host, _), _| *host != endpoint.host);
                continue;
            }
            if is_transient(status) && !last {
                let headers = Some(response.headers());
                tokio::time::sleep(pause(self.options.first_pause, attempt, headers)).await;
                continue;
            }
            return Err(self.failure(endpoint, &request.what, response).await);
        }
    }

    /// Returns how to talk to a host; pings it the first time.
    async fn host(&self, endpoint: &Endpoint, what: &str) -> Result<Host, RegistryError> {
        let key = (endpoint.host.clone(), endpoint.insecure);
        if let Some(host) = lock(&self.hosts).get(&key) {
            return Ok(host.clone());
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let last = attempt >= self.options.attempts;
            let mut causes = Vec::new();
            let mut retry = false;
            let mut headers = None;
            for scheme in schemes(endpoint) {
                let base = base(scheme, &endpoint.host)?;
                let call = Call {
                    method: Method::GET,
                    url: join(&base, "/v2/", &endpoint.host)?,
                    headers: HeaderMap::new(),
                    body: Vec::new(),
                };
                let response = match self.http.send(call, lenient(endpoint)).await? {
                    Ok(response) => response,
                    Err(error) => {
                        causes.push(format!("{scheme}: {}", error.cause));
                        // The other scheme helps where this one is not understood, and only there.
                        if !error.retry {
                            retry = false;
                            break;
                        }
                        retry = true;
                        continue;
                    }
                };
                let challenge =
                    match response.status() {
                        StatusCode::UNAUTHORIZED => auth::challenge(response.headers())
                            .ok_or_else(|| RegistryError::Protocol {
                                host: endpoint.host.clone(),
                                why: "it asks for credentials in no way that is known here"
                                    .to_owned(),
                            })?,
                        // What a TLS server says to plain HTTP.
                        StatusCode::BAD_REQUEST if *scheme == "http" => {
                            causes.push("http: it does not speak plain HTTP".to_owned());
                            continue;
                        }
                        status if is_transient(status) && !last => {
                            retry = true;
                            headers = Some(response.headers().clone());
                            break;
                        }
                        status if is_transient(status) => {
                            return Err(self.failure(endpoint, what, response).await);
                        }
                        // Some have no such page, and serve images all the same.
                        _ => Challenge::None,
                    };
                // Not its scope: some (ghcr.io) name an example's there.
                let challenge = challenge.without_scope();
                let host = Host { base, challenge };
                lock(&self.hosts).insert(key, host.clone());
                return Ok(host);
            }
            if last || !retry {
                return Err(RegistryError::Unreachable {
                    host: endpoint.host.clone(),
                    cause: causes.join("; "),
                });
            }
            tokio::time::sleep(pause(self.options.first_pause, attempt, headers.as_ref())).await;
        }
    }

    /// Returns the header that answers a challenge; `None`: to be tried without one.
    async fn authorize(
        &self,
        endpoint: &Endpoint,
        base: &Url,
        challenge: &Challenge,
        what: &str,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let (realm, service, scope) = match challenge {
            Challenge::None => return Ok(None),
            Challenge::Basic => {
                let lookup = self.lookup(endpoint);
                return match lookup {
                    Lookup::Found(Credential::Password { username, password }) => {
                        Ok(auth::basic(&username, &password))
                    }
                    _ => Ok(None),
                };
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
        };
        let own = format!("repository:{}:pull", endpoint.repository);
        let scope = scope.clone().unwrap_or(own);
        let key = (endpoint.host.clone(), scope.clone());
        if let Some(token) = lock(&self.tokens).get(&key)
            && token.is_fresh(Instant::now())
        {
            return Ok(Some(token.header.clone()));
        }
        if base.scheme() == "https" && realm.scheme() != "https" && !lenient(endpoint) {
            return Err(RegistryError::Protocol {
                host: endpoint.host.clone(),
                why: "it names a token service without TLS".to_owned(),
            });
        }
        let token = self
            .fetch_token(endpoint, realm, service.as_deref(), &scope, what)
            .await?;
        let header = token.header.clone();
        lock(&self.tokens).insert(key, token);
        Ok(Some(header))
    }

    async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        realm: &Url,
        service: Option<&str>,
        scope: &str,
        what: &str,
    ) -> Result<Token, RegistryError> {
        let mut call = Call {
            method: Method::GET,
            url: realm.clone(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        };
        let service = service.unwrap_or(&endpoint.host);
        match self.lookup(endpoint) {
            Lookup::Found(Credential::IdentityToken { token }) => {
                let mut form = realm.clone();
                form.query_pairs_mut()
                    .clear()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("service", service)
                    .append_pair("scope", scope)
                    .append_pair("client_id", "builder")
                    .append_pair("refresh_token", &token);
                call.method = Method::POST;
                call.body = form.query().unwrap_or("").as_bytes().to_vec();
                let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                call.headers.insert(CONTENT_TYPE, form_type);
            }
            found => {
                call.url
                    .query_pairs_mut()
                    .append_pair("service", service)
                    .append_pair("scope", scope);
                if let Lookup::Found(Credential::Password { username, password }) = found
                    && let Some(value) = auth::basic(&username, &password)
                {
                    call.headers.insert(AUTHORIZATION, value);
                }
            }
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let last = attempt >= self.options.attempts;
            match self.http.send(call.clone(), lenient(endpoint)).await? {
                Ok(response) if response.status().is_success() => {
                    let body = self
                        .body(endpoint, response, MAX_TOKEN_BYTES, "a token")
                        .await?;
                    return Token::parse(&body, Instant::now()).ok_or_else(|| {
                        RegistryError::Protocol {
                            host: endpoint.host.clone(),
                            why: "its token service answers without a token".to_owned(),
                        }
                    });
                }
                Ok(response) if is_transient(response.status()) && !last => {
                    let headers = Some(response.headers());
                    tokio::time::sleep(pause(self.options.first_pause, attempt, headers)).await;
                }
                Ok(response) => {
                    return Err(match self.failure(endpoint, what, response).await {
                        // The realm itself, not the image, is what was not found or not liked.
                        RegistryError::NotFound { what, host }
                        | RegistryError::Status {
                            what,
                            host,
                            status: 400,
                            ..
                        } => RegistryError::Unauthorized {
                            what,
                            host,
                            reason: "its token service gives no token".to_owned(),
                        },
                        other => other,
                    });
                }
                Err(error) if error.retry && !last => {
                    tokio::time::sleep(pause(self.options.first_pause, attempt, None)).await;
                }
                Err(error) => {
                    return Err(RegistryError::Unreachable {
                        host: realm.host_str().unwrap_or(&endpoint.host).to_owned(),
                        cause: error.cause,
                    });
                }
            }
        }
    }

    fn lookup(&self, endpoint: &Endpoint) -> Lookup {
        let credentials = &self.options.credentials;
        credentials.lookup(&endpoint.host, &endpoint.repository)
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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match self.lookup(endpoint) {
                Lookup::Helper(helper) => RegistryError::CredentialHelper { host, helper },
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

    /// Reads a small body whole.
    pub(super) async fn body(
        &self,
        endpoint: &Endpoint,
        mut response: Response,
        max: u64,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(bytes),
                Ok(Some(chunk)) => {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() as u64 > max {
                        return Err(RegistryError::TooLarge {
                            what: what.to_owned(),
                            host: endpoint.host.clone(),
                            max,
                        });
                    }
                }
                Err(error) => {
                    return Err(RegistryError::Unreachable {
                        host: endpoint.host.clone(),
                        cause: no_answer(error).cause,
                    });
                }
            }
        }
    }
}

/// Locks; a panic elsewhere leaves these maps usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether certificates need not be verified: as Docker has it, a loopback registry's need not.
fn lenient(endpoint: &Endpoint) -> bool {
    endpoint.insecure || is_loopback(&endpoint.host)
}

fn schemes(endpoint: &Endpoint) -> &'static [&'static str] {
    if is_loopback(&endpoint.host) {
        &["http", "https"]
    } else if endpoint.insecure {
        &["https", "http"]
    } else {
        &["https"]
    }
}

fn base(scheme: &str, host: &str) -> Result<Url, RegistryError> {
    let name = if host == HUB.0 { HUB.1 } else { host };
    format!("{scheme}://{name}/")
        .parse()
        .map_err(|error| RegistryError::Unreachable {
            host: host.to_owned(),
            cause: format!("not an address: {error}"),
        })
}

fn join(base: &Url, path: &str, host: &str) -> Result<Url, RegistryError> {
    base.join(path).map_err(|error| RegistryError::Unreachable {
        host: host.to_owned(),
        cause: format!("not an address: {error}"),
    })
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
