//! All that solving depends on besides the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::ahead::Ahead;
use super::entitlement::Entitlement;
use super::run_step::SshSource;
use crate::cache::LastBuild;
use crate::digest::Digest;
use crate::export::Compressor;
use crate::plan::{Base, Input, Plan};
use crate::progress::EventSink;
use crate::registry::{Client, Resolved};
use crate::sandbox::{HelperPath, Limits, Rung};
use crate::share::Imports;
use crate::snapshot::Snapshotter;
use crate::store::Store;

/// A directory that files are copied from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextDir {
    pub path: PathBuf,
    /// The Dockerfile's path, beside which an ignore file of its own may be; `None` for a named context.
    pub dockerfile: Option<PathBuf>,
    pub origin: Origin,
}

/// Where the files of a context's directory are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// The user's own: they belong to root in the image, and what they hold is remembered.
    #[default]
    Local,
    /// Made for this build alone; as [`Origin::Local`] otherwise.
    Fetched,
    /// An archive, made for this build alone, whose owners count.
    Archive,
}

/// Which layers of a result outputs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reads {
    /// None: it is named, pushed as it is, or its files are asked for.
    Nothing,
    /// Those that are to be compressed.
    Uncompressed,
    #[default]
    All,
}

/// The name of a RUN's machine, as BuildKit has it.
pub const HOSTNAME: &str = "buildkitsandbox";

/// How to solve.
#[derive(Debug, Clone)]
pub struct SolveOptions {
    /// At most so many vertices run at a time.
    pub jobs: usize,
    /// Run everything again, and keep no earlier layer in place of the new one; results are still recorded.
    pub no_cache: bool,
    /// What is not found is an error: nothing runs.
    pub only_found: bool,
    /// Outputs want the layers of all steps, not only those of the result.
    pub all_leave: bool,
    /// Run these again; see [`super::forced`].
    pub forced: BTreeSet<Input>,
    /// Names the project whose earlier build a miss is compared with.
    pub project: String,
    /// Which of several platforms it is built for; else empty.
    pub platform: String,
    /// Names what was asked of it, where other earlier builds asked for something else.
    pub variant: String,
    /// Of every RUN, where it is not [`HOSTNAME`].
    pub hostname: Option<String>,
    /// Contents of `/etc/resolv.conf` and `/etc/hosts` of every RUN.
    pub resolv_conf: Vec<u8>,
    pub hosts: Vec<u8>,
    /// Seconds since the epoch, for what the build itself makes.
    pub now: i64,
    /// What a step may use at most.
    pub limits: Limits,
    /// How long a RUN may take.
    pub step_timeout: Option<Duration>,
    /// When the time of the whole build is over, and how long that was.
    pub deadline: Option<(Instant, Duration)>,
    /// What steps may ask for besides the usual.
    pub allow: BTreeSet<Entitlement>,
    /// Where the specs of devices are, the one that wins last.
    pub device_dirs: Vec<PathBuf>,
    /// Overlays are mounted inside a user namespace.
    pub userxattr: bool,
    /// How steps are run.
    pub rung: Rung,
    /// Why that way, for the error where none can be run.
    pub rung_reason: String,
    /// What must be here in the end.
    pub reads: Reads,
    /// What a layer or an archive may unpack to, in bytes; `None` for the defaults of
    /// [`Limits::of_compressed`](crate::layer::Limits::of_compressed).
    pub max_layer_bytes: Option<u64>,
}

/// A plan and what it is solved with.
pub struct Inputs {
    pub plan: Plan,
    pub bases: BTreeMap<Base, Resolved>,
    /// The main context under `None`, named ones under their names.
    pub contexts: BTreeMap<Option<String>, ContextDir>,
    /// The main context, where it is being listed already.
    pub ahead: Option<Ahead>,
    /// By id. Never hashed, recorded or shown.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// By id; never hashed or recorded either.
    pub ssh: BTreeMap<String, SshSource>,
    pub store: Store,
    pub snapshots: Arc<dyn Snapshotter>,
    /// Knows which layers outputs will want compressed.
    pub compressor: Compressor,
    pub client: Client,
    /// Caches of other machines, which are asked after the store.
    pub shared: Arc<Imports>,
    pub helper: HelperPath,
    pub events: Arc<dyn EventSink>,
    pub options: SolveOptions,
    /// Has what became of each step, once that is known.
    pub table: Arc<Mutex<Option<LastBuild>>>,
    pub cancel: CancellationToken,
}

impl Inputs {
    /// Returns the digest of the manifest that a base was resolved to.
    pub(super) fn base_digest(&self, base: &Base) -> Option<Digest> {
        self.bases.get(base).map(|resolved| resolved.digest)
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("plan", &self.plan)
            .field("contexts", &self.contexts)
            .field("secrets", &self.secrets.keys())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
