//! From stages to a plan: which stages the target needs, on what each stands, and what is still unknown.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::{Dockerfile, Instruction, Kind, Stage};
use crate::dockerfile::instruction::mount::{MountKind, parse_mount};
use crate::dockerfile::word::Lexer;
use crate::dockerfile::{Span, Text, nearest};
use crate::image::{Platform, Reference};

use super::base::{Base, BaseInfo};
use super::epoch;
use super::error::{PlanError, PlanErrorKind};
use super::lower;
use super::onbuild;
use super::options::{NamedContext, PlanOptions};
use super::scope::{self, Variables};
use super::vertex::Plan;

/// What one planning step came to.
#[derive(Debug)]
pub enum Step {
    /// Complete: nothing is left to decide while building.
    Ready(Box<Plan>),
    /// These configs first (an ONBUILD may ask for more). Each with the place that names it.
    NeedBases(BTreeMap<Base, Span>),
}

/// On what a stage stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ground {
    Scratch,
    Stage(usize),
    Base(Base),
    /// A named context that is a directory.
    Tree(String),
}

/// Where a `--from` points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    Scratch,
    Stage(usize),
    Base(Base),
    Tree(String),
}

/// A stage with its variables expanded and its inherited instructions in front.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) stage: &'a Stage,
    pub(super) ground: Ground,
    pub(super) platform: Platform,
    /// Lower-cased; `stage-N` where it has none.
    pub(super) name: String,
    pub(super) onbuild: Vec<Instruction>,
    /// The whole stage is replaced by a named context of its name: its instructions do not count.
    pub(super) replaced: bool,
}

/// What every part of lowering reads.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    /// Clamp of all times.
    pub(super) epoch: Option<i64>,
    pub(super) known: &'a BTreeMap<Base, BaseInfo>,
    pub(super) global: Variables,
    pub(super) lexer: Lexer,
    pub(super) names: BTreeMap<String, usize>,
}

/// Plans, or says which bases must be known first.
///
/// # Errors
/// The first mistake of the author, with its place.
pub fn step(
    file: &Dockerfile,
    options: &PlanOptions,
    known: &BTreeMap<Base, BaseInfo>,
) -> Result<Step, PlanError> {
    refuse_unknown_syntax(file, options)?;
    let target_name = options
        .target
        .clone()
        .or_else(|| {
            let alias = file.stages.last()?.from.alias.as_ref()?;
            Some(alias.raw.clone())
        })
        .unwrap_or_default();
    let mut global = scope::global(file, options, &target_name)?;
    let (epoch, options) = epoch::settle(file, options, &mut global)?;
    let options = options.as_ref();
    let mut frame = Frame {
        file,
        options,
        epoch,
        known,
        global,
        lexer: Lexer::new(file.directives.escape),
        names: BTreeMap::new(),
    };
    let mut stages = prepare(&mut frame)?;
    let target = find_target(&frame, &stages)?;
    let mut missing = BTreeMap::new();
    let needed = reach(&frame, &mut stages, target, &mut missing)?;
    if !missing.is_empty() {
        return Ok(Step::NeedBases(missing));
    }
    let plan = lower::lower(&frame, &stages, &needed, target)?;
    Ok(Step::Ready(Box::new(plan)))
}

/// A `# syntax=` names who reads the file. BuildKit's own frontend is what this is; another would read it otherwise.
fn refuse_unknown_syntax(file: &Dockerfile, options: &PlanOptions) -> Result<(), PlanError> {
    const KNOWN: [&str; 2] = [
        "docker.io/docker/dockerfile",
        "docker.io/docker/dockerfile-upstream",
    ];
    let Some(syntax) = &file.directives.syntax else {
        return Ok(());
    };
    if options.build_args.contains_key("BUILDKIT_SYNTAX") {
        return Ok(());
    }
    // Arguments for the frontend may follow its name.
    let image = syntax.raw.split_whitespace().next().unwrap_or_default();
    let known = image
        .parse::<Reference>()
        .is_ok_and(|it| KNOWN.contains(&it.repository().as_str()));
    if known {
        return Ok(());
    }
    let image = image.to_owned();
    let error = PlanError::new(PlanErrorKind::UnknownSyntax { image }, syntax.span);
    Err(error.hint("to have it read as `docker/dockerfile` would, pass --build-arg BUILDKIT_SYNTAX=docker/dockerfile"))
}

fn prepare<'a>(frame: &mut Frame<'a>) -> Result<Vec<Prepared<'a>>, PlanError> {
    let mut out: Vec<Prepared<'a>> = Vec::new();
    for (index, stage) in frame.file.stages.iter().enumerate() {
        let image = scope::expand(&frame.lexer, &stage.from.image, &frame.global)?;
        if image.is_empty() {
            let word = stage.from.image.raw.clone();
            let error = PlanError::new(PlanErrorKind::EmptyBase { word }, stage.from.image.span);
            return Err(
                error.hint("give the ARG before FROM a default, or pass it with --build-arg")
            );
        }
        let platform = platform(frame, stage)?;
        let wanted = platform
            .clone()
            .unwrap_or_else(|| frame.options.platform.clone());
        let alias = stage.from.alias.as_ref().map(|it| it.raw.to_lowercase());
        let replaced = alias
            .as_deref()
            .and_then(|alias| frame.options.context(alias));
        let span = stage.from.image.span;
        let ground = if let Some((name, kind)) = replaced {
            named(frame, name, kind, &wanted, span)?
        } else if let Some(&earlier) = frame.names.get(&image.to_lowercase()) {
            Ground::Stage(earlier)
        } else if let Some((name, kind)) = frame.options.context(&image) {
            named(frame, name, kind, &wanted, span)?
        } else if image == "scratch" {
            Ground::Scratch
        } else {
            let reference = reference(&image, stage.from.image.span)?;
            Ground::Base(Base::image(&reference, &wanted))
        };
        let platform = match (&ground, platform) {
            (Ground::Stage(earlier), _) => out[*earlier].platform.clone(),
            // Nothing is for no platform: the stage is for the target's.
            (Ground::Scratch, _) => frame.options.platform.clone(),
            (_, platform) => platform.unwrap_or(wanted),
        };
        out.push(Prepared {
            stage,
            ground,
            platform,
            name: alias.clone().unwrap_or_else(|| format!("stage-{index}")),
            onbuild: Vec::new(),
            replaced: replaced.is_some(),
        });
        if let Some(alias) = alias {
            frame.names.insert(alias, index);
        }
    }
    Ok(out)
}

/// Returns what a named context stands for. A stage must be above the place that means it, as one that is named itself.
fn named(
    frame: &Frame<'_>,
    name: &str,
    kind: &NamedContext,
    platform: &Platform,
    span: Span,
) -> Result<Ground, PlanError> {
    Ok(match kind {
        NamedContext::Image => Ground::Base(Base::Named {
            name: name.to_owned(),
            platform: platform.clone(),
        }),
        NamedContext::Directory => Ground::Tree(name.to_owned()),
        NamedContext::Stage(stage) => match frame.names.get(&stage.to_lowercase()) {
            Some(&index) => Ground::Stage(index),
            None => {
                let kind = PlanErrorKind::UnknownTarget {
                    name: stage.clone(),
                };
                let error = PlanError::new(kind, span);
                return Err(error.hint(format!(
                    "--build-context {name}=target:{stage} needs the stage `{stage}` above this line"
                )));
            }
        },
    })
}

fn platform(frame: &Frame<'_>, stage: &Stage) -> Result<Option<Platform>, PlanError> {
    let Some(word) = &stage.from.platform else {
        return Ok(None);
    };
    let text = scope::expand(&frame.lexer, word, &frame.global)?;
    if text.is_empty() {
        let text = word.raw.clone();
        return Err(PlanError::new(
            PlanErrorKind::EmptyPlatform { text },
            word.span,
        ));
    }
    Platform::parse(&text, &frame.options.build_platform)
        .map(Some)
        .map_err(|error| {
            let error = error.to_string();
            PlanError::new(PlanErrorKind::Platform { text, error }, word.span)
        })
}

fn reference(name: &str, span: Span) -> Result<Reference, PlanError> {
    name.parse().map_err(|error: crate::image::ReferenceError| {
        let error = error.to_string();
        let name = name.to_owned();
        PlanError::new(PlanErrorKind::Reference { name, error }, span)
    })
}

fn find_target(frame: &Frame<'_>, stages: &[Prepared<'_>]) -> Result<usize, PlanError> {
    let Some(name) = &frame.options.target else {
        return Ok(stages.len().saturating_sub(1));
    };
    if let Some(&index) = frame.names.get(&name.to_lowercase()) {
        return Ok(index);
    }
    if let Ok(index) = name.parse::<usize>()
        && index < stages.len()
    {
        return Ok(index);
    }
    let span = stages
        .last()
        .map_or(Span::default(), |it| it.stage.head.span);
    let error = PlanError::new(PlanErrorKind::UnknownTarget { name: name.clone() }, span);
    Err(did_you_mean(frame, name, error))
}

/// Adds the name of the stage that `name` may have been meant to be.
fn did_you_mean(frame: &Frame<'_>, name: &str, error: PlanError) -> PlanError {
    let names: Vec<&str> = frame.names.keys().map(String::as_str).collect();
    match nearest(name, &names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None if frame.names.is_empty() => error.hint("no stage of this file has a name"),
        None => error.hint(format!("the stages are {}", names.join(", "))),
    }
}

/// Marks what `target` needs, collecting the bases that are not known yet on the way.
fn reach(
    frame: &Frame<'_>,
    stages: &mut [Prepared<'_>],
    target: usize,
    missing: &mut BTreeMap<Base, Span>,
) -> Result<BTreeSet<usize>, PlanError> {
    let mut needed = BTreeSet::new();
    // Depth first, so that a stage's ground is ready (its ONBUILDs known) before the stage itself.
    let mut stack = vec![(target, false)];
    while let Some((index, grounded)) = stack.pop() {
        if !grounded {
            if !needed.insert(index) {
                continue;
            }
            stack.push((index, true));
            if let Ground::Stage(base) = stages[index].ground {
                stack.push((base, false));
            }
            continue;
        }
        let stage = stages[index].stage;
        let inherited = match &stages[index].ground {
            Ground::Scratch | Ground::Tree(_) => Vec::new(),
            Ground::Stage(base) => onbuild::from_stage(&stages[*base].stage.instructions, stage),
            Ground::Base(base) => match frame.known.get(base) {
                Some(info) => {
                    onbuild::from_config(&info.config.config.on_build, base.describe(), stage)?
                }
                None => {
                    missing.insert(base.clone(), stage.from.image.span);
                    Vec::new()
                }
            },
        };
        stages[index].onbuild = if stages[index].replaced {
            Vec::new()
        } else {
            inherited
        };
        if stages[index].replaced {
            continue;
        }
        let prepared = &stages[index];
        let mut others = Vec::new();
        for instruction in prepared.onbuild.iter().chain(&stage.instructions) {
            for word in froms(instruction) {
                match resolve_from(frame, &word, index, &prepared.platform)? {
                    From::Stage(other) => others.push(other),
                    From::Base(base) if !frame.known.contains_key(&base) => {
                        missing.insert(base, word.span);
                    }
                    From::Base(_) | From::Tree(_) | From::Scratch => {}
                }
            }
        }
        for after in &stage.from.after {
            let From::Stage(other) = resolve_from(frame, after, index, &prepared.platform)? else {
                let name = after.raw.clone();
                let error = PlanError::new(PlanErrorKind::UnknownAfter { name }, after.span);
                return Err(did_you_mean(frame, &after.raw, error));
            };
            others.push(other);
        }
        stack.extend(others.into_iter().map(|other| (other, false)));
    }
    Ok(needed)
}

/// Returns every `--from` of an instruction, `--mount`'s included.
pub(super) fn froms(instruction: &Instruction) -> Vec<Text> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.clone().into_iter().collect(),
        Kind::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| {
                let parsed = parse_mount(&mount.raw, mount.span).ok()?;
                let from = match parsed.kind {
                    MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from?,
                    _ => return None,
                };
                Some(Text {
                    raw: from,
                    span: mount.span,
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Finds what `--from=word` of the stage `user` means: an earlier stage by name or number, a named context, an image.
pub(super) fn resolve_from(
    frame: &Frame<'_>,
    word: &Text,
    user: usize,
    platform: &Platform,
) -> Result<From, PlanError> {
    let name = &word.raw;
    let plain = scope::expand(&frame.lexer, word, &Variables::default())?;
    if plain != *name {
        let from = name.clone();
        let error = PlanError::new(PlanErrorKind::VariableInFrom { from }, word.span);
        return Err(error.hint(format!(
            "add a stage `FROM {name} AS source` above and use --from=source"
        )));
    }
    if let Ok(index) = name.parse::<usize>() {
        let last = frame.file.stages.len() - 1;
        if index > last {
            let index = name.clone();
            return Err(PlanError::new(
                PlanErrorKind::StageIndex { index, last },
                word.span,
            ));
        }
        return earlier(index, user, word);
    }
    if let Some(&index) = frame.names.get(&name.to_lowercase()) {
        return earlier(index, user, word);
    }
    if let Some((name, kind)) = frame.options.context(name) {
        return match named(frame, name, kind, platform, word.span)? {
            Ground::Tree(name) => Ok(From::Tree(name)),
            Ground::Base(base) => Ok(From::Base(base)),
            Ground::Stage(index) => earlier(index, user, word),
            Ground::Scratch => Ok(From::Scratch),
        };
    }
    if name == "scratch" {
        return Ok(From::Scratch);
    }
    let reference = reference(name, word.span)?;
    Ok(From::Base(Base::image(&reference, platform)))
}

fn earlier(index: usize, user: usize, word: &Text) -> Result<From, PlanError> {
    if index >= user {
        let name = word.raw.clone();
        let error = PlanError::new(PlanErrorKind::LaterStage { name }, word.span);
        return Err(error.hint(if index == user {
            "a stage cannot copy from itself".to_owned()
        } else {
            format!("move stage {index} above this one")
        }));
    }
    Ok(From::Stage(index))
}
