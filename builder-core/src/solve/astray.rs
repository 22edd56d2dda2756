//! Steps that saw other files than those that their keys name: a context is mounted as it lies on the disk, and somebody may edit
//! it while a RUN reads it.
//!
//! Such a result is good for this build and is not remembered. Nor is what stands on it, but by its own content.

use std::sync::{Arc, PoisonError};

use super::SolveErrorKind;
use super::job::Job;
use super::layers::worker;
use crate::context::{ContextError, Follow, LocalTree, resolve};
use crate::plan::{Input, MountSource, RunOp, Vertex};
use crate::progress::Event;

/// Whether the vertex stands on such a step; it then counts as one itself.
pub(super) fn stands_on(job: &Job, index: Input, vertex: &Vertex) -> bool {
    let astray = job.shared.astray.lock();
    let mut astray = astray.unwrap_or_else(PoisonError::into_inner);
    let found = vertex.inputs().iter().any(|input| astray.contains(input));
    if found {
        astray.insert(index);
    }
    found
}

/// Whether a context that the step had mounted is not what it was when it was listed.
pub(super) async fn went(job: &Job, index: Input, run: &RunOp) -> Result<bool, SolveErrorKind> {
    let mut mounted: Vec<(Arc<LocalTree>, String)> = Vec::new();
    for mount in &run.mounts {
        if let MountSource::Bind {
            from: Some(from),
            path,
            ..
        } = &mount.source
            && let Some(context) = job.shared.contexts.get(&from.vertex)
        {
            mounted.push((context.local.clone(), path.clone()));
        }
    }
    if mounted.is_empty() {
        return Ok(false);
    }
    let look = move || {
        let changed = mounted.iter().map(|(tree, path)| changed(tree, path));
        changed.collect::<Result<Vec<_>, ContextError>>()
    };
    let changed = tokio::task::spawn_blocking(look).await.map_err(worker)?;
    let changed = changed.map_err(super::FileError::Context)?;
    let Some(path) = changed.into_iter().flatten().next() else {
        return Ok(false);
    };
    let vertex = &job.inputs.plan.vertices[index];
    job.inputs.events.emit(Event::Warning {
        vertex: Some(job.vertex),
        line: vertex.line,
        message: format!(
            "`{}` changed while this step had it mounted: what came of it is not remembered, and the step runs again next time",
            String::from_utf8_lossy(&path)
        ),
    });
    let astray = job.shared.astray.lock();
    astray.unwrap_or_else(PoisonError::into_inner).insert(index);
    Ok(true)
}

fn changed(tree: &LocalTree, path: &str) -> Result<Option<Vec<u8>>, ContextError> {
    match resolve(tree, path.as_bytes(), Follow::Last)? {
        Some(node) => tree.changed_below(&node.path),
        None => Ok(None),
    }
}
