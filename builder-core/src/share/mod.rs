//! How does a cache travel between machines?
//!
//! ```text
//! --cache-from ──read()──▶ documents ──format──▶ Known steps ──find(key)──▶ a record whose layers are elsewhere
//!                                                                              │ when something must see them
//!                                                                              ▼
//!                                                            fetch(): the blob, its digest, its diff_id
//! --cache-to   ◀─write()── documents ◀──format── steps of a solved build, their layers compressed
//! ```
//!
//! # The format, and what BuildKit can do with it
//! A cache is kept as BuildKit keeps one: an OCI manifest (or, on request, an index) whose config is of type
//! `application/vnd.buildkit.cacheconfig.v0` and whose blobs are the layers; `layers` and `records` in the config have
//! BuildKit's schema; in an image the records stand under `moby.buildkit.cache.v0`. So registries, their garbage
//! collectors and tools take it, and BuildKit imports it without an error. It does *not* get hits from it, nor do we from
//! one of BuildKit's. A record is named by a cache key, and a key of BuildKit's is a digest of its own: of the
//! protobuf bytes of its vertices, with all their captured options, over digests of what its frontend of that version made.
//! To give the same keys would be to be that frontend, of that version, byte for byte, in all that shapes a step; to
//! be almost so would give wrong hits. So the keys in `records` are our own, and no key of one tool is ever one of the other.
//!
//! What our own keys lead to does not fit that schema (a content digest of each layer, two keys of one result, layers that a base
//! has and that are in no cache): it is a second part of the same document, `builder`, which BuildKit passes over.
//!
//! # Promises
//! - Nothing is fetched but documents, until a step or an output must see a layer.
//! - All that comes is held against its digest and its diff_id. Where either is wrong, or does not come in time, the whole
//!   cache counts as lost, and what was built on the promise alone is solved again without it ([`Lost`]).
//! - To read a cache takes no longer than [`CacheFrom::timeout`], and goes on while the build is planned.
//! - A cache is *trusted* in what it says a key leads to, as BuildKit trusts it: who can write to it can put any files
//!   into the images of those who read it. Read only what you would run.
//!
//! A new place for caches is a file beside `registry` and `local`, and a line in `backend`.

mod backend;
mod documents;
mod error;
mod format;
mod imports;
mod inline;
mod local;
mod parts;
mod registry;
mod target;
mod write;

pub use backend::is_at_registry;
pub use error::ShareError;
pub use format::{Mount, Step, own_layers};
pub use imports::{Hit, Imports, Lost};
pub use inline::{INLINE, OWN_INLINE, embed};
pub use target::{CacheFrom, CacheTo, Mode, Place};
pub use write::{Exported, write};
