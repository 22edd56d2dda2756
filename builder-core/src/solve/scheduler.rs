//! The order of work: what is found, what waits, what runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use super::ahead::Ahead;
use super::blocking::blocking;
use super::ground::looked_into;
use super::history::History;
use super::inputs::Inputs;
use super::job::{self, Job, Looked, Shared};
use super::layers::{LayerLoader, image_layers, worker};
use super::remotes::{self, Fetched, Remotes};
use super::step::{look, step};
use super::trees::{Context, chains};
use super::{SolveError, SolveErrorKind, able, entitlement, keys, retime, shared};
use crate::cache::{Cache, Came, Found, Key, Layer};
use crate::digest::Digest;
use crate::plan::{Base, Input, Op, Vertex};
use crate::progress::{Event, Outcome, VertexId, VertexInfo};

/// A solved plan.
#[derive(Debug, Clone)]
pub struct Solved {
    /// The image's layers, base first.
    pub layers: Vec<Layer>,
    /// Whether any step ran.
    pub ran: bool,
    /// What came from the addresses that ADD names.
    pub fetched: Vec<Fetched>,
    /// Each vertex's definition key; none for a source.
    pub keys: Vec<Option<Digest>>,
}

/// A vertex's layers, or nothing because something failed before.
type Reached = Option<Arc<Vec<Layer>>>;

/// Solves a plan.
///
/// # Errors
/// The first failure; everything else has then been stopped.
pub async fn solve(inputs: Arc<Inputs>) -> Result<Solved, SolveError> {
    let plan = &inputs.plan;
    entitlement::check(plan, &inputs.options.allow, &inputs.options.device_dirs)?;
    announce(&inputs);
    let at = |index: Input, kind: SolveErrorKind| located(&plan.vertices[index], kind);
    let (contexts, remotes) = tokio::try_join!(load_contexts(&inputs), async {
        let loaded = remotes::load(&inputs).await;
        loaded.map_err(|(index, kind)| at(index, kind))
    })?;
    let (definitions, looked, contexts, remotes) = {
        let inputs = inputs.clone();
        let defined = blocking(move || define(&inputs, contexts, remotes)).await;
        defined.map_err(|(index, kind)| at(index, kind))?
    };
    let fetched = remotes.fetched();
    let cache = Cache::new(inputs.store.clone());
    let history = History::new(cache.clone());
    let runs = made_to_run(&inputs);
    let mut found = find(&inputs, &cache, &definitions, &history, &runs);
    let mut to_do = needed(&inputs, &found);
    if inputs.options.only_found && !to_do.is_empty() {
        for context in contexts.values() {
            context.save(&inputs);
        }
        return Err(unplaced(SolveErrorKind::NotFound));
    }
    if !inputs.options.no_cache && to_do.iter().any(|it| definitions[*it].is_some()) {
        tokio::select! {
            () = inputs.shared.ready() => {}
            () = inputs.cancel.cancelled() => return Err(unplaced(SolveErrorKind::Cancelled)),
        }
        let mut hits = shared::find(&inputs, &definitions, &to_do, &runs);
        for (index, hit) in &hits {
            found.insert(*index, Found::from(hit.record.clone()));
        }
        to_do = needed(&inputs, &found);
        for index in used(&inputs, &to_do) {
            if let Some(hit) = hits.remove(&index) {
                shared::keep(&inputs, &cache, &history, index, Came::Definition, &hit)
                    .map_err(|kind| at(index, kind))?;
            }
        }
        for (index, hit) in hits {
            history.hit_in(index, Came::Definition, hit.record.key, hit.from);
        }
    }
    let needed = to_do;
    let used = used(&inputs, &needed).into_iter();
    let layers = |index: Input| Some((index, layers_of(found.get(&index)?)));
    let found: HashMap<Input, Arc<Vec<Layer>>> = used.filter_map(layers).collect();
    able::check(&inputs, &cache, &definitions, &needed).map_err(|(index, kind)| at(index, kind))?;
    for (index, key) in definitions.iter().enumerate() {
        let vertex = id(index);
        if key.is_some() && !needed.contains(&index) {
            inputs.events.emit(Event::Cached { vertex });
        }
    }
    for context in contexts.values() {
        context.save(&inputs);
    }
    let shared = Arc::new(Shared {
        helper: OnceCell::new(),
        runs_left: AtomicUsize::new(job::runs(plan, &needed)),
        contexts,
        looked,
        remotes,
        definitions,
        history,
        slots: Semaphore::new(inputs.options.jobs.max(1)),
        cache,
        accounts: Mutex::default(),
        looked_into: looked_into(plan, &needed),
        leaving: leaving(&inputs),
        astray: Mutex::default(),
    });
    let mut ahead = std::iter::successors(plan.target, |at| plan.vertices[*at].op.parent());
    if let Some(layers) = ahead.find_map(|at| found.get(&at)) {
        expect(&inputs, layers);
    }
    let result = run_all(&inputs, &shared, &found, &needed).await;
    for context in shared.contexts.values() {
        context.save(&inputs);
    }
    // A build that is solved again, without a cache that was lost, is not over.
    let is_over = !matches!(&result, Err(error) if matches!(*error.kind, SolveErrorKind::Lost(_)));
    let ran = is_over && shared.history.save(&inputs);
    let mut results = result?;
    let layers = match plan.target {
        None => Vec::new(),
        Some(target) => match results.remove(&target) {
            Some(layers) => retime::layers(&inputs, layers.to_vec(), id(target))
                .await
                .map_err(|kind| at(target, kind))?,
            None => return Err(unplaced(SolveErrorKind::Cancelled)),
        },
    };
    let keys = shared
        .definitions
        .iter()
        .map(|key| Some(key.as_ref()?.digest));
    Ok(Solved {
        layers,
        ran,
        fetched,
        keys: keys.collect(),
    })
}

pub(super) fn id(index: Input) -> VertexId {
    VertexId(u32::try_from(index).unwrap_or(u32::MAX))
}

pub(super) fn unplaced(kind: SolveErrorKind) -> SolveError {
    SolveError {
        kind: Box::new(kind),
        vertex: None,
        span: None,
    }
}

pub(super) fn located(vertex: &Vertex, kind: SolveErrorKind) -> SolveError {
    let (kind, span) = match kind {
        // what another file wrote (ONBUILD) has no place in this one
        SolveErrorKind::Within { span, kind } => (kind, vertex.span.map(|_| span)),
        kind => (Box::new(kind), vertex.span),
    };
    SolveError {
        kind,
        vertex: Some(vertex.name.clone()),
        span,
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
        let inputs = inputs.clone();
        if name.is_none()
            && let Some(handle) = inputs.ahead.as_ref().and_then(Ahead::take)
        {
            inputs.events.emit(Event::Started { vertex: id(index) });
            let listed = tokio::spawn(async move {
                let (started, loaded) = handle.await;
                finished(&inputs, index, started, loaded.as_ref().err());
                loaded
            });
            loading.push((index, listed));
            continue;
        }
        let name = name.clone();
        let handle = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            inputs.events.emit(Event::Started { vertex: id(index) });
            let (root, no_cache) = (inputs.store.root(), inputs.options.no_cache);
            let loaded = match inputs.contexts.get(&name) {
                Some(dir) => Context::load(root, no_cache, &inputs.cancel, name.as_deref(), dir),
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

pub(super) fn finished(
    inputs: &Inputs,
    index: Input,
    started: Instant,
    error: Option<&SolveErrorKind>,
) {
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

/// Definition keys, what was looked at for them, and what it was looked at in.
type Defined = (
    Vec<Option<Key>>,
    BTreeMap<Input, Looked>,
    BTreeMap<Input, Context>,
    Remotes,
);

/// Makes every definition key. What comes from a context is shown by its content: to list it is to know it.
fn define(
    inputs: &Inputs,
    contexts: BTreeMap<Input, Context>,
    remotes: Remotes,
) -> Result<Defined, (Input, SolveErrorKind)> {
    let plan = &inputs.plan;
    let mut shown: Vec<String> = Vec::with_capacity(plan.vertices.len());
    let mut keys = Vec::with_capacity(plan.vertices.len());
    let mut looked = BTreeMap::new();
    for (index, vertex) in plan.vertices.iter().enumerate() {
        let known = |input: Input| contexts.get(&input).map(|context| context.known.clone());
        let looked_at = look(vertex, &known, &remotes);
        let (seen, selection) = looked_at.map_err(|error| (index, error.into()))?;
        let base_digest = |base: &Base| inputs.base_digest(base);
        let shown_of = |it: Input| shown[it].clone();
        let key = keys::key(plan, &inputs.options, index, &shown_of, &seen, &base_digest);
        if let Some(selection) = selection {
            looked.insert(index, Mutex::new(Some((seen, selection))));
        }
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
    Ok((keys, looked, contexts, remotes))
}

fn chain_of(diff_ids: &[crate::digest::DiffId]) -> String {
    let chain = crate::digest::ChainId::stack(diff_ids);
    chain
        .last()
        .map_or_else(String::new, |chain| chain.0.to_string())
}

/// Returns which vertices are made to run, or stand on one that is.
fn made_to_run(inputs: &Inputs) -> Vec<bool> {
    let vertices = &inputs.plan.vertices;
    let mut runs = vec![false; vertices.len()];
    for (index, vertex) in vertices.iter().enumerate() {
        runs[index] = inputs.options.forced.contains(&index)
            || vertex.inputs().into_iter().any(|input| runs[input]);
    }
    runs
}

/// Returns the records that definition keys lead to. What stands on a step that is made to run is found by what that makes.
fn find(
    inputs: &Inputs,
    cache: &Cache,
    definitions: &[Option<Key>],
    history: &History,
    runs: &[bool],
) -> HashMap<Input, Found> {
    let mut found = HashMap::new();
    let _claiming = cache.claiming();
    for (index, key) in definitions.iter().enumerate() {
        if !runs[index]
            && let Some(key) = key
            && let Some(record) = shared::own(inputs, cache, &key.digest)
        {
            history.hit(index, Came::Definition, record.key);
            found.insert(index, record);
        }
    }
    found
}

fn layers_of(found: &Found) -> Arc<Vec<Layer>> {
    Arc::new(found.layers().cloned().collect())
}

/// Returns the target, and what others that must be gone into stand on; what is below them is not even looked at.
fn used(inputs: &Inputs, needed: &BTreeSet<Input>) -> BTreeSet<Input> {
    let below = needed.iter();
    let below = below.flat_map(|at| inputs.plan.vertices[*at].inputs());
    inputs.plan.target.into_iter().chain(below).collect()
}

/// Returns the vertices that must be gone into: from the target down to what is found.
fn needed(inputs: &Inputs, found: &HashMap<Input, Found>) -> BTreeSet<Input> {
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

/// Returns the vertices whose layers outputs want: those that stand on each other up to the target, or all.
fn leaving(inputs: &Inputs) -> BTreeSet<Input> {
    let plan = &inputs.plan;
    if inputs.options.all_leave {
        return (0..plan.vertices.len()).collect();
    }
    std::iter::successors(plan.target, |at| plan.vertices[*at].op.parent()).collect()
}

/// Starts to compress what outputs will want of layers that were found.
pub(super) fn expect(inputs: &Inputs, layers: &[Layer]) {
    for layer in layers {
        if layer.blob.digest == layer.diff_id.0 && !retime::is_other(inputs, layer) {
            inputs.compressor.expect(layer.diff_id, layer.blob.size);
        }
    }
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
    let mut twins: HashMap<(Digest, bool), Input> = HashMap::new();
    for &index in needed {
        if let Some(key) = &shared.definitions[index] {
            let forced = inputs.options.forced.contains(&index);
            let first = *twins.entry((key.digest, forced)).or_insert(index);
            if first != index
                && let Some(told) = ready.get(&first).cloned()
            {
                ready.insert(index, told.clone());
                let (inputs, shared) = (inputs.clone(), shared.clone());
                tasks.spawn(async move { (index, as_twin(&inputs, &shared, index, told).await) });
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
                // What else runs is of use when the rest is solved again.
                if !matches!(kind, SolveErrorKind::Lost(_)) {
                    inputs.cancel.cancel();
                }
                let cancelled = matches!(kind, SolveErrorKind::Cancelled);
                let lesser = |it: &SolveError| {
                    matches!(
                        *it.kind,
                        SolveErrorKind::Cancelled | SolveErrorKind::Lost(_)
                    )
                };
                let earlier_cancelled = failure.as_ref().is_some_and(lesser);
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
    shared: &Shared,
    index: Input,
    mut told: watch::Receiver<Option<Reached>>,
) -> Result<Reached, SolveErrorKind> {
    let reached = match told.wait_for(Option::is_some).await {
        Ok(reached) => reached.clone().flatten(),
        Err(_) => None,
    };
    if reached.is_some() {
        shared.history.hit(index, Came::Definition, None);
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
    for layers in job.results.values() {
        job.inputs.store.claim_snapshots(&chains(layers))?;
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
            for layer in &layers {
                // Those that are there stay.
                inputs
                    .store
                    .blobs()
                    .has_sized(&layer.blob.digest, layer.blob.size);
            }
            inputs.events.emit(Event::Started { vertex: id(index) });
            finished(&inputs, index, Instant::now(), None);
            Ok(Some(Arc::new(layers)))
        }
        // Listed before; its users look at the files themselves.
        Op::Context { .. } => Ok(Some(Arc::default())),
        _ => step(&job, index, vertex).await.map(Some),
    }
}
