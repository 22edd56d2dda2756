//! One HTTP exchange: clients, redirects, what went wrong and whether to try again.

use std::error::Error as _;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};

use super::{ClientOptions, RegistryError};

const MAX_REDIRECTS: usize = 10;
const MAX_PAUSE: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What to send; a body is small and may be sent again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub cause: String,
    /// Whether another attempt may do better.
    pub retry: bool,
}

/// The two kinds of client, each made when it is first needed: one that verifies certificates needs those of
/// the system, which a minimal machine may lack.
#[derive(Debug)]
pub(super) struct Http {
    options: ClientOptions,
    verifying: OnceLock<Result<reqwest::Client, String>>,
    lenient: OnceLock<Result<reqwest::Client, String>>,
}

impl Http {
    pub(super) fn new(options: ClientOptions) -> Self {
        Http {
            options,
            verifying: OnceLock::new(),
            lenient: OnceLock::new(),
        }
    }

    /// Sends `call` and follows redirects; credentials stay with the origin that they were meant for.
    pub(super) async fn send(
        &self,
        mut call: Call,
        insecure: bool,
    ) -> Result<Result<Response, NoAnswer>, RegistryError> {
        let origin = call.url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let lenient = call.url.scheme() == "http" || insecure && call.url.origin() == origin;
            let client = if lenient {
                self.lenient.get_or_init(|| build(&self.options, false))
            } else {
                self.verifying.get_or_init(|| build(&self.options, true))
            };
            let client = client
                .as_ref()
                .map_err(|it| RegistryError::Tls(it.clone()))?;
            let request = client
                .request(call.method.clone(), call.url.clone())
                .headers(call.headers.clone())
                .body(call.body.clone());
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => return Ok(Err(no_answer(error))),
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
            if !matches!(target.scheme(), "http" | "https") || downgrade && !insecure {
                let cause = format!("redirect to a {} address is refused", target.scheme());
                return Ok(Err(NoAnswer {
                    cause,
                    retry: false,
                }));
            }
            if target.origin() != call.url.origin() {
                call.headers.remove(AUTHORIZATION);
            }
            if response.status() == StatusCode::SEE_OTHER {
                call.method = Method::GET;
                call.body.clear();
            }
            call.url = target;
        }
        Ok(Err(NoAnswer {
            cause: format!("more than {MAX_REDIRECTS} redirects"),
            retry: false,
        }))
    }
}

/// Whether an answer of this status may be better another time.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Returns how long to wait before attempt `attempt` (1: the second): what the server asks for, at most a
/// minute, else a random part of a pause that doubles.
pub(super) fn pause(base: Duration, attempt: u32, headers: Option<&HeaderMap>) -> Duration {
    let asked = headers
        .and_then(|it| it.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    if let Some(asked) = asked {
        return asked.min(MAX_PAUSE);
    }
    let whole = base
        .saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1)))
        .min(MAX_PAUSE / 2);
    // Half is fixed, half is random, so that many clients do not come back at once.
    let random = RandomState::new().hash_one(attempt) % 1000;
    whole / 2 + whole.mul_f64(random as f64 / 2000.0)
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

fn build(options: &ClientOptions, verify: bool) -> Result<reqwest::Client, String> {
    static PROVIDER: Once = Once::new();
    // An error says that the program has chosen a provider already, which is as good.
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(HeaderValue::from_str(&options.user_agent).map_err(|it| it.to_string())?)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(options.no_progress_timeout)
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
    if !verify {
        return builder
            .tls_danger_accept_invalid_certs(true)
            .tls_danger_accept_invalid_hostnames(true)
            .build()
            .map_err(|it| no_answer(it).cause);
    }
    let mut extra = Vec::new();
    for path in &options.ca_certificates {
        let named = |why: String| format!("{}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|it| named(it.to_string()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|it| named(no_answer(it).cause))?;
        if certificates.is_empty() {
            return Err(named("no certificate in it".to_owned()));
        }
        extra.extend(certificates);
    }
    if !extra.is_empty() {
        builder = builder.tls_certs_merge(extra);
    }
    builder.build().map_err(|it| no_answer(it).cause)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn pauses_grow_and_obey() {
        let base = Duration::from_millis(100);
        for attempt in 1..30 {
            let whole = base.saturating_mul(2u32.saturating_pow(attempt - 1));
            let whole = whole.min(Duration::from_secs(30));
            let pause = pause(base, attempt, None);
            assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(pause(base, 1, Some(&headers)), Duration::from_secs(7));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("99999"));
        assert_eq!(pause(base, 1, Some(&headers)), MAX_PAUSE);
    }
}
