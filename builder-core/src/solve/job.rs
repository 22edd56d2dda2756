//! What the work on one vertex sees of the build.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore};

use super::SolveErrorKind;
use super::inputs::{ContextDir, Inputs};
use super::layers::{LayerLoader, worker};
use super::trees::Context;
use crate::cache::{Cache, Key, Layer};
use crate::plan::{Input, Op};
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

/// What all vertices of a build share.
pub(super) struct Shared {
    pub(super) helper: OnceCell<Helper>,
    pub(super) contexts: BTreeMap<Input, Context>,
    pub(super) definitions: Vec<Option<Key>>,
    /// One for each vertex that may run at a time.
    pub(super) slots: Semaphore,
    pub(super) cache: Cache,
}

impl Job {
    /// Returns the helper that makes steps' processes, started when the first step asks.
    pub(super) async fn helper(&self) -> Result<&Helper, SolveErrorKind> {
        self.shared
            .helper
            .get_or_try_init(|| async {
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
