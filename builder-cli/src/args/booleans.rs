//! `--push=true` and `--push=false`: Docker's flags that need no value take one of these. They are spelt out before the
//! line is read, so that the help shows a flag as people write it.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Returns the line with `--flag` for `--flag=true`, and without the flag for `--flag=false`.
pub(super) fn spelt_out(
    command: &Command,
    line: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut words = line.into_iter();
    let mut out: Vec<OsString> = words.by_ref().take(2).collect();
    let named = out.get(1).and_then(|it| it.to_str());
    // What `debug` runs has flags of its own.
    let named = named.filter(|it| *it != "debug");
    let Some(flags) = named.and_then(|name| command.find_subcommand(name)) else {
        return out.into_iter().chain(words).collect();
    };
    let switch = |flag: &str| {
        let mut switches = flags
            .get_arguments()
            .filter(|it| matches!(it.get_action(), ArgAction::SetTrue));
        switches.find(|it| match flag.strip_prefix("--") {
            Some(long) => it.get_long() == Some(long),
            None => it.get_short().is_some_and(|it| flag == format!("-{it}")),
        })
    };
    for word in words.by_ref() {
        if word == "--" {
            out.push(word);
            break;
        }
        let split = word.to_str().and_then(|it| it.split_once('='));
        let read = split.and_then(|(name, value)| Some((switch(name)?, boolean(value)?)));
        match read {
            Some((switch, wanted)) => {
                let [short, flag] = spellings(switch);
                // Of several the last counts.
                out.retain(|it| *it != flag && *it != short);
                if wanted {
                    out.push(flag);
                }
            }
            _ => out.push(word),
        }
    }
    out.into_iter().chain(words).collect()
}

/// Returns a switch as it is written with one letter, and with its name; where it has none of the two, the other.
fn spellings(switch: &Arg) -> [OsString; 2] {
    let long = switch.get_long().map(|it| format!("--{it}"));
    let short = switch.get_short().map(|it| format!("-{it}"));
    let either = long.clone().or_else(|| short.clone()).unwrap_or_default();
    [short, long].map(|it| it.unwrap_or_else(|| either.clone()).into())
}

/// Reads true and false in Docker's spellings.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_and_false_are_spelt_out() {
        for (line, expected) in [
            ("build --push=true .", "build --push ."),
            ("build --push --push=false .", "build ."),
            ("build --push=0 --push=1 -q .", "build --push -q ."),
            ("build --push=maybe .", "build --push=maybe ."),
            ("build -q=true .", "build --quiet ."),
            ("build --quiet -q=false .", "build ."),
            ("build -q --quiet=0 -q=1 .", "build --quiet ."),
            ("build -q=maybe -t=true .", "build -q=maybe -t=true ."),
            // Those that take more than true and false read it themselves.
            (
                "build --no-cache=true --pull=false .",
                "build --no-cache=true --pull=false .",
            ),
            (
                "build --build-arg=a=true --sbom=true .",
                "build --build-arg=a=true --sbom=true .",
            ),
            ("build -- --push=true", "build -- --push=true"),
            ("debug --check=true", "debug --check=true"),
            ("images --digests=true --all=false", "images --digests"),
            ("--version", "--version"),
            ("nope --push=true", "nope --push=true"),
        ] {
            let words = |line: &str| -> Vec<OsString> {
                let words = std::iter::once("builder").chain(line.split(' '));
                words.map(OsString::from).collect()
            };
            let found = spelt_out(&super::super::command(), words(line));
            assert_eq!(found, words(expected), "{line}");
        }
    }
}
