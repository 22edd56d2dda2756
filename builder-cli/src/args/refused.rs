//! Flags that Docker's commands for images have, and these have not: each is refused by name, with what to do instead.

const TRUST: &str =
    "is not supported: signatures are checked by nobody here, use cosign or notation";

/// Command, flag, whether it takes a value, the answer.
pub(super) const IMAGES: &[(&str, &str, bool, &str)] = &[
    ("pull", "disable-content-trust", false, TRUST),
    ("push", "disable-content-trust", false, TRUST),
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
