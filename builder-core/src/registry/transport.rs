//! One HTTP exchange: clients, redirects, silence, what went wrong and whether to try again.

use std::collections::HashMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::certs::Certificates;
use super::part::Part;
use super::relay::Passing;
use super::trust::{self, Distrust, distrust};
use super::{ClientOptions, RegistryError};

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What to send; it may be sent again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Body,
}

/// What goes with a call.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Small.
    Bytes(Vec<u8>),
    /// Streamed.
    File(Part),
    /// Streamed from elsewhere; it is sent once.
    Passing(Passing),
}

impl Body {
    pub(super) const EMPTY: Body = Body::Bytes(Vec::new());

    fn moved(&self) -> u64 {
        match self {
            Body::Bytes(_) => 0,
            Body::File(part) => part.moved(),
            Body::Passing(once) => once.moved(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub cause: String,
    /// Whether another attempt may do better.
    pub retry: bool,
    /// The other end's certificate was refused.
    pub distrust: Option<Distrust>,
}

/// What rustls says of a peer that answers a handshake with something else.
const NO_TLS: &str = "InvalidContentType";

impl NoAnswer {
    /// Whether the other end speaks no TLS: plain HTTP, most likely.
    pub(super) fn is_plain(&self) -> bool {
        self.cause.contains(NO_TLS)
    }

    pub(super) fn new(cause: String, retry: bool) -> Self {
        NoAnswer {
            cause,
            retry,
            distrust: None,
        }
    }
}

/// What is looked at of a host's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    Always,
    /// This machine's: only where an authority is given for it.
    WithAuthority,
    /// Who marks a registry as insecure wants nothing looked at, whatever is given.
    Never,
}

impl Verify {
    fn verifies(self, has_authority: bool) -> bool {
        match self {
            Verify::Always => true,
            Verify::WithAuthority => has_authority,
            Verify::Never => false,
        }
    }
}

/// Clients, each made when it is first needed: one that verifies certificates needs those of the system, which a
/// minimal machine may lack.
#[derive(Debug)]
pub(super) struct Http {
    options: ClientOptions,
    made: Mutex<HashMap<Kind, Result<reqwest::Client, String>>>,
}

/// Clients differ by what they trust and what they show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// Certificates are not looked at.
    Lenient,
    Verifying,
    /// There is a directory of certificates for this host.
    Host {
        host: String,
        verify: bool,
    },
}

impl Http {
    pub(super) fn new(options: ClientOptions) -> Self {
        Http {
            options,
            made: Mutex::default(),
        }
    }

    /// Sends `call` and follows redirects; credentials stay with the origin that they were meant for.
    pub(super) async fn send(
        &self,
        mut call: Call,
        verify: Verify,
    ) -> Result<Result<Response, NoAnswer>, RegistryError> {
        let origin = call.url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let verify_here = match call.url.scheme() {
                "http" => Verify::Never,
                _ if call.url.origin() == origin => verify,
                _ => Verify::Always,
            };
            let client = self.client(&call.url, verify_here)?;
            let response = match self.exchange(&client, &call).await {
                Ok(response) => response,
                Err(error) => return Ok(Err(error)),
            };
            if !is_redirect(response.status()) {
                return Ok(Ok(response));
            }
            let target = response
                .headers()
                .get(LOCATION)
                .and_then(|it| it.to_str().ok())
                .and_then(|it| call.url.join(it).ok());
            let Some(target) = target else {
                return Ok(Ok(response));
            };
            let downgrade = call.url.scheme() == "https" && target.scheme() != "https";
            if !matches!(target.scheme(), "http" | "https") || downgrade && verify == Verify::Always
            {
                let cause = format!("redirect to a {} address is refused", target.scheme());
                return Ok(Err(NoAnswer::new(cause, false)));
            }
            if target.origin() != call.url.origin() {
                call.headers.remove(AUTHORIZATION);
            }
            if response.status() == StatusCode::SEE_OTHER {
                call.method = Method::GET;
                call.body = Body::EMPTY;
            }
            call.url = target;
        }
        let cause = format!("more than {MAX_REDIRECTS} redirects");
        Ok(Err(NoAnswer::new(cause, false)))
    }

    /// One request, one answer's head. Time passes only while nothing of the body moves.
    async fn exchange(&self, client: &reqwest::Client, call: &Call) -> Result<Response, NoAnswer> {
        let mut request = client
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone());
        request = match &call.body {
            Body::Bytes(bytes) if bytes.is_empty() && call.method == Method::GET => request,
            Body::Bytes(bytes) => request.body(bytes.clone()),
            Body::File(part) => request
                .header(CONTENT_LENGTH, part.len())
                .body(reqwest::Body::wrap_stream(part.stream())),
            Body::Passing(once) => match once.take() {
                Some(body) => request.header(CONTENT_LENGTH, once.len()).body(body),
                None => {
                    let cause = "what was to be sent is gone by".to_owned();
                    return Err(NoAnswer::new(cause, false));
                }
            },
        };
        let patience = self.options.no_progress_timeout;
        let mut sending = std::pin::pin!(request.send());
        let mut moved = call.body.moved();
        loop {
            match tokio::time::timeout(patience, &mut sending).await {
                Ok(answer) => return answer.map_err(no_answer),
                Err(_) if call.body.moved() != moved => moved = call.body.moved(),
                Err(_) => return Err(silence(patience)),
            }
        }
    }

    fn client(&self, url: &Url, verify: Verify) -> Result<reqwest::Client, RegistryError> {
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let certificates = match url.scheme() {
            "https" => self.options.certificates.of(&host),
            _ => None,
        };
        let kind = match &certificates {
            // Who gives an authority for a host wants it to be looked at, even where it would not have to be.
            Some(found) => Kind::Host {
                host,
                verify: verify.verifies(found.has_authority()),
            },
            None if verify.verifies(false) => Kind::Verifying,
            None => Kind::Lenient,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let client = made.entry(kind.clone()).or_insert_with(|| {
            let verify = !matches!(kind, Kind::Lenient | Kind::Host { verify: false, .. });
            build(&self.options, verify, certificates.as_ref())
        });
        client.clone().map_err(RegistryError::Tls)
    }
}

/// Reads the next bytes of a body.
pub(super) async fn chunk(
    response: &mut Response,
    patience: Duration,
) -> Result<Option<impl AsRef<[u8]> + use<>>, NoAnswer> {
    match tokio::time::timeout(patience, response.chunk()).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(no_answer(error)),
        Err(_) => Err(silence(patience)),
    }
}

fn silence(patience: Duration) -> NoAnswer {
    NoAnswer::new(format!("nothing came for {patience:?}"), true)
}

/// Whether an answer of this status may be better another time.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Describes an error without the address, which may hold a signature.
pub(super) fn no_answer(error: reqwest::Error) -> NoAnswer {
    let error = error.without_url();
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !cause.contains(&text) {
            cause = format!("{cause}: {text}");
        }
        source = error.source();
    }
    let hopeless = error.is_builder() || cause.contains("certificate");
    NoAnswer {
        cause,
        retry: !hopeless,
        distrust: distrust(&error),
    }
}

/// Whether `host`, which may have a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn build(
    options: &ClientOptions,
    verify: bool,
    certificates: Option<&Certificates>,
) -> Result<reqwest::Client, String> {
    static PROVIDER: Once = Once::new();
    // An error says that the program has chosen a provider already, which is as good.
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let start = || -> Result<reqwest::ClientBuilder, String> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(HeaderValue::from_str(&options.user_agent).map_err(|it| it.to_string())?)
            .connect_timeout(CONNECT_TIMEOUT.min(options.no_progress_timeout))
            .no_proxy();
        let proxies = &options.proxies;
        for (address, is_https) in [(&proxies.http, false), (&proxies.https, true)] {
            if let Some(address) = address {
                let proxy = if is_https {
                    reqwest::Proxy::https(address)
                } else {
                    reqwest::Proxy::http(address)
                };
                // Never for this machine, as in Go.
                let except = format!("localhost,127.0.0.0/8,::1,{}", proxies.no_proxy);
                let except = reqwest::NoProxy::from_string(&except);
                // The address may hold a password: it is not repeated.
                let proxy = proxy.map_err(|_| "the proxy's address is not a URL".to_owned())?;
                builder = builder.proxy(proxy.no_proxy(except));
            }
        }
        Ok(builder)
    };
    if !verify {
        let identity = certificates.map(Certificates::identity).transpose()?;
        let builder = match identity.flatten() {
            Some(identity) => start()?.identity(identity),
            None => start()?,
        };
        return builder
            .tls_danger_accept_invalid_certs(true)
            .tls_danger_accept_invalid_hostnames(true)
            .build()
            .map_err(|it| no_answer(it).cause);
    }
    let mut named = Vec::new();
    for path in &options.ca_certificates {
        named.extend(super::certs::authorities(path)?);
    }
    let mut pair = None;
    if let Some(found) = certificates {
        named.extend(found.authorities()?);
        pair = found.pair()?;
    }
    start()?
        .tls_backend_preconfigured(trust::config(named, pair)?)
        .build()
        .map_err(|it| no_answer(it).cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_insecure_is_never_verified() {
        for (verify, has_authority, expected) in [
            (Verify::Always, false, true),
            (Verify::Always, true, true),
            (Verify::WithAuthority, false, false),
            (Verify::WithAuthority, true, true),
            (Verify::Never, false, false),
            (Verify::Never, true, false),
        ] {
            let text = format!("{verify:?} {has_authority}");
            assert_eq!(verify.verifies(has_authority), expected, "{text}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
