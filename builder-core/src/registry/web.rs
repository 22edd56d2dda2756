//! A GET of any address, with the proxies, the trusted authorities and the patience that registries get.

use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, Url};

use super::attempts::{Attempts, Trouble, retry_after};
use super::call::unreachable;
use super::transport::{self, Body, Call, Verify, is_transient};
use super::{Client, RegistryError};

impl Client {
    /// Sends a GET until there is an answer that another attempt would not better; its status is the caller's to judge.
    pub(crate) async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<Response, RegistryError> {
        let mut attempts = Attempts::new(&self.inner.options);
        loop {
            let call = Call {
                method: Method::GET,
                url: url.clone(),
                headers: headers.clone(),
                body: Body::EMPTY,
            };
            let host = url.host_str().unwrap_or_default().to_owned();
            let trouble = match self.inner.http.send(call, Verify::Always).await? {
                Ok(answer) if is_transient(answer.status()) => {
                    let asked = retry_after(answer.headers(), SystemTime::now());
                    let status = answer.status();
                    let error = RegistryError::Status {
                        what: url.path().to_owned(),
                        host,
                        status: status.as_u16(),
                        reason: status.canonical_reason().unwrap_or_default().to_owned(),
                    };
                    Trouble {
                        error,
                        retry: true,
                        asked,
                    }
                }
                Ok(answer) => return Ok(answer),
                Err(silent) => unreachable(&host, silent),
            };
            attempts.again(trouble).await?;
        }
    }

    /// Returns the next bytes of an answer, or why there are none.
    pub(crate) async fn chunk(
        &self,
        answer: &mut Response,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, String> {
        let next = transport::chunk(answer, self.patience()).await;
        next.map_err(|silent| silent.cause)
    }

    /// Returns how long a peer may be silent.
    pub(crate) fn patience(&self) -> Duration {
        self.inner.options.no_progress_timeout
    }

    /// Returns the first file of authorities that are trusted besides the system's.
    pub(crate) fn authorities(&self) -> Option<&Path> {
        let files = &self.inner.options.ca_certificates;
        files.first().map(|it| it.as_path())
    }
}
