//! What a user asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::annotations::Annotation;
use super::attested::Attested;
use super::context::{Context, NamedSource};
use super::error::BuildError;
use super::output::Output;
use super::prepare::Prepared;
use super::steps::Steps;
use crate::cache::{LastBuild, Policy};
use crate::image::{Platform, Reference};
use crate::plan::{NamedContext, NetworkMode, PlanOptions};
use crate::registry::ClientOptions;
use crate::sandbox::{HelperPath, Standing};
use crate::share::{CacheFrom, CacheTo};
use crate::solve::{NoCache, SshSource};
use crate::store::Store;

/// Vertices that wait for the network or sleep cost nothing, so there may be many more than cores.
const JOBS: usize = 64;

/// A build, asked for.
#[derive(Debug, Clone)]
pub struct Build {
    pub(super) context: Context,
    pub(super) dockerfile: Option<PathBuf>,
    pub(super) text: Option<(String, String)>,
    pub(super) store: Option<PathBuf>,
    pub(super) tags: Vec<String>,
    pub(super) plan: PlanOptions,
    pub(super) named: BTreeMap<String, NamedSource>,
    pub(super) outputs: Vec<Output>,
    pub(super) platforms: Vec<Platform>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) attested: Attested,
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    pub(super) ssh: BTreeMap<String, SshSource>,
    pub(super) no_cache: NoCache,
    /// Shared by clones.
    pub(super) tables: Arc<Mutex<Vec<LastBuild>>>,
    pub(super) cache_from: Vec<CacheFrom>,
    pub(super) cache_to: Vec<CacheTo>,
    pub(super) max_layer_bytes: Option<u64>,
    pub(super) gc: Option<Policy>,
    pub(super) jobs: usize,
    pub(super) client: ClientOptions,
    pub(super) helper: HelperPath,
    pub(super) standing: Option<Standing>,
    pub(super) resolv_conf: Option<Vec<u8>>,
    pub(super) steps: Steps,
    pub(super) cancel: CancellationToken,
    /// Nothing is run or fetched; see `look`.
    pub(super) only_found: bool,
    /// Contexts from elsewhere, once they are here; the main one under `None`.
    pub(super) prepared: BTreeMap<Option<String>, Prepared>,
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
            attested: Attested::default(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: NoCache::default(),
            tables: Arc::default(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            max_layer_bytes: None,
            gc: None,
            jobs: JOBS,
            client: ClientOptions::default(),
            helper: HelperPath::Current,
            standing: None,
            resolv_conf: None,
            steps: Steps::default(),
            cancel: CancellationToken::new(),
            only_found: false,
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

    /// Gives the socket of an ssh agent, or keys, for `RUN --mount=type=ssh`. Steps can list the keys and sign with them.
    #[must_use]
    pub fn ssh(mut self, id: impl Into<String>, source: impl Into<SshSource>) -> Self {
        self.ssh.insert(id.into(), source.into());
        self
    }

    /// Runs every step again.
    #[must_use]
    pub fn no_cache(mut self, no_cache: bool) -> Self {
        self.no_cache.all = no_cache;
        self
    }

    /// Adds a cache that another machine wrote: results that the store does not have are looked for there.
    #[must_use]
    pub fn cache_from(mut self, from: CacheFrom) -> Self {
        self.cache_from.push(from);
        self
    }

    /// Adds a cache that is written when all else is done.
    #[must_use]
    pub fn cache_to(mut self, to: CacheTo) -> Self {
        self.cache_to.push(to);
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

    pub(super) fn open_store(&self) -> Result<Store, BuildError> {
        let root = self.store.as_deref().ok_or(BuildError::NoStore)?;
        Ok(Store::open(root)?)
    }

    pub(super) fn names(&self) -> Result<Vec<Reference>, BuildError> {
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
}
