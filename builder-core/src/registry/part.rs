//! A part of a blob's file as the body of a request: streamed, counted, and sent again as often as needed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::Stream;

/// What is read and held at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Bytes of a file. Clones are the same bytes and share the count of what has moved.
#[derive(Debug, Clone)]
pub(super) struct Part {
    file: Arc<File>,
    from: u64,
    len: u64,
    moved: Arc<AtomicU64>,
}

impl Part {
    pub(super) fn new(file: Arc<File>, from: u64, len: u64) -> Self {
        Part {
            file,
            from,
            len,
            moved: Arc::default(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns how many bytes were handed to the connection, those that were sent again included.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns the bytes from the start. A file that has become shorter is an error, never a short body.
    pub(super) fn stream(&self) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + use<> {
        let part = self.clone();
        futures_util::stream::try_unfold(0, move |at| {
            let part = part.clone();
            async move {
                if at >= part.len {
                    return Ok(None);
                }
                let size = CHUNK_BYTES.min(part.len - at);
                let file = part.file.clone();
                let from = part.from + at;
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                    file.read_exact_at(&mut bytes, from).map(|()| bytes)
                });
                let bytes = read.await.map_err(io::Error::other)??;
                part.moved.fetch_add(size, Ordering::Relaxed);
                Ok(Some((bytes, at + size)))
            }
        })
    }
}
