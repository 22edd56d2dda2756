//! A blob from one registry to another, past the store: hashed on the way, and nothing of it kept.
//!
//! It is tried once. Where anything goes wrong the blob is fetched into the store and sent from there, which goes on where
//! it was cut; so a relay answers nothing but whether all went well.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use reqwest::{Response, StatusCode};

use super::fetch::blob_request;
use super::transport::chunk;
use super::{Client, Source};
use crate::digest::DigestWriter;
use crate::image::{Descriptor, Reference};

/// Smaller ones take no room worth the risk.
pub(super) const LEAST_BYTES: u64 = 1 << 20;

/// A body that is sent once. Clones are the same one.
#[derive(Clone)]
pub(super) struct Passing {
    body: Arc<Mutex<Option<reqwest::Body>>>,
    len: u64,
    moved: Arc<AtomicU64>,
}

impl std::fmt::Debug for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing").field("len", &self.len).finish()
    }
}

impl Passing {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns the body the first time, and then never again.
    pub(super) fn take(&self) -> Option<reqwest::Body> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.take()
    }
}

impl Client {
    /// Starts to fetch a blob from the first of `origins` that has it.
    pub(super) async fn relayed(
        &self,
        blob: &Descriptor,
        origins: &[Reference],
    ) -> Option<Passing> {
        let known = BTreeMap::from([(blob.digest, origins.to_vec())]);
        let source = Source::Held { origins: known };
        let what = format!("blob {}", blob.digest);
        for endpoint in self.endpoints_of(&source, blob).ok()? {
            let request = blob_request(blob, 0, &what);
            let answer = self.inner.call_once(&endpoint, &request).await;
            let Ok(response) = answer else { continue };
            let length = response.content_length().unwrap_or(blob.size);
            if response.status() != StatusCode::OK || length != blob.size {
                continue;
            }
            let moved = Arc::<AtomicU64>::default();
            let patience = self.inner.options.no_progress_timeout;
            let stream = checked(response, blob.clone(), patience, moved.clone());
            return Some(Passing {
                body: Arc::new(Mutex::new(Some(reqwest::Body::wrap_stream(stream)))),
                len: blob.size,
                moved,
            });
        }
        None
    }
}

/// Passes a body on; one that turns out not to be the blob ends with an error, before its last bytes.
fn checked(
    response: Response,
    blob: Descriptor,
    patience: Duration,
    moved: Arc<AtomicU64>,
) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    let start = (response, Some(DigestWriter::new(io::sink())), 0);
    futures_util::stream::try_unfold(start, move |(mut response, hash, done)| {
        let (blob, moved) = (blob.clone(), moved.clone());
        async move {
            let Some(mut hash) = hash else {
                return Ok(None);
            };
            let failed = |cause: String| io::Error::other(cause);
            let next = chunk(&mut response, patience).await;
            let Some(bytes) = next.map_err(|it| failed(it.cause))? else {
                return match blob.size {
                    0 => Ok(None),
                    _ => Err(failed("the blob ended early".to_owned())),
                };
            };
            let bytes = bytes.as_ref().to_vec();
            let done = done + bytes.len() as u64;
            hash.write_all(&bytes)?;
            moved.store(done, Ordering::Relaxed);
            if done < blob.size {
                return Ok(Some((bytes, (response, Some(hash), done))));
            }
            let (_, digest, size) = hash.finish();
            match digest == blob.digest && size == blob.size {
                true => Ok(Some((bytes, (response, None, done)))),
                false => Err(failed("the blob is not what its digest says".to_owned())),
            }
        }
    })
}
