//! The main context, listed while it is not yet known what the bases are.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::SolveErrorKind;
use super::blocking::among_workers;
use super::inputs::ContextDir;
use super::trees::Context;

/// When it was begun, and what came of it.
type Listing = BoxFuture<'static, (Instant, Result<Context, SolveErrorKind>)>;

/// A listing that has begun. Whoever needs the context first takes it.
pub struct Ahead {
    listing: Mutex<Option<Listing>>,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ahead")
    }
}

impl Ahead {
    /// Begins to list `dir`, on other threads, until `cancel`; `root` is the store's, which is there.
    pub fn begin(
        dir: ContextDir,
        root: PathBuf,
        no_cache: bool,
        cancel: CancellationToken,
    ) -> Ahead {
        let listing = among_workers(move || {
            let started = Instant::now();
            let loaded = Context::load(&root, no_cache, &cancel, None, &dir);
            (started, loaded)
        });
        Ahead {
            listing: Mutex::new(Some(Box::pin(listing))),
        }
    }

    pub(super) fn take(&self) -> Option<Listing> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        listing.take()
    }
}
