//! The order of work: what is found, what waits, what runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use super::file::FileError;
use super::inputs::Inputs;
use super::job::{Job, Shared};
use super::layers::{self, LayerLoader, image_layers, worker};
use super::selection::{Selection, gather, gather_mount};
use super::trees::{Context, KnownTree, view};
use super::{SolveError, SolveErrorKind, file_step, keys, run_step};
use crate::cache::{Cache, Key, Layer, Record, explain};
use crate::context::Tree;
use crate::digest::Digest;
use crate::plan::{CopySource, Input, MountSource, Op, Vertex};
use crate::progress::{Event, Outcome, VertexId, VertexInfo};

/// A solved plan.
#[derive(Debug, Clone)]
pub struct Solved {
    /// The image's layers, base first.
    pub layers: Vec<Layer>,
}

/// A vertex's layers, or nothing because something failed before.
type Reached = Option<Arc<Vec<Layer>>>;

/// Solves a plan.
///
/// # Errors
/// The first failure; everything else has then been stopped.
pub async fn solve(inputs: Arc<Inputs>) -> Result<Solved, SolveError> {
    let plan = &inputs.plan;
    announce(&inputs);
    let at = |index: Input, kind: SolveErrorKind| located(&plan.vertices[index], kind);
    let contexts = load_contexts(&inputs).await?;
    let (definitions, contexts) = {
        let inputs = inputs.clone();
        let defined = tokio::task::spawn_blocking(move || define(&inputs, contexts));
        match defined.await.map_err(worker) {
            Ok(defined) => defined.map_err(|(index, kind)| at(index, kind))?,
            Err(kind) => return Err(unplaced(kind)),
        }
    };
    let cache = Cache::new(inputs.store.clone());
    let found = find(&inputs, &cache, &definitions);
    let needed = needed(&inputs, &found);
    for (index, key) in definitions.iter().enumerate() {
        let vertex = id(index);
        if key.is_some() && !needed.contains(&index) {
            inputs.events.emit(Event::Cached { vertex });
        }
    }
    let shared = Arc::new(Shared {
        helper: OnceCell::new(),
        contexts,
        definitions,
        slots: Semaphore::new(inputs.options.jobs.max(1)),
        cache,
    });
    let result = run_all(&inputs, &shared, &found, &needed).await;
    for context in shared.contexts.values() {
        context.save(&inputs);
    }
    let mut results = result?;
    let layers = match plan.target {
        None => Vec::new(),
        Some(target) => match results.remove(&target) {
            Some(layers) => layers.to_vec(),
            None => return Err(unplaced(SolveErrorKind::Cancelled)),
        },
    };
    Ok(Solved { layers })
}

/// Has the blobs of a result's layers in the store, for an output.
///
/// # Errors
/// A layer that cannot be fetched.
pub async fn fetch_layers(inputs: &Inputs, solved: &Solved) -> Result<(), SolveError> {
    let vertex = id(inputs.plan.target.unwrap_or_default());
    let loader = LayerLoader::default();
    let fetched = loader.fetch(inputs, &solved.layers, vertex).await;
    fetched.map_err(unplaced)
}

/// Shows the root file system of a result; `None` for an empty one. Blocks while layers are unpacked.
///
/// # Errors
/// A layer that cannot be unpacked.
pub fn result_tree(inputs: &Inputs, solved: &Solved) -> Result<Option<Arc<dyn Tree>>, SolveError> {
    if solved.layers.is_empty() {
        return Ok(None);
    }
    layers::unpack_all(inputs, &solved.layers).map_err(unplaced)?;
    let known = view(inputs, &solved.layers).map_err(unplaced)?;
    Ok(Some(known.tree))
}

fn id(index: Input) -> VertexId {
    VertexId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn unplaced(kind: SolveErrorKind) -> SolveError {
    SolveError {
        kind: Box::new(kind),
        vertex: None,
        span: None,
    }
}

fn located(vertex: &Vertex, kind: SolveErrorKind) -> SolveError {
    SolveError {
        kind: Box::new(kind),
        vertex: Some(vertex.name.clone()),
        span: vertex.span,
    }
}

fn announce(inputs: &Inputs) {
    let vertices = inputs.plan.vertices.iter().enumerate();
    let vertices = vertices
        .map(|(index, vertex)| VertexInfo {
            id: id(index),
            name: vertex.name.clone(),
            line: vertex.line,
            inputs: vertex.inputs().into_iter().map(id).collect(),
        })
        .collect();
    inputs.events.emit(Event::Planned { vertices });
    for warning in &inputs.plan.warnings {
        inputs.events.emit(Event::Warning {
            vertex: None,
            line: warning.line,
            message: warning.message.clone(),
        });
    }
}

/// Lists every context that the plan names, all at the same time.
async fn load_contexts(inputs: &Arc<Inputs>) -> Result<BTreeMap<Input, Context>, SolveError> {
    let mut loading = Vec::new();
    for (index, vertex) in inputs.plan.vertices.iter().enumerate() {
        let Op::Context { name } = &vertex.op else {
            continue;
        };
        let name = name.clone();
        let inputs = inputs.clone();
        let handle = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            inputs.events.emit(Event::Started { vertex: id(index) });
            let loaded = match inputs.contexts.get(&name) {
                Some(dir) => Context::load(&inputs, name.as_deref(), dir),
                None => Err(SolveErrorKind::MissingContext {
                    name: name.unwrap_or_else(|| "context".to_owned()),
                }),
            };
            finished(&inputs, index, started, loaded.as_ref().err());
            loaded
        });
        loading.push((index, handle));
    }
    let mut contexts = BTreeMap::new();
    for (index, handle) in loading {
        let loaded = handle.await.map_err(worker).and_then(|loaded| loaded);
        let context = loaded.map_err(|kind| located(&inputs.plan.vertices[index], kind))?;
        contexts.insert(index, context);
    }
    Ok(contexts)
}

fn finished(inputs: &Inputs, index: Input, started: Instant, error: Option<&SolveErrorKind>) {
    inputs.events.emit(Event::Finished {
        vertex: id(index),
        took: started.elapsed(),
        outcome: match error {
            None => Outcome::Done,
            Some(SolveErrorKind::Cancelled) => Outcome::Cancelled,
            Some(error) => Outcome::Failed {
                error: error.to_string(),
            },
        },
    });
}

type Defined = (Vec<Option<Key>>, BTreeMap<Input, Context>);

/// Makes every definition key. What comes from a context is shown by its content: to list it is to know it.
fn define(
    inputs: &Inputs,
    contexts: BTreeMap<Input, Context>,
) -> Result<Defined, (Input, SolveErrorKind)> {
    let plan = &inputs.plan;
    let mut shown: Vec<String> = Vec::with_capacity(plan.vertices.len());
    let mut keys = Vec::with_capacity(plan.vertices.len());
    for (index, vertex) in plan.vertices.iter().enumerate() {
        let known = |input: Input| contexts.get(&input).map(|context| context.known.clone());
        let selected = select(vertex, &known).map_err(|error| (index, error.into()))?;
        let key = keys::key(plan, index, &|input| shown[input].clone(), &selected);
        shown.push(match (&key, &vertex.op) {
            (Some(key), _) => key.digest.to_string(),
            (None, Op::Image(base)) => match inputs.bases.get(base) {
                Some(resolved) => format!("image {}", chain_of(&resolved.config.diff_ids)),
                None => base.describe().to_owned(),
            },
            (None, _) => String::new(),
        });
        keys.push(key);
    }
    Ok((keys, contexts))
}

fn chain_of(diff_ids: &[crate::digest::DiffId]) -> String {
    let chain = crate::digest::ChainId::stack(diff_ids);
    chain
        .last()
        .map_or_else(String::new, |chain| chain.0.to_string())
}

/// Looks at the trees that `known` has: those of a COPY's sources (all of them, or none), and of each bind mount.
fn select(
    vertex: &Vertex,
    known: &dyn Fn(Input) -> Option<KnownTree>,
) -> Result<Vec<Option<keys::Seen>>, FileError> {
    match &vertex.op {
        Op::Copy(copy) => {
            let mut trees = Vec::new();
            for source in &copy.sources {
                match source {
                    CopySource::Tree {
                        from: Some(from), ..
                    } => match known(from.vertex) {
                        Some(tree) => trees.push(Some(tree)),
                        None => return Ok(Vec::new()),
                    },
                    CopySource::Tree { from: None, .. } | CopySource::Inline { .. } => {
                        trees.push(None);
                    }
                    CopySource::Url { .. } | CopySource::Git { .. } => return Ok(Vec::new()),
                }
            }
            let selection = gather(copy, &trees)?;
            Ok(vec![Some((selection.content, selection.parts))])
        }
        Op::Run(run) => run
            .mounts
            .iter()
            .map(|mount| match &mount.source {
                MountSource::Bind {
                    from: Some(from),
                    path,
                    ..
                } => match known(from.vertex) {
                    Some(tree) => {
                        let (_, content, parts) = gather_mount(&tree, path)?;
                        Ok(Some((content, parts)))
                    }
                    None => Ok(None),
                },
                _ => Ok(None),
            })
            .collect(),
        Op::Image(_) | Op::Context { .. } | Op::Mkdir(_) => Ok(Vec::new()),
    }
}

/// Returns the records that definition keys lead to.
fn find(
    inputs: &Inputs,
    cache: &Cache,
    definitions: &[Option<Key>],
) -> HashMap<Input, Arc<Vec<Layer>>> {
    if inputs.options.no_cache {
        return HashMap::new();
    }
    let keys = definitions.iter().enumerate();
    keys.filter_map(|(index, key)| {
        let record = cache.find(&key.as_ref()?.digest)?;
        Some((index, Arc::new(record.layers)))
    })
    .collect()
}

/// Returns the vertices that must be gone into: from the target down to what is found.
fn needed(inputs: &Inputs, found: &HashMap<Input, Arc<Vec<Layer>>>) -> BTreeSet<Input> {
    let mut needed = BTreeSet::new();
    let mut stack: Vec<Input> = inputs.plan.target.into_iter().collect();
    while let Some(index) = stack.pop() {
        let vertex = &inputs.plan.vertices[index];
        if found.contains_key(&index) {
            // `FROM --after` asks for the work, not for its result.
            stack.extend(&vertex.after);
            continue;
        }
        if needed.insert(index) {
            stack.extend(vertex.inputs());
        }
    }
    needed
}

/// Runs what is needed, each vertex as soon as its inputs are there.
async fn run_all(
    inputs: &Arc<Inputs>,
    shared: &Arc<Shared>,
    found: &HashMap<Input, Arc<Vec<Layer>>>,
    needed: &BTreeSet<Input>,
) -> Result<BTreeMap<Input, Arc<Vec<Layer>>>, SolveError> {
    let plan = &inputs.plan;
    let mut ready: BTreeMap<Input, watch::Receiver<Option<Reached>>> = BTreeMap::new();
    for (index, layers) in found {
        ready.insert(*index, watch::channel(Some(Some(layers.clone()))).1);
    }
    let loader = Arc::new(LayerLoader::default());
    let mut tasks = JoinSet::new();
    // The same step in two stages runs once.
    let mut twins: HashMap<Digest, Input> = HashMap::new();
    for &index in needed {
        if let Some(key) = &shared.definitions[index] {
            let first = *twins.entry(key.digest).or_insert(index);
            if first != index
                && let Some(told) = ready.get(&first).cloned()
            {
                ready.insert(index, told.clone());
                let inputs = inputs.clone();
                tasks.spawn(async move { (index, as_twin(&inputs, index, told).await) });
                continue;
            }
        }
        let (tell, told) = watch::channel(None);
        let waits: Vec<(Input, watch::Receiver<Option<Reached>>)> = plan.vertices[index]
            .inputs()
            .into_iter()
            .filter_map(|input| Some((input, ready.get(&input)?.clone())))
            .collect();
        ready.insert(index, told);
        let job = Job {
            inputs: inputs.clone(),
            loader: loader.clone(),
            vertex: id(index),
            results: BTreeMap::new(),
            shared: shared.clone(),
        };
        tasks.spawn(async move {
            let result = when_ready(job, index, waits).await;
            // Nobody listening is no error: the target has no user.
            let _ = tell.send(Some(result.as_ref().ok().cloned().flatten()));
            (index, result)
        });
    }
    let mut results: BTreeMap<Input, Arc<Vec<Layer>>> = BTreeMap::new();
    for (index, layers) in found {
        results.insert(*index, layers.clone());
    }
    let mut failure: Option<SolveError> = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, Ok(Some(layers)))) => {
                results.insert(index, layers);
            }
            Ok((_, Ok(None))) => {}
            Ok((index, Err(kind))) => {
                inputs.cancel.cancel();
                let cancelled = matches!(kind, SolveErrorKind::Cancelled);
                let earlier_cancelled = failure
                    .as_ref()
                    .is_some_and(|it| matches!(*it.kind, SolveErrorKind::Cancelled));
                if failure.is_none() || (earlier_cancelled && !cancelled) {
                    failure = Some(located(&plan.vertices[index], kind));
                }
            }
            Err(error) => {
                inputs.cancel.cancel();
                failure.get_or_insert(unplaced(worker(error)));
            }
        }
    }
    match failure {
        None => Ok(results),
        Some(failure) => Err(failure),
    }
}

/// Takes the result of the same step elsewhere.
async fn as_twin(
    inputs: &Inputs,
    index: Input,
    mut told: watch::Receiver<Option<Reached>>,
) -> Result<Reached, SolveErrorKind> {
    let reached = match told.wait_for(Option::is_some).await {
        Ok(reached) => reached.clone().flatten(),
        Err(_) => None,
    };
    if reached.is_some() {
        inputs.events.emit(Event::Cached { vertex: id(index) });
    }
    Ok(reached)
}

/// Waits for the inputs, then gets the result. `None`: an input has failed.
async fn when_ready(
    mut job: Job,
    index: Input,
    waits: Vec<(Input, watch::Receiver<Option<Reached>>)>,
) -> Result<Reached, SolveErrorKind> {
    for (input, mut told) in waits {
        let reached = tokio::select! {
            reached = told.wait_for(Option::is_some) => match reached {
                Ok(reached) => reached.clone().flatten(),
                Err(_) => None,
            },
            () = job.inputs.cancel.cancelled() => None,
        };
        match reached {
            Some(layers) => {
                job.results.insert(input, layers);
            }
            None => return Ok(None),
        }
    }
    if job.inputs.cancel.is_cancelled() {
        return Err(SolveErrorKind::Cancelled);
    }
    let inputs = job.inputs.clone();
    let vertex = &inputs.plan.vertices[index];
    match &vertex.op {
        Op::Image(base) => {
            let resolved = inputs.bases.get(base);
            let resolved = resolved.ok_or_else(|| SolveErrorKind::MissingContext {
                name: base.describe().to_owned(),
            })?;
            let layers = image_layers(resolved)?;
            inputs.events.emit(Event::Started { vertex: id(index) });
            finished(&inputs, index, Instant::now(), None);
            Ok(Some(Arc::new(layers)))
        }
        // Listed before; its users look at the files themselves.
        Op::Context { .. } => Ok(Some(Arc::default())),
        _ => step(&job, index, vertex).await.map(Some),
    }
}

/// Gets the result of a step whose inputs are there: by its content key, or by running it.
async fn step(job: &Job, index: Input, vertex: &Vertex) -> Result<Arc<Vec<Layer>>, SolveErrorKind> {
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
    let definition = shared.definitions[index].as_ref();
    let result = step_in_slot(job, index, vertex, &parent, definition, started).await;
    if let Err(error) = &result {
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
    let cache = &job.shared.cache;
    if let Op::Copy(copy) = &vertex.op {
        file_step::refuse(copy)?;
    }
    let (content, selection) = content_key(job, index).await?;
    let place = place(inputs, index);
    if !inputs.options.no_cache
        && let Some(record) = cache.find(&content.digest)
    {
        inputs.events.emit(Event::Cached { vertex: id(index) });
        if let Some(definition) = definition {
            cache.put(&definition.digest, &record)?;
        }
        cache.put_last(&place, &content)?;
        return Ok(Arc::new(record.layers));
    }
    inputs.events.emit(Event::Started { vertex: id(index) });
    inputs.events.emit(Event::Missed {
        vertex: id(index),
        reason: reason(inputs, cache, &place, &content),
    });
    let layer = match (&vertex.op, selection) {
        (Op::Run(run), _) => run_step::run(job, run, parent).await?,
        (Op::Copy(copy), Some(selection)) => {
            file_step::run_copy(job, copy, parent, selection).await?
        }
        (Op::Mkdir(mkdir), _) => file_step::run_mkdir(job, mkdir, parent).await?,
        _ => return Err(SolveErrorKind::Cancelled),
    };
    let mut layers = parent.to_vec();
    layers.push(layer);
    let record = Record { layers };
    cache.put(&content.digest, &record)?;
    if let Some(definition) = definition {
        cache.put(&definition.digest, &record)?;
    }
    cache.put_last(&place, &content)?;
    finished(inputs, index, started, None);
    Ok(Arc::new(record.layers))
}

fn reason(inputs: &Inputs, cache: &Cache, place: &Digest, key: &Key) -> String {
    if inputs.options.no_cache {
        return "the cache is off".to_owned();
    }
    match cache.last_parts(place) {
        None => "first build of this step".to_owned(),
        Some(before) => explain(&before, &key.parts)
            .unwrap_or_else(|| "its result is no longer in the store".to_owned()),
    }
}

fn place(inputs: &Inputs, index: Input) -> Digest {
    let vertex = &inputs.plan.vertices[index];
    let before = inputs.plan.vertices[..index].iter();
    let ordinal = before.filter(|it| it.stage == vertex.stage).count();
    keys::place(&inputs.options.project, vertex, ordinal)
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
    let made = tokio::task::spawn_blocking(move || {
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
        let (selected, selection) = match &vertex.op {
            Op::Copy(copy) => {
                let trees: Vec<Option<KnownTree>> = copy
                    .sources
                    .iter()
                    .map(|source| match source {
                        CopySource::Tree { from, .. } => from.and_then(|from| known(from.vertex)),
                        _ => None,
                    })
                    .collect();
                let selection = gather(copy, &trees)?;
                let part = (selection.content, selection.parts.clone());
                (vec![Some(part)], Some(selection))
            }
            _ => (select(vertex, &known)?, None),
        };
        let plan = &job.inputs.plan;
        let key = keys::key(plan, index, &shown, &selected).ok_or(SolveErrorKind::Cancelled)?;
        Ok((key, selection))
    });
    made.await.map_err(worker)?
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
