//! When the thing was made that `SOURCE_DATE_EPOCH` names: a commit, or what a server or an archive says.

use std::io::{BufReader, Read};

use super::context::{Context, NamedSource};
use super::error::BuildError;
use super::request::Build;
use crate::digest::Digest;
use crate::layer::compression::decompressor;
use crate::layer::{EntryKind, Reader, ReaderOptions};
use crate::plan::EpochSource;
use crate::registry::Client;
use crate::source::{GitUrl, SourceError, git, http};
use crate::store::Store;

impl Build {
    /// Returns the time of `source`, in seconds since the epoch; `None` where it has none, as what is local.
    pub(super) async fn time_of(
        &self,
        source: &EpochSource,
        store: &Store,
    ) -> Result<Option<i64>, BuildError> {
        match source {
            EpochSource::Context => match &self.context {
                Context::Git(url) => self.time_of_commit(url, store).await,
                Context::Url(url) => self.time_of_url(url, None, store).await,
                _ => Ok(None),
            },
            EpochSource::Named(name) => match self.named.get(name) {
                Some(NamedSource::Git(url)) => self.time_of_commit(url, store).await,
                Some(NamedSource::Url(url)) => self.time_of_url(url, None, store).await,
                _ => Ok(None),
            },
            EpochSource::Url { url, checksum, .. } => {
                let checksum = checksum.as_deref();
                self.time_of_url(url, checksum, store).await
            }
            EpochSource::Git { url, checksum, .. } => {
                let refused = |reason: String| SourceError::Address {
                    url: crate::source::without_credentials(url),
                    reason,
                };
                let parsed = GitUrl::parse(url)
                    .ok_or_else(|| refused("it names no git repository".to_owned()))?;
                let mut parsed = parsed.map_err(|error| refused(error.to_string()))?;
                if checksum.is_some() {
                    parsed.checksum.clone_from(checksum);
                }
                self.time_of_commit(&parsed, store).await
            }
        }
    }

    async fn time_of_commit(&self, url: &GitUrl, store: &Store) -> Result<Option<i64>, BuildError> {
        let client = Client::new(self.client.clone());
        let time = git::time(&client, store, url, &self.secrets).await?;
        Ok(Some(time))
    }

    async fn time_of_url(
        &self,
        url: &str,
        checksum: Option<&str>,
        store: &Store,
    ) -> Result<Option<i64>, BuildError> {
        let checksum: Option<Digest> = checksum
            .map(|text| {
                text.parse().map_err(|_| SourceError::Address {
                    url: crate::source::without_credentials(url),
                    reason: format!("`{text}` is no digest"),
                })
            })
            .transpose()?;
        let client = Client::new(self.client.clone());
        let anew = self.no_cache.all;
        let wanted = http::Wanted { checksum, anew };
        let found = http::fetch(&client, store, url, wanted, &|_, _| ()).await?;
        if found.last_modified.is_some() {
            return Ok(found.last_modified);
        }
        let blob = store.blobs().open(&found.digest)?;
        let newest = tokio::task::spawn_blocking(move || newest_of_archive(blob)).await;
        newest.map_err(|error| BuildError::Worker(error.to_string()))
    }
}

/// The time of the newest file in an archive; `None` where this is none.
fn newest_of_archive(blob: impl Read + Send) -> Option<i64> {
    let plain = decompressor(BufReader::new(blob)).ok()?;
    let mut reader = Reader::new(plain, ReaderOptions::default());
    let mut newest = None;
    while let Some(entry) = reader.next().ok()? {
        if let EntryKind::File { .. } = entry.kind {
            newest = newest.max(Some(entry.mtime));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_counts() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, time) in [
            ("a", tar::EntryType::Regular, 100),
            ("b", tar::EntryType::Regular, 300),
            ("c", tar::EntryType::Directory, 900),
            ("d", tar::EntryType::Regular, 200),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_mtime(time);
            header.set_size(0);
            header.set_path(name).expect("path");
            header.set_cksum();
            tar.append(&header, std::io::empty()).expect("append");
        }
        let tar = tar.into_inner().expect("tar");
        assert_eq!(newest_of_archive(&tar[..]), Some(300));
        assert_eq!(newest_of_archive(&b"no archive"[..]), None);
    }
}
