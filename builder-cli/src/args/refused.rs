//! Flags and commands that Docker, Buildah, Podman and Kaniko have, and we have not: each is refused by name, with what to do
//! instead. One that asks for what is done anyway is taken: `--rm`, `--layers=true`, `--squash=false`.

mod buildah;
mod docker;
mod kaniko;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::booleans;
use crate::exit::Failure;

const TRUST: &str =
    "is not supported: signatures are checked by nobody here, use cosign or notation";

/// A switch that stands for what is done anyway, and one that changes nothing either way.
const ALWAYS: &[&str] = &["true"];
const EITHER: &[&str] = &["true", "false"];

/// A flag that is refused.
#[derive(Debug)]
pub(super) struct Row {
    /// Empty: a flag before the command.
    pub(super) command: &'static str,
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes_value: bool,
    /// Values that ask for what is done anyway.
    taken: &'static [&'static str],
    pub(super) answer: &'static str,
}

impl Row {
    /// One without a value is a switch, and does nothing where it is `=false`.
    const fn new(
        command: &'static str,
        name: &'static str,
        short: Option<char>,
        takes_value: bool,
        answer: &'static str,
    ) -> Self {
        Row {
            command,
            name,
            short,
            takes_value,
            taken: match takes_value {
                true => &[],
                false => &["false"],
            },
            answer,
        }
    }

    /// With these values it asks for what is done anyway.
    const fn taken(self, taken: &'static [&'static str]) -> Self {
        Row { taken, ..self }
    }

    /// Docker takes a value of true or false behind a flag that needs none.
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.id())
            .long(self.name)
            .hide(true)
            .action(ArgAction::Append);
        let arg = match self.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        match self.takes_value {
            true => arg.allow_hyphen_values(true),
            false => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
        }
    }

    /// No argument of ours has such an id.
    fn id(&self) -> String {
        format!("refused --{}", self.name)
    }

    pub(super) fn failure(&self) -> Failure {
        let Row {
            command,
            name,
            answer,
            ..
        } = self;
        let value = match (self.takes_value, self.taken) {
            (false, ["true"]) => "=false",
            _ => "",
        };
        Failure::Usage(match *command {
            "" | "build" => format!("--{name}{value} {answer}"),
            command => format!("{command} --{name}{value} {answer}"),
        })
    }

    /// Whether the flag with this value asks for what is done anyway.
    fn takes(&self, value: &str) -> bool {
        let value = match booleans::boolean(value) {
            Some(wanted) if !self.takes_value => ["false", "true"][usize::from(wanted)],
            _ => value,
        };
        self.taken.contains(&value)
    }

    /// Whether a word of a line is to blame for its failure.
    fn blames(&self, word: &str) -> bool {
        let value = word.split_once('=').map(|(_, value)| value);
        let is_taken = match value {
            Some(value) => self.takes(value),
            // What follows may be the value.
            None if self.takes_value => !self.taken.is_empty(),
            None => self.takes("true"),
        };
        self.is(word) && !is_taken
    }

    fn is(&self, word: &str) -> bool {
        let long = word
            .strip_prefix("--")
            .map(|it| it.split('=').next().unwrap_or(it));
        let short = word.strip_prefix('-').and_then(|it| it.chars().next());
        long == Some(self.name) || long.is_none() && short.is_some() && short == self.short
    }
}

/// All of them; a new tool to know is one more table.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    [
        docker::GLOBAL,
        docker::BUILD,
        docker::OTHERS,
        buildah::BUILD,
        buildah::OTHERS,
        kaniko::BUILD,
    ]
    .into_iter()
    .flatten()
}

/// Returns the flags that a command refuses, for clap to know them.
pub(super) fn flags(command: &str) -> Vec<Arg> {
    let own = rows().filter(|row| row.command == command);
    own.map(Row::arg).collect()
}

/// Whether the flag is there and asks for what is not done. The last one counts, as with Docker.
fn asks(matches: &ArgMatches, row: &Row) -> bool {
    let values = matches.try_get_many::<String>(&row.id()).ok().flatten();
    let last = values.and_then(Iterator::last);
    last.is_some_and(|value| !row.takes(value))
}

/// Returns what is said of the first refused flag that is given.
pub(super) fn given(matches: &ArgMatches) -> Option<Failure> {
    let given = matches.subcommand();
    let is_given = |row: &&Row| match (row.command, given) {
        ("", _) => asks(matches, row),
        (command, Some((name, matches))) => command == name && asks(matches, row),
        (_, None) => false,
    };
    rows().find(is_given).map(Row::failure)
}

/// Returns what is said of a line that cannot be read, where a flag or a command is to blame that others have: Kaniko's
/// command line, say, has no context by itself.
pub(super) fn instead(error: &clap::Error, line: &[OsString]) -> Option<Failure> {
    if !error.use_stderr() {
        return None;
    }
    let words: Vec<&str> = line.iter().skip(1).map_while(|it| it.to_str()).collect();
    let is_command = |word: &&str| rows().any(|row| row.command == *word);
    let at = words.iter().position(is_command);
    let (before, after) = words.split_at(at.unwrap_or(words.len()));
    let of = |command: &str, words: &[&str]| {
        let mut words = words.iter().take_while(|it| **it != "--");
        words.find_map(|word| rows().find(|row| row.command == command && row.blames(word)))
    };
    let found = match after {
        [] => None,
        [command, rest @ ..] => of(command, rest),
    };
    let found = of("", before).or(found);
    found.map(Row::failure).or_else(|| command(error))
}

/// Takes out the advice to use a flag that the command refuses.
pub(super) fn own_tips(mut error: clap::Error, flags: &Command, line: &[OsString]) -> clap::Error {
    let mut words = line.iter().skip(1).filter_map(|it| it.to_str());
    let command = words.find(|it| flags.find_subcommand(it).is_some());
    let command = command.unwrap_or_default();
    if let Some(ContextValue::String(tip)) = error.get(ContextKind::SuggestedArg)
        && rows().any(|row| row.command == command && row.is(tip))
    {
        error.remove(ContextKind::SuggestedArg);
    }
    error
}

const ENGINES: &str = "containers are run by Docker or Podman: `build --load` puts an image there";

/// Commands: Docker's name, the answer.
const COMMANDS: &[(&str, &str)] = &[
    ("attach", ENGINES),
    ("bake", "give each target to `build --target`"),
    ("bud", "use `build`"),
    ("builder", "use `build`, `prune` and `du`"),
    (
        "buildx",
        "use `build`, `prune` and `du`; for imagetools `copy` and `inspect --raw`",
    ),
    ("cp", ENGINES),
    (
        "compose",
        "services are run by Docker or Podman: give each `build:` to `build`",
    ),
    ("commit", "write a Dockerfile, and use `build`"),
    ("container", ENGINES),
    (
        "context",
        "stores are chosen by --root; an engine to load into by DOCKER_HOST",
    ),
    ("create", ENGINES),
    ("df", "use `du`"),
    ("exec", ENGINES),
    ("executor", "use `build`"),
    ("export", "use `build -o type=tar,dest=FILE`"),
    (
        "image",
        "its commands stand by themselves: `images`, `rmi`, `inspect`, `history`, `tag`, `pull`, `push`, `save`, `load`, `prune`",
    ),
    ("imagetools", "use `copy` and `inspect --raw`"),
    ("import", "use a Dockerfile: FROM scratch, ADD file.tar /"),
    ("info", "use `doctor` and `du`"),
    ("kill", ENGINES),
    ("ls", "use `images`"),
    (
        "manifest",
        "use `build --platform A,B` to make an index, `copy --all` and `inspect --raw`",
    ),
    ("mount", "use `build -o DIR` for the files of an image"),
    ("ps", ENGINES),
    ("restart", ENGINES),
    ("rm", "use `rmi`"),
    ("run", ENGINES),
    ("sbom", "use `build --sbom=true`"),
    (
        "search",
        "registries are searched by their own pages; `pull --all-tags` takes all tags of a repository",
    ),
    ("start", ENGINES),
    ("stats", ENGINES),
    ("stop", ENGINES),
    (
        "system",
        "use `du` for `system df`, and `prune` for `system prune`",
    ),
    ("top", ENGINES),
    (
        "trust",
        "signatures are checked by nobody here, use cosign or notation",
    ),
    ("unshare", "use `debug` for the files of a step"),
    ("version", "use `--version`"),
    (
        "volume",
        "there are no volumes; cache mounts are shown by `du`",
    ),
    ("wait", ENGINES),
];

/// Returns what is said of a command that others have, and we have not.
fn command(error: &clap::Error) -> Option<Failure> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (_, answer) = COMMANDS.iter().find(|it| it.0 == name)?;
    Some(Failure::usage(format!(
        "there is no command `{name}` here: {answer}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with the flag, and nothing else that is wrong.
    fn line(row: &Row) -> Vec<String> {
        let mut line = vec!["builder".to_owned()];
        let flag = format!("--{}", row.name);
        let (flag, value) = match row.takes_value {
            true => (flag, Some("x=y".to_owned())),
            false => (format!("{flag}={}", !row.takes("true")), None),
        };
        if row.command.is_empty() {
            line.extend([flag].into_iter().chain(value));
            line.extend(["build", "."].map(str::to_owned));
            return line;
        }
        line.extend([row.command.to_owned(), flag].into_iter().chain(value));
        let names: &[&str] = match row.command {
            "prune" | "du" | "load" | "login" | "logout" => &[],
            "copy" => &["x", "y"],
            _ => &["x"],
        };
        line.extend(names.iter().map(|it| (*it).to_owned()));
        line
    }

    #[test]
    fn each_is_refused_by_its_name() {
        for row in rows().filter(|it| it.taken != EITHER) {
            let matches = super::super::command().try_get_matches_from(line(row));
            let failure = matches.map(|matches| given(&matches));
            match (failure, row.failure()) {
                (Ok(Some(Failure::Usage(said))), Failure::Usage(expected)) => {
                    assert_eq!(said, expected);
                }
                other => panic!("{row:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_done_anyway_is_taken() {
        for (words, refused) in [
            ("build --rm .", None),
            ("build --rm=true --force-rm --force-rm=0 .", None),
            ("build --rm=false .", Some("--rm=false is not supported")),
            ("build --rm=false --rm .", None),
            ("build --layers .", None),
            ("build --layers=f .", Some("--layers=false")),
            ("build --cache=true --cache-copy-layers .", None),
            ("build --cache=false .", Some("--cache=false")),
            ("build --squash=false --compress .", None),
            ("build --squash .", Some("--squash is not supported")),
            ("build --squash=maybe .", Some("--squash is not supported")),
            ("build --format oci .", None),
            ("build --format docker .", Some("--format is not supported")),
            ("build --tls-verify .", None),
            ("pull --tls-verify=false a", Some("pull --tls-verify=false")),
            ("push --remove-signatures a", None),
            ("rmi --no-prune a", None),
            ("--tlsverify=false images", None),
        ] {
            let line = std::iter::once("builder").chain(words.split(' '));
            let matches = super::super::command().try_get_matches_from(line);
            let matches = matches.unwrap_or_else(|error| panic!("{words}: {error}"));
            match (given(&matches), refused) {
                (None, None) => {}
                (Some(Failure::Usage(said)), Some(refused)) => {
                    assert!(said.starts_with(refused), "{words}: {said}");
                }
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_nearly_a_flag_of_ours_is_a_tip() {
        for (words, expected) in [
            ("build --platfrom linux/arm64 .", Some("--platform")),
            ("images --fliter a=b", Some("--filter")),
            ("build --buildarg a=b .", Some("--build-arg")),
            // Refused.
            ("build --destinaton r/a .", None),
            ("build --qwx .", None),
        ] {
            let line: Vec<OsString> = std::iter::once("builder")
                .chain(words.split(' '))
                .map(OsString::from)
                .collect();
            let flags = super::super::command();
            let Err(error) = flags.clone().try_get_matches_from(&line) else {
                panic!("{words} is fine");
            };
            let error = own_tips(error, &flags, &line);
            let tip = match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(tip)) => Some(tip.as_str()),
                _ => None,
            };
            assert_eq!(tip, expected, "{words}");
        }
    }

    #[test]
    fn a_line_that_lacks_something_names_the_flag_to_blame() {
        for (words, expected) in [
            (
                "build --context=dir:///w --destination=r/a",
                Some("--context is given by itself"),
            ),
            ("build -d r/a", Some("--destination is called")),
            ("build -t a", None),
            ("build --rm --squash=false", None),
            ("build --rm --squash", Some("--squash is not supported")),
            ("build -- a --destination", None),
            ("bud .", Some("there is no command `bud`")),
            ("-H unix:///x build", Some("--host is not supported")),
            ("nope", None),
        ] {
            let line: Vec<OsString> = std::iter::once("builder")
                .chain(words.split(' '))
                .map(OsString::from)
                .collect();
            let Err(error) = super::super::command().try_get_matches_from(&line) else {
                panic!("{words} is fine");
            };
            match (instead(&error, &line), expected) {
                (None, None) => {}
                (Some(Failure::Usage(said)), Some(expected)) => {
                    assert!(said.contains(expected), "{words}: {said}");
                }
                other => panic!("{words}: {other:?}"),
            }
        }
    }
}
