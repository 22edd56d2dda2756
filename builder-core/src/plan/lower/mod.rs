//! Stages to vertices: walks the needed stages in order, keeping what an instruction may change.

mod copy;
mod metadata;
mod run;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dockerfile::ast::{Instruction, Kind};
use crate::dockerfile::word::Lexer;
use crate::dockerfile::{Span, Text, without_userinfo};
use crate::image::{History, ImageConfig, Platform};

use super::base::Base;
use super::error::{PlanError, PlanErrorKind};
use super::outline::Args;
use super::scope::{self, Budget, Variables};
use super::stages::{self, Frame, From, Ground, Prepared};
use super::vertex::{CopySource, Input, MkdirOp, Op, Plan, PlanWarning, SourceTree, Vertex};

pub(super) use copy::is_git;

/// The comment that BuildKit leaves in each entry of the history, so that tools see one kind of image.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a stage stands after some of its instructions.
#[derive(Debug, Clone)]
struct State {
    rootfs: Option<Input>,
    config: ImageConfig,
    /// ENV and ARG, as a RUN sees them.
    env: Variables,
    /// Where in the config's `env` a name is set.
    env_places: HashMap<String, usize>,
    /// Names whose ENV an ARG of this stage hides; not so in a stage that is built from it.
    hidden: Vec<String>,
    /// Every ARG so far, for the history; one that comes again keeps its place.
    build_args: Vec<(String, Option<String>)>,
    arg_places: HashMap<String, usize>,
    layers: Vec<Input>,
    base_history: usize,
    platform: Platform,
    /// This stage has set CMD itself.
    cmd_set: bool,
}

/// All that is known while lowering.
struct Lowering<'f, 'a> {
    frame: &'f Frame<'a>,
    vertices: Vec<Vertex>,
    images: BTreeMap<Base, Input>,
    contexts: BTreeMap<Option<String>, Input>,
    /// The state at the end of each stage done that others, or the image, still stand on.
    done: BTreeMap<usize, State>,
    /// How many do.
    uses: BTreeMap<usize, usize>,
    /// Roots of the stages that hold something to do, by stage.
    roots: BTreeMap<usize, Option<Input>>,
    used_args: BTreeSet<String>,
    args: Args,
    budget: Budget,
    warnings: Vec<PlanWarning>,
}

/// One instruction's surroundings.
struct Site<'p> {
    stage: usize,
    prepared: &'p Prepared<'p>,
    instruction: &'p Instruction,
    prefix: Prefix,
    onbuild: bool,
    after: Vec<Input>,
}

/// `[build 2/5] `.
#[derive(Debug, Clone)]
struct Prefix {
    stage: String,
    index: usize,
    total: usize,
}

impl Prefix {
    fn next(&mut self) {
        self.index += 1;
    }

    fn text(&self) -> String {
        let width = self.total.to_string().len();
        let gap = if self.stage.is_empty() { "" } else { " " };
        let Prefix {
            stage,
            index,
            total,
        } = self;
        format!("[{stage}{gap}{index:>width$}/{total}] ")
    }
}

pub(super) fn lower(
    frame: &Frame<'_>,
    stages: &[Prepared<'_>],
    needed: &BTreeSet<usize>,
    target: usize,
) -> Result<Plan, PlanError> {
    let mut lowering = Lowering {
        frame,
        vertices: Vec::new(),
        images: BTreeMap::new(),
        contexts: BTreeMap::new(),
        done: BTreeMap::new(),
        uses: BTreeMap::from([(target, 1)]),
        roots: BTreeMap::new(),
        used_args: BTreeSet::new(),
        args: Args::default(),
        budget: Budget::default(),
        warnings: Vec::new(),
    };
    for &index in needed {
        if let Ground::Stage(base) = stages[index].ground {
            *lowering.uses.entry(base).or_default() += 1;
        }
    }
    for &index in needed {
        let state = lowering.stage(stages, index)?;
        lowering.roots.insert(index, state.rootfs);
        if lowering.uses.contains_key(&index) {
            lowering.done.insert(index, state);
        }
    }
    lowering.finish(target)
}

impl<'a> Lowering<'_, 'a> {
    fn stage(&mut self, stages: &[Prepared<'_>], index: usize) -> Result<State, PlanError> {
        let prepared = &stages[index];
        let all = || prepared.onbuild.iter().chain(&prepared.stage.instructions);
        let from_base = !matches!(prepared.ground, Ground::Scratch | Ground::Stage(_));
        let steps = all()
            .filter(|it| {
                matches!(
                    it.kind,
                    Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_)
                )
            })
            .count();
        let mut prefix = Prefix {
            stage: if stages.len() == 1 {
                String::new()
            } else {
                prepared.name.clone()
            },
            index: 0,
            total: steps + usize::from(from_base),
        };
        let mut state = self.ground(prepared, &mut prefix)?;
        if prepared.replaced {
            return Ok(state);
        }
        self.args.stage(self.frame, prepared);
        let mut after = Vec::new();
        for word in &prepared.stage.from.after {
            if let From::Stage(other) =
                stages::resolve_from(self.frame, word, index, &prepared.platform)?
            {
                after.extend(self.roots.get(&other).copied().flatten());
            }
        }
        let inherited = prepared.onbuild.len();
        for (at, instruction) in all().enumerate() {
            let mut site = Site {
                stage: index,
                prepared,
                instruction,
                prefix: prefix.clone(),
                onbuild: at < inherited,
                after: after.clone(),
            };
            let (vertices, entries) = (self.vertices.len(), state.config.history.len());
            self.instruction(&mut state, &mut site)?;
            prefix = site.prefix;
            let made: usize = self.vertices[vertices..].iter().map(size).sum();
            let noted = state.config.history[entries..].iter();
            let noted: usize = noted
                .map(|it| it.created_by.as_ref().map_or(0, String::len))
                .sum();
            self.budget
                .spend(made + noted, instruction.head.keyword.span)?;
        }
        Ok(state)
    }

    /// Returns the state that the stage starts from.
    fn ground(&mut self, prepared: &Prepared<'_>, prefix: &mut Prefix) -> Result<State, PlanError> {
        let mut state = match &prepared.ground {
            Ground::Stage(base) => {
                let mut state = self.end_of(*base, prepared.stage.head.span)?;
                state.config.config.on_build.clear();
                state.cmd_set = false;
                for name in std::mem::take(&mut state.hidden) {
                    let pair = &state.config.config.env[state.env_places[&name]];
                    let (_, value) = pair.split_once('=').unwrap_or_default();
                    state.env.set(&name, value);
                }
                return Ok(state);
            }
            Ground::Scratch => State::new(ImageConfig::scratch(&prepared.platform), prepared),
            Ground::Tree(name) => {
                let mut state = State::new(ImageConfig::scratch(&prepared.platform), prepared);
                state.rootfs = Some(self.tree_as_root(name, prepared, prefix));
                state
            }
            Ground::Base(base) => {
                let info = &self.frame.known[base];
                let mut config = info.config.clone();
                let found = config.platform();
                if !found.os.is_empty() && !prepared.platform.runs(&found) {
                    let head = &prepared.stage.head;
                    self.warnings.push(PlanWarning {
                        message: format!(
                            "base image {} is for {found}, not for {}",
                            base.describe(),
                            prepared.platform
                        ),
                        span: Some(head.span),
                        line: Some(head.lines.0),
                    });
                }
                config.created = None;
                if !prepared.replaced {
                    config.config.on_build.clear();
                }
                let mut state = State::new(config, prepared);
                state.base_history = state.config.history.len();
                if !info.config.diff_ids.is_empty() {
                    prefix.next();
                    let name = format!("{}FROM {}", prefix.text(), info.pinned);
                    state.rootfs = Some(self.image(base, name, prepared));
                } else {
                    prefix.total = prefix.total.saturating_sub(1);
                }
                state
            }
        };
        if state.env.value("PATH").is_none()
            && !state
                .config
                .config
                .env
                .iter()
                .any(|pair| pair.starts_with("PATH="))
        {
            state.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for (place, pair) in state.config.config.env.iter().enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            state.env.set(name, value);
            if pair.contains('=') {
                state.env_places.entry(name.to_owned()).or_insert(place);
            }
        }
        Ok(state)
    }

    /// Returns how the stage `base` ends: itself to the last one that stands on it, a copy to the others.
    fn end_of(&mut self, base: usize, span: Span) -> Result<State, PlanError> {
        let left = self.uses.entry(base).or_default();
        *left = left.saturating_sub(1);
        if *left == 0
            && let Some(state) = self.done.remove(&base)
        {
            return Ok(state);
        }
        let state = &self.done[&base];
        self.budget.spend(state.size(), span)?;
        Ok(state.clone())
    }

    fn instruction(&mut self, state: &mut State, site: &mut Site<'_>) -> Result<(), PlanError> {
        match &site.instruction.kind {
            Kind::Add(copy) => self.copy(state, site, copy, true),
            Kind::Copy(copy) => self.copy(state, site, copy, false),
            Kind::Run(run) => self.run(state, site, run),
            Kind::Workdir(path) => self.workdir(state, site, path),
            Kind::Arg(declarations) => self.arg(state, site, declarations),
            _ => self.metadata(state, site),
        }
    }

    fn workdir(
        &mut self,
        state: &mut State,
        site: &mut Site<'_>,
        path: &Text,
    ) -> Result<(), PlanError> {
        let path = scope::expand(&self.frame.lexer, path, &state.env)?;
        let cwd = join(&state.config.config.working_dir, &path);
        state.config.config.working_dir.clone_from(&cwd);
        let made_by = format!("WORKDIR {cwd}");
        if cwd == "/" {
            state.note(made_by);
            // A step without a layer still counts in the numbering.
            site.prefix.next();
            return Ok(());
        }
        let op = Op::Mkdir(MkdirOp {
            parent: state.rootfs,
            path: cwd,
            user: state.config.config.user.clone(),
        });
        let vertex = self.push(state, site, op, "");
        state.layer(made_by, vertex);
        Ok(())
    }

    /// Adds a vertex for the instruction at `site`.
    fn push(&mut self, state: &State, site: &mut Site<'_>, op: Op, suffix: &str) -> Input {
        site.prefix.next();
        let head = &site.instruction.head;
        let lexer = Lexer {
            raw_quotes: true,
            skip_unset: true,
            ..Lexer::new(self.frame.file.directives.escape)
        };
        let text = lexer
            .expand(&head.original, &state.env)
            .map_or_else(|_| head.original.clone(), |expanded| expanded.text);
        // An address of ADD may hold a password; what a RUN says stays as it is.
        let text = match op {
            Op::Copy(_) => without_userinfo(&text),
            _ => text,
        };
        let (keyword, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let onbuild = if site.onbuild { "ONBUILD " } else { "" };
        let name = format!(
            "{}{onbuild}{} {rest}{suffix}",
            site.prefix.text(),
            keyword.to_uppercase()
        );
        self.vertices.push(Vertex {
            op,
            name,
            span: Some(head.span),
            line: Some(head.lines.0),
            stage: site.prepared.name.clone(),
            platform: Some(site.prepared.platform.clone()),
            after: std::mem::take(&mut site.after),
        });
        self.vertices.len() - 1
    }

    fn image(&mut self, base: &Base, name: String, prepared: &Prepared<'_>) -> Input {
        if let Some(&vertex) = self.images.get(base) {
            return vertex;
        }
        let head = &prepared.stage.head;
        self.vertices.push(Vertex {
            op: Op::Image(base.clone()),
            name,
            span: Some(head.span),
            line: Some(head.lines.0),
            stage: String::new(),
            platform: None,
            after: Vec::new(),
        });
        let vertex = self.vertices.len() - 1;
        self.images.insert(base.clone(), vertex);
        vertex
    }

    fn context(&mut self, name: Option<&str>) -> Input {
        let key = name.map(str::to_owned);
        if let Some(&vertex) = self.contexts.get(&key) {
            return vertex;
        }
        self.vertices.push(Vertex {
            op: Op::Context { name: key.clone() },
            name: match name {
                None => "[internal] load build context".to_owned(),
                Some(name) => format!("[context {name}] load from client"),
            },
            span: None,
            line: None,
            stage: String::new(),
            platform: None,
            after: Vec::new(),
        });
        let vertex = self.vertices.len() - 1;
        self.contexts.insert(key, vertex);
        vertex
    }

    /// Makes a root file system of a directory: all of it copied onto nothing.
    fn tree_as_root(&mut self, name: &str, prepared: &Prepared<'_>, prefix: &mut Prefix) -> Input {
        let context = self.context(Some(name));
        prefix.next();
        let head = &prepared.stage.head;
        let op = Op::Copy(copy::whole_tree(context, head.span));
        self.vertices.push(Vertex {
            op,
            name: format!("{}FROM {name}", prefix.text()),
            span: Some(head.span),
            line: Some(head.lines.0),
            stage: prepared.name.clone(),
            platform: None,
            after: Vec::new(),
        });
        self.vertices.len() - 1
    }

    /// Returns the tree that `--from` means; `None` for an empty one.
    fn source_tree(
        &mut self,
        site: &Site<'_>,
        word: &Text,
    ) -> Result<Option<SourceTree>, PlanError> {
        let from = stages::resolve_from(self.frame, word, site.stage, &site.prepared.platform)?;
        let vertex = match from {
            From::Scratch => None,
            From::Stage(stage) => self.roots[&stage],
            From::Tree(name) => Some(self.context(Some(&name))),
            From::Base(base) => {
                let info = &self.frame.known[&base];
                let name = format!("FROM {}", info.pinned);
                (!info.config.diff_ids.is_empty()).then(|| self.image(&base, name, site.prepared))
            }
        };
        Ok(vertex.map(|vertex| SourceTree { vertex }))
    }

    fn finish(mut self, target: usize) -> Result<Plan, PlanError> {
        let Some(mut state) = self.done.remove(&target) else {
            // `needed` always holds the target.
            let name = target.to_string();
            let kind = PlanErrorKind::UnknownTarget { name };
            return Err(PlanError::new(kind, Span::default()));
        };
        let options = self.frame.options;
        let mut config = state.config;
        for (name, value) in &options.labels {
            config.config.labels.insert(name.clone(), value.clone());
        }
        if options.platform_given {
            state.platform.clone_from(&options.platform);
            mark(&mut config, &options.platform);
        }
        let unused: Vec<&str> = options
            .build_args
            .keys()
            .filter(|name| !self.used_args.contains(*name) && !scope::is_builtin(name))
            .filter(|name| self.frame.global.value(name).is_none())
            .map(String::as_str)
            .collect();
        if !unused.is_empty() {
            self.warnings.push(PlanWarning {
                message: format!("build args [{}] were not used", unused.join(" ")),
                span: None,
                line: None,
            });
        }
        let (vertices, map) = prune(self.vertices, state.rootfs);
        Ok(Plan {
            vertices,
            target: state.rootfs.map(|vertex| map[&vertex]),
            config,
            layers: state.layers.iter().map(|vertex| map[vertex]).collect(),
            base_history: state.base_history,
            platform: state.platform,
            target_name: options.target.clone(),
            source_date_epoch: self.frame.epoch,
            args: self.args.finish(self.frame),
            warnings: self.warnings,
        })
    }
}

/// Makes an image one for `platform`.
fn mark(config: &mut ImageConfig, platform: &Platform) {
    let same = config.os == platform.os && config.architecture == platform.architecture;
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    if platform.variant.is_some() || !same {
        config.variant = platform.variant.clone().unwrap_or_default();
    }
    if platform.os_version.is_some() || !same {
        config.os_version = platform.os_version.clone().unwrap_or_default();
    }
}

/// About what a vertex takes, in bytes.
fn size(vertex: &Vertex) -> usize {
    const PAIR: usize = 2 * size_of::<String>();
    let op = match &vertex.op {
        Op::Run(run) => {
            let env = run.env.iter().map(|(k, v)| PAIR + k.len() + v.len());
            env.sum::<usize>() + run.args.iter().map(String::len).sum::<usize>()
        }
        Op::Copy(copy) => {
            let sources = copy.sources.iter().map(|source| match source {
                CopySource::Tree { pattern, .. } => pattern.len(),
                CopySource::Inline { content, .. } => content.len(),
                CopySource::Url { url, .. } | CopySource::Git { url, .. } => url.len(),
            });
            sources.sum::<usize>() + copy.dest.len()
        }
        Op::Mkdir(mkdir) => mkdir.path.len(),
        Op::Image(_) | Op::Context { .. } => 0,
    };
    op + vertex.name.len()
}

/// Keeps what `root` needs and renumbers it.
fn prune(vertices: Vec<Vertex>, root: Option<Input>) -> (Vec<Vertex>, BTreeMap<Input, Input>) {
    let mut needed = BTreeSet::new();
    let mut stack: Vec<Input> = root.into_iter().collect();
    while let Some(index) = stack.pop() {
        if needed.insert(index) {
            stack.extend(vertices[index].inputs());
        }
    }
    let map: BTreeMap<Input, Input> = needed.iter().copied().zip(0..).collect();
    let mut kept = Vec::with_capacity(needed.len());
    for (index, mut vertex) in vertices.into_iter().enumerate() {
        if map.contains_key(&index) {
            vertex.op.renumber(&|old| map[&old]);
            for input in &mut vertex.after {
                *input = map[input];
            }
            kept.push(vertex);
        }
    }
    (kept, map)
}

impl State {
    fn new(config: ImageConfig, prepared: &Prepared<'_>) -> Self {
        State {
            rootfs: None,
            config,
            env: Variables::default(),
            env_places: HashMap::new(),
            hidden: Vec::new(),
            build_args: Vec::new(),
            arg_places: HashMap::new(),
            layers: Vec::new(),
            base_history: 0,
            platform: prepared.platform.clone(),
            cmd_set: false,
        }
    }

    /// About what it takes, in bytes.
    fn size(&self) -> usize {
        let history = self.config.history.iter();
        let history =
            history.map(|it| size_of::<History>() + it.created_by.as_ref().map_or(0, String::len));
        // Once in the config, once for the steps.
        let env = self
            .config
            .config
            .env
            .iter()
            .map(|it| 2 * (size_of::<String>() + it.len()));
        let labels = self
            .config
            .config
            .labels
            .iter()
            .map(|(k, v)| 2 * size_of::<String>() + k.len() + v.len());
        let args = self
            .build_args
            .iter()
            .map(|(k, v)| 2 * size_of::<String>() + k.len() + v.as_ref().map_or(0, String::len));
        history.chain(env).chain(labels).chain(args).sum()
    }

    /// Adds an entry to the history that has no layer.
    fn note(&mut self, created_by: String) {
        self.config.history.push(History {
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer: true,
            ..History::default()
        });
    }

    /// Makes `vertex` the root file system, with its entry in the history.
    fn layer(&mut self, created_by: String, vertex: Input) {
        self.note(created_by);
        if let Some(entry) = self.config.history.last_mut() {
            entry.empty_layer = false;
        }
        self.rootfs = Some(vertex);
        self.layers.push(vertex);
    }

    /// Returns `command` as the shell of this stage runs it.
    fn in_shell(&self, command: &str) -> Vec<String> {
        let shell = &self.config.config.shell;
        let mut args = if shell.is_empty() {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        } else {
            shell.clone()
        };
        args.push(command.to_owned());
        args
    }
}

/// Joins and cleans, as Go's `path.Join("/", base, path)`; an absolute `path` replaces `base`.
pub(super) fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    clean(&whole)
}

/// Makes a path absolute and removes `.`, `..` and doubled slashes.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
