//! One step: found by what it sees of its inputs, or run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::file::FileError;
use super::job::{Job, Shared};
use super::layers::worker;
use super::remotes::Remotes;
use super::scheduler::{expect, finished, id};
use super::selection::{Selection, gather, gather_mount};
use super::trees::{KnownTree, view};
use super::{SolveErrorKind, astray, file_step, keys, rebase, run_step, shared};
use crate::cache::{Came, Key, Layer, Record};
use crate::digest::Digest;
use crate::layer::LayerError;
use crate::plan::{Base, CopySource, Input, MountSource, Op, Vertex};
use crate::progress::Event;

/// Gets the result of a step whose inputs are there: by its content key, or by running it.
pub(super) async fn step(
    job: &Job,
    index: Input,
    vertex: &Vertex,
) -> Result<Arc<Vec<Layer>>, SolveErrorKind> {
    let inputs = &job.inputs;
    let shared = &job.shared;
    let below = vertex.op.parent();
    let parent: Vec<Layer> = below
        .and_then(|input| job.results.get(&input))
        .map(|layers| layers.to_vec())
        .unwrap_or_default();
    // A slot is held from here on: looking at files is work too.
    let slot = tokio::select! {
        slot = shared.slots.acquire() => slot,
        () = inputs.cancel.cancelled() => return Err(SolveErrorKind::Cancelled),
    };
    let _slot = slot.map_err(|_| SolveErrorKind::Cancelled)?;
    let started = Instant::now();
    let is_sound = !astray::stands_on(job, index, vertex);
    let definition = shared.definitions[index].as_ref().filter(|_| is_sound);
    let result = step_in_slot(job, index, vertex, &parent, definition, started).await;
    if let Err(error) = &result {
        if let SolveErrorKind::File(FileError::Layer(LayerError::Rewritten { .. })) = error {
            for context in shared.contexts.values() {
                context.known.digests.forget();
            }
        }
        finished(inputs, index, started, Some(error));
    }
    result
}

async fn step_in_slot(
    job: &Job,
    index: Input,
    vertex: &Vertex,
    parent: &[Layer],
    definition: Option<&Key>,
    started: Instant,
) -> Result<Arc<Vec<Layer>>, SolveErrorKind> {
    let inputs = &job.inputs;
    let Shared { cache, history, .. } = &*job.shared;
    let (content, selection) = content_key(job, index).await?;
    let forced = inputs.options.forced.contains(&index);
    let mut record = None;
    if !forced {
        record = shared::own(inputs, cache, &content.digest).map(Record::from);
        if record.is_none()
            && !inputs.options.no_cache
            && let Some(hit) = shared::look_up(inputs, &content.digest)
        {
            shared::keep(inputs, cache, history, index, Came::Content, &hit)?;
            record = Some(hit.record);
        }
    }
    if let Some(mut record) = record {
        // Below, times may be others than when it was recorded; what is there is the same.
        if inputs.plan.source_date_epoch.is_some()
            && record.layers.len() == parent.len() + 1
            && let Some(top) = record.layers.pop()
        {
            record.layers = parent.to_vec();
            record.layers.push(top);
        }
        inputs.events.emit(Event::Cached { vertex: id(index) });
        record.key = Some(content.digest);
        if let Some(definition) = definition {
            cache.put(&definition.digest, &record)?;
        }
        cache.put_parts(&content)?;
        history.hit(index, Came::Content, record.key);
        if job.leaves() {
            expect(inputs, &record.layers);
        }
        return Ok(Arc::new(record.layers));
    }
    let placed = rebase::key(job, index, selection.as_ref());
    if !forced
        && !inputs.options.no_cache
        && let Some(placed) = &placed
        && let Some(layer) = rebase::find(job, &vertex.op, placed, parent).await?
    {
        let mut layers = parent.to_vec();
        layers.push(layer);
        let record = Record {
            layers,
            key: Some(content.digest),
            step: vertex.name.clone(),
        };
        if !inputs.shared.is_lost(&record.layers) {
            inputs.events.emit(Event::Cached { vertex: id(index) });
            if let Some(layer) = record.layers.last() {
                cache.put_same(parent, layer)?;
            }
            let keys = std::iter::once(&content).chain(definition);
            let keys: Vec<&Digest> = keys.map(|key| &key.digest).collect();
            cache.put_all(&keys, &record)?;
            cache.put_parts(&content)?;
            history.hit(index, Came::Rebased, record.key);
            if job.leaves() {
                expect(inputs, &record.layers);
            }
            return Ok(Arc::new(record.layers));
        }
    }
    inputs.events.emit(Event::Started { vertex: id(index) });
    let why = history
        .why(inputs, index, &content, &job.shared.definitions)
        .await;
    inputs.events.emit(Event::Missed {
        vertex: id(index),
        reason: why.text.clone(),
        changes: why.reason.changes.clone(),
    });
    history.runs(index, why);
    let layer = match (&vertex.op, selection) {
        (Op::Run(run), _) => {
            let layer = run_step::run(job, run, parent).await?;
            if astray::went(job, index, run).await? {
                let mut layers = parent.to_vec();
                layers.push(layer);
                history.ran(index, content.digest);
                finished(inputs, index, started, None);
                return Ok(Arc::new(layers));
            }
            layer
        }
        (Op::Copy(copy), Some(selection)) => {
            file_step::run_copy(job, copy, parent, selection, placed).await?
        }
        (Op::Mkdir(mkdir), _) => file_step::run_mkdir(job, mkdir, parent, placed).await?,
        _ => return Err(SolveErrorKind::Cancelled),
    };
    let mut layers = parent.to_vec();
    layers.push(layer);
    let record = Record {
        layers,
        key: Some(content.digest),
        step: vertex.name.clone(),
    };
    let keys = std::iter::once(&content).chain(definition);
    let keys: Vec<&Digest> = keys.map(|key| &key.digest).collect();
    cache.put_all(&keys, &record)?;
    cache.put_parts(&content)?;
    history.ran(index, content.digest);
    finished(inputs, index, started, None);
    Ok(Arc::new(record.layers))
}

/// Makes the content key: inputs are shown by what they hold. For a COPY, the files are found on the way.
async fn content_key(job: &Job, index: Input) -> Result<(Key, Option<Selection>), SolveErrorKind> {
    let vertex = &job.inputs.plan.vertices[index];
    for input in tree_inputs(&vertex.op) {
        if let Some(layers) = job.results.get(&input)
            && !job.shared.contexts.contains_key(&input)
        {
            job.loader.unpack(&job.inputs, layers, job.vertex).await?;
        }
    }
    let job = job.clone();
    let looks = !tree_inputs(&vertex.op).is_empty();
    let make = move || {
        let vertex = &job.inputs.plan.vertices[index];
        let mut trees: BTreeMap<Input, KnownTree> = BTreeMap::new();
        for input in tree_inputs(&vertex.op) {
            if let Some(context) = job.shared.contexts.get(&input) {
                trees.insert(input, context.known.clone());
            } else if let Some(layers) = job.results.get(&input)
                && !layers.is_empty()
            {
                trees.insert(input, view(&job.inputs, layers)?);
            }
        }
        let known = |input: Input| trees.get(&input).cloned();
        let shown = |input: Input| match job.results.get(&input) {
            Some(layers) => Layer::stack_content(layers).to_string(),
            None => String::new(),
        };
        let (seen, selection) = match job.shared.looked_at(index) {
            Some((seen, selection)) => (seen, Some(selection)),
            None => look(vertex, &known, &job.shared.remotes)?,
        };
        let plan = &job.inputs.plan;
        let base_digest = |base: &Base| job.inputs.base_digest(base);
        let options = &job.inputs.options;
        let key = keys::key(plan, options, index, &shown, &seen, &base_digest);
        let key = key.ok_or(SolveErrorKind::Cancelled)?;
        Ok((key, selection))
    };
    // To hand over to another thread costs more than a key.
    if !looks {
        return make();
    }
    tokio::task::spawn_blocking(make).await.map_err(worker)?
}

/// Looks at the trees that `known` has: those of a COPY's sources (all of them, or none), and of each bind mount.
pub(super) fn look(
    vertex: &Vertex,
    known: &dyn Fn(Input) -> Option<KnownTree>,
    remotes: &Remotes,
) -> Result<(Vec<Option<keys::Seen>>, Option<Selection>), FileError> {
    match &vertex.op {
        Op::Copy(copy) => {
            let mut trees = Vec::new();
            for source in &copy.sources {
                match source {
                    CopySource::Tree {
                        from: Some(from), ..
                    } => match known(from.vertex) {
                        Some(tree) => trees.push(Some(tree)),
                        None => return Ok((Vec::new(), None)),
                    },
                    CopySource::Tree { from: None, .. }
                    | CopySource::Inline { .. }
                    | CopySource::Url { .. }
                    | CopySource::Git { .. } => trees.push(None),
                }
            }
            let selection = gather(copy, &trees, remotes)?;
            let seen = (selection.content, selection.files.clone());
            Ok((vec![Some(seen)], Some(selection)))
        }
        Op::Run(run) => {
            let seen = run.mounts.iter().map(|mount| match &mount.source {
                MountSource::Bind {
                    from: Some(from),
                    path,
                    ..
                } => match known(from.vertex) {
                    Some(tree) => {
                        let (_, content, list) = gather_mount(&tree, path)?;
                        Ok(Some((content, list)))
                    }
                    None => Ok(None),
                },
                _ => Ok(None),
            });
            Ok((seen.collect::<Result<_, FileError>>()?, None))
        }
        Op::Image(_) | Op::Context { .. } | Op::Mkdir(_) => Ok((Vec::new(), None)),
    }
}

/// Returns the inputs whose files a COPY or a bind mount looks at.
fn tree_inputs(op: &Op) -> Vec<Input> {
    match op {
        Op::Copy(copy) => copy
            .sources
            .iter()
            .filter_map(|source| match source {
                CopySource::Tree { from, .. } => from.map(|from| from.vertex),
                _ => None,
            })
            .collect(),
        Op::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.source {
                MountSource::Bind { from, .. } => from.map(|from| from.vertex),
                _ => None,
            })
            .collect(),
        Op::Image(_) | Op::Context { .. } | Op::Mkdir(_) => Vec::new(),
    }
}
