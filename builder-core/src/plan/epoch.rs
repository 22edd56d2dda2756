//! `SOURCE_DATE_EPOCH`: a number of seconds, or the name of something that has a time.
//!
//! `context` is the main context; any other word a named context or else a stage that does nothing but fetch one
//! thing. Only those that come from git or over HTTP have a time; where there is none the argument counts as not given.

use std::borrow::Cow;

use crate::dockerfile::ast::{Dockerfile, Kind, Stage};
use crate::dockerfile::word::Lexer;
use crate::dockerfile::{Span, nearest};

use super::error::{PlanError, PlanErrorKind};
use super::lower::is_git;
use super::options::PlanOptions;
use super::scope::{self, Variables};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// What has the time that clamps all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochSource {
    /// The main context.
    Context,
    /// A named context, as it was given.
    Named(String),
    /// What a stage downloads.
    Url {
        url: String,
        checksum: Option<String>,
        span: Span,
    },
    /// The repository that a stage fetches.
    Git {
        url: String,
        checksum: Option<String>,
        span: Span,
    },
}

/// Returns what `SOURCE_DATE_EPOCH` takes its time from, where it names something. What is found there goes into
/// [`PlanOptions::epoch_of_source`].
///
/// # Errors
/// A word that names nothing; a stage that does more than to fetch.
pub fn epoch_source(
    file: &Dockerfile,
    options: &PlanOptions,
) -> Result<Option<EpochSource>, PlanError> {
    if !is_mentioned(file, options) {
        return Ok(None);
    }
    let global = scope::global(file, options, "")?;
    match meant(file, options, &global)? {
        Meant::Source(source) => Ok(Some(source)),
        Meant::Nothing | Meant::Unset | Meant::Seconds(_) => Ok(None),
    }
}

fn is_mentioned(file: &Dockerfile, options: &PlanOptions) -> bool {
    options.build_args.contains_key(NAME) || place(file).is_some()
}

/// Where the file gives it a default before FROM.
fn place(file: &Dockerfile) -> Option<Span> {
    let all = file.global_args.iter().rev();
    all.filter_map(|it| match &it.kind {
        Kind::Arg(declarations) => Some(declarations),
        _ => None,
    })
    .flat_map(|declarations| declarations.iter().rev())
    .find(|arg| arg.name.raw == NAME && arg.default.is_some())
    .and_then(|arg| Some(arg.default.as_ref()?.span))
}

enum Meant {
    /// Nobody speaks of it.
    Nothing,
    /// It is given, and empty.
    Unset,
    Seconds(i64),
    Source(EpochSource),
}

/// Settles the argument: what clamps all times, and the options with a number, or nothing, in its place.
pub(super) fn settle<'o>(
    file: &Dockerfile,
    options: &'o PlanOptions,
    global: &mut Variables,
) -> Result<(Option<i64>, Cow<'o, PlanOptions>), PlanError> {
    let seconds = match meant(file, options, global)? {
        Meant::Nothing => return Ok((options.source_date_epoch, Cow::Borrowed(options))),
        Meant::Unset => None,
        Meant::Seconds(seconds) => Some(seconds),
        Meant::Source(_) => options.epoch_of_source,
    };
    let text = seconds.map(|it| it.to_string());
    if global.value(NAME).is_some() {
        match &text {
            Some(text) => global.set(NAME, text.clone()),
            None => global.remove(NAME),
        }
    }
    if options.build_args.get(NAME) == text.as_ref() {
        return Ok((seconds, Cow::Borrowed(options)));
    }
    let mut options = options.clone();
    if options.build_args.remove(NAME).is_some()
        && let Some(text) = text
    {
        options.build_args.insert(NAME.to_owned(), text);
    }
    Ok((seconds, Cow::Owned(options)))
}

fn meant(file: &Dockerfile, options: &PlanOptions, global: &Variables) -> Result<Meant, PlanError> {
    let given = options.build_args.get(NAME).map(String::as_str);
    let text = match given.or_else(|| global.value(NAME).filter(|it| !it.is_empty())) {
        None => return Ok(Meant::Nothing),
        Some("") => return Ok(Meant::Unset),
        Some(text) => text,
    };
    if let Ok(seconds) = text.parse() {
        return Ok(Meant::Seconds(seconds));
    }
    if text == "context" {
        return Ok(Meant::Source(EpochSource::Context));
    }
    if let Some((name, _)) = options.context(text) {
        return Ok(Meant::Source(EpochSource::Named(name.to_owned())));
    }
    let named = |stage: &&Stage| {
        let alias = stage.from.alias.as_ref();
        alias.is_some_and(|it| it.raw.eq_ignore_ascii_case(text))
    };
    if let Some(stage) = file.stages.iter().find(named) {
        let mut scope = global.clone();
        scope.remove(NAME);
        return fetched(stage, file, options, scope).map(Meant::Source);
    }
    let span = match given {
        None => place(file).unwrap_or_default(),
        Some(_) => Span::default(),
    };
    let stages = file.stages.iter().filter_map(|it| it.from.alias.as_ref());
    let mut names: Vec<&str> = stages.map(|it| it.raw.as_str()).collect();
    names.push("context");
    let kind = PlanErrorKind::Epoch {
        text: text.to_owned(),
    };
    Err(
        PlanError::new(kind, span).hint(match nearest(text, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "give the seconds since 1970-01-01, as `date +%s` prints them, or `context`"
                .to_owned(),
        }),
    )
}

/// Returns the one thing that a stage fetches.
fn fetched(
    stage: &Stage,
    file: &Dockerfile,
    options: &PlanOptions,
    mut scope: Variables,
) -> Result<EpochSource, PlanError> {
    let name = stage.from.alias.as_ref();
    let name = name.map_or_else(String::new, |it| it.raw.clone());
    let wrong = |reason: String, span: Span| {
        let stage = name.clone();
        PlanError::new(PlanErrorKind::EpochStage { stage, reason }, span)
            .hint("a time is had of a stage `FROM scratch` with nothing but ARG and one ADD of an address or a repository")
    };
    let lexer = Lexer::new(file.directives.escape);
    let base = scope::expand(&lexer, &stage.from.image, &scope)?;
    if base != "scratch" {
        return Err(wrong(
            format!("it is built from {base}"),
            stage.from.image.span,
        ));
    }
    let mut found = None;
    for instruction in &stage.instructions {
        let head = &instruction.head;
        match &instruction.kind {
            Kind::Arg(declarations) => {
                for arg in declarations {
                    if let Some(given) = options.build_args.get(&arg.name.raw) {
                        scope.set(&arg.name.raw, given.clone());
                    } else if let Some(default) = &arg.default {
                        let value = scope::expand(&lexer, default, &scope)?;
                        scope.set(&arg.name.raw, value);
                    }
                }
            }
            Kind::Add(_) if found.is_some() => {
                return Err(wrong("it has a second ADD".to_owned(), head.span));
            }
            Kind::Add(add) => {
                let ([source], []) = (&add.sources[..], &add.heredocs[..]) else {
                    return Err(wrong(
                        "its ADD has more than one source".to_owned(),
                        head.span,
                    ));
                };
                let span = source.span;
                let url = scope::expand(&lexer, source, &scope)?;
                let checksum = add.checksum.as_ref();
                let checksum = checksum
                    .map(|word| scope::expand(&lexer, word, &scope))
                    .transpose()?;
                let is_http = url.starts_with("http://") || url.starts_with("https://");
                found = Some(if is_git(&url) || (is_http && add.keep_git_dir.is_some()) {
                    EpochSource::Git {
                        url,
                        checksum,
                        span,
                    }
                } else if is_http {
                    EpochSource::Url {
                        url,
                        checksum,
                        span,
                    }
                } else {
                    return Err(wrong(
                        format!("`{url}` is neither an address nor a repository"),
                        span,
                    ));
                });
            }
            _ => {
                let keyword = head.keyword.raw.to_uppercase();
                return Err(wrong(format!("it has a {keyword}"), head.span));
            }
        }
    }
    found.ok_or_else(|| wrong("it has no ADD".to_owned(), stage.head.span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;
    use crate::plan::NamedContext;

    fn found(text: &str, given: Option<&str>) -> Result<Option<EpochSource>, String> {
        let mut options = PlanOptions::default();
        if let Some(given) = given {
            options.build_args.insert(NAME.to_owned(), given.to_owned());
        }
        let remote = NamedContext::Directory;
        options.contexts.insert("remote".to_owned(), remote);
        let file = parse(text).expect("Dockerfile");
        epoch_source(&file, &options).map_err(|error| error.kind.to_string())
    }

    #[test]
    fn sources() {
        let stage = |body: &str| {
            format!("ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\n{body}\nFROM scratch\n")
        };
        let plain = "FROM scratch\n".to_owned();
        for (text, given, expected) in [
            (plain.clone(), None, "none"),
            (plain.clone(), Some("5"), "none"),
            (plain.clone(), Some(""), "none"),
            (plain.clone(), Some("context"), "context"),
            (plain.clone(), Some("Remote"), "named remote"),
            (
                plain,
                Some("soon"),
                "error: SOURCE_DATE_EPOCH `soon` is no number of seconds, context or stage",
            ),
            (
                "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\n".to_owned(),
                None,
                "context",
            ),
            (
                "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\n".to_owned(),
                Some("7"),
                "none",
            ),
            (
                stage("ADD https://a.example/x.tar /"),
                None,
                "url https://a.example/x.tar",
            ),
            (
                stage("ARG V=2\nADD https://a.example/$V.tar /"),
                None,
                "url https://a.example/2.tar",
            ),
            (
                stage("ADD https://a.example/x.git /"),
                Some("SRC"),
                "git https://a.example/x.git",
            ),
            (
                stage("ADD --keep-git-dir=false https://a.example/x /"),
                None,
                "git https://a.example/x",
            ),
            (stage("ADD git@a.example:x /"), None, "git git@a.example:x"),
            (
                stage(""),
                None,
                "error: the stage `src` has no time for SOURCE_DATE_EPOCH: it has no ADD",
            ),
            (
                stage("ADD x /"),
                None,
                "error: the stage `src` has no time for SOURCE_DATE_EPOCH: `x` is neither an address nor a repository",
            ),
            (
                stage("COPY x /"),
                None,
                "error: the stage `src` has no time for SOURCE_DATE_EPOCH: it has a COPY",
            ),
            (
                stage("ADD https://a.example/x https://a.example/y /"),
                None,
                "error: the stage `src` has no time for SOURCE_DATE_EPOCH: its ADD has more than one source",
            ),
            (
                stage("ADD https://a.example/x /\nADD https://a.example/y /"),
                None,
                "error: the stage `src` has no time for SOURCE_DATE_EPOCH: it has a second ADD",
            ),
            (
                "ARG SOURCE_DATE_EPOCH=b\nFROM busybox AS b\n".to_owned(),
                None,
                "error: the stage `b` has no time for SOURCE_DATE_EPOCH: it is built from busybox",
            ),
        ] {
            let found = match found(&text, given) {
                Ok(None) => "none".to_owned(),
                Ok(Some(EpochSource::Context)) => "context".to_owned(),
                Ok(Some(EpochSource::Named(name))) => format!("named {name}"),
                Ok(Some(EpochSource::Url { url, .. })) => format!("url {url}"),
                Ok(Some(EpochSource::Git { url, .. })) => format!("git {url}"),
                Err(error) => format!("error: {error}"),
            };
            assert_eq!(found, expected, "{text} {given:?}");
        }
    }
}
