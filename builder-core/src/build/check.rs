//! What is questionable in a Dockerfile: the file, the ignore file and, where asked for, base images' configs.

use std::collections::BTreeMap;

use super::error::BuildError;
use super::request::Build;
use crate::context::ignore::Patterns;
use crate::context::{ContextError, find_ignore_file};
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::lint::{self, Finding, Settings};
use crate::dockerfile::parse;
use crate::plan::lint::{Surroundings, check};
use crate::plan::{Base, BaseInfo, step};

/// A build arg that takes the place of the `check` directive, as in BuildKit.
const SETTINGS_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What checks came to.
#[derive(Debug)]
pub struct Checked {
    /// As it is shown in messages.
    pub file: String,
    pub text: String,
    pub findings: Vec<Finding>,
    /// Why the file cannot be built at all, as far as that shows without a build.
    pub error: Option<Diagnostic>,
    /// The author wants remarks to fail the build (`error=true`).
    pub fails: bool,
    /// The text with all mends made.
    pub fixed: String,
}

/// Why a build's remarks cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemarksError {
    #[error("{}", .0.message)]
    Settings(Diagnostic),
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl Build {
    /// Checks the Dockerfile without a look at any base image; `settings` come on top of the author's own.
    ///
    /// # Errors
    /// A Dockerfile or an ignore file that cannot be read from disk.
    pub fn check(&self, settings: &Settings) -> Result<Checked, BuildError> {
        self.check_with(settings, &BTreeMap::new())
    }

    /// As [`check`](Self::check), with the configs of base images: what their ENV sets is then known.
    ///
    /// # Errors
    /// Also a base that cannot be had.
    pub async fn check_with_bases(&self, settings: &Settings) -> Result<Checked, BuildError> {
        let store = self.open_store()?;
        let build = self.clone().with_context_here(&store).await?;
        let known = match build.known_bases(&store).await {
            Ok(known) => known,
            // A mistake of the author is found again, and told with the remarks.
            Err(BuildError::Parse(_) | BuildError::Plan(_)) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        build.check_with(settings, &known)
    }

    fn check_with(
        &self,
        settings: &Settings,
        known: &BTreeMap<Base, BaseInfo>,
    ) -> Result<Checked, BuildError> {
        let (file, text) = self.read_dockerfile()?;
        let mut out = Checked {
            fixed: text.clone(),
            file,
            text,
            findings: Vec::new(),
            error: None,
            fails: false,
        };
        let ast = match parse(&out.text) {
            Ok(ast) => ast,
            Err(error) => {
                out.findings = self.above(&out.text, error.span.start, settings);
                out.error = Some(Diagnostic::from(&error));
                return Ok(out);
            }
        };
        let settings = match self.settings(&ast) {
            Ok(own) => own.with(settings),
            Err(error) => {
                out.error = Some(error);
                return Ok(out);
            }
        };
        let patterns = self.ignored()?;
        let ignored = |path: &str| {
            let patterns = patterns.as_ref();
            patterns.is_some_and(|it| it.matches(path).unwrap_or(false))
        };
        let surroundings = Surroundings {
            options: &self.plan,
            known,
            ignored: patterns
                .is_some()
                .then_some(&ignored as &dyn Fn(&str) -> bool),
        };
        let all: &dyn Fn(&Dockerfile, &str) -> Vec<Finding> = &|ast, text| {
            let findings = check(ast, text, &surroundings);
            settings.keep(ast, findings)
        };
        out.findings = all(&ast, &out.text);
        out.error = step(&ast, &self.plan, known)
            .err()
            .map(|error| Diagnostic::from(&error));
        out.fails = settings.error && !out.findings.is_empty();
        if let Ok(fixed) = lint::fix(&out.text, all) {
            out.fixed = fixed;
        }
        Ok(out)
    }

    /// What is to be said about the lines above a mistake, as far as they are a Dockerfile by themselves.
    fn above(&self, text: &str, mistake: usize, settings: &Settings) -> Vec<Finding> {
        let end = text[..mistake].rfind('\n').map_or(0, |at| at + 1);
        let text = &text[..end];
        let Ok(ast) = parse(text) else {
            return Vec::new();
        };
        let Ok(own) = self.settings(&ast) else {
            return Vec::new();
        };
        let surroundings = Surroundings {
            options: &self.plan,
            known: &BTreeMap::new(),
            ignored: None,
        };
        let mut findings = own
            .with(settings)
            .keep(&ast, check(&ast, text, &surroundings));
        // Mends are for files that can be read.
        findings.iter_mut().for_each(|it| it.edits.clear());
        findings
    }

    /// Returns the remarks on a Dockerfile that is being built, and whether the author wants them to fail the build.
    ///
    /// # Errors
    /// An ignore file that cannot be read, or a `check` directive that cannot.
    pub(super) fn remarks(
        &self,
        ast: &Dockerfile,
        text: &str,
        known: &BTreeMap<Base, BaseInfo>,
    ) -> Result<(Vec<Finding>, bool), RemarksError> {
        let settings = self.settings(ast).map_err(RemarksError::Settings)?;
        let patterns = self.ignored()?;
        let ignored = |path: &str| {
            let patterns = patterns.as_ref();
            patterns.is_some_and(|it| it.matches(path).unwrap_or(false))
        };
        let surroundings = Surroundings {
            options: &self.plan,
            known,
            ignored: patterns
                .is_some()
                .then_some(&ignored as &dyn Fn(&str) -> bool),
        };
        let findings = settings.keep(ast, check(ast, text, &surroundings));
        let fails = settings.error && !findings.is_empty();
        Ok((findings, fails))
    }

    /// What the ignore file leaves out; nothing is said where it takes something back.
    fn ignored(&self) -> Result<Option<Patterns>, ContextError> {
        let Some(context) = self.context_dir() else {
            return Ok(None);
        };
        let beside = self.text.is_none().then(|| self.dockerfile_path());
        let ignore = find_ignore_file(context, beside.as_deref())?;
        let patterns = ignore.map(|it| it.patterns);
        Ok(patterns.filter(|it| !it.has_exceptions()))
    }

    /// The author's settings; a build arg wins over the directive.
    fn settings(&self, ast: &Dockerfile) -> Result<Settings, Diagnostic> {
        let given = self.plan.build_args.get(SETTINGS_ARG);
        let settings = match given {
            Some(text) => Settings::parse(text),
            None => Settings::of(ast),
        };
        settings.map_err(|error| Diagnostic {
            severity: Severity::Error,
            code: None,
            message: error.to_string(),
            span: match (given, &ast.directives.check) {
                (None, Some(directive)) => directive.span,
                _ => crate::dockerfile::Span::default(),
            },
            hint: Some("write `# check=skip=RULE,RULE;error=true`".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Context;

    #[test]
    fn remarks_come_before_a_mistake() {
        let text = "FROM scratch AS One\nMAINTAINER me\nRUN a \\\n b\nBADCMD x\ncopy a b\n";
        let build = Build::new(Context::Empty).dockerfile_text("Dockerfile", text);
        let checked = build.check(&Settings::default()).expect("checked");
        let names: Vec<&str> = checked.findings.iter().map(|it| it.rule.name).collect();
        assert_eq!(names, ["StageNameCasing", "MaintainerDeprecated"]);
        assert_eq!(checked.error.map(|it| it.span.start), text.find("BADCMD"));
        assert_eq!(checked.fixed, text);
    }
}
