//! `-build-arg A=B`: a long flag with one dash, as Go's own programs take it. Docker does not, nor do we; but it is known what
//! was meant.

use std::ffi::OsString;

use clap::Command;

use crate::exit::Failure;

/// Returns what is said of the first long flag of a line that cannot be read which lacks a dash.
pub(super) fn missing(command: &Command, line: &[OsString]) -> Option<Failure> {
    let words: Vec<&str> = line.iter().skip(1).map_while(|it| it.to_str()).collect();
    let at = words
        .iter()
        .position(|word| command.find_subcommand(word).is_some())?;
    // What `debug` runs has flags of its own.
    let name = words.get(at).filter(|it| **it != "debug")?;
    let flags = command.find_subcommand(name)?;
    let is_long = |name: &str| {
        let mut all = flags.get_arguments();
        all.any(|it| {
            let mut aliases = it.get_all_aliases().into_iter().flatten();
            it.get_long() == Some(name) || aliases.any(|alias| alias == name)
        })
    };
    let mut rest = words[at + 1..].iter().take_while(|it| **it != "--");
    rest.find_map(|word| {
        let name = word.strip_prefix('-')?.split('=').next()?;
        (name.len() > 1 && is_long(name)).then(|| {
            Failure::usage(format!(
                "-{name} is not supported: a long flag has two dashes, --{name}"
            ))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_flag_with_one_dash_is_named() {
        for (line, expected) in [
            ("build -build-arg a=b .", Some("--build-arg")),
            ("build -platform=linux/arm64 .", Some("--platform")),
            ("build -destination r/a .", Some("--destination")),
            ("--root x images -filter a=b", Some("--filter")),
            ("build -t a -fDockerfile .", None),
            ("build -- -platform", None),
            ("debug -platform", None),
            ("nope -platform", None),
        ] {
            let words = std::iter::once("builder").chain(line.split(' '));
            let words: Vec<OsString> = words.map(OsString::from).collect();
            match (missing(&super::super::command(), &words), expected) {
                (None, None) => {}
                (Some(Failure::Usage(said)), Some(expected)) => {
                    assert!(said.ends_with(expected), "{line}: {said}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
