//! What Kaniko's executor takes, and we do not. Its `--dockerfile` and `--custom-platform` are other names of ours.

use super::{ALWAYS, EITHER, Row};

const CACHED: &str =
    "is not supported: each step is cached in the store; --no-cache runs all again";
const NO_SNAPSHOT: &str = "is not needed: what a step changed is known, no file system is compared";
const ONE_LAYER: &str =
    "is not supported: end with a stage of one layer: `FROM scratch` and `COPY --from=STAGE / /`";
const INSECURE: &str = "is not supported: name the registry with `insecure = true` in a registries.conf (--registries-conf)";
const CERTIFICATE: &str = "is not supported: put certificates into /etc/docker/certs.d/HOST or /etc/containers/certs.d/HOST";
const MIRROR: &str =
    "is not supported: write a `[[registry.mirror]]` in a registries.conf (--registries-conf)";
const DIGEST: &str = "is not supported: --metadata-file has containerimage.digest and image.name";
const RETRY: &str = "is not supported: registries are asked again a few times anyway";
const IGNORED: &str = "is not needed: nothing but a step's own changes gets into its layer";
const PROGRESS: &str = "is not supported: use --progress=plain, rawjson or quiet";
const COMPRESSION: &str =
    "is not supported: use -o type=registry,compression=gzip|zstd,compression-level=N";
const ARCHIVE: &str = "is not supported: use -o type=docker,dest=FILE";

pub(super) const BUILD: &[Row] = &[
    Row::new(
        "build",
        "bucket",
        Some('b'),
        true,
        "is not supported: give a directory, a tar or an address as the context",
    ),
    Row::new("build", "cache", None, false, CACHED).taken(ALWAYS),
    Row::new("build", "cache-copy-layers", None, false, CACHED).taken(ALWAYS),
    Row::new(
        "build",
        "cache-dir",
        None,
        true,
        "is not supported: the store keeps bases, choose it with --root",
    ),
    Row::new(
        "build",
        "cache-repo",
        None,
        true,
        "is not supported: use --cache-from NAME and --cache-to type=registry,ref=NAME,mode=max",
    ),
    Row::new("build", "cache-run-layers", None, false, CACHED).taken(ALWAYS),
    Row::new(
        "build",
        "cleanup",
        None,
        false,
        "is not needed: a build leaves no file system behind",
    )
    .taken(EITHER),
    Row::new("build", "compression", None, true, COMPRESSION),
    Row::new("build", "compression-level", None, true, COMPRESSION),
    Row::new("build", "compressed-caching", None, false, CACHED).taken(EITHER),
    Row::new(
        "build",
        "context",
        None,
        true,
        "is given by itself here: `builder build CONTEXT`",
    ),
    Row::new(
        "build",
        "context-sub-path",
        None,
        true,
        "is not supported: use CONTEXT/DIR, or URL#REF:DIR",
    ),
    Row::new(
        "build",
        "destination",
        Some('d'),
        true,
        "is called --tag here, and pushed with --push",
    ),
    Row::new("build", "digest-file", None, true, DIGEST),
    Row::new(
        "build",
        "force",
        None,
        false,
        "is not needed: the builder runs inside a container and outside of one",
    )
    .taken(EITHER),
    Row::new(
        "build",
        "force-build-metadata",
        None,
        false,
        "is not needed: metadata is in the image's config and history",
    )
    .taken(EITHER),
    Row::new(
        "build",
        "git",
        None,
        true,
        "is not supported: use URL#REF:DIR as the context",
    ),
    Row::new("build", "ignore-path", None, true, IGNORED),
    Row::new("build", "ignore-var-run", None, false, IGNORED),
    Row::new("build", "image-download-retry", None, true, RETRY),
    Row::new("build", "image-fs-extract-retry", None, true, RETRY),
    Row::new(
        "build",
        "image-name-tag-with-digest-file",
        None,
        true,
        DIGEST,
    ),
    Row::new("build", "image-name-with-digest-file", None, true, DIGEST),
    Row::new("build", "insecure", None, false, INSECURE),
    Row::new("build", "insecure-pull", None, false, INSECURE),
    Row::new("build", "insecure-registry", None, true, INSECURE),
    Row::new(
        "build",
        "kaniko-dir",
        None,
        true,
        "is not supported: choose the store with --root",
    ),
    Row::new("build", "log-format", None, true, PROGRESS),
    Row::new(
        "build",
        "log-timestamp",
        None,
        false,
        "is not supported: pipe standard error through `ts`",
    ),
    Row::new(
        "build",
        "no-push",
        None,
        false,
        "is not needed: nothing is pushed unless --push asks for it",
    ),
    Row::new(
        "build",
        "no-push-cache",
        None,
        false,
        "is not needed: no cache is pushed unless --cache-to asks for it",
    ),
    Row::new(
        "build",
        "oci-layout-path",
        None,
        true,
        "is not supported: use -o type=oci,tar=false,dest=DIR",
    ),
    Row::new(
        "build",
        "push-ignore-immutable-tag-errors",
        None,
        false,
        "is not supported: a tag that cannot be written is an error",
    ),
    Row::new("build", "push-retry", None, true, RETRY),
    Row::new("build", "registry-certificate", None, true, CERTIFICATE),
    Row::new("build", "registry-client-cert", None, true, CERTIFICATE),
    Row::new("build", "registry-map", None, true, MIRROR),
    Row::new("build", "registry-mirror", None, true, MIRROR),
    Row::new(
        "build",
        "reproducible",
        None,
        false,
        "is not supported: set SOURCE_DATE_EPOCH, with `-o …,rewrite-timestamp=true` for files of bases",
    ),
    Row::new("build", "single-snapshot", None, false, ONE_LAYER),
    Row::new(
        "build",
        "skip-default-registry-fallback",
        None,
        false,
        MIRROR,
    ),
    Row::new(
        "build",
        "skip-push-permission-check",
        None,
        false,
        "is not needed: a registry is first asked when something is pushed",
    )
    .taken(EITHER),
    Row::new("build", "skip-tls-verify", None, false, INSECURE),
    Row::new("build", "skip-tls-verify-pull", None, false, INSECURE),
    Row::new("build", "skip-tls-verify-registry", None, true, INSECURE),
    Row::new("build", "snapshot-mode", None, true, NO_SNAPSHOT),
    Row::new("build", "snapshotMode", None, true, NO_SNAPSHOT),
    Row::new("build", "tar-path", None, true, ARCHIVE),
    Row::new("build", "tarPath", None, true, ARCHIVE),
    Row::new("build", "use-new-run", None, false, NO_SNAPSHOT).taken(EITHER),
    Row::new("build", "verbosity", None, true, PROGRESS),
    Row::new("build", "whitelist-var-run", None, false, IGNORED),
];
