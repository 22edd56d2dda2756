//! What `docker build` and `docker buildx build` take, and we do not.

use super::{ALWAYS, EITHER, Row, TRUST};

pub(super) const BUILD: &[Row] = &[
    Row::new(
        "build",
        "builder",
        None,
        true,
        "is not supported: there is no daemon to choose",
    ),
    Row::new("build", "compress", None, false, "is not needed: the context is read where it is, nothing is sent to a daemon").taken(EITHER),
    Row::new(
        "build",
        "debug",
        Some('D'),
        false,
        "is not supported: use --progress=plain, and `builder debug` after a failed build",
    ),
    Row::new(
        "build",
        "detach",
        None,
        false,
        "is not supported: there is no daemon that goes on with the build",
    ),
    Row::new("build", "disable-content-trust", None, false, TRUST).taken(ALWAYS),
    Row::new("build", "force-rm", None, false, "is not needed: no container is left behind").taken(EITHER),
    Row::new(
        "build",
        "invoke",
        None,
        true,
        "is not supported: use --on-error=shell, or `builder debug` after a failed build",
    ),
    Row::new(
        "build",
        "policy",
        None,
        true,
        "is not supported: pin images by digest (FROM image@sha256:…), and look at the Dockerfile with `builder check`",
    ),
    Row::new(
        "build",
        "print",
        None,
        true,
        "is called --call here: --call=outline, --call=targets",
    ),
    Row::new("build", "rm", None, false, "is not supported: no container is kept; the files of a RUN that failed are, for `builder debug`").taken(ALWAYS),
    Row::new(
        "build",
        "security-opt",
        None,
        true,
        "is not supported: steps have Docker's default profile; `RUN --security=insecure` with --allow has none",
    ),
    Row::new(
        "build",
        "server-config",
        None,
        true,
        "is not supported: there is no daemon to configure",
    ),
    Row::new(
        "build",
        "squash",
        None,
        false,
        "is not supported: end with a stage of one layer: `FROM scratch` and `COPY --from=STAGE / /`",
    ),
];

/// Of the other commands.
pub(super) const OTHERS: &[Row] = &[
    Row::new("pull", "disable-content-trust", None, false, TRUST).taken(ALWAYS),
    Row::new("push", "disable-content-trust", None, false, TRUST).taken(ALWAYS),
    Row::new(
        "prune",
        "builder",
        None,
        true,
        "is not supported: there is no daemon to choose, stores are chosen by --root",
    ),
    Row::new(
        "prune",
        "timeout",
        None,
        true,
        "is not supported: there is no daemon to wait for",
    ),
    Row::new(
        "prune",
        "verbose",
        None,
        false,
        "is not supported: use --dry-run --format=json",
    ),
    Row::new(
        "prune",
        "volumes",
        None,
        false,
        "is not needed: there are no volumes; cache mounts go with --all",
    ),
    Row::new(
        "du",
        "builder",
        None,
        true,
        "is not supported: there is no daemon to choose, stores are chosen by --root",
    ),
    Row::new(
        "du",
        "filter",
        None,
        true,
        "is not supported: use --verbose --format=json, and choose with jq",
    ),
    Row::new(
        "du",
        "timeout",
        None,
        true,
        "is not supported: there is no daemon to wait for",
    ),
    Row::new(
        "copy",
        "preserve-digests",
        None,
        false,
        "is not needed: a copy always has the digests of its source",
    )
    .taken(EITHER),
    Row::new(
        "copy",
        "format",
        Some('f'),
        true,
        "is not supported: a copy is of its source's format",
    ),
    Row::new(
        "images",
        "tree",
        None,
        false,
        "is not supported: platforms of an index are shown by `inspect --raw`",
    ),
    Row::new(
        "rmi",
        "no-prune",
        None,
        false,
        "is not supported: what no name needs any more stays until `builder prune`",
    )
    .taken(ALWAYS),
    Row::new(
        "rmi",
        "platform",
        None,
        true,
        "is not supported: a name is removed with all its platforms",
    ),
    Row::new(
        "inspect",
        "size",
        Some('s'),
        false,
        "is for containers, and there are none: the size is always told",
    )
    .taken(EITHER),
    Row::new(
        "inspect",
        "platform",
        None,
        true,
        "is not supported: `inspect --raw` shows what an index has",
    ),
    Row::new(
        "history",
        "platform",
        None,
        true,
        "is not supported: pull the platform with `pull --platform`",
    ),
    Row::new(
        "save",
        "platform",
        None,
        true,
        "is not supported: pull the platform with `pull --platform`, or use `copy --platform`",
    ),
];

/// Of `docker` itself.
pub(super) const GLOBAL: &[Row] = &[
    Row::new(
        "",
        "config",
        None,
        true,
        "is not supported: set DOCKER_CONFIG, or give --authfile",
    ),
    Row::new(
        "",
        "context",
        Some('c'),
        true,
        "is not supported: there is no daemon to choose, stores are chosen by --root",
    ),
    Row::new(
        "",
        "debug",
        Some('D'),
        false,
        "is not supported: use `build --progress=plain`",
    ),
    Row::new(
        "",
        "host",
        Some('H'),
        true,
        "is not supported: there is no daemon; an engine to load into is named by DOCKER_HOST",
    ),
    Row::new(
        "",
        "log-level",
        Some('l'),
        true,
        "is not supported: use `build --progress=plain`",
    ),
    Row::new("", "tls", None, false, NO_DAEMON),
    Row::new("", "tlscacert", None, true, NO_DAEMON),
    Row::new("", "tlscert", None, true, NO_DAEMON),
    Row::new("", "tlskey", None, true, NO_DAEMON),
    Row::new("", "tlsverify", None, false, NO_DAEMON),
];

const NO_DAEMON: &str = "is not needed: there is no daemon to speak to";
