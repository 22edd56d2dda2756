//! The graph: what is done, from what.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::dockerfile::Span;
use crate::dockerfile::instruction::device::Device;
use crate::dockerfile::instruction::mount::Sharing;
use crate::image::{ImageConfig, Platform};

use super::{Base, PlanArg};

/// Index of a vertex in [`Plan::vertices`].
pub type Input = usize;

/// A complete plan. Nothing is left to decide while building.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Inputs before those that use them; only what the target needs.
    pub vertices: Vec<Vertex>,
    /// The vertex whose root file system is the image's; `None`: an empty one.
    pub target: Option<Input>,
    /// The image's config, all but `rootfs`, times and the number of layers below.
    pub config: ImageConfig,
    /// For each entry of `config.history` that this build adds and that has a layer: the vertex, in order.
    pub layers: Vec<Input>,
    /// How many entries of `config.history` come from the base.
    pub base_history: usize,
    pub platform: Platform,
    pub target_name: Option<String>,
    /// Clamp of all times.
    pub source_date_epoch: Option<i64>,
    /// The ARGs that it takes.
    pub args: Vec<PlanArg>,
    pub warnings: Vec<PlanWarning>,
}

/// Something the reference warns of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanWarning {
    pub message: String,
    pub span: Option<Span>,
    /// 1-based.
    pub line: Option<u32>,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Vertex {
    pub op: Op,
    /// `[build 2/5] RUN make`.
    pub name: String,
    pub span: Option<Span>,
    /// 1-based first line.
    pub line: Option<u32>,
    /// Name of the stage, or its number; empty for sources.
    pub stage: String,
    /// For which platform a RUN's programs are.
    pub platform: Option<Platform>,
    /// Vertices that must be done first although nothing of them is used (`FROM --after`).
    pub after: Vec<Input>,
}

impl Vertex {
    /// Returns all vertices that must be done before this one, the parent first.
    pub fn inputs(&self) -> Vec<Input> {
        let mut inputs = self.op.inputs();
        inputs.extend(&self.after);
        inputs
    }
}

/// What a vertex does. Ops that make a root file system take their parent's, `None` for an empty one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// The layers of an image.
    Image(Base),
    /// The files of the main context (`None`) or of a named one.
    Context {
        name: Option<String>,
    },
    Run(RunOp),
    /// COPY and ADD.
    Copy(CopyOp),
    /// WORKDIR.
    Mkdir(MkdirOp),
}

/// A process to run on a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    pub parent: Option<Input>,
    pub args: Vec<String>,
    /// In the order in which they were set; names are unique.
    pub env: Vec<(String, String)>,
    /// Those of `env` that an ARG of the stage has set; for reasons, not part of the key.
    pub arg_names: BTreeSet<String>,
    /// Proxy variables: usable, not part of the key.
    pub proxy_env: Vec<(String, String)>,
    pub cwd: String,
    /// As USER has it: empty, `name`, `uid`, `name:group`, …
    pub user: String,
    pub mounts: Vec<MountOp>,
    /// As written: variables are not expanded in them.
    pub devices: Vec<Device>,
    /// Scripts of heredocs with a `#!` line, put at `/dev/pipes/NAME`.
    pub scripts: Vec<(String, String)>,
    pub network: NetworkMode,
    /// Lines of `/etc/hosts` besides the usual.
    pub extra_hosts: Vec<(String, IpAddr)>,
    pub security: SecurityMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    #[default]
    Default,
    Host,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityMode {
    #[default]
    Sandbox,
    Insecure,
}

/// One `--mount` of a RUN, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOp {
    /// Absolute. Empty for a secret that is only an environment variable.
    pub target: String,
    pub source: MountSource,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    Bind {
        /// `None`: an empty tree.
        from: Option<SourceTree>,
        /// Inside the tree.
        path: String,
        read_write: bool,
    },
    Cache {
        id: String,
        sharing: Sharing,
        from: Option<SourceTree>,
        path: String,
        mode: u32,
        uid: u32,
        gid: u32,
        read_only: bool,
    },
    Tmpfs {
        size_bytes: Option<u64>,
    },
    Secret {
        id: String,
        required: bool,
        env: Option<String>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: String,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// A tree that files are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceTree {
    /// A context, an image or a stage's last vertex.
    pub vertex: Input,
}

/// Files put onto a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    pub parent: Option<Input>,
    /// In order; each is copied onto what the earlier ones made.
    pub sources: Vec<CopySource>,
    /// Absolute, cleaned, with the slash at its end kept where the author wrote one.
    pub dest: String,
    /// `user[:group]`, by name or number.
    pub chown: Option<String>,
    pub chmod: Option<Mode>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<String>,
    /// Archives among the sources are unpacked.
    pub unpack: bool,
    pub checksum: Option<String>,
    pub keep_git_dir: bool,
    /// ADD, for messages.
    pub is_add: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern in a tree; `None`: an empty tree.
    Tree {
        from: Option<SourceTree>,
        pattern: String,
        span: Span,
    },
    /// A heredoc.
    Inline {
        name: String,
        content: String,
    },
    Url {
        url: String,
        span: Span,
    },
    Git {
        url: String,
        span: Span,
    },
}

/// `--chmod`: a number, or words such as `u=rwX,go-w` that change the mode a file has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Mode {
    #[serde(serialize_with = "octal")]
    Octal(u32),
    Symbolic(String),
}

/// A directory that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirOp {
    pub parent: Option<Input>,
    pub path: String,
    /// Owner of what is made, as USER has it.
    pub user: String,
}

impl Op {
    /// Returns the vertex whose root file system this one changes.
    pub fn parent(&self) -> Option<Input> {
        match self {
            Op::Image(_) | Op::Context { .. } => None,
            Op::Run(run) => run.parent,
            Op::Copy(copy) => copy.parent,
            Op::Mkdir(mkdir) => mkdir.parent,
        }
    }

    /// Returns the vertices this one needs, the parent first.
    pub fn inputs(&self) -> Vec<Input> {
        match self {
            Op::Image(_) | Op::Context { .. } => Vec::new(),
            Op::Run(run) => {
                let mounts = run.mounts.iter().filter_map(|mount| match &mount.source {
                    MountSource::Bind { from, .. } | MountSource::Cache { from, .. } => {
                        from.map(|tree| tree.vertex)
                    }
                    _ => None,
                });
                run.parent.into_iter().chain(mounts).collect()
            }
            Op::Copy(copy) => {
                let sources = copy.sources.iter().filter_map(|source| match source {
                    CopySource::Tree { from, .. } => from.map(|tree| tree.vertex),
                    _ => None,
                });
                copy.parent.into_iter().chain(sources).collect()
            }
            Op::Mkdir(mkdir) => mkdir.parent.into_iter().collect(),
        }
    }

    /// Replaces every input by what `map` gives for it.
    pub(super) fn renumber(&mut self, map: &dyn Fn(Input) -> Input) {
        let tree = |from: &mut Option<SourceTree>| {
            if let Some(tree) = from {
                tree.vertex = map(tree.vertex);
            }
        };
        match self {
            Op::Image(_) | Op::Context { .. } => {}
            Op::Run(run) => {
                run.parent = run.parent.map(map);
                for mount in &mut run.mounts {
                    if let MountSource::Bind { from, .. } | MountSource::Cache { from, .. } =
                        &mut mount.source
                    {
                        tree(from);
                    }
                }
            }
            Op::Copy(copy) => {
                copy.parent = copy.parent.map(map);
                for source in &mut copy.sources {
                    if let CopySource::Tree { from, .. } = source {
                        tree(from);
                    }
                }
            }
            Op::Mkdir(mkdir) => mkdir.parent = mkdir.parent.map(map),
        }
    }
}

fn octal<S: serde::Serializer>(bits: &u32, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{bits:04o}"))
}
