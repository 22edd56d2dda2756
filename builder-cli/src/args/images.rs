//! The commands for images: named and flagged as Docker users know them.

#![allow(rustdoc::broken_intra_doc_links)] // brackets in help texts: what may be left out

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where everything is kept.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where everything is kept [env: BUILDER_ROOT] [default: /var/lib/builder for root,
    /// ~/.local/share/builder for others]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// How registries are spoken to.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Credentials for registries, besides those of podman and docker [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory of certificates, for every host or by host as /etc/docker/certs.d has them, which wins
    #[arg(long, value_name = "DIR", alias = "cert-dir")]
    pub(crate) certs_dir: Option<PathBuf>,
    /// One more registries.conf, which wins [env: CONTAINERS_REGISTRIES_CONF]
    #[arg(long, value_name = "FILE")]
    pub(crate) registries_conf: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Image to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// Pull all tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Pull an index whole, attestations too: a push then sends the same
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Print nothing but the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Credentials for the registry, in place of those that are kept
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Image to push, by the name that says where to
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// Push all tags of the repository that are here
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Push this platform of an index alone
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Print nothing but the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Credentials for the registry, in place of those that are kept
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    /// How layers that are kept uncompressed are sent: gzip, zstd or uncompressed [default: gzip]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) compression_format: Option<String>,
    /// 0 to 12 for gzip, 1 to 22 for zstd [default: 5, or 3]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<u8>,
    /// Bring layers that came in another form to this one, too [default: where a format is given]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) force_compression: Option<bool>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Image: a name or an id
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// One more name for it
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Repository, name or pattern; without one, all
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
    /// Taken for Docker's sake: there are no intermediate images to be hidden
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// dangling=true|false, reference=PATTERN, label=K[=V], before=IMAGE, since=IMAGE; all must hold
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// `json`, `table`, or a template such as `{{.ID}} {{.Repository}}`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show ids whole
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an id with all its names; an image that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// `json`, or a template such as `{{.Config.Env}}` or `{{json .RootFS}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only images are known here
    #[arg(long = "type", value_enum, default_value_t = InspectType::Image)]
    pub(crate) kind: InspectType,
    /// Print the manifest or the index, byte for byte
    #[arg(long, conflicts_with = "format")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectType {
    Image,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Image: a name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// `json`, `table`, or a template such as `{{.CreatedBy}}`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Sizes and times for people
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Show everything whole
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value_t = Archive::DockerArchive)]
    pub(crate) format: Archive,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    // For layers that are still where a build found them.
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Archive {
    /// For `docker load` and `podman load`
    DockerArchive,
    /// An OCI image layout in a tar
    OciArchive,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Archive or layout to read, of Docker's kind or OCI's, gzip and zstd too [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Platform to take from an index [default: all of it; this machine's, where not all is there]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Registry [default: docker.io]
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Password; others can see it in the list of processes, unlike one from --password-stdin
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Registry [default: docker.io]
    #[arg(value_name = "SERVER", conflicts_with = "all")]
    pub(crate) server: Option<String>,
    /// Log out of all registries
    #[arg(short, long)]
    pub(crate) all: bool,
    /// File of credentials [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// The same
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Copy all platforms of an index
    #[arg(short, long, conflicts_with = "platform")]
    pub(crate) all: bool,
    /// Platform to take from an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Print nothing but the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Credentials for the source
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) src_creds: Option<String>,
    /// Credentials for the target
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) dest_creds: Option<String>,
    /// Certificates for the source, in place of those of --certs-dir
    #[arg(long, value_name = "DIR")]
    pub(crate) src_cert_dir: Option<PathBuf>,
    /// Certificates for the target, in place of those of --certs-dir
    #[arg(long, value_name = "DIR")]
    pub(crate) dest_cert_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
