//! Every word of a file, expanded in its scope, with the variables that had no value.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::{Dockerfile, Instruction, Kind, Stage};
use crate::dockerfile::word::Lexer;
use crate::dockerfile::{Span, Text, nearest};
use crate::image::{Platform, Reference};

use super::super::base::{Base, BaseInfo};
use super::super::options::PlanOptions;
use super::super::scope::{self, Budget, Variables};
use super::Surroundings;

#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) text: &'a str,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) stages: Vec<StageFacts<'a>>,
}

#[derive(Debug)]
pub(super) struct StageFacts<'a> {
    pub(super) stage: &'a Stage,
    /// Variables of FROM that nothing declares.
    pub(super) undeclared: Vec<Unset>,
    /// The base's name; none where it cannot be expanded.
    pub(super) image: Option<String>,
    /// The same without build args from outside.
    pub(super) default_image: Option<String>,
    /// `--platform`, expanded.
    pub(super) platform: Option<String>,
    /// Stands on another stage of the file.
    pub(super) on_stage: bool,
    pub(super) base: Option<&'a BaseInfo>,
    pub(super) steps: Vec<StepFacts<'a>>,
}

#[derive(Debug)]
pub(super) struct StepFacts<'a> {
    pub(super) instruction: &'a Instruction,
    pub(super) unset: Vec<Unset>,
    /// What the sources of COPY and ADD are, or where WORKDIR goes, expanded.
    pub(super) words: Vec<(String, Span)>,
}

/// A variable without a value.
#[derive(Debug)]
pub(super) struct Unset {
    pub(super) name: String,
    pub(super) span: Span,
    /// The name that was likely meant.
    pub(super) near: Option<String>,
    /// A global ARG of this name is there, but not in this scope.
    pub(super) global: bool,
    /// The base image, of which nothing is known, may set it.
    pub(super) maybe: bool,
}

/// A stage's variables.
#[derive(Debug, Clone, Default)]
struct Scope {
    env: Variables,
    /// ARGs without a value.
    declared: BTreeSet<String>,
    /// The base's own ENV is not known.
    open: bool,
}

pub(super) fn find<'a>(
    file: &'a Dockerfile,
    text: &'a str,
    surroundings: &'a Surroundings<'a>,
) -> Facts<'a> {
    let options = surroundings.options;
    let target = options.target.as_deref().or_else(|| {
        let alias = file.stages.last()?.from.alias.as_ref()?;
        Some(alias.raw.as_str())
    });
    let target = target.unwrap_or_default();
    let without = PlanOptions {
        build_args: BTreeMap::new(),
        ..options.clone()
    };
    let finder = Finder {
        surroundings,
        lexer: Lexer::new(file.directives.escape),
        global: scope::global(file, options, target).unwrap_or_default(),
        default: scope::global(file, &without, target).ok(),
        global_names: file
            .global_args
            .iter()
            .filter_map(|it| match &it.kind {
                Kind::Arg(declarations) => Some(declarations),
                _ => None,
            })
            .flatten()
            .map(|arg| arg.name.raw.as_str())
            .collect(),
        budget: RefCell::default(),
    };
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut ends: Vec<Scope> = Vec::new();
    let mut stages = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let (mut facts, ground) = finder.from(stage, &names);
        let mut scope = match ground {
            Some(earlier) => ends[earlier].clone(),
            None => finder.base_scope(&facts),
        };
        facts.steps = stage
            .instructions
            .iter()
            .map(|instruction| finder.step(instruction, &mut scope))
            .collect();
        stages.push(facts);
        ends.push(scope);
        if let Some(alias) = &stage.from.alias {
            names.insert(alias.raw.to_lowercase(), index);
        }
    }
    Facts {
        text,
        surroundings,
        stages,
    }
}

struct Finder<'a> {
    surroundings: &'a Surroundings<'a>,
    lexer: Lexer,
    global: Variables,
    default: Option<Variables>,
    global_names: BTreeSet<&'a str>,
    /// Where it is used up, planning tells so.
    budget: RefCell<Budget>,
}

impl<'a> Finder<'a> {
    /// Reads FROM; the second value is the stage it stands on.
    fn from(
        &self,
        stage: &'a Stage,
        names: &BTreeMap<String, usize>,
    ) -> (StageFacts<'a>, Option<usize>) {
        let mut undeclared = Vec::new();
        let mut read = |word: &Text| {
            let expanded = self.lexer.expand(&word.raw, &self.global).ok()?;
            for name in expanded.unmatched {
                let known = self.global_names.contains(name.as_str());
                if !known && !has_default(&word.raw, &name) {
                    undeclared.push(Unset {
                        near: self.near(&name, &Scope::default()),
                        name,
                        span: word.span,
                        global: false,
                        maybe: false,
                    });
                }
            }
            Some(expanded.text)
        };
        let image = read(&stage.from.image);
        let platform = stage.from.platform.as_ref().and_then(&mut read);
        let default_image = self.default.as_ref().and_then(|scope| {
            let expanded = self.lexer.expand(&stage.from.image.raw, scope).ok()?;
            Some(expanded.text)
        });
        let ground = image
            .as_ref()
            .and_then(|image| names.get(&image.to_lowercase()).copied());
        let base = match (&image, ground) {
            (Some(image), None) => self.base(image, platform.as_deref()),
            _ => None,
        };
        let facts = StageFacts {
            stage,
            undeclared,
            image,
            default_image,
            platform,
            on_stage: ground.is_some(),
            base,
            steps: Vec::new(),
        };
        (facts, ground)
    }

    fn base(&self, image: &str, platform: Option<&str>) -> Option<&'a BaseInfo> {
        let Surroundings { options, known, .. } = self.surroundings;
        let wanted = platform
            .and_then(|text| Platform::parse(text, &options.build_platform).ok())
            .unwrap_or_else(|| options.platform.clone());
        let base = match options.context(image) {
            Some((name, _)) => Base::Named {
                name: name.to_owned(),
                platform: wanted,
            },
            None => Base::image(&image.parse::<Reference>().ok()?, &wanted),
        };
        known.get(&base)
    }

    fn base_scope(&self, facts: &StageFacts<'_>) -> Scope {
        let mut scope = Scope {
            open: facts.base.is_none() && facts.image.as_deref() != Some("scratch"),
            ..Scope::default()
        };
        // Every image gets one.
        scope.env.set("PATH", "/usr/bin");
        for pair in facts.base.iter().flat_map(|it| &it.config.config.env) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            scope.env.set(name, value);
        }
        scope
    }

    fn step(&self, instruction: &'a Instruction, scope: &mut Scope) -> StepFacts<'a> {
        let mut out = StepFacts {
            instruction,
            unset: Vec::new(),
            words: Vec::new(),
        };
        match &instruction.kind {
            Kind::Add(copy) | Kind::Copy(copy) => {
                for word in &copy.sources {
                    let expanded = self.word(word, scope, &mut out.unset);
                    out.words.extend(expanded.map(|text| (text, word.span)));
                }
                let flags = [&copy.chown, &copy.chmod, &copy.checksum];
                let flags = flags.into_iter().flatten().chain(&copy.exclude);
                for word in [&copy.dest].into_iter().chain(flags) {
                    self.word(word, scope, &mut out.unset);
                }
                for heredoc in copy.heredocs.iter().filter(|it| it.expand) {
                    let lexer = Lexer {
                        skip_process_quotes: true,
                        ..self.lexer
                    };
                    self.expand(
                        &lexer,
                        &heredoc.content,
                        heredoc.span,
                        scope,
                        &mut out.unset,
                    );
                }
            }
            Kind::Arg(declarations) => {
                for arg in declarations {
                    let name = &arg.name.raw;
                    let given = self.surroundings.options.build_args.get(name).cloned();
                    let default = arg
                        .default
                        .as_ref()
                        .and_then(|word| self.word(word, scope, &mut out.unset));
                    let value = given
                        .or(default)
                        .or_else(|| self.global.value(name).map(str::to_owned));
                    match value {
                        Some(value) => scope.env.set(name, value),
                        None => {
                            scope.declared.insert(name.clone());
                        }
                    }
                }
            }
            Kind::Env(pairs) => {
                // Each sees what was before the instruction.
                let mut new = Vec::new();
                for pair in pairs {
                    let key = self.word(&pair.key, scope, &mut out.unset);
                    let value = self.word(&pair.value, scope, &mut out.unset);
                    new.extend(key.map(|key| (key, value.unwrap_or_default())));
                }
                for (key, value) in new {
                    scope.env.set(&key, value);
                }
            }
            Kind::Label(pairs) => {
                for pair in pairs {
                    self.word(&pair.key, scope, &mut out.unset);
                    self.word(&pair.value, scope, &mut out.unset);
                }
            }
            Kind::Expose(words) | Kind::Volume(words) => {
                for word in words {
                    self.word(word, scope, &mut out.unset);
                }
            }
            Kind::Run(run) => {
                for word in &run.mounts {
                    self.word(word, scope, &mut out.unset);
                }
            }
            Kind::Stopsignal(word) | Kind::User(word) | Kind::Workdir(word) => {
                let expanded = self.word(word, scope, &mut out.unset);
                out.words.extend(expanded.map(|text| (text, word.span)));
            }
            _ => {}
        }
        out
    }

    fn word(&self, word: &Text, scope: &Scope, unset: &mut Vec<Unset>) -> Option<String> {
        self.expand(&self.lexer, &word.raw, word.span, scope, unset)
    }

    /// `None` where the word cannot be expanded, which is an error that planning tells.
    fn expand(
        &self,
        lexer: &Lexer,
        word: &str,
        span: Span,
        scope: &Scope,
        unset: &mut Vec<Unset>,
    ) -> Option<String> {
        let expanded = lexer.expand(word, &scope.env).ok()?;
        if !self.budget.borrow_mut().has(expanded.text.len()) {
            return None;
        }
        for name in expanded.unmatched {
            let known = scope.declared.contains(&name) || name.starts_with("BUILDKIT_SBOM_SCAN_");
            if known || has_default(word, &name) || unset.iter().any(|it| it.name == name) {
                continue;
            }
            unset.push(Unset {
                near: self.near(&name, scope),
                global: self.global_names.contains(name.as_str()),
                maybe: scope.open,
                name,
                span,
            });
        }
        Some(expanded.text)
    }

    /// Looks among what the scope has; for a scope without anything, among global names.
    fn near(&self, name: &str, scope: &Scope) -> Option<String> {
        let of_scope = scope.env.list().iter().map(|(name, _)| name.as_str());
        let mut names: Vec<&str> = of_scope.collect();
        names.extend(scope.declared.iter().map(String::as_str));
        if names.is_empty() {
            names.extend(self.global.list().iter().map(|(name, _)| name.as_str()));
            names.extend(&self.global_names);
        }
        nearest(name, &names).map(str::to_owned)
    }
}

/// Whether `word` says, wherever it uses `name`, what to take if that has no value: `${name:-word}`, `${name+word}`.
fn has_default(word: &str, name: &str) -> bool {
    let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let mut uses = word.match_indices(name).filter_map(|(at, _)| {
        let (before, after) = (&word[..at], &word[at + name.len()..]);
        if before.ends_with("${") && !is_name(after) {
            return Some(after.trim_start_matches(':').starts_with(['-', '+']));
        }
        (before.ends_with('$') && !is_name(after)).then_some(false)
    });
    uses.all(|has| has)
}

#[cfg(test)]
mod tests {
    use super::has_default;

    #[test]
    fn defaults() {
        for (word, expected) in [
            ("${A:-x}", true),
            ("${A+x}", true),
            ("${A:-x}$A", false),
            ("${A}", false),
            ("a$A", false),
            ("${AB}${A-}", true),
            ("$AB${A-}", true),
            ("${A#x}", false),
        ] {
            assert_eq!(has_default(word, "A"), expected, "{word}");
        }
    }
}
