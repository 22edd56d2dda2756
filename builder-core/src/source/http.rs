//! Downloads into the store.
//!
//! The ETag of a version is kept beside the digest of what the server sent. The next build asks with it
//! (`If-None-Match`); on 304, or where `--checksum` names what is there already, nothing is downloaded.
//!
//! `Last-Modified` tells the time of the file and no more. Asked by it (`If-Modified-Since`), servers say 304 for
//! whatever is not newer, an older file put in place too, and for a change within the same second.

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use std::io::Write;

use super::{SourceError, without_credentials};
use crate::digest::Digest;
use crate::image::time::parse_rfc3339;
use crate::registry::Client;
use crate::store::Store;

/// Far more than any real one; a server that never ends does not fill the disk.
pub const MAX_BYTES: u64 = 64 << 30;
/// The name of a file whose address has none, as BuildKit has it.
const UNNAMED: &str = "__unnamed__";
/// Record kind.
const KIND: &str = "http";

/// Which content is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// This one, and no other.
    pub checksum: Option<Digest>,
    /// What is there of an earlier build does not count, but where `checksum` names it.
    pub anew: bool,
}

/// A file that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub digest: Digest,
    pub size: u64,
    /// Seconds since the epoch, as the server says.
    pub last_modified: Option<i64>,
    /// It was there already.
    pub unchanged: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    digest: Digest,
    size: u64,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// Has what is at `url` in the store; `progress` is told the bytes done and, where known, of how many.
///
/// # Errors
/// Where it cannot be had, is too large, or is not what the checksum asks for.
pub async fn fetch(
    client: &Client,
    store: &Store,
    url: &str,
    wanted: Wanted,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Fetched, SourceError> {
    let Wanted { checksum, anew } = wanted;
    let shown = without_credentials(url);
    let address = Url::parse(url).map_err(|error| SourceError::Address {
        url: shown.clone(),
        reason: error.to_string(),
    })?;
    // What a checksum asks for is kept although the address has moved on.
    let kept_for = checksum.map_or_else(String::new, |it| it.to_string());
    let key = Digest::of(format!("http/1\n{url}\n{kept_for}").as_bytes());
    let known: Option<Known> = store.records().get(KIND, &key);
    let known = known.filter(|it| store.blobs().has_sized(&it.digest, it.size));
    if let Some(known) = &known
        && checksum == Some(known.digest)
    {
        return Ok(known.fetched(true));
    }
    let known = known.filter(|_| !anew);
    let headers = known.as_ref().map(Known::conditions).unwrap_or_default();
    let answer = client.get(&address, headers).await;
    let answer = answer.map_err(|error| SourceError::Http {
        url: shown.clone(),
        source: Box::new(error),
    })?;
    let found = match known {
        Some(known) if answer.status() == StatusCode::NOT_MODIFIED && known.etag.is_some() => {
            return Ok(known.fetched(true));
        }
        _ if answer.status() != StatusCode::OK => {
            let status = answer.status().to_string();
            return Err(SourceError::Status { url: shown, status });
        }
        _ => download(client, store, answer, &shown, progress).await?,
    };
    if let Some(expected) = checksum
        && expected != found.digest
    {
        return Err(SourceError::Checksum {
            url: shown,
            expected,
            actual: found.digest,
        });
    }
    store.records().put(KIND, &key, &found)?;
    Ok(found.fetched(false))
}

async fn download(
    client: &Client,
    store: &Store,
    mut answer: reqwest::Response,
    shown: &str,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<Known, SourceError> {
    let too_large = || SourceError::TooLarge {
        url: shown.to_owned(),
        max_bytes: MAX_BYTES,
    };
    let header = |name: HeaderName| {
        let value = answer.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (etag, last_modified) = (header(ETAG), header(LAST_MODIFIED));
    let total = answer.content_length();
    if total.is_some_and(|total| total > MAX_BYTES) {
        return Err(too_large());
    }
    let mut out = store.blobs().writer()?;
    let mut done = 0;
    loop {
        let chunk = client.chunk(&mut answer).await;
        let chunk = chunk.map_err(|cause| SourceError::Broken {
            url: shown.to_owned(),
            cause,
        })?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.as_ref();
        done += chunk.len() as u64;
        if done > MAX_BYTES {
            return Err(too_large());
        }
        out.write_all(chunk).map_err(|error| out.failed(error))?;
        progress(done, total);
    }
    let (digest, size) = out.commit(None)?;
    Ok(Known {
        digest,
        size,
        etag,
        last_modified,
    })
}

impl Known {
    fn fetched(&self, unchanged: bool) -> Fetched {
        Fetched {
            digest: self.digest,
            size: self.size,
            last_modified: self.last_modified.as_deref().and_then(parse_date),
            unchanged,
        }
    }

    fn conditions(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let etag = self.etag.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(etag)) = etag {
            headers.insert(IF_NONE_MATCH, etag);
        }
        headers
    }
}

/// Returns the name of the file that ADD makes of an address: the last part of its path.
pub fn file_name(url: &str) -> String {
    let path = Url::parse(url).map(|url| url.path().to_owned());
    let path = decoded(path.as_deref().unwrap_or_default());
    let name = path.trim_end_matches('/').rsplit('/').next();
    match name {
        None | Some("" | "." | "..") => UNNAMED.to_owned(),
        Some(name) => name.replace('\0', "_"),
    }
}

/// Undoes `%41`; what is malformed stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3);
        let byte = pair
            .filter(|_| bytes[at] == b'%')
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7), the only form that is written today.
fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let rest = text.split_once(", ")?.1;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|it| *it == month)? + 1;
    parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (url, expected) in [
            ("https://a/b/c.tar.gz?x=y#z", "c.tar.gz"),
            ("https://a/b%20c", "b c"),
            ("https://a/b/", "b"),
            ("https://a/", UNNAMED),
            ("https://a", UNNAMED),
            ("https://a/%2e%2e", UNNAMED),
            ("https://a/x%2Fy", "y"),
        ] {
            assert_eq!(file_name(url), expected, "{url}");
        }
    }

    #[test]
    fn dates() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_date(text), expected, "{text}");
        }
    }
}
