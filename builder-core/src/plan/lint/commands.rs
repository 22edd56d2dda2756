//! The commands of a RUN, well enough to recognise them: no shell is understood here.

use crate::dockerfile::ast::{Command, Run};

/// Returns the words of each command, in order; here-documents included, variables set in front and `sudo` left out.
pub(super) fn of(run: &Run) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    match &run.command {
        Command::Shell { line, .. } => split(line, &mut out),
        // A shell that is given its script says the same as the shell form.
        Command::Exec(args) => match args.as_slice() {
            [_, flag, script] if flag.starts_with('-') && flag.ends_with('c') => {
                split(script, &mut out);
            }
            args => out.push(args.to_vec()),
        },
    }
    for heredoc in &run.heredocs {
        split(&heredoc.content, &mut out);
    }
    out
}

fn split(script: &str, out: &mut Vec<Vec<String>>) {
    for line in script
        .lines()
        .filter(|it| !it.trim_start().starts_with('#'))
    {
        for part in line.split(['&', '|', ';']) {
            let words: Vec<String> = part
                .split_whitespace()
                .map(|word| word.trim_matches(['(', ')', '{', '}', '"', '\'']))
                .filter(|word| !word.is_empty())
                .skip_while(|word| is_prefix(word))
                .map(str::to_owned)
                .collect();
            if !words.is_empty() {
                out.push(words);
            }
        }
    }
}

fn is_prefix(word: &str) -> bool {
    let assignment = word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    assignment
        || matches!(
            word,
            "sudo" | "env" | "exec" | "time" | "if" | "then" | "else" | "do" | "!"
        )
}

/// The first word after the program that is no flag, with the words behind it: `apt-get -y install x` gives `install`, `[x]`.
pub(super) fn subcommand(words: &[String]) -> Option<(&str, &[String])> {
    let rest = words.get(1..)?;
    let at = rest.iter().position(|word| !word.starts_with('-'))?;
    Some((rest[at].as_str(), &rest[at + 1..]))
}

/// The program's name without its directory.
pub(super) fn program(words: &[String]) -> &str {
    let first = words.first().map_or("", String::as_str);
    first.rsplit('/').next().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
        for (script, expected) in [
            ("a b && c", vec!["a b", "c"]),
            ("X=1 sudo a; (b || c)", vec!["a", "b", "c"]),
            (
                "set -eux; if ! a; then b; fi",
                vec!["set -eux", "a", "b", "fi"],
            ),
            ("# no\na\n", vec!["a"]),
        ] {
            let mut out = Vec::new();
            split(script, &mut out);
            let out: Vec<String> = out.iter().map(|words| words.join(" ")).collect();
            assert_eq!(out, expected, "{script}");
        }
    }
}
