//! What a user asks for, and how it is answered.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::annotations::Annotation;
use super::assemble;
use super::base_images::{Bases, info};
use super::check::RemarksError;
use super::context::{Context, NamedSource};
use super::deliver::{Delivery, Solution};
use super::error::{BuildError, ChecksError, Located};
use super::labelled::Labelled;
use super::output::Output;
use super::prepare::Prepared;
use super::push::{self, push_all};
use super::steps::Steps;
use crate::attest::Attestation;
use crate::cache::{Cache, LastBuild, Policy};
use crate::dockerfile::{self, Span, ast};
use crate::export::{Compressor, Finished};
use crate::image::{Platform, Reference};
use crate::plan::{
    Base, BaseInfo, NamedContext, NetworkMode, Plan, PlanError, PlanOptions, Step, epoch_source,
    step,
};
use crate::progress::{Event, EventSink};
use crate::registry::{Client, ClientOptions, Resolved, note_origin};
use crate::sandbox::{HelperPath, Rung, Standing};
use crate::snapshot::{Copied, Overlay, Snapshotter};
use crate::solve::{Inputs, NoCache, SolveError, SolveOptions, forced, solve};
use crate::store::Store;

const HOSTNAME: &str = "buildkitsandbox";
/// Vertices that wait for the network or sleep cost nothing, so there may be many more than cores.
const JOBS: usize = 64;
/// What killing the steps of a build whose time is over may take before everything else is cancelled too.
const STEPS_END: Duration = Duration::from_millis(500);
/// Far more than any real one.
pub(super) const MAX_DOCKERFILE_BYTES: u64 = 64 << 20;

/// A build, asked for.
#[derive(Debug, Clone)]
pub struct Build {
    pub(super) context: Context,
    pub(super) dockerfile: Option<PathBuf>,
    pub(super) text: Option<(String, String)>,
    store: Option<PathBuf>,
    tags: Vec<String>,
    pub(super) plan: PlanOptions,
    pub(super) named: BTreeMap<String, NamedSource>,
    outputs: Vec<Output>,
    platforms: Vec<Platform>,
    annotations: Vec<Annotation>,
    attestations: Vec<Attestation>,
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    pub(super) ssh: BTreeMap<String, PathBuf>,
    no_cache: NoCache,
    max_layer_bytes: Option<u64>,
    gc: Option<Policy>,
    jobs: usize,
    pub(super) client: ClientOptions,
    helper: HelperPath,
    standing: Option<Standing>,
    resolv_conf: Option<Vec<u8>>,
    pub(super) steps: Steps,
    pub(super) cancel: CancellationToken,
    /// Contexts from elsewhere, once they are here; the main one under `None`.
    pub(super) prepared: BTreeMap<Option<String>, Prepared>,
}

/// A finished image, in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image as it is in the store, its own layers uncompressed.
    pub stored: Finished,
    /// What each output got, in order; `None` for a tree of files.
    pub outputs: Vec<Option<Finished>>,
    /// The first of [`platforms`](Self::platforms).
    pub platform: Platform,
    pub platforms: Vec<Platform>,
    /// What it is called in the store.
    pub names: Vec<Reference>,
}

/// What the rounds of a build, one a platform, have in common.
struct Round<'a> {
    store: &'a Store,
    standing: Option<&'a Standing>,
    deadline: Option<(Instant, Duration)>,
    is_first: bool,
    many: bool,
}

/// A plan, with the file it was made from.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    /// As it is shown in messages.
    pub file: String,
    pub text: String,
    bases: BTreeMap<Base, Resolved>,
}

impl Build {
    /// Starts a request; `context` is what COPY copies from.
    pub fn new(context: Context) -> Self {
        Build {
            context,
            dockerfile: None,
            text: None,
            store: None,
            tags: Vec::new(),
            plan: PlanOptions::default(),
            named: BTreeMap::new(),
            outputs: Vec::new(),
            platforms: Vec::new(),
            annotations: Vec::new(),
            attestations: Vec::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: NoCache::default(),
            max_layer_bytes: None,
            gc: None,
            jobs: JOBS,
            client: ClientOptions::default(),
            helper: HelperPath::Current,
            standing: None,
            resolv_conf: None,
            steps: Steps::default(),
            cancel: CancellationToken::new(),
            prepared: BTreeMap::new(),
        }
    }

    /// Sets where everything is kept; required.
    #[must_use]
    pub fn store(mut self, root: impl Into<PathBuf>) -> Self {
        self.store = Some(root.into());
        self
    }

    /// Sets the Dockerfile's path, relative to the working directory. Else `Dockerfile`, then `Containerfile`, of the
    /// context.
    #[must_use]
    pub fn dockerfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.dockerfile = Some(path.into());
        self
    }

    /// Sets the Dockerfile's text; `name` is what messages call it.
    #[must_use]
    pub fn dockerfile_text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.text = Some((name.into(), text.into()));
        self
    }

    /// Sets the stage to build; else the last.
    #[must_use]
    pub fn target(mut self, stage: impl Into<String>) -> Self {
        self.plan.target = Some(stage.into());
        self
    }

    /// Adds a name for the image.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>) -> Self {
        self.tags.push(name.into());
        self
    }

    #[must_use]
    pub fn build_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.plan.build_args.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.plan.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the platform of the result; else this machine's.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        self.plan.platform = platform;
        self.plan.platform_given = true;
        self
    }

    /// Sets the platforms of the result: with several, an index of one image each.
    #[must_use]
    pub fn platforms(mut self, platforms: impl IntoIterator<Item = Platform>) -> Self {
        self.platforms.clear();
        for platform in platforms {
            if !self.platforms.contains(&platform) {
                self.platforms.push(platform);
            }
        }
        if let Some(first) = self.platforms.first() {
            self.plan.platform = first.clone();
            self.plan.platform_given = true;
        }
        self
    }

    /// Adds an annotation to the image, in the store and in every output.
    #[must_use]
    pub fn annotation(mut self, annotation: Annotation) -> Self {
        self.annotations.push(annotation);
        self
    }

    /// Adds a statement about the image of each platform, which an index then carries beside it.
    #[must_use]
    pub fn attestation(mut self, attestation: Attestation) -> Self {
        self.attestations.push(attestation);
        self
    }

    /// Makes `name` stand for `source` in FROM and `--from`.
    #[must_use]
    pub fn build_context(mut self, name: impl Into<String>, source: NamedSource) -> Self {
        let name = name.into();
        let kind = match source {
            NamedSource::Dir(_)
            | NamedSource::Archive(_)
            | NamedSource::Url(_)
            | NamedSource::Git(_) => NamedContext::Directory,
            NamedSource::Image(_) | NamedSource::Layout { .. } => NamedContext::Image,
            NamedSource::Stage(ref stage) => NamedContext::Stage(stage.clone()),
        };
        self.plan.contexts.insert(name.clone(), kind);
        self.named.insert(name, source);
        self
    }

    /// Adds an output. Without any, the image is kept in the store.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }

    /// Gives the value of a secret, for `RUN --mount=type=secret`.
    #[must_use]
    pub fn secret(mut self, id: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.secrets.insert(id.into(), value.into());
        self
    }

    /// Gives the socket of an ssh agent, for `RUN --mount=type=ssh`. Steps can list its keys and sign with them.
    #[must_use]
    pub fn ssh(mut self, id: impl Into<String>, socket: impl Into<PathBuf>) -> Self {
        self.ssh.insert(id.into(), socket.into());
        self
    }

    /// Runs every step again.
    #[must_use]
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache.all = no_cache;
        self
    }

    /// Sets what the store may take, which is looked at after a build that ran something; else it grows without limit.
    #[must_use]
    pub fn gc(mut self, policy: Option<Policy>) -> Self {
        self.gc = policy;
        self
    }

    /// Runs the steps of a stage again, named or numbered. Children of one that makes the same again stay cached.
    #[must_use]
    pub fn no_cache_stage(mut self, stage: impl Into<String>) -> Self {
        self.no_cache.stages.push(stage.into());
        self
    }

    /// Runs the steps on these lines of the Dockerfile again, 1-based.
    #[must_use]
    pub fn no_cache_lines(mut self, lines: RangeInclusive<u32>) -> Self {
        self.no_cache.lines.push(lines);
        self
    }

    /// Sets what one layer of a base, or an archive that ADD unpacks, may unpack to. Otherwise it is
    /// [`Limits::FREE_BYTES`](crate::layer::Limits::FREE_BYTES), or
    /// [`Limits::RATIO`](crate::layer::Limits::RATIO) times what it has compressed where that is more.
    #[must_use]
    pub fn max_layer_bytes(mut self, bytes: u64) -> Self {
        self.max_layer_bytes = Some(bytes);
        self
    }

    /// Sets how many steps may run at a time.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Sets the network of a RUN that does not say.
    #[must_use]
    pub fn network(mut self, network: NetworkMode) -> Self {
        self.plan.network = network;
        self
    }

    /// Clamps all times, in seconds since the epoch, and gives `ARG SOURCE_DATE_EPOCH` its value, as buildx does; a build
    /// arg of that name wins.
    #[must_use]
    pub fn source_date_epoch(mut self, seconds: i64) -> Self {
        self.plan.source_date_epoch = Some(seconds);
        let arg = self.plan.build_args.entry("SOURCE_DATE_EPOCH".to_owned());
        arg.or_insert_with(|| seconds.to_string());
        self
    }

    /// Sets how registries are spoken to.
    #[must_use]
    pub fn registries(mut self, client: ClientOptions) -> Self {
        self.client = client;
        self
    }

    /// Sets the program that makes the steps' processes; else this one again, see [`crate::sandbox::init`].
    #[must_use]
    pub fn helper(mut self, helper: HelperPath) -> Self {
        self.helper = helper;
        self
    }

    /// Tells what [`crate::sandbox::init`] came to.
    #[must_use]
    pub fn standing(mut self, standing: &Standing) -> Self {
        self.standing = Some(standing.clone());
        self
    }

    /// Sets `/etc/resolv.conf` of the steps; else this machine's.
    #[must_use]
    pub fn resolv_conf(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.resolv_conf = Some(bytes.into());
        self
    }

    /// Sets the token that cancels the build. Dropping the future cancels too.
    #[must_use]
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// Reads and plans; base images' configs are fetched where they are needed.
    ///
    /// # Errors
    /// A mistake of the author, with its place; a base that cannot be had.
    pub async fn plan(&self) -> Result<Planned, BuildError> {
        let store = self.open_store()?;
        let build = self.clone().with_context_here(&store).await?;
        build.plan_in(&store).await
    }

    /// Fetches the configs of all bases that the target needs.
    pub(super) async fn known_bases(
        &self,
        store: &Store,
    ) -> Result<BTreeMap<Base, BaseInfo>, BuildError> {
        let planned = self.plan_in(store).await?;
        let known = planned.bases.iter();
        Ok(known
            .map(|(base, found)| (base.clone(), info(base, found)))
            .collect())
    }

    /// Finds out which rung the store's file system allows.
    fn settled(&self, store: &Store) -> Result<Option<Standing>, BuildError> {
        let Some(mut standing) = self.standing.clone() else {
            return Ok(None);
        };
        standing.settle(store.tmp_dir())?;
        Ok(Some(standing))
    }

    pub(super) fn open_store(&self) -> Result<Store, BuildError> {
        let root = self.store.as_deref().ok_or(BuildError::NoStore)?;
        Ok(Store::open(root)?)
    }

    async fn plan_in(&self, store: &Store) -> Result<Planned, BuildError> {
        let (file, text) = self.read_dockerfile()?;
        let ast = dockerfile::parse(&text).map_err(|error| {
            let span = Some(error.span);
            BuildError::Parse(Box::new(located(error, &file, &text, span)))
        })?;
        let bases = Bases {
            store: store.clone(),
            client: Client::new(self.client.clone()),
            named: self.named.clone(),
        };
        let (plan, bases) = self.plan_ast(&ast, &bases, &file, &text).await?;
        Ok(Planned {
            plan,
            file,
            text,
            bases,
        })
    }

    /// Goes round until no base is unknown: an ONBUILD may ask for more.
    async fn plan_ast(
        &self,
        ast: &ast::Dockerfile,
        bases: &Bases,
        file: &str,
        text: &str,
    ) -> Result<(Plan, BTreeMap<Base, Resolved>), BuildError> {
        let failed = |error: PlanError| {
            let span = Some(error.span);
            BuildError::Plan(Box::new(located(error, file, text, span)))
        };
        let mut options = Cow::Borrowed(&self.plan);
        if let Some(source) = epoch_source(ast, &self.plan).map_err(failed)? {
            options.to_mut().epoch_of_source = self.time_of(&source, &bases.store).await?;
        }
        let mut known: BTreeMap<Base, BaseInfo> = BTreeMap::new();
        let mut resolved: BTreeMap<Base, Resolved> = BTreeMap::new();
        loop {
            let step = step(ast, &options, &known).map_err(failed)?;
            let missing = match step {
                Step::Ready(plan) => return Ok((*plan, resolved)),
                Step::NeedBases(missing) => missing,
            };
            let all = missing.into_iter().map(|(base, span)| async move {
                let found = bases.resolve(&base).await;
                found
                    .map_err(|error| {
                        let mut located = located(error, file, text, Some(span));
                        located.hint =
                            stage_meant(ast, text.get(span.start..span.end).unwrap_or_default());
                        BuildError::Base(Box::new(located))
                    })
                    .map(|found| (base, found))
            });
            for (base, found) in futures_util::future::try_join_all(all).await? {
                known.insert(base.clone(), info(&base, &found));
                resolved.insert(base, found);
            }
        }
    }

    /// Returns the Dockerfile's name, as messages have it, and its text.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn read_dockerfile(&self) -> Result<(String, String), BuildError> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        if self.context_dir().is_none() && self.dockerfile.is_none() {
            return Err(BuildError::NoContext {
                place: self.context_label(),
                reason: "it is not on this machine yet, and its Dockerfile is in it".to_owned(),
            });
        }
        let whole = self.dockerfile_path();
        // Inside a context that was fetched, its place there is what a user knows.
        let path = match self.prepared.get(&None) {
            Some(prepared) => whole.strip_prefix(&prepared.path).unwrap_or(&whole),
            None => &whole,
        };
        let path = path.to_owned();
        let failed = |source| BuildError::ReadDockerfile {
            path: path.clone(),
            source,
        };
        let file = crate::context::open_text(&whole).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_DOCKERFILE_BYTES + 1).read_to_end(&mut bytes);
        if read.map_err(failed)? as u64 > MAX_DOCKERFILE_BYTES {
            return Err(failed(std::io::Error::other("it is larger than 64 MiB")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|&&b| b == b'\n').count() + 1;
            let path = path.clone();
            BuildError::NotText { path, line }
        })?;
        Ok((path.display().to_string(), text))
    }

    pub(super) fn dockerfile_path(&self) -> PathBuf {
        if let Some(path) = &self.dockerfile {
            return path.clone();
        }
        let context = self.context_dir().unwrap_or(Path::new(""));
        let names = ["Dockerfile", "Containerfile"].map(|name| context.join(name));
        let found = names.iter().find(|path| path.exists());
        let path = found.unwrap_or(&names[0]).clone();
        path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)
    }

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

    async fn run_to_end(
        mut self,
        events: Arc<dyn EventSink>,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<Image, BuildError> {
        // Whoever drops this future cancels what it started.
        let _guard = self.cancel.clone().drop_guard();
        let names = self.names()?;
        self.outputs.iter().try_for_each(Output::check)?;
        push::check(&self.outputs, &names)?;
        let store = self.open_store()?;
        crate::solve::forget_failed_step(&store);
        let events = super::logs::recorded(store.root(), events);
        let standing = self.settled(&store)?;
        if let Some(standing) = &standing {
            events.emit(Event::Isolation {
                rung: standing.rung.name().to_owned(),
                reason: standing.reason.clone(),
            });
        }
        let cancel = self.cancel.clone();
        self = tokio::select! {
            prepared = self.with_context_here(&store) => prepared?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
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
                deadline,
                is_first: solutions.is_empty(),
                many,
            };
            let solution = self.solved(&round, &sink).await?;
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
        let fail = |error: SolveError| BuildError::Solve(Box::new(located(error, "", "", None)));
        let exported = tokio::task::spawn_blocking(move || {
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
        let worker = |error: tokio::task::JoinError| BuildError::Worker(error.to_string());
        let image = exported.await.map_err(worker)??;
        let client = Client::new(client);
        let pushed = push_all(&outputs, &image, &client, &kept, steps, shown.as_ref());
        tokio::select! {
            pushed = pushed => pushed?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        }
        if let Some(policy) = gc {
            let held = tokio::task::spawn_blocking(move || hold_to(&policy, kept, shown.as_ref()));
            held.await.map_err(worker)?;
        }
        Ok(image)
    }

    /// Plans and solves for one platform.
    async fn solved(
        &mut self,
        round: &Round<'_>,
        events: &Arc<dyn EventSink>,
    ) -> Result<Solution, BuildError> {
        let &Round {
            store,
            standing,
            deadline,
            is_first,
            many,
        } = round;
        let planned = tokio::select! {
            planned = self.plan_in(store) => planned?,
            () = self.cancel.cancelled() => return Err(BuildError::Cancelled),
        };
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
        let mut inputs = self.inputs(plan, bases, store, standing, events, deadline)?;
        inputs.options.forced = forced.vertices;
        if many {
            // Each platform is compared with itself.
            inputs.options.project += &format!(" {}", inputs.plan.platform);
        }
        let inputs = Arc::new(inputs);
        let fail = move |error: SolveError| {
            let span = error.span;
            BuildError::Solve(Box::new(located(error, &file, &text, span)))
        };
        let solved = solve(inputs.clone()).await.map_err(&fail)?;
        crate::solve::fetch_layers(&inputs, &solved)
            .await
            .map_err(&fail)?;
        let config = assemble::config(&inputs.plan, &solved.layers, base_created);
        Ok(Solution {
            inputs,
            config,
            solved,
            attestations: self.attestations.clone(),
        })
    }

    /// Tells what is questionable in the file.
    fn remark(
        &self,
        file: &str,
        text: &str,
        bases: &BTreeMap<Base, Resolved>,
        events: &dyn EventSink,
    ) -> Result<(), BuildError> {
        let Ok(ast) = dockerfile::parse(text) else {
            return Ok(());
        };
        let bases = bases.iter();
        let known = bases.map(|(base, found)| (base.clone(), info(base, found)));
        let fail = |error, span, hint| {
            let mut located = located(error, file, text, Some(span));
            located.hint = hint;
            Err(BuildError::Checks(Box::new(located)))
        };
        let (findings, fails) = match self.remarks(&ast, text, &known.collect()) {
            Ok(remarks) => remarks,
            Err(RemarksError::Context(error)) => return Err(error.into()),
            Err(RemarksError::Settings(diagnostic)) => {
                let message = diagnostic.message;
                let error = ChecksError::Settings { message };
                return fail(error, diagnostic.span, diagnostic.hint);
            }
        };
        for finding in &findings {
            let diagnostic = &finding.diagnostic;
            let (line, _) = dockerfile::diagnostic::line_column(text, diagnostic.span.start);
            events.emit(Event::Warning {
                vertex: None,
                line: Some(line),
                message: format!(
                    "{}: {}",
                    diagnostic.code.unwrap_or_default(),
                    diagnostic.message
                ),
            });
        }
        match findings.first() {
            Some(first) if fails => {
                let count = findings.len();
                fail(ChecksError::Remarks { count }, first.diagnostic.span, None)
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<Reference>, BuildError> {
        let parse = |name: &String| {
            name.parse().map_err(
                |error: crate::image::ReferenceError| BuildError::Reference {
                    name: name.clone(),
                    error: error.to_string(),
                },
            )
        };
        let names: BTreeSet<&String> = self.tags.iter().collect();
        names.into_iter().map(parse).collect()
    }

    /// Names what is built, for comparing it with what it was last time: the context, and the Dockerfile.
    fn project(&self) -> String {
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = self.dockerfile_path();
        let dockerfile = match (&self.text, self.prepared.get(&None)) {
            (Some((name, _)), _) => name.clone(),
            // What was fetched lies elsewhere each time.
            (None, Some(prepared)) => {
                let inside = path.strip_prefix(&prepared.path).unwrap_or(&path);
                inside.display().to_string()
            }
            (None, None) => absolute(&path).display().to_string(),
        };
        format!("{} {dockerfile}", self.context_label())
    }

    /// Returns what became of the steps when this was last built; `None` where the store knows of no build.
    ///
    /// # Errors
    /// A store that cannot be opened.
    pub fn last(&self) -> Result<Option<LastBuild>, BuildError> {
        let cache = Cache::new(self.open_store()?);
        Ok(cache.last_build(&self.project()))
    }

    fn inputs(
        &self,
        plan: Plan,
        bases: BTreeMap<Base, Resolved>,
        store: &Store,
        standing: Option<&Standing>,
        events: &Arc<dyn EventSink>,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<Inputs, BuildError> {
        let contexts = self.context_dirs();
        let tmp = store.tmp_dir().join("snapshots");
        let rootless = standing.is_some_and(|standing| standing.rootless);
        let single = standing.is_some_and(|standing| standing.rung == Rung::SingleId);
        let snapshots: Arc<dyn Snapshotter> = match standing {
            Some(standing) if !standing.overlay => {
                let form = if single { "single" } else { "copied" };
                let copied = Copied::new(&store.snapshots_dir_of(form), &tmp)?;
                Arc::new(copied.remembering(single))
            }
            _ if single => {
                let overlay = Overlay::new(&store.snapshots_dir_of("single"), &tmp, true)?;
                Arc::new(overlay.remembering(true))
            }
            _ => Arc::new(Overlay::new(&store.snapshots_dir(), &tmp, rootless)?),
        };
        let resolv_conf = match &self.resolv_conf {
            Some(bytes) => bytes.clone(),
            // A machine without the file has no name service to offer.
            None => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        Ok(Inputs {
            plan,
            bases,
            contexts,
            secrets: self.secrets.clone(),
            ssh: self.ssh.clone(),
            store: store.clone(),
            snapshots,
            compressor: Compressor::new(
                store.clone(),
                self.outputs
                    .iter()
                    .filter_map(|it| Some(it.image()?.compression)),
                0,
            ),
            client: Client::new(self.client.clone()),
            helper: self.helper.clone(),
            events: events.clone(),
            options: SolveOptions {
                jobs: self.jobs,
                no_cache: self.no_cache.all,
                forced: BTreeSet::new(),
                project: self.project(),
                hostname: HOSTNAME.to_owned(),
                resolv_conf,
                hosts: self.steps.hosts_file(),
                limits: self.steps.limits.clone(),
                step_timeout: self.steps.timeout,
                deadline,
                allow: self.steps.allow.clone(),
                device_dirs: self.steps.device_dirs(),
                now,
                max_layer_bytes: self.max_layer_bytes,
                userxattr: rootless,
                rung: standing.map_or(Rung::Overlay, |standing| standing.rung),
                rung_reason: standing.map_or(String::new(), |it| it.reason.clone()),
            },
            cancel: self.cancel.clone(),
        })
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

/// Returns the last build of all in the store at `root`.
///
/// # Errors
/// A store that cannot be opened.
pub fn last_build(root: &Path) -> Result<Option<LastBuild>, BuildError> {
    Ok(Cache::new(Store::open(root)?).newest_build())
}

/// Returns the stage whose name is much like that of an image which cannot be had.
fn stage_meant(ast: &ast::Dockerfile, name: &str) -> Option<String> {
    let stages = ast.stages.iter();
    let names: Vec<&str> = stages
        .filter_map(|stage| Some(stage.from.alias.as_ref()?.raw.as_str()))
        .collect();
    let near = dockerfile::nearest(name, &names)?;
    Some(format!("did you mean the stage `{near}`?"))
}

pub(super) fn located<E>(error: E, file: &str, text: &str, span: Option<Span>) -> Located<E> {
    Located {
        error,
        file: file.to_owned(),
        text: text.to_owned(),
        span,
        hint: None,
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
