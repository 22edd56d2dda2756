//! Why a Dockerfile could not be read: facts and a place. The hint is worked out from the facts.

use super::Span;

/// One mistake in a Dockerfile, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    pub span: Span,
}

impl ParseError {
    pub(crate) fn new(kind: ParseErrorKind, span: Span) -> Self {
        Self { kind, span }
    }

    /// What to do about it, where the facts say so: one line, lower-case, no final stop.
    pub fn hint(&self) -> Option<String> {
        use ParseErrorKind as K;
        let did_you_mean = |name: &str| Some(format!("did you mean `{name}`?"));
        match &self.kind {
            K::NoInstructions | K::NoStages => Some("a Dockerfile needs at least one FROM".into()),
            K::UnknownInstruction {
                did_you_mean: near, ..
            } => near.and_then(did_you_mean),
            K::BeforeFrom { .. } => Some("only ARG may come before the first FROM".into()),
            K::UnclosedHeredoc { delimiter } => {
                Some(format!("end it with a line that holds only `{delimiter}`"))
            }
            K::UnreadHeredoc { .. } => {
                Some("close the quotes on this line, and do not use the JSON form".into())
            }
            K::StrayHeredoc { .. } => {
                Some("write `<<NAME` as one word, without blanks in the name".into())
            }
            K::NotStrings => Some("quote every element, or leave out the brackets".into()),
            K::MissingValue { instruction, name } => {
                Some(format!("write `{instruction} {name}=value`"))
            }
            K::NotKeyValue { .. } => {
                Some("quote a value that holds blanks: name=\"a value\"".into())
            }
            K::UnknownFlag {
                did_you_mean: Some(near),
                ..
            } => did_you_mean(&format!("--{near}")),
            K::UnknownFlag {
                flag, belongs_to, ..
            } if !belongs_to.is_empty() => Some(format!(
                "`--{flag}` is a flag of {}",
                belongs_to.join(" and ")
            )),
            K::UnknownFlag { known: [], .. } => None,
            K::UnknownFlag { known, .. } => {
                let names: Vec<_> = known.iter().map(|name| format!("`--{name}`")).collect();
                Some(format!("known here: {}", names.join(", ")))
            }
            K::MissingFlagValue { flag } => Some(format!("write `--{flag}=value`")),
            K::NotBool { flag, .. } => Some(format!(
                "write `--{flag}`, `--{flag}=true` or `--{flag}=false`"
            )),
            K::StageName { .. } => {
                Some("start with a letter; then letters, digits, `-`, `_` and `.`".into())
            }
            K::FromArguments { .. } => Some("write `FROM image` or `FROM image AS name`".into()),
            K::HealthcheckType { .. } => {
                Some("write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`".into())
            }
            K::Duration { .. } => {
                Some("write a number and a unit, as in `1m30s` or `500ms`".into())
            }
            K::ShellNotJson => {
                Some("write a JSON array, as in `SHELL [\"/bin/bash\", \"-c\"]`".into())
            }
            K::NotOneOf {
                near: Some(near), ..
            } => did_you_mean(near),
            K::NotOneOf { allowed, .. } => Some(format!("one of {}", allowed.join(", "))),
            K::MountKey {
                did_you_mean: near, ..
            } => near.and_then(did_you_mean),
            K::MountFromVariable => {
                Some("name a stage (`FROM $image AS name`) and write `from=name`".into())
            }
            K::MountKeyNotAllowed {
                key, mount, needs, ..
            } if !needs.is_empty() && mount == &"bind" => Some(format!(
                "`{key}` belongs to {}: write `type=` before it",
                needs.join(" and ")
            )),
            _ => None,
        }
    }
}

/// The kinds of mistakes, with their facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    #[error("file with no instructions")]
    NoInstructions,
    #[error("file with no stage to build")]
    NoStages,
    #[error("unknown instruction `{name}`")]
    UnknownInstruction {
        name: String,
        did_you_mean: Option<&'static str>,
    },
    #[error("{instruction} before the first FROM")]
    BeforeFrom { instruction: &'static str },

    #[error("parser directive `{name}` is given twice")]
    RepeatedDirective { name: &'static str },
    #[error("escape directive `{value}` is neither `\\` nor a backquote")]
    EscapeDirective { value: String },

    #[error("here-document `{delimiter}` is not closed")]
    UnclosedHeredoc { delimiter: String },
    #[error("here-document `{delimiter}` has no body")]
    UnreadHeredoc { delimiter: String },
    #[error("here-document `{delimiter}` is not a source of {instruction}")]
    StrayHeredoc {
        instruction: &'static str,
        delimiter: String,
    },
    #[error("here-document name `{word}` cannot be read: {reason}")]
    HeredocName { word: String, reason: String },
    #[error("{instruction} takes no here-document as a destination")]
    HeredocDestination { instruction: &'static str },

    #[error("a JSON array here may hold strings only")]
    NotStrings,
    #[error("{instruction} needs at least one argument")]
    NeedsArgument { instruction: &'static str },
    #[error("{instruction} needs exactly one argument")]
    NeedsOneArgument { instruction: &'static str },
    #[error("{instruction} needs a source and a destination, but has {found} argument(s)")]
    NeedsDestination {
        instruction: &'static str,
        found: usize,
    },
    #[error("FROM takes one or three arguments, not {found}")]
    FromArguments { found: usize },
    #[error("{instruction} has a name without a value: `{name}`")]
    MissingValue {
        instruction: &'static str,
        name: String,
    },
    #[error("no `=` in `{word}`")]
    NotKeyValue { word: String },
    #[error("{instruction} has an empty name")]
    BlankName { instruction: &'static str },

    #[error("unknown flag `--{flag}` of {instruction}")]
    UnknownFlag {
        instruction: &'static str,
        flag: String,
        did_you_mean: Option<&'static str>,
        /// The instructions that have this flag.
        belongs_to: Vec<&'static str>,
        /// The flags that this instruction has.
        known: &'static [&'static str],
    },
    #[error("flag `--{flag}` is given twice")]
    DuplicateFlag { flag: String },
    #[error("flag `--{flag}` has no value")]
    MissingFlagValue { flag: String },
    #[error("flag `--{flag}` is true or false, not `{value}`")]
    NotBool { flag: String, value: String },
    #[error("`{value}` is no {what}")]
    NotOneOf {
        what: &'static str,
        value: String,
        allowed: &'static [&'static str],
        near: Option<&'static str>,
    },

    #[error("invalid stage name `{name}`")]
    StageName { name: String },
    #[error("ONBUILD cannot be the trigger of an ONBUILD")]
    ChainedOnbuild,
    #[error("{instruction} cannot be the trigger of an ONBUILD")]
    OnbuildTrigger { instruction: &'static str },
    #[error("a trigger is one instruction, not {found}")]
    TriggerCount { found: usize },

    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("no command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    #[error("unknown type `{word}` of HEALTHCHECK")]
    HealthcheckType { word: String },
    #[error("`--{flag}={value}` is no duration")]
    Duration { flag: &'static str, value: String },
    #[error("`--{flag}={value}` is less than 1ms")]
    ShortDuration { flag: &'static str, value: String },
    #[error("`--retries={value}` is no whole number between 0 and 2147483647")]
    Retries { value: String },

    #[error("SHELL needs the JSON form")]
    ShellNotJson,
    #[error("VOLUME has an empty path")]
    EmptyVolume,

    #[error("mount `{text}` cannot be split into fields")]
    MountSyntax { text: String },
    #[error("mount field `{field}` needs a value")]
    MountField { field: String },
    #[error("unknown mount field `{key}`")]
    MountKey {
        key: String,
        did_you_mean: Option<&'static str>,
    },
    #[error("mount field `{key}` is not allowed for type `{mount}`")]
    MountKeyNotAllowed {
        key: String,
        mount: &'static str,
        needs: &'static [&'static str],
    },
    #[error("mount field `{key}` has an invalid value `{value}`")]
    MountValue { key: String, value: String },
    #[error("--device `{text}`: {reason}")]
    Device { text: String, reason: String },
    #[error("mount field `from` takes no variables")]
    MountFromVariable,
    #[error("a secret mount needs an id, a source or a target")]
    SecretWithoutId,
    #[error("a secret mount has both a source and an id")]
    SecretSourceAndId,
}

/// The one of `names` that `word` was most likely meant to be: at most two edits away, and fewer than half of it.
pub(crate) fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let word = word.to_ascii_lowercase();
    names
        .iter()
        .map(|name| (distance(&word, &name.to_ascii_lowercase()), *name))
        .filter(|(edits, name)| *edits > 0 && *edits <= 2 && edits * 2 < name.len().max(word.len()))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Insertions, removals, replacements and swaps of neighbours between two words; words over 64 bytes are far.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(65).collect(), b.chars().take(65).collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX / 4;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_at_most_two_edits_away() {
        let names = ["RUN", "COPY", "ENTRYPOINT", "FROM"];
        for (word, near) in [
            ("RUNN", Some("RUN")),
            ("RNU", Some("RUN")),
            ("entrpoint", Some("ENTRYPOINT")),
            ("FORM", Some("FROM")),
            ("X", None),
            ("LABELS", None),
            ("run", None),
        ] {
            assert_eq!(nearest(word, &names), near, "{word}");
        }
    }
}
