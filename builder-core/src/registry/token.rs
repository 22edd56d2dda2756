//! Answers to challenges: passwords, and tokens that are got for them.

use std::time::{Instant, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::attempts::{Attempts, Trouble, retry_after};
use super::auth::{self, Challenge, Token, merge_scopes};
use super::call::unreachable;
use super::client::{Inner, lock};
use super::host::verify;
use super::transport::{Body, Call, Verify, is_transient};
use super::{Credential, Endpoint, Lookup, RegistryError};

const MAX_TOKEN_BYTES: u64 = 1 << 20;

impl Inner {
    /// Returns the header that answers a challenge; `None`: to be tried without one.
    pub(super) async fn authorize(
        &self,
        endpoint: &Endpoint,
        base: &Url,
        challenge: &Challenge,
        scopes: &[String],
        what: &str,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let (realm, service, scope) = match challenge {
            Challenge::None => return Ok(None),
            Challenge::Basic => {
                return Ok(match self.lookup(endpoint).await {
                    Lookup::Found(Credential::Password { username, password }) => {
                        auth::basic(&username, &password)
                    }
                    _ => None,
                });
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
        };
        let scopes = merge_scopes(scopes, scope.as_deref());
        let key = (endpoint.host.clone(), scopes.clone());
        if let Some(token) = lock(&self.tokens).get(&key)
            && token.is_fresh(Instant::now())
        {
            return Ok(Some(token.header.clone()));
        }
        if base.scheme() == "https"
            && realm.scheme() != "https"
            && verify(endpoint) == Verify::Always
        {
            return Err(RegistryError::Protocol {
                host: endpoint.host.clone(),
                why: "it names a token service without TLS".to_owned(),
            });
        }
        let service = service.as_deref().unwrap_or(&endpoint.host);
        let call = match self.lookup(endpoint).await {
            Lookup::Found(Credential::RegistryToken { token }) => return Ok(auth::bearer(&token)),
            found => token_call(realm, service, &scopes, found),
        };
        let mut attempts = Attempts::new(&self.options);
        loop {
            match self.fetch_token(endpoint, realm, &call, what).await {
                Ok(token) => {
                    let header = token.header.clone();
                    lock(&self.tokens).insert(key, token);
                    return Ok(Some(header));
                }
                Err(trouble) => attempts.again(trouble).await?,
            }
        }
    }

    async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        realm: &Url,
        call: &Call,
        what: &str,
    ) -> Result<Token, Trouble> {
        let response = match self.http.send(call.clone(), verify(endpoint)).await? {
            Ok(response) => response,
            Err(error) => {
                let host = realm.host_str().unwrap_or(&endpoint.host);
                return Err(unreachable(host, error));
            }
        };
        let status = response.status();
        if status.is_success() {
            let body = self
                .body(endpoint, response, MAX_TOKEN_BYTES, "a token")
                .await?;
            let token = Token::parse(&body, Instant::now());
            return token.ok_or_else(|| {
                let host = endpoint.host.clone();
                let why = "its token service answers without a token".to_owned();
                RegistryError::Protocol { host, why }.into()
            });
        }
        let asked = retry_after(response.headers(), SystemTime::now());
        let error = match (self.failure(endpoint, what, response).await, status) {
            // The realm itself, not the image, is what was not found or not liked.
            (RegistryError::NotFound { what, host }, _)
            | (RegistryError::Status { what, host, .. }, StatusCode::BAD_REQUEST) => {
                RegistryError::Unauthorized {
                    what,
                    host,
                    reason: "its token service gives no token".to_owned(),
                }
            }
            (other, _) => other,
        };
        Err(Trouble {
            error,
            retry: is_transient(status),
            asked,
        })
    }

    /// Asks for what is known of a host; a helper program may have to be run for it.
    pub(super) async fn lookup(&self, endpoint: &Endpoint) -> Lookup {
        let credentials = self.options.credentials.clone();
        let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
        let looked = tokio::task::spawn_blocking(move || credentials.lookup(&host, &repository));
        looked.await.unwrap_or(Lookup::Anonymous)
    }
}

/// The request for a token: a form with an identity token, else a query with a password or without.
fn token_call(realm: &Url, service: &str, scopes: &[String], found: Lookup) -> Call {
    let mut call = Call {
        method: Method::GET,
        url: realm.clone(),
        headers: HeaderMap::new(),
        body: Body::EMPTY,
    };
    if let Lookup::Found(Credential::IdentityToken { token }) = &found {
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("client_id", "builder")
            .append_pair("refresh_token", token);
        call.method = Method::POST;
        call.body = Body::Bytes(form.query().unwrap_or("").as_bytes().to_vec());
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(CONTENT_TYPE, form_type);
        return call;
    }
    call.url
        .query_pairs_mut()
        .append_pair("service", service)
        .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    if let Lookup::Found(Credential::Password { username, password }) = &found
        && let Some(value) = auth::basic(username, password)
    {
        call.headers.insert(AUTHORIZATION, value);
    }
    call
}
