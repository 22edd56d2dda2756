//! BuildKit's build checks that need one file and nothing else: one file a rule, messages as BuildKit words them.
//!
//! [`check`] says all there is to say; [`Settings`] drops what the author does not want to hear, and what BuildKit says
//! only on request. [`fix`] makes the edits that mend.
//!
//! Not here: rules that need ARG and ENV scopes, the context or an image; they sit in `plan`.

mod fix;
mod settings;

mod consistent_instruction_casing;
mod duplicate_stage_name;
mod expose_invalid_format;
mod expose_proto_casing;
mod from_as_casing;
mod invalid_definition_description;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod no_empty_continuation;
mod reserved_stage_name;
mod stage_name_casing;

use super::ast::{Dockerfile, Head, Instruction};
use super::diagnostic::{Diagnostic, Severity};
use super::{Span, Text};

pub use fix::apply as fix;
pub use settings::{Names, Settings, SettingsError};

/// What a rule is called, and what it says in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: &'static str,
    pub summary: &'static str,
    pub when: When,
}

/// When a rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// With `experimental=all`, or by name.
    Experimental,
    /// With `experimental=` and its name.
    Asked,
}

/// What one rule says about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static Rule,
    pub diagnostic: Diagnostic,
    /// The mend, where it is mechanical and changes nothing of what is built.
    pub edits: Vec<Edit>,
}

/// Replaces what stands at `span`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub span: Span,
    pub text: String,
}

type Check = fn(&Dockerfile, &str, &mut Vec<Finding>);

/// The rules of this room; `plan::lint::rules` has all.
pub const RULES: &[(&Rule, Check)] = &[
    (&stage_name_casing::RULE, stage_name_casing::check),
    (&from_as_casing::RULE, from_as_casing::check),
    (&no_empty_continuation::RULE, no_empty_continuation::check),
    (
        &consistent_instruction_casing::RULE,
        consistent_instruction_casing::check,
    ),
    (&duplicate_stage_name::RULE, duplicate_stage_name::check),
    (&reserved_stage_name::RULE, reserved_stage_name::check),
    (&maintainer_deprecated::RULE, maintainer_deprecated::check),
    (
        &multiple_instructions_disallowed::RULE,
        multiple_instructions_disallowed::check,
    ),
    (
        &legacy_key_value_format::RULE,
        legacy_key_value_format::check,
    ),
    (&expose_proto_casing::RULE, expose_proto_casing::check),
    (&expose_invalid_format::RULE, expose_invalid_format::check),
    (
        &invalid_definition_description::RULE,
        invalid_definition_description::check,
    ),
];

/// All remarks on `file`, in the order of their places. `text` is what it was parsed from.
pub fn check(file: &Dockerfile, text: &str) -> Vec<Finding> {
    let mut out = Vec::new();
    for (_, check) in RULES {
        check(file, text, &mut out);
    }
    sort(&mut out);
    out
}

/// Puts remarks in the order of their places.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|it| (it.diagnostic.span.start, it.diagnostic.span.end));
}

impl Rule {
    /// Says `message` about a place.
    pub(crate) fn at(&'static self, message: impl Into<String>, span: Span) -> Finding {
        Finding {
            rule: self,
            diagnostic: Diagnostic {
                severity: Severity::Warning,
                code: Some(self.name),
                message: message.into(),
                span,
                hint: None,
            },
            edits: Vec::new(),
        }
    }
}

impl Finding {
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.diagnostic.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn edit(mut self, span: Span, text: impl Into<String>) -> Self {
        let text = text.into();
        self.edits.push(Edit { span, text });
        self
    }

    /// Replaces a word, if it stands in the text as it was read: in one piece, with no continuation inside.
    #[must_use]
    pub(crate) fn edit_word(self, text: &str, word: &Text, new: impl Into<String>) -> Self {
        match text.get(word.span.start..word.span.end) == Some(word.raw.as_str()) {
            true => self.edit(word.span, new),
            false => self,
        }
    }
}

/// The instructions of all stages, FROM left out.
fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    file.stages.iter().flat_map(|stage| &stage.instructions)
}

/// FROM and what follows it, for every stage.
fn heads(file: &Dockerfile) -> impl Iterator<Item = &Head> {
    file.stages.iter().flat_map(|stage| {
        [&stage.head]
            .into_iter()
            .chain(stage.instructions.iter().map(|one| &one.head))
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::dockerfile::parse;

    #[test]
    fn each_rule_speaks_where_it_must() {
        for (text, code, message) in [
            (
                "FROM a AS B",
                "StageNameCasing",
                "Stage name 'B' should be lowercase",
            ),
            (
                "FROM a as b",
                "FromAsCasing",
                "'as' and 'FROM' keywords' casing do not match",
            ),
            (
                "FROM a\nRUN b \\\n\n c",
                "NoEmptyContinuation",
                "Empty continuation line",
            ),
            (
                "FROM a\nRUN b\nworkdir /c",
                "ConsistentInstructionCasing",
                "Command 'workdir' should match the case of the command majority (uppercase)",
            ),
            (
                "FROM a AS b\nFROM a AS b",
                "DuplicateStageName",
                "Duplicate stage name \"b\", stage names should be unique",
            ),
            (
                "FROM a AS scratch",
                "ReservedStageName",
                "Stage name should not use the same name as reserved stage \"scratch\"",
            ),
            (
                "FROM a\nMAINTAINER b",
                "MaintainerDeprecated",
                "Maintainer instruction is deprecated in favor of using label",
            ),
            (
                "FROM a\nCMD [\"b\"]\nCMD [\"c\"]",
                "MultipleInstructionsDisallowed",
                "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ),
            (
                "FROM a\nENV b c",
                "LegacyKeyValueFormat",
                "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            ),
            (
                "FROM a\nEXPOSE 80/TCP",
                "ExposeProtoCasing",
                "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            ),
            (
                "FROM a\nEXPOSE 127.0.0.1:80:80",
                "ExposeInvalidFormat",
                "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            ),
            (
                "# what it is\nARG V\nFROM a",
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# V <description>`",
            ),
        ] {
            let found = check(&parse(text).expect("a Dockerfile"), text);
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.rule.name, one.diagnostic.message.as_str()))
                .collect();
            assert_eq!(found, [(code, message)], "{text:?}");
        }
    }

    #[test]
    fn a_clean_file_gets_no_remark() {
        let text = "# V the version\nARG V=1\n# b builds\nFROM a AS b\nENV c=d\nEXPOSE 80/tcp $P\nSHELL [\"e\"]\nCMD f\n";
        assert_eq!(check(&parse(text).expect("a Dockerfile"), text), []);
    }
}
