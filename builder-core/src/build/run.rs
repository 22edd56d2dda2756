//! A build from start to end: each platform in turn, then the outputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::assemble;
use super::attested::{gather, now};
use super::context::Context;
use super::deliver::{Delivery, Solution};
use super::error::{BuildError, located};
use super::labelled::Labelled;
use super::look::fetches;
use super::output::Output;
use super::planned::{Parsed, Planned};
use super::push::{self, push_all};
use super::request::Build;
use super::share::{self, Sharing};
use super::snapshots::Snapshots;
use crate::attest::provenance::Facts;
use crate::cache::{Cache, Policy, project_of};
use crate::export::Finished;
use crate::image::{Platform, Reference};
use crate::plan::{Base, Plan};
use crate::progress::{Event, EventSink};
use crate::registry::{Client, Resolved, note_origin};
use crate::sandbox::Standing;
use crate::share::Imports;
use crate::solve::{Ahead, Inputs, SolveError, SolveErrorKind, Solved, blocking, forced, solve};
use crate::store::Store;

/// What killing the steps of a build whose time is over may take before everything else is cancelled too.
const STEPS_END: Duration = Duration::from_millis(500);

/// A finished image, in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image as it is in the store, its own layers uncompressed.
    pub stored: Finished,
    /// What each output got, in order; `None` for a tree of files.
    pub outputs: Vec<Option<Finished>>,
    /// Which of the outputs is the first that goes to a registry.
    pub pushed: Option<usize>,
    /// The first of [`platforms`](Self::platforms).
    pub platform: Platform,
    pub platforms: Vec<Platform>,
    /// What it is called in the store.
    pub names: Vec<Reference>,
    /// How each platform's image was built.
    pub facts: Vec<Facts>,
}

/// What the rounds of a build, one a platform, have in common.
pub(super) struct Round<'a> {
    pub(super) store: &'a Store,
    pub(super) standing: Option<&'a Standing>,
    pub(super) shared: &'a Arc<Imports>,
    pub(super) snapshots: &'a Arc<Snapshots>,
    pub(super) deadline: Option<(Instant, Duration)>,
    is_first: bool,
    many: bool,
    /// Since the epoch.
    started: Duration,
}

impl Build {
    /// Builds: plans, solves, writes the outputs, tags.
    ///
    /// # Errors
    /// The first failure. What was done before it is kept, and found again by the next build.
    pub async fn run(self, events: Arc<dyn EventSink>) -> Result<Image, BuildError> {
        let Some(limit) = self.steps.build_timeout else {
            return self.run_to_end(events, None).await;
        };
        let token = self.cancel.clone();
        let end = Instant::now() + limit;
        let run = self.run_to_end(events, Some((end, limit)));
        tokio::pin!(run);
        tokio::select! {
            result = &mut run => return result,
            () = tokio::time::sleep_until(end.into()) => {}
        }
        // a step that runs has noticed by itself, and its error is the better one
        tokio::select! {
            result = &mut run => return result,
            () = tokio::time::sleep(STEPS_END) => token.cancel(),
        }
        match run.await {
            Err(error) if error.is_cancelled() => Err(BuildError::Timeout { limit }),
            result => result,
        }
    }

    pub(super) async fn run_to_end(
        mut self,
        events: Arc<dyn EventSink>,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<Image, BuildError> {
        let started = now();
        self.forget_tables();
        // Whoever drops this future cancels what it started.
        let _guard = self.cancel.clone().drop_guard();
        let names = self.names()?;
        Output::check_all(&self.outputs)?;
        push::check(&self.outputs, &names)?;
        // What is here is read, and begun to be listed, before anything else; what is wrong with it is told when it is its turn.
        let early = matches!(self.context, Context::Dir(_)).then(|| self.read());
        let mut ahead = match &early {
            Some(Ok(parsed)) => self.list_ahead(parsed),
            _ => None,
        };
        let store = self.open_store()?;
        crate::solve::forget_failed_step(&store);
        if self.only_found && !self.was_built(&store) {
            return Err(BuildError::NotFound);
        }
        let events = match self.only_found {
            true => events,
            false => super::logs::recorded(store.root(), events),
        };
        let standing = self.standing.clone();
        let snapshots = Snapshots::new(store.clone(), standing.clone(), events.clone())?;
        let snapshots = Arc::new(snapshots);
        let shared = share::read(&self, &store, &events);
        let cancel = self.cancel.clone();
        self = tokio::select! {
            prepared = self.with_context_here(&store) => prepared?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let parsed = match early {
            Some(parsed) => parsed?,
            None => self.read()?,
        };
        let platforms = match self.platforms.is_empty() {
            true => vec![self.plan.platform.clone()],
            false => self.platforms.clone(),
        };
        let mut solutions = Vec::new();
        let mut vertices = 0;
        let many = platforms.len() > 1;
        for platform in platforms {
            let label = many.then(|| platform.to_string());
            self.plan.platform = platform;
            let sink: Arc<dyn EventSink> = match label {
                Some(label) => Arc::new(Labelled::new(events.clone(), label, vertices)),
                None => events.clone(),
            };
            let round = Round {
                store: &store,
                standing: standing.as_ref(),
                shared: &shared,
                snapshots: &snapshots,
                deadline,
                is_first: solutions.is_empty(),
                many,
                started,
            };
            let (parsed, ahead) = (parsed.clone(), ahead.take());
            let solution = self.solved(parsed, ahead, &round, &sink).await?;
            vertices += solution.inputs.plan.vertices.len();
            solutions.push(solution);
        }
        let ran = solutions.iter().any(|solution| solution.solved.ran);
        let gc = self.gc.clone().filter(|_| ran);
        let layers = solutions
            .iter()
            .flat_map(|solution| &solution.solved.layers);
        for layer in layers {
            if let Some(Ok(origin)) = layer.origin.as_deref().map(str::parse::<Reference>) {
                note_origin(store.records(), &origin, [&layer.blob.digest])?;
            }
        }
        let steps = u32::try_from(vertices).unwrap_or(u32::MAX);
        let (kept, shown) = (store.clone(), events.clone());
        let (client, outputs) = (self.client.clone(), self.outputs.clone());
        let (caches, cache_client) = (self.cache_to.clone(), self.cache_client());
        let (of, told) = (names.clone(), events.clone());
        let gathered = blocking(move || gather(solutions, &of, told.as_ref())).await;
        let solutions = Arc::new(gathered?);
        let solved = solutions.clone();
        let fail = |error: SolveError| BuildError::Solve(Box::new(located(error, "", "", None)));
        let exported = blocking(move || {
            let delivery = Delivery {
                solutions: &solutions,
                outputs: &self.outputs,
                names: &names,
                annotations: &self.annotations,
                store: &store,
                events: events.as_ref(),
                fail: &fail,
            };
            delivery.deliver()
        });
        let image = exported.await?;
        let client = Client::new(client);
        let pushed = push_all(&outputs, &image, &client, &kept, steps, shown.as_ref());
        let first = tokio::select! {
            pushed = pushed => pushed?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let sharing = Sharing {
            solutions: &solved,
            client: cache_client,
            store: &kept,
            events: shown.as_ref(),
            first,
        };
        tokio::select! {
            written = sharing.write_all(&caches) => written?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        }
        if let Some(policy) = gc {
            blocking(move || hold_to(&policy, kept, shown.as_ref())).await;
        }
        Ok(image)
    }

    /// Plans and solves for one platform.
    async fn solved(
        &mut self,
        parsed: Parsed,
        ahead: Option<Ahead>,
        round: &Round<'_>,
        events: &Arc<dyn EventSink>,
    ) -> Result<Solution, BuildError> {
        let &Round {
            store,
            is_first,
            many,
            started,
            ..
        } = round;
        let planned = tokio::select! {
            planned = self.plan_in(store, parsed) => planned?,
            () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        if self.only_found && fetches(&planned.plan) {
            return Err(BuildError::NotFound);
        }
        let cancel = self.cancel.clone();
        tokio::select! {
            had = self.have_named(&planned.plan, store) => had?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let Planned {
            plan,
            file,
            text,
            bases,
        } = planned;
        if is_first {
            self.refuse_wider_scan(&file, &text)?;
            self.remark(&file, &text, &bases, events.as_ref())?;
        }
        let base_created = base_created(&plan, &bases);
        let forced = forced(&plan, &text, &self.no_cache);
        for what in &forced.unmet {
            events.emit(Event::Warning {
                vertex: None,
                line: None,
                message: format!("no step to run without the cache: {what} has none that is built"),
            });
        }
        let mut inputs = self.inputs(plan, bases, round, events)?;
        inputs.options.forced = forced.vertices;
        inputs.ahead = ahead;
        if many {
            // Each platform is compared with itself.
            let platform = inputs.plan.platform.to_string();
            inputs.options.project = project_of(&inputs.options.project, &platform);
            inputs.options.platform = platform;
        }
        let inputs = Arc::new(inputs);
        let fail = |error: SolveError| {
            let span = error.span;
            BuildError::Solve(Box::new(located(error, &file, &text, span)))
        };
        let solved = solve_and_fetch(&inputs).await;
        self.keep_table(&inputs);
        let solved = solved.map_err(&fail)?;
        let mut config = assemble::config(&inputs.plan, &solved.layers, base_created);
        self.with_inline(&mut config, &inputs, &solved);
        let facts = self.facts(&inputs, &solved, &file, &text, started);
        Ok(Solution {
            inputs,
            config,
            solved,
            facts,
            attested: self.attested.clone(),
            sbom: None,
        })
    }
}

/// Solves, and has the result's layers here. Where a shared cache does not keep what it promised, that is told, and all
/// that stood on it is solved again without it; what has run meanwhile is in the store.
async fn solve_and_fetch(inputs: &Arc<Inputs>) -> Result<Solved, SolveError> {
    loop {
        let solved = async {
            let solved = solve(inputs.clone()).await?;
            crate::solve::fetch_layers(inputs, &solved).await?;
            Ok(solved)
        };
        let error: SolveError = match solved.await {
            Ok(solved) => return Ok(solved),
            Err(error) => error,
        };
        match &*error.kind {
            SolveErrorKind::Lost(lost) if inputs.shared.lose(lost) => {
                inputs.events.emit(Event::Warning {
                    vertex: None,
                    line: None,
                    message: format!("{lost}; its steps are run"),
                });
            }
            _ => return Err(error),
        }
    }
}

/// Removes what the store has beyond `policy`. That it cannot be done is no reason for a build to fail.
fn hold_to(policy: &Policy, store: Store, events: &dyn EventSink) {
    match Cache::new(store).keep_within(policy, SystemTime::now()) {
        Ok(Some(pruned)) if !pruned.things.is_empty() => events.emit(Event::Pruned {
            count: pruned.things.len(),
            bytes: pruned.size.bytes,
        }),
        Ok(_) => {}
        Err(error) => events.emit(Event::Warning {
            vertex: None,
            line: None,
            message: format!("the store is not held to its limits: {error}"),
        }),
    }
}

/// Returns the time of the image that the target's first layers come from.
fn base_created(plan: &Plan, bases: &BTreeMap<Base, Resolved>) -> Option<String> {
    let times = bases.values().filter_map(|resolved| {
        let base = &resolved.config;
        let is_ground = plan.base_history == base.history.len()
            && plan.config.history.starts_with(&base.history);
        is_ground.then(|| base.created.clone())?
    });
    times.max()
}
