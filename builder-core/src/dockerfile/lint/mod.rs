//! BuildKit's build checks that need one file and nothing else: one file a rule, messages as BuildKit words them.
//!
//! Which rules the author skips (`# check=skip=…`) is for the caller: `code` names each remark's rule.
//! So is the choice of experimental rules, which BuildKit runs only on request: see [`EXPERIMENTAL`].
//!
//! Not here: rules that need ARG and ENV scopes, the context or an image; they sit in `plan`.

mod consistent_instruction_casing;
mod duplicate_stage_name;
mod expose;
mod from_as_casing;
mod invalid_definition_description;
mod json_args_recommended;
mod legacy_key_value_format;
mod maintainer_deprecated;
mod multiple_instructions_disallowed;
mod no_empty_continuation;
mod reserved_stage_name;
mod stage_name_casing;

use super::Span;
use super::ast::{Dockerfile, Head, Instruction};
use super::diagnostic::{Diagnostic, Severity};

/// Rules that BuildKit runs only when they are asked for.
pub const EXPERIMENTAL: &[&str] = &["InvalidDefinitionDescription"];

type Rule = fn(&Dockerfile, &str, &mut Vec<Diagnostic>);

const RULES: &[Rule] = &[
    stage_name_casing::check,
    from_as_casing::check,
    no_empty_continuation::check,
    consistent_instruction_casing::check,
    duplicate_stage_name::check,
    reserved_stage_name::check,
    json_args_recommended::check,
    maintainer_deprecated::check,
    multiple_instructions_disallowed::check,
    legacy_key_value_format::check,
    expose::check,
    invalid_definition_description::check,
];

/// All remarks on `file`, in the order of their places. `text` is what it was parsed from.
pub fn check(file: &Dockerfile, text: &str) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for rule in RULES {
        rule(file, text, &mut out);
    }
    out.sort_by_key(|remark| (remark.span.start, remark.span.end));
    out
}

fn warning(code: &'static str, message: String, span: Span) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        code: Some(code),
        message,
        span,
        hint: None,
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
                "FROM a\nCMD b",
                "JSONArgsRecommended",
                "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
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
                .map(|one| (one.code.unwrap_or_default(), one.message.as_str()))
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
