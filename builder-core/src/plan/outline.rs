//! What a target takes (its args, secrets, ssh agents and cache mounts), and which targets there are.
//!
//! As BuildKit's subrequests `outline` and `targets` have it: an ARG before FROM counts where a needed stage uses it, by its
//! own word or through another default; of ARGs of one name the one nearest to the target counts. A comment above FROM or
//! ARG describes what its first word names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::Span;
use crate::dockerfile::ast::{ArgDecl, Dockerfile, Instruction, Kind};
use crate::dockerfile::word::Env;

use super::stages::{Frame, Prepared};
use super::vertex::{MountSource, Op, Plan};

/// An ARG that the target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanArg {
    pub name: String,
    /// As it is with the build args given; `None` where it has none.
    pub value: Option<String>,
    pub description: Option<String>,
    pub span: Span,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Lower-cased.
    pub name: Option<String>,
    pub description: Option<String>,
    /// The one that is built where none is asked for.
    pub default: bool,
    /// What FROM names, as written.
    pub base: String,
    pub platform: Option<String>,
    pub span: Span,
}

/// What one target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub name: Option<String>,
    pub description: Option<String>,
    pub args: Vec<PlanArg>,
    pub secrets: Vec<Need>,
    pub ssh: Vec<Need>,
    pub caches: Vec<CacheUse>,
}

/// A secret or an ssh agent, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub id: String,
    /// Some step fails without it.
    pub required: bool,
    /// The first step with it.
    pub span: Span,
}

/// A cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUse {
    pub id: String,
    /// Where the first step with it sees it.
    pub target: String,
    pub span: Span,
}

/// Returns all stages in the file's order.
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.iter().enumerate();
    stages
        .map(|(index, stage)| {
            let name = stage.from.alias.as_ref().map(|it| it.raw.to_lowercase());
            Target {
                description: name
                    .as_deref()
                    .and_then(|name| described(&stage.head.comment, name)),
                name,
                default: index == last,
                base: stage.from.image.raw.clone(),
                platform: stage.from.platform.as_ref().map(|it| it.raw.clone()),
                span: stage.head.span,
            }
        })
        .collect()
}

/// Returns what the target of `plan`, which was made of `file`, takes. Each list is in the file's order.
pub fn outline(file: &Dockerfile, plan: &Plan) -> Outline {
    let all = targets(file);
    let wanted = plan.target_name.as_deref().map(str::to_lowercase);
    let target = match &wanted {
        None => all.last(),
        Some(name) => all
            .iter()
            .rev()
            .find(|it| it.name.as_ref() == Some(name))
            .or_else(|| all.get(name.parse::<usize>().ok()?)),
    };
    let mut out = Outline {
        name: target.and_then(|it| it.name.clone()),
        description: target.and_then(|it| it.description.clone()),
        args: plan.args.clone(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        caches: Vec::new(),
    };
    for vertex in &plan.vertices {
        let Op::Run(run) = &vertex.op else { continue };
        for mount in &run.mounts {
            let span = vertex.span.unwrap_or(mount.span);
            match &mount.source {
                MountSource::Secret { id, required, .. } => {
                    need(&mut out.secrets, id, *required, span);
                }
                MountSource::Ssh { id, required, .. } => need(&mut out.ssh, id, *required, span),
                MountSource::Cache { id, .. } if out.caches.iter().all(|it| it.id != *id) => {
                    let (id, target) = (id.clone(), mount.target.clone());
                    out.caches.push(CacheUse { id, target, span });
                }
                _ => {}
            }
        }
    }
    out.secrets.sort_by_key(|it| it.span.start);
    out.ssh.sort_by_key(|it| it.span.start);
    out.caches.sort_by_key(|it| it.span.start);
    out
}

fn need(all: &mut Vec<Need>, id: &str, required: bool, span: Span) {
    match all.iter_mut().find(|it| it.id == id) {
        Some(known) => known.required |= required,
        None => all.push(Need {
            id: id.to_owned(),
            required,
            span,
        }),
    }
}

/// What a comment line `NAME what it is` above a definition says.
fn described(comment: &[String], name: &str) -> Option<String> {
    comment
        .iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(str::to_owned)
}

/// Collects ARGs while stages are lowered, in the order of stages.
#[derive(Debug, Default)]
pub(super) struct Args {
    found: BTreeMap<String, PlanArg>,
    /// Names of ARGs before FROM that are used.
    global: BTreeSet<String>,
}

impl Args {
    /// Notes what the FROM of a needed stage uses.
    pub(super) fn stage(&mut self, frame: &Frame<'_>, prepared: &Prepared<'_>) {
        let from = &prepared.stage.from;
        for word in [Some(&from.image), from.platform.as_ref()] {
            self.global
                .extend(word.into_iter().flat_map(|it| used(frame, &it.raw)));
        }
    }

    /// Notes an ARG of a stage. A later stage is nearer to the target.
    pub(super) fn declared(
        &mut self,
        instruction: &Instruction,
        arg: &ArgDecl,
        value: Option<&String>,
        is_global: bool,
    ) {
        let name = arg.name.raw.clone();
        if is_global {
            self.global.insert(name);
            return;
        }
        let found = described_arg(instruction, &name, value.cloned());
        self.found.insert(name, found);
    }

    /// Returns all that is used, in the file's order.
    pub(super) fn finish(mut self, frame: &Frame<'_>) -> Vec<PlanArg> {
        let mut globals: BTreeMap<&str, (&Instruction, &ArgDecl)> = BTreeMap::new();
        for instruction in &frame.file.global_args {
            if let Kind::Arg(declarations) = &instruction.kind {
                let each = declarations.iter();
                globals.extend(each.map(|arg| (arg.name.raw.as_str(), (instruction, arg))));
            }
        }
        let mut seen = BTreeSet::new();
        let mut open: Vec<String> = self.global.into_iter().collect();
        while let Some(name) = open.pop() {
            let Some((instruction, arg)) = globals.get(name.as_str()) else {
                continue;
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            let value = frame.global.value(&name).map(str::to_owned);
            if let Some(default) = &arg.default
                && !frame.options.build_args.contains_key(&name)
            {
                open.extend(used(frame, &default.raw));
            }
            self.found
                .entry(name.clone())
                .or_insert_with(|| described_arg(instruction, &name, value));
        }
        for (name, found) in &mut self.found {
            // An ARG of a stage says what it is where the one before FROM is described.
            if let (None, Some((instruction, _))) = (&found.description, globals.get(name.as_str()))
            {
                found.description = described(&instruction.head.comment, name);
            }
        }
        let mut out: Vec<PlanArg> = self.found.into_values().collect();
        out.sort_by_key(|it| it.span.start);
        out
    }
}

fn described_arg(instruction: &Instruction, name: &str, value: Option<String>) -> PlanArg {
    PlanArg {
        name: name.to_owned(),
        value,
        description: described(&instruction.head.comment, name),
        span: instruction.head.span,
    }
}

/// The names of the global scope that `word` uses.
fn used(frame: &Frame<'_>, word: &str) -> BTreeSet<String> {
    struct Recording<'a>(&'a dyn Env, RefCell<BTreeSet<String>>);
    impl Env for Recording<'_> {
        fn get(&self, name: &str) -> Option<String> {
            let value = self.0.get(name)?;
            self.1.borrow_mut().insert(name.to_owned());
            Some(value)
        }
    }
    let recording = Recording(&frame.global, RefCell::default());
    // What cannot be expanded has been told already.
    let _ = frame.lexer.expand(word, &recording);
    recording.1.into_inner()
}
