//! What an author asks of the checks: `skip=A,B;error=true;experimental=C`, in the `check` directive, in a comment above
//! an instruction (`# check=skip=A // why`), or from the caller.

use std::collections::BTreeSet;

use super::super::ast::{Dockerfile, Head};
use super::{Finding, Rule, When};

/// Which rules speak, and whether a remark fails the build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub skip: Names,
    /// Rules that speak only on request.
    pub experimental: Names,
    pub error: bool,
}

/// `all`, or some rules by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub all: bool,
    pub some: BTreeSet<String>,
}

/// Why settings cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    #[error("`{text}` is not a check option: skip=, error= and experimental= are")]
    Option { text: String },
    #[error("error=`{text}`: true or false is expected")]
    Error { text: String },
}

impl Settings {
    /// Reads the value of a `check` directive. What follows `//` is the author's reason.
    ///
    /// # Errors
    /// An unknown option, or `error=` with anything but a truth value.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut out = Self::default();
        let text = text.split(" //").next().unwrap_or(text);
        for option in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            let unknown = || SettingsError::Option {
                text: option.to_owned(),
            };
            let (key, value) = option.split_once('=').ok_or_else(unknown)?;
            let value = value.trim();
            match key.trim() {
                "skip" => out.skip.add(value),
                "experimental" => out.experimental.add(value),
                "error" => {
                    out.error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => {
                            let text = value.to_owned();
                            return Err(SettingsError::Error { text });
                        }
                    };
                }
                _ => return Err(unknown()),
            }
        }
        Ok(out)
    }

    /// Reads the directive of `file`; without one, all is as usual.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of(file: &Dockerfile) -> Result<Self, SettingsError> {
        match &file.directives.check {
            Some(text) => Self::parse(&text.raw),
            None => Ok(Self::default()),
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.skip.join(&other.skip);
        self.experimental.join(&other.experimental);
        self.error |= other.error;
        self
    }

    /// Whether `rule` speaks at all. An experiment that is asked for is not skipped, as in BuildKit;
    /// `experimental=all` does not ask for rules that are off unless named.
    pub fn speaks(&self, rule: &Rule) -> bool {
        match rule.when {
            When::Always => !self.skip.has(rule.name),
            When::Experimental => self.experimental.has(rule.name),
            When::Asked => self.experimental.names(rule.name) && !self.skip.has(rule.name),
        }
    }

    /// Drops what the author does not want to hear, here or in a comment above the instruction.
    pub fn keep(&self, file: &Dockerfile, mut findings: Vec<Finding>) -> Vec<Finding> {
        let heads: Vec<(&Head, Names)> = file
            .global_args
            .iter()
            .map(|it| &it.head)
            .chain(super::heads(file))
            .map(|head| (head, skipped_above(head)))
            .filter(|(_, skip)| *skip != Names::default())
            .collect();
        findings.retain(|finding| {
            let at = finding.diagnostic.span.start;
            self.speaks(finding.rule)
                && !heads.iter().any(|(head, skip)| {
                    head.span.start <= at && at < head.span.end && skip.has(finding.rule.name)
                })
        });
        findings
    }
}

impl Names {
    fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.some.extend(other.some.iter().cloned());
    }

    fn add(&mut self, value: &str) {
        if value == "all" {
            self.all = true;
            return;
        }
        let names = value.split(',').map(str::trim).filter(|it| !it.is_empty());
        self.some.extend(names.map(str::to_owned));
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.names(name)
    }

    /// In any case, as BuildKit compares them.
    fn names(&self, name: &str) -> bool {
        self.some.iter().any(|it| it.eq_ignore_ascii_case(name))
    }
}

/// Whether a comment is for the checks rather than for people.
pub(super) fn is_setting(comment: &str) -> bool {
    comment.starts_with("check=")
}

fn skipped_above(head: &Head) -> Names {
    let mut out = Names::default();
    for comment in &head.comment {
        let Some(Ok(settings)) = comment.strip_prefix("check=").map(Settings::parse) else {
            continue;
        };
        out.join(&settings.skip);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let names = |all, some: &[&str]| Names {
            all,
            some: some.iter().map(|it| (*it).to_owned()).collect(),
        };
        for (text, skip, error) in [
            ("skip=A,B;error=true", names(false, &["A", "B"]), true),
            ("skip=all", names(true, &[]), false),
            (" skip = A ; error = 0 ", names(false, &["A"]), false),
            ("skip=A // it is public", names(false, &["A"]), false),
            ("error=true;skip=A", names(false, &["A"]), true),
            ("", names(false, &[]), false),
        ] {
            let settings = Settings::parse(text).expect(text);
            assert_eq!((settings.skip, settings.error), (skip, error), "{text}");
        }
        for text in ["skip", "error=yes", "jump=A"] {
            assert!(Settings::parse(text).is_err(), "{text}");
        }
    }
}
