//! What else a registry can be asked: what a tag stands for, which tags there are, who refers to a manifest; removal;
//! whether it takes our credentials.

use std::collections::BTreeSet;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::attempts::{Attempts, Trouble};
use super::call::{Access, Request};
use super::documents::{accept_manifests, kind_of, said_digest};
use super::pull::MAX_MANIFEST_BYTES;
use super::{Client, Endpoint, RegistryError};
use crate::digest::Digest;
use crate::image::{Descriptor, Index, Reference, media_type};

const MAX_PAGE_BYTES: u64 = 16 << 20;
/// A list that goes on behind this does not end.
const MAX_PAGES: usize = 10_000;

impl Client {
    /// Returns what `reference` stands for at its registry (not at a mirror): digest, size and media type.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], and what else the registry says.
    pub async fn head(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let name = manifest_name(reference);
        let what = reference.familiar();
        let mut request = Request::new(Method::GET, format!("manifests/{name}"), what.clone());
        request.headers = accept_manifests();
        let document = self.inner.document(&endpoint, &request, MAX_MANIFEST_BYTES);
        let (bytes, headers) = document.await?;
        let actual = Digest::of(&bytes);
        let expected = reference.digest().or_else(|| said_digest(&headers));
        if let Some(expected) = expected.filter(|it| *it != actual) {
            return Err(RegistryError::WrongDigest {
                what,
                host: endpoint.host,
                expected,
                actual,
            });
        }
        let kind = kind_of(&bytes).map_err(|source| RegistryError::Document { what, source })?;
        Ok(Descriptor::of(kind, &bytes))
    }

    /// Lists the tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// What the registry says; a list without end.
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let endpoint = self.inner.options.registries.push_endpoint(repository)?;
        let what = format!("the tags of {}", repository.repository());
        let first = Request::new(Method::GET, "tags/list", what);
        let mut tags = Vec::new();
        let add = |bytes: &[u8]| -> Result<(), serde_json::Error> {
            let page: Page = serde_json::from_slice(bytes)?;
            tags.extend(page.tags.unwrap_or_default());
            Ok(())
        };
        self.pages(&endpoint, first, add).await?;
        Ok(tags)
    }

    /// Lists what refers to the manifest `reference` (which has a digest), of one artifact type where one is given.
    ///
    /// A registry that has no such list is asked for the tag that stands in for it (distribution spec, "Referrers Tag
    /// Schema").
    ///
    /// # Errors
    /// [`RegistryError::NotAName`] without a digest; what the registry says.
    pub async fn referrers(
        &self,
        reference: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let digest = reference
            .digest()
            .ok_or_else(|| RegistryError::not_a_name(&reference.familiar()))?;
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let what = format!("the referrers of {}", reference.familiar());
        let mut first = Request::new(Method::GET, format!("referrers/{digest}"), what);
        first
            .headers
            .insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
        let mut found = Vec::new();
        let add = |bytes: &[u8]| -> Result<(), serde_json::Error> {
            found.extend(serde_json::from_slice::<Index>(bytes)?.manifests);
            Ok(())
        };
        match self.pages(&endpoint, first, add).await {
            Err(RegistryError::NotFound { .. }) => {
                found = self.tagged_referrers(&endpoint, digest).await?;
            }
            other => other?,
        }
        found.retain(|it| artifact_type.is_none() || it.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    /// Removes a manifest, and so all its tags; a tag is looked up first.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`]; [`RegistryError::Status`] with 405 where the registry does not allow it.
    pub async fn delete(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        let digest = match reference.digest() {
            Some(digest) => digest,
            None => self.head(reference).await?.digest,
        };
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let path = format!("manifests/{digest}");
        let request = Request::new(Method::DELETE, path, reference.familiar());
        self.remove(&endpoint, request).await?;
        Ok(digest)
    }

    /// Removes a blob from a repository.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub async fn delete_blob(
        &self,
        repository: &Reference,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let endpoint = self.inner.options.registries.push_endpoint(repository)?;
        let path = format!("blobs/{digest}");
        let request = Request::new(Method::DELETE, path, format!("blob {digest}"));
        self.remove(&endpoint, request).await
    }

    /// What is gone after a removal whose answer was lost has been removed.
    async fn remove(&self, endpoint: &Endpoint, request: Request) -> Result<(), RegistryError> {
        let request = request.access(Access::Delete);
        let mut attempts = Attempts::new(&self.inner.options);
        let mut lost = false;
        loop {
            match self.inner.call_once(endpoint, &request).await {
                Ok(_) => return Ok(()),
                Err(Trouble {
                    error: RegistryError::NotFound { .. },
                    ..
                }) if lost => return Ok(()),
                Err(trouble) => {
                    lost |= matches!(trouble.error, RegistryError::Unreachable { .. });
                    attempts.again(trouble).await?;
                }
            }
        }
    }

    /// Asks `host` (`docker.io`, `localhost:5000`) whether it takes the credentials that are known for it.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] where it does not.
    pub async fn check_login(&self, host: &str) -> Result<(), RegistryError> {
        let whole = format!("{host}/name");
        let reference: Reference = whole.parse().map_err(|_| RegistryError::not_a_name(host))?;
        let mut endpoint = self.inner.options.registries.push_endpoint(&reference)?;
        endpoint.repository.clear();
        let request = Request::new(Method::GET, "", host);
        match self.inner.call(&endpoint, &request).await {
            Err(RegistryError::Unauthorized { host, .. }) => {
                Err(RegistryError::WrongLogin { host })
            }
            answer => answer.map(drop),
        }
    }

    /// Adds an entry to the tag that stands in for a list of referrers.
    pub(super) async fn list_referrer(
        &self,
        endpoint: &Endpoint,
        subject: Digest,
        entry: Descriptor,
    ) -> Result<(), RegistryError> {
        let mut entries = self.tagged_referrers(endpoint, subject).await?;
        entries.retain(|it| it.digest != entry.digest);
        entries.push(entry);
        let index = Index::new(entries).to_bytes();
        let name = referrers_tag(subject);
        Box::pin(self.put_manifest(endpoint, &name, &index)).await
    }

    async fn tagged_referrers(
        &self,
        endpoint: &Endpoint,
        subject: Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let what = format!("the referrers of {subject}");
        let path = format!("manifests/{}", referrers_tag(subject));
        let mut request = Request::new(Method::GET, path, what.clone());
        request.headers = accept_manifests();
        match self
            .inner
            .document(endpoint, &request, MAX_MANIFEST_BYTES)
            .await
        {
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok((bytes, _)) => match Index::parse(&bytes) {
                Ok(index) => Ok(index.manifests),
                Err(source) => Err(RegistryError::Document { what, source }),
            },
        }
    }

    /// Reads a list that may come in pages.
    async fn pages(
        &self,
        endpoint: &Endpoint,
        first: Request,
        mut add: impl FnMut(&[u8]) -> Result<(), serde_json::Error>,
    ) -> Result<(), RegistryError> {
        let broken = |why: String| RegistryError::Protocol {
            host: endpoint.host.clone(),
            why,
        };
        let base = self.inner.host(endpoint, &first.what).await?.base;
        let mut request = first;
        let mut seen = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            let document = self.inner.document(endpoint, &request, MAX_PAGE_BYTES);
            let (bytes, headers) = document.await?;
            add(&bytes).map_err(|error| broken(format!("{} is no list: {error}", request.what)))?;
            let here = match &request.url {
                Some(url) => url.clone(),
                None => base
                    .join(&format!("/v2/{}/{}", endpoint.repository, request.path))
                    .map_err(|error| broken(error.to_string()))?,
            };
            match next_page(&headers, &here) {
                None => return Ok(()),
                Some(next) if next.origin() != base.origin() => {
                    return Err(broken(format!("{} goes on elsewhere", request.what)));
                }
                Some(next) if !seen.insert(next.clone()) => break,
                Some(next) => request.url = Some(next),
            }
        }
        Err(broken(format!("{} goes round in circles", request.what)))
    }
}

/// The tag that stands in for a list of referrers.
fn referrers_tag(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn manifest_name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// Reads `Link: </v2/a/tags/list?last=x>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap, here: &Url) -> Option<Url> {
    let links = headers.get_all(LINK).iter();
    links.filter_map(|it| it.to_str().ok()).find_map(|text| {
        let (target, parameters) = text.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or_default();
            key.trim() == "rel" && value.trim().trim_matches('"') == "next"
        });
        is_next.then(|| here.join(target).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages_are_found() {
        let here: Url = "http://a.io/v2/x/tags/list".parse().expect("url");
        for (text, expected) in [
            (
                r#"</v2/x/tags/list?last=b&n=2>; rel="next""#,
                Some("http://a.io/v2/x/tags/list?last=b&n=2"),
            ),
            (
                "<?last=b>; rel=next",
                Some("http://a.io/v2/x/tags/list?last=b"),
            ),
            (r#"</x>; rel="prev""#, None),
            ("nothing", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(text).expect(text));
            let found = next_page(&headers, &here);
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{text}");
        }
    }
}
