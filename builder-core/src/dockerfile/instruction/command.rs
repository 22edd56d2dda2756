//! The JSON form or the shell form: CMD, ENTRYPOINT, and the commands of RUN and HEALTHCHECK.

use super::super::Text;
use super::super::ast::Command;

/// Reads arguments that the syntax layer has already told apart. No arguments: an empty line for the shell, as
/// BuildKit has it.
pub(super) fn read(json: bool, arguments: &[Text]) -> Command {
    if json {
        return Command::Exec(arguments.iter().map(|text| text.raw.clone()).collect());
    }
    let line = arguments
        .first()
        .map(|text| text.raw.clone())
        .unwrap_or_default();
    Command::Shell {
        malformed_json: looks_like_json(&line),
        line,
    }
}

/// `["a", …` and `[a, b]` were meant as JSON; `[ -f x ] && y` and `[[ -f x ]]` were not.
fn looks_like_json(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('[') else {
        return false;
    };
    rest.trim_start().starts_with(['"', '\''])
        || (line.ends_with(']') && rest.starts_with(|c: char| !c.is_whitespace() && c != '['))
}

#[cfg(test)]
mod tests {
    use super::looks_like_json;

    #[test]
    fn tests_of_the_shell_are_not_taken_for_json() {
        for (line, json) in [
            ("['npm', 'start']", true),
            ("[\"npm\", \"start\"", true),
            ("[npm, start]", true),
            ("[ -f x ] && y", false),
            ("[[ -f x ]]", false),
            ("npm", false),
        ] {
            assert_eq!(looks_like_json(line), json, "{line}");
        }
    }
}
