//! How a registry is to be spoken to: which scheme, and what it asks of who speaks.

use std::time::SystemTime;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};

use super::attempts::{Attempts, Trouble, retry_after};
use super::auth::{self, Challenge};
use super::call::unreachable;
use super::client::{Inner, lock};
use super::transport::{Body, Call, Verify, is_loopback, is_transient};
use super::{Endpoint, RegistryError};

/// Docker Hub's registry does not answer under its name.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// What a ping has found out.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub base: Url,
    pub challenge: Challenge,
}

impl Inner {
    /// Returns how to talk to a host; pings it the first time.
    pub(super) async fn host(
        &self,
        endpoint: &Endpoint,
        what: &str,
    ) -> Result<Host, RegistryError> {
        let key = (endpoint.host.clone(), endpoint.insecure);
        if let Some(host) = lock(&self.hosts).get(&key) {
            return Ok(host.clone());
        }
        let mut attempts = Attempts::new(&self.options);
        loop {
            match self.ping(endpoint, what).await {
                Ok(host) => {
                    lock(&self.hosts).insert(key, host.clone());
                    return Ok(host);
                }
                Err(trouble) => attempts.again(trouble).await?,
            }
        }
    }

    /// Asks for the page that every registry has.
    async fn ping(&self, endpoint: &Endpoint, what: &str) -> Result<Host, Trouble> {
        let mut causes = Vec::new();
        let mut retry = false;
        let certificates = self.options.certificates.of(&endpoint.host);
        let has_authority = certificates.is_some_and(|it| it.has_authority());
        let schemes = schemes(verify(endpoint), is_loopback(&endpoint.host), has_authority);
        for scheme in schemes {
            let base = base(scheme, &endpoint.host)?;
            let call = Call {
                method: Method::GET,
                url: join(&base, "/v2/", &endpoint.host)?,
                headers: HeaderMap::new(),
                body: Body::EMPTY,
            };
            let response = match self.http.send(call, verify(endpoint)).await? {
                Ok(response) => response,
                Err(error) if error.distrust.is_some() => {
                    return Err(unreachable(&endpoint.host, error));
                }
                Err(error) if error.is_plain() && schemes == ["https"] => {
                    let host = endpoint.host.clone();
                    return Err(RegistryError::NoTls { host }.into());
                }
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
            let challenge = match response.status() {
                StatusCode::UNAUTHORIZED => {
                    auth::challenge(response.headers()).ok_or_else(|| RegistryError::Protocol {
                        host: endpoint.host.clone(),
                        why: "it asks for credentials in no way that is known here".to_owned(),
                    })?
                }
                // What a TLS server says to plain HTTP.
                StatusCode::BAD_REQUEST if *scheme == "http" => {
                    causes.push("http: it does not speak plain HTTP".to_owned());
                    continue;
                }
                status if is_transient(status) => {
                    let asked = retry_after(response.headers(), SystemTime::now());
                    return Err(Trouble {
                        error: self.failure(endpoint, what, response).await,
                        retry: true,
                        asked,
                    });
                }
                // Some have no such page, and serve images all the same.
                _ => Challenge::None,
            };
            // Not its scope: some (ghcr.io) name an example's there.
            let challenge = challenge.without_scope();
            return Ok(Host { base, challenge });
        }
        Err(Trouble {
            error: RegistryError::Unreachable {
                host: endpoint.host.clone(),
                cause: causes.join("; "),
            },
            retry,
            asked: None,
        })
    }
}

/// Returns what is spoken, in order. An authority that is given for a host makes TLS a must, unless it is marked insecure.
fn schemes(verify: Verify, is_loopback: bool, has_authority: bool) -> &'static [&'static str] {
    match (verify, is_loopback, has_authority) {
        (Verify::Never, true, false) | (Verify::WithAuthority, _, false) => &["http", "https"],
        (Verify::Never, ..) => &["https", "http"],
        (Verify::Always | Verify::WithAuthority, ..) => &["https"],
    }
}

/// Whether certificates are verified: as Docker has it, a loopback registry's need not be.
pub(super) fn verify(endpoint: &Endpoint) -> Verify {
    match (endpoint.insecure, is_loopback(&endpoint.host)) {
        (true, _) => Verify::Never,
        (false, true) => Verify::WithAuthority,
        (false, false) => Verify::Always,
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

pub(super) fn join(base: &Url, path: &str, host: &str) -> Result<Url, RegistryError> {
    base.join(path).map_err(|error| RegistryError::Unreachable {
        host: host.to_owned(),
        cause: format!("not an address: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_tried_in_order() {
        for (host, insecure, has_authority, expected) in [
            ("a.io", false, false, &["https"][..]),
            ("a.io", false, true, &["https"]),
            ("a.io", true, false, &["https", "http"]),
            ("a.io", true, true, &["https", "http"]),
            ("localhost:5000", false, false, &["http", "https"]),
            ("localhost:5000", false, true, &["https"]),
            ("localhost:5000", true, false, &["http", "https"]),
            ("localhost:5000", true, true, &["https", "http"]),
        ] {
            let endpoint = Endpoint {
                host: host.to_owned(),
                repository: "a".to_owned(),
                insecure,
            };
            let found = schemes(verify(&endpoint), is_loopback(host), has_authority);
            assert_eq!(found, expected, "{host} {insecure} {has_authority}");
        }
    }
}
