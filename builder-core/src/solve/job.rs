//! What the work on one vertex sees of the build.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use super::SolveErrorKind;
use super::file::Accounts;
use super::history::History;
use super::inputs::{ContextDir, Inputs};
use super::keys::Seen;
use super::layers::{LayerLoader, worker};
use super::remotes::Remotes;
use super::selection::Selection;
use super::trees::Context;
use crate::cache::{Cache, Key, Layer};
use crate::digest::ChainId;
use crate::plan::{Input, Op, Plan};
use crate::progress::VertexId;
use crate::sandbox::Helper;

/// What one vertex needs to run.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) inputs: Arc<Inputs>,
    pub(super) loader: Arc<LayerLoader>,
    pub(super) vertex: VertexId,
    /// Of the vertex's inputs.
    pub(super) results: BTreeMap<Input, Arc<Vec<Layer>>>,
    pub(super) shared: Arc<Shared>,
}

/// What the definition key of a COPY was made from, for its content key and its work: nothing is looked at twice.
pub(super) type Looked = Mutex<Option<(Vec<Option<Seen>>, Selection)>>;

/// What all vertices of a build share.
pub(super) struct Shared {
    pub(super) helper: OnceCell<Helper>,
    /// How many RUN steps may still come.
    pub(super) runs_left: AtomicUsize,
    pub(super) contexts: BTreeMap<Input, Context>,
    pub(super) looked: BTreeMap<Input, Looked>,
    pub(super) remotes: Remotes,
    pub(super) definitions: Vec<Option<Key>>,
    pub(super) history: History,
    /// One for each vertex that may run at a time.
    pub(super) slots: Semaphore,
    pub(super) cache: Cache,
    /// Users and groups of the root file systems that a RUN has stood on or left.
    pub(super) accounts: Mutex<HashMap<ChainId, Arc<Accounts>>>,
    /// Vertices whose files some step that must be gone into looks at.
    pub(super) looked_into: BTreeSet<Input>,
    /// Vertices whose layers the result has.
    pub(super) leaving: BTreeSet<Input>,
    /// Steps that read other files than their keys name, and those that stand on them.
    pub(super) astray: Mutex<BTreeSet<Input>>,
}

impl Shared {
    /// Takes what was looked at already for a vertex.
    pub(super) fn looked_at(&self, index: Input) -> Option<(Vec<Option<Seen>>, Selection)> {
        let looked = self.looked.get(&index)?.lock();
        looked.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Job {
    /// Whether the vertex's layer is one of the result's, so that outputs may want it compressed.
    pub(super) fn leaves(&self) -> bool {
        let index = usize::try_from(self.vertex.0);
        index.is_ok_and(|index| self.shared.leaving.contains(&index))
    }

    /// Returns the helper that makes steps' processes, started when the first step asks.
    pub(super) async fn helper(&self) -> Result<&Helper, SolveErrorKind> {
        self.shared
            .helper
            .get_or_try_init(|| async {
                let store = self.inputs.store.clone();
                // beside the steps; nobody waits for it
                drop(tokio::task::spawn_blocking(move || store.sync_earlier()));
                let path = self.inputs.helper.clone();
                let started = tokio::task::spawn_blocking(move || Helper::start(path));
                Ok(started.await.map_err(worker)??)
            })
            .await
    }

    pub(super) fn context_dir(&self, vertex: Input) -> Option<ContextDir> {
        match &self.inputs.plan.vertices[vertex].op {
            Op::Context { name } => self.inputs.contexts.get(name).cloned(),
            _ => None,
        }
    }
}

/// Counts the RUN steps among `needed`.
pub(super) fn runs(plan: &Plan, needed: &BTreeSet<Input>) -> usize {
    let is_run = |index: &&Input| matches!(plan.vertices[**index].op, Op::Run(_));
    needed.iter().filter(is_run).count()
}
