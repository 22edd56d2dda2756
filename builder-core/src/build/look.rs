//! A build that takes everything from the cache, or does nothing.
//!
//! It needs neither namespaces nor a network, so a program may ask it first: for an ordinary user, to enter namespaces
//! takes half as long as all of an unchanged build of 2,000 files. What it cannot answer at little cost, it does not answer:
//!
//! | asked for                              | why not                                     |
//! |----------------------------------------|---------------------------------------------|
//! | outputs, caches elsewhere, attestations | they are work                              |
//! | a context or a file from elsewhere, a base that is not here | it would be fetched     |
//! | a first build, one without the cache   | steps will run                              |

use std::sync::{Arc, Mutex};

use super::context::{Context, NamedSource};
use super::logs;
use super::request::Build;
use super::run::Image;
use crate::cache::Cache;
use crate::plan::{CopySource, Op, Plan};
use crate::progress::{Event, EventSink};
use crate::solve::NoCache;
use crate::store::Store;

impl Build {
    /// Builds where that is nothing but finding; `None`: [`run`](Self::run) has to. No event comes before the end.
    ///
    /// What an error would say, `run` will say.
    pub async fn look(mut self, events: Arc<dyn EventSink>) -> Option<Image> {
        if !self.may_be_found() {
            return None;
        }
        let root = self.store.clone()?;
        self.only_found = true;
        let held: Arc<Mutex<Vec<Event>>> = Arc::default();
        let image = self.run_to_end(held.clone(), None).await.ok()?;
        let events = logs::recorded(&root, events);
        let held = held.lock().ok()?.split_off(0);
        held.into_iter().for_each(|event| events.emit(event));
        Some(image)
    }

    /// Is the request of a kind that can be found?
    pub fn may_be_found(&self) -> bool {
        let is_here = |source: &NamedSource| {
            matches!(
                source,
                NamedSource::Dir(_)
                    | NamedSource::Layout { .. }
                    | NamedSource::Image(_)
                    | NamedSource::Stage(_)
            )
        };
        matches!(self.context, Context::Dir(_))
            && self.named.values().all(is_here)
            && self.outputs.is_empty()
            && self.cache_from.is_empty()
            && self.cache_to.is_empty()
            && !self.carries_cache()
            && !self.attested.is_any()
            && self.no_cache == NoCache::default()
            && self.steps.build_timeout.is_none()
    }

    /// Is there an earlier build that this one may be found by?
    pub(super) fn was_built(&self, store: &Store) -> bool {
        Cache::new(store.clone())
            .last_build(&self.project())
            .is_some()
    }
}

/// Does a step take files from addresses?
pub(super) fn fetches(plan: &Plan) -> bool {
    plan.vertices.iter().any(|vertex| match &vertex.op {
        Op::Copy(copy) => copy
            .sources
            .iter()
            .any(|it| matches!(it, CopySource::Url { .. } | CopySource::Git { .. })),
        _ => false,
    })
}
