//! Flags and commands that Docker has, and we have not: each is refused by name, with what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Failure;

pub(super) const TRUST: &str =
    "is not supported: signatures are checked by nobody here, use cosign or notation";

/// Flags that have a short form.
pub(super) const SHORT: &[(&str, char)] = &[("debug", 'D'), ("size", 's')];

/// Command, flag, whether it takes a value, the answer.
pub(super) const IMAGES: &[(&str, &str, bool, &str)] = &[
    ("pull", "disable-content-trust", false, TRUST),
    ("push", "disable-content-trust", false, TRUST),
    (
        "prune",
        "builder",
        true,
        "is not supported: there is no daemon to choose, stores are chosen by --root",
    ),
    (
        "prune",
        "timeout",
        true,
        "is not supported: there is no daemon to wait for",
    ),
    (
        "prune",
        "verbose",
        false,
        "is not supported: use --dry-run --format=json",
    ),
    (
        "prune",
        "volumes",
        false,
        "is not needed: there are no volumes; cache mounts go with --all",
    ),
    (
        "du",
        "builder",
        true,
        "is not supported: there is no daemon to choose, stores are chosen by --root",
    ),
    (
        "du",
        "filter",
        true,
        "is not supported: use --verbose --format=json, and choose with jq",
    ),
    (
        "du",
        "timeout",
        true,
        "is not supported: there is no daemon to wait for",
    ),
    (
        "copy",
        "preserve-digests",
        false,
        "is not needed: a copy always has the digests of its source",
    ),
    (
        "copy",
        "format",
        true,
        "is not supported: a copy is of its source's format",
    ),
    (
        "images",
        "tree",
        false,
        "is not supported: platforms of an index are shown by `inspect --raw`",
    ),
    (
        "rmi",
        "no-prune",
        false,
        "is not needed: what no name needs any more stays until `builder prune`",
    ),
    (
        "rmi",
        "platform",
        true,
        "is not supported: a name is removed with all its platforms",
    ),
    (
        "inspect",
        "size",
        false,
        "is for containers, and there are none: the size is always told",
    ),
    (
        "inspect",
        "platform",
        true,
        "is not supported: `inspect --raw` shows what an index has",
    ),
    (
        "history",
        "platform",
        true,
        "is not supported: pull the platform with `pull --platform`",
    ),
    (
        "save",
        "platform",
        true,
        "is not supported: pull the platform with `pull --platform`, or use `copy --platform`",
    ),
];

const ENGINES: &str = "containers are run by Docker or Podman: `build --load` puts an image there";

/// Commands: Docker's name, the answer.
const COMMANDS: &[(&str, &str)] = &[
    ("bake", "give each target to `build --target`"),
    ("builder", "use `build`, `prune` and `du`"),
    (
        "buildx",
        "use `build`, `prune` and `du`; for imagetools `copy` and `inspect --raw`",
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
    ("ps", ENGINES),
    ("rm", "use `rmi`"),
    ("run", ENGINES),
    (
        "search",
        "registries are searched by their own pages; `pull --all-tags` takes all tags of a repository",
    ),
    ("start", ENGINES),
    ("stop", ENGINES),
    (
        "system",
        "use `du` for `system df`, and `prune` for `system prune`",
    ),
    ("version", "use `--version`"),
];

/// Returns what is said of a command that Docker has, and we have not.
pub(super) fn command(error: &clap::Error) -> Option<Failure> {
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
