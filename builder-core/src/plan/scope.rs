//! Which variable has which value where: global ARGs, the automatic ones, a stage's ARG and ENV.

use std::collections::HashMap;

use crate::dockerfile::ast::{Dockerfile, Kind};
use crate::dockerfile::word::{Env, Lexer};
use crate::dockerfile::{Span, Text};
use crate::image::Platform;

use super::error::{PlanError, PlanErrorKind};
use super::options::PlanOptions;

/// Variables in the order in which they were set; a later value replaces an earlier one in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.places.get(name) {
            Some(&place) => self.list[place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.list.remove(place);
            for later in self.places.values_mut().filter(|it| **it > place) {
                *later -= 1;
            }
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let place = *self.places.get(name)?;
        Some(self.list[place].1.as_str())
    }

    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }
}

impl Env for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.value(name).map(str::to_owned)
    }
}

/// Names that every RUN may use without an ARG, and that are in no history and no key.
const PROXY_ARGS: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// The name that a RUN's machine has.
pub const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// Comes before the ids of cache mounts.
pub(super) const CACHE_NS_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// What of `BUILDKIT_…` means something here; the others are told of as unused.
const FRONTEND_ARGS: [&str; 6] = [
    HOSTNAME_ARG,
    CACHE_NS_ARG,
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_SYNTAX",
];

/// Build args that the frontend itself reads; never "unused".
pub(super) fn is_builtin(name: &str) -> bool {
    let platform = ["BUILD", "TARGET"].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|it| ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"].contains(&it))
    });
    let is_frontends = FRONTEND_ARGS.contains(&name) || name.starts_with("BUILDKIT_SBOM_SCAN_");
    platform || is_frontends || name == "SOURCE_DATE_EPOCH" || is_proxy(name)
}

fn is_proxy(name: &str) -> bool {
    PROXY_ARGS
        .iter()
        .any(|proxy| name.eq_ignore_ascii_case(proxy))
}

/// Returns the proxy variables of `options`, each in upper and lower case, as BuildKit sets them.
pub(super) fn proxy_env(options: &PlanOptions) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in options.build_args.iter().filter(|(name, _)| is_proxy(name)) {
        for name in [name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
            if !out.iter().any(|(known, _)| *known == name) {
                out.push((name, value.clone()));
            }
        }
    }
    out
}

/// Returns the global scope: automatic platform args, then the ARGs before the first FROM.
pub(super) fn global(
    file: &Dockerfile,
    options: &PlanOptions,
    target: &str,
) -> Result<Variables, PlanError> {
    let mut scope = Variables::default();
    for (prefix, platform) in [
        ("BUILD", &options.build_platform),
        ("TARGET", &options.platform),
    ] {
        for (suffix, value) in platform_args(platform) {
            let name = format!("{prefix}{suffix}");
            let value = options.build_args.get(&name).cloned().unwrap_or(value);
            scope.set(&name, value);
        }
    }
    scope.set(
        "TARGETSTAGE",
        if target.is_empty() { "default" } else { target },
    );
    let lexer = Lexer::new(file.directives.escape);
    let mut budget = Budget::default();
    for instruction in &file.global_args {
        let Kind::Arg(declarations) = &instruction.kind else {
            continue;
        };
        for arg in declarations {
            let name = &arg.name.raw;
            if let Some(value) = options.build_args.get(name) {
                scope.set(name, value.clone());
            } else if let Some(default) = &arg.default {
                let value = expand(&lexer, default, &scope)?;
                budget.spend(value.len(), default.span)?;
                scope.set(name, value);
            }
        }
    }
    Ok(scope)
}

/// What one plan may hold, in bytes: variables that are made of one another grow without end.
const MAX_PLAN_BYTES: usize = 256 << 20;

/// How much of it is left.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_PLAN_BYTES)
    }
}

impl Budget {
    /// Takes `bytes` for what stands at `span`.
    pub(super) fn spend(&mut self, bytes: usize, span: Span) -> Result<(), PlanError> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(PlanError::new(PlanErrorKind::TooLarge, span)
                .hint("variables are made of one another up to here, or too many steps have too many of them")),
        }
    }

    /// Takes `bytes`; false where they are not left.
    pub(super) fn has(&mut self, bytes: usize) -> bool {
        self.spend(bytes, Span::default()).is_ok()
    }
}

fn platform_args(platform: &Platform) -> [(&'static str, String); 5] {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
        ("ARCH", platform.architecture.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
}

/// Expands one word, quotes removed.
pub(super) fn expand(lexer: &Lexer, word: &Text, env: &dyn Env) -> Result<String, PlanError> {
    expand_at(lexer, &word.raw, word.span, env)
}

pub(super) fn expand_at(
    lexer: &Lexer,
    word: &str,
    span: Span,
    env: &dyn Env,
) -> Result<String, PlanError> {
    lexer
        .expand(word, env)
        .map(|expanded| expanded.text)
        .map_err(|error| word_error(word, span, error))
}

/// Expands and splits.
pub(super) fn expand_words(
    lexer: &Lexer,
    word: &Text,
    env: &dyn Env,
) -> Result<Vec<String>, PlanError> {
    lexer
        .expand_words(&word.raw, env)
        .map_err(|error| word_error(&word.raw, word.span, error))
}

/// A word may be a whole file long; a message is not.
const SHOWN_CHARS: usize = 120;

fn word_error(word: &str, span: Span, error: crate::dockerfile::word::WordError) -> PlanError {
    let word: String = word.chars().take(SHOWN_CHARS).collect();
    PlanError::new(PlanErrorKind::Word { word, error }, span)
}
