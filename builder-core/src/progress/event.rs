//! What can be told about a build while it goes on.

use std::time::Duration;

use super::Change;

/// An opaque number that `solve` hands out, one a vertex; stable within one build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct VertexId(pub u32);

/// Where a step's bytes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a vertex ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Outcome {
    /// It ran and its result is there.
    Done,
    /// It failed; the text is one line.
    Failed { error: String },
    /// Another vertex failed, or the user interrupted.
    Cancelled,
}

/// What is known of a vertex before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VertexInfo {
    pub id: VertexId,
    /// As BuildKit words it: `[build 2/5] RUN make`.
    pub name: String,
    /// 1-based line in the Dockerfile; `None` for what the author did not write.
    pub line: Option<u32>,
    pub inputs: Vec<VertexId>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The graph is known: every vertex that the target needs, in Dockerfile order.
    Planned { vertices: Vec<VertexInfo> },
    /// Which way steps are run on this machine, and why not a better one.
    Isolation { rung: String, reason: String },
    /// The vertex runs now.
    Started { vertex: VertexId },
    /// The vertex's result was there already; may come with no `Started`.
    Cached { vertex: VertexId },
    /// Why the vertex has to run: what changed since the nearest earlier record.
    Missed {
        vertex: VertexId,
        /// In one line.
        reason: String,
        /// The same one by one, the first ones; none where there is no earlier record.
        changes: Vec<Change>,
    },
    /// Bytes that a step wrote; may end mid-line.
    Log {
        vertex: VertexId,
        stream: Stream,
        #[serde(serialize_with = "lossy")]
        bytes: Vec<u8>,
    },
    /// Bytes done of a download, an upload, an unpack or a compression.
    Transfer {
        vertex: VertexId,
        what: String,
        done: u64,
        total: Option<u64>,
    },
    /// Something the user should know; `vertex` where it belongs to one.
    Warning {
        vertex: Option<VertexId>,
        line: Option<u32>,
        message: String,
    },
    /// The vertex ended.
    Finished {
        vertex: VertexId,
        took: Duration,
        outcome: Outcome,
    },
    /// The image is in the store: the digests of its config (the image's id) and of its manifest.
    Built { image: String, manifest: String },
    /// An output was written: `naming to docker.io/library/app:1`, `writing app.tar`.
    Exported { what: String },
    /// What a shared cache promises: so many steps, whose layers are not here yet.
    CacheRead {
        from: String,
        steps: usize,
        layers: usize,
        bytes: u64,
    },
    /// The vertex's result was found in a shared cache; `Cached` follows.
    Found { vertex: VertexId, from: String },
    /// A shared cache was written: so many blobs were sent, mounted from another repository, and there already.
    CacheWritten {
        to: String,
        steps: usize,
        sent: usize,
        mounted: usize,
        there: usize,
        sent_bytes: u64,
    },
    /// A shared cache could not be written, which ends no build.
    CacheFailed { to: String, error: String },
    /// The store was over its limits: so many things were removed, that were the longest unused.
    Pruned { count: usize, bytes: u64 },
}

fn lossy<S: serde::Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(bytes))
}
