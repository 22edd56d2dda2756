//! What may be written on the command line. Flags are Docker's where Docker has them; those that are not supported
//! yet are refused by name.

mod booleans;
mod dashes;
#[cfg(test)]
mod docker_flags;
pub(crate) mod images;
mod refused;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use builder_core::sandbox::Isolation;

use crate::attest::AttestFlags;
use crate::commands::{DebugArgs, DuArgs, LogsArgs, PruneArgs};
use crate::exit::Failure;
use crate::step_flags::StepFlags;

/// Builds OCI images from Dockerfiles: no daemon, no root, no helper runtime.
#[derive(Debug, Parser)]
#[command(name = "builder", version, arg_required_else_help = true)]
pub(crate) struct Cli<C: Subcommand = Command> {
    /// Where everything is kept; also behind a command that keeps anything
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: C,
}

/// One of all commands: to set up the flags of them all takes as long as to list a thousand files.
#[derive(Debug, Subcommand)]
enum Alone {
    Build(Box<BuildArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile and a directory
    ///
    /// Exit codes: 0; 1 the build failed; 2 wrong usage; 3 `--check` has remarks; 130 interrupted.
    Build(Box<BuildArgs>),
    /// Print what a build would do, and do nothing
    Plan(Box<PlanArgs>),
    /// Print what is questionable in a Dockerfile
    ///
    /// Exit codes: 0 nothing; 1 the Dockerfile cannot be read; 2 wrong usage; 3 there are remarks.
    Check(CheckArgs),
    /// Print which steps of the last build were cached, and what changed for those that were not
    Explain(ExplainArgs),
    /// Pull an image from a registry into the store
    Pull(images::PullArgs),
    /// Push an image of the store to a registry
    Push(images::PushArgs),
    /// Give an image one more name
    Tag(images::TagArgs),
    /// List the images of the store
    Images(images::ImagesArgs),
    /// Remove images from the store
    Rmi(images::RmiArgs),
    /// Show what is known of images
    Inspect(images::InspectArgs),
    /// Show how an image came about
    History(images::HistoryArgs),
    /// Pack images of the store into an archive
    Save(images::SaveArgs),
    /// Unpack images from an archive into the store
    Load(images::LoadArgs),
    /// Log in to a registry
    Login(images::LoginArgs),
    /// Log out of a registry
    Logout(images::LogoutArgs),
    /// Copy an image from one place to another, past the store
    Copy(images::CopyArgs),
    /// Open a shell in the RUN that the last build failed at, or run a command there
    Debug(DebugArgs),
    /// Print what the steps of the last build wrote
    Logs(LogsArgs),
    /// Print what the store takes on the disk, thing by thing
    Du(DuArgs),
    /// Remove what no named image was made with; see `--all`, and the limits
    Prune(PruneArgs),
    /// Print which way steps are run on this machine, why not a better one, and what would allow it
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where everything is kept: its file system counts [env: BUILDER_ROOT]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// What a build is made from.
#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// What COPY and ADD copy from: a directory, a tar, `-` (a tar or a Dockerfile from standard input), the address of
    /// a tar, or of a git repository: `https://host/repo.git#ref:dir`
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
    /// Dockerfile, from the working directory, or inside a context that is no directory; `-` for standard input
    /// [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", alias = "dockerfile")]
    pub(crate) file: Option<PathBuf>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; K alone takes it from the environment
    #[arg(long, value_name = "K=V")]
    pub(crate) build_arg: Vec<String>,
    /// Name for FROM and --from: a directory, a tar, an address as CONTEXT has them, `docker-image://REF`,
    /// `oci-layout://PATH[:TAG]` or `target:STAGE`
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// Network of a RUN that does not say
    #[arg(long, value_enum, default_value_t = Network::Default)]
    pub(crate) network: Network,
    /// Platform of the image, or several, for an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH,…", aliases = ["custom-platform", "customPlatform"])]
    pub(crate) platform: Vec<String>,
    /// One more registries.conf, which wins [env: CONTAINERS_REGISTRIES_CONF]
    #[arg(long, value_name = "FILE")]
    pub(crate) registries_conf: Option<PathBuf>,
    /// Credentials for registries, besides those of podman and docker [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory of certificates, for every host or by host as /etc/docker/certs.d has them, which wins
    #[arg(long, value_name = "DIR", alias = "cert-dir")]
    pub(crate) certs_dir: Option<PathBuf>,
    /// Where everything is kept [env: BUILDER_ROOT] [default: /var/lib/builder for root,
    /// ~/.local/share/builder for others]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Name of the image; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Where the result goes besides the store: a directory for its files, `-` for a tar of them on standard output, or
    /// `type=oci|docker|local|tar,dest=PATH[,tar=false][,name=NAME][,compression=gzip|zstd|uncompressed]
    /// [,compression-level=N][,force-compression=BOOL][,annotation[-LEVEL[PLATFORM]].KEY=VALUE][,oci-mediatypes=BOOL]`;
    /// or a registry: `type=registry[,name=NAME][,compression=…]`
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Push the image under its names: -o type=registry
    #[arg(long)]
    pub(crate) push: bool,
    /// Load the image into Docker's or Podman's engine [env: DOCKER_HOST, CONTAINER_HOST]
    #[arg(long)]
    pub(crate) load: bool,
    #[command(flatten)]
    pub(crate) attest: AttestFlags,
    /// Annotation of the image, LEVEL being manifest, index, manifest-descriptor or index-descriptor
    #[arg(long, value_name = "[LEVEL[PLATFORM]:]K=V")]
    pub(crate) annotation: Vec<String>,
    /// Write digests and names to a file, as JSON with buildx's keys
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the image's id (its config's digest) to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Print nothing but the image's id; wins over --progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=NAME
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Agent for RUN --mount=type=ssh: `default` or ID for that of SSH_AUTH_SOCK, ID=SOCKET, or keys: ID=KEYFILE[,KEYFILE…]
    #[arg(long, value_name = "SSH")]
    pub(crate) ssh: Vec<String>,
    /// Run every step again, or those on these lines of the Dockerfile: `--no-cache=3-5`
    #[arg(long, value_name = "LINES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) no_cache: Vec<String>,
    /// Stages whose steps run again; an empty list is all, as with buildx
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Cache of another machine, looked in for what the store lacks; nothing of it is fetched before it is needed. A name at a
    /// registry (a cache, or an image with `type=inline`), or `type=registry,ref=NAME` or
    /// `type=local,src=DIR[,tag=TAG][,digest=DIGEST]`, each with `[,timeout=10s]`; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// Cache to write: `type=registry,ref=NAME`, `type=local,dest=DIR[,tag=TAG]`, each with `[,mode=min|max]
    /// [,compression=gzip|zstd|uncompressed][,compression-level=N][,force-compression=BOOL][,image-manifest=BOOL]
    /// [,oci-mediatypes=BOOL][,mounts=BOOL][,ignore-error=BOOL]`; or `type=inline`, in the image; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// What the store may take: `off`, or limits such as `max-used-space=20GB,keep-duration=30d,max-mounts=5GB`
    /// [env: BUILDER_GC] [default: min-free-space=5GB,min-free-inodes=20000,reserved-space=1GB,keep-duration=60d,max-mounts=10GB,every=10m]
    #[arg(long, value_name = "LIMITS")]
    pub(crate) gc: Option<String>,
    /// Print, at the end, which steps were cached and what changed for those that were not
    #[arg(long)]
    pub(crate) explain: bool,
    /// Which way steps are run, see `builder doctor`: auto, overlay, copied, single-id, chroot, none
    #[arg(long, value_name = "RUNG", default_value = "auto", value_parser = isolation)]
    pub(crate) isolation: Isolation,
    /// What to do when a RUN fails
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    pub(crate) on_error: OnError,
    /// How many steps may run at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// What one layer of a base, or an archive that ADD unpacks, may unpack to, as `8g`
    /// [default: 4g, or 100 times its compressed size where that is more]
    #[arg(long, value_name = "SIZE", value_parser = crate::quantities::bytes)]
    pub(crate) max_layer_size: Option<u64>,
    /// How progress is shown, on standard error
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
    /// Print what is questionable in the Dockerfile, and build nothing; exit code 3 where something is
    #[arg(long)]
    pub(crate) check: bool,
    /// Ask in place of building: `check`, `outline` (what the target takes) or `targets`, each also with `,format=json`
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    /// Taken for Docker's sake: tags of registries are looked up at every build anyway
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = pull)]
    pub(crate) pull: Option<()>,
    // Last: its heading stands for all that follows.
    #[command(flatten)]
    pub(crate) steps: StepFlags,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Directory with the Dockerfile
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: PathBuf,
    /// Dockerfile, from the working directory; `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG
    #[arg(long, value_name = "K=V")]
    pub(crate) build_arg: Vec<String>,
    /// Rules that keep quiet: names, or `all`
    #[arg(long, value_name = "RULE,…", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
    /// Rules that speak on request only: names, or `all` for the experimental ones
    #[arg(long, value_name = "RULE,…", value_delimiter = ',')]
    pub(crate) enable: Vec<String>,
    /// Mend what can be mended without a change of what is built, in the file itself
    #[arg(long)]
    pub(crate) fix: bool,
    /// Print the rules and what they say, and check nothing
    #[arg(long)]
    pub(crate) rules: bool,
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub(crate) format: Report,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Directory that was built [default: that of the last build of all]
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: Option<PathBuf>,
    /// Its Dockerfile, as it was given to `build`
    #[arg(short, long, value_name = "FILE", requires = "context")]
    pub(crate) file: Option<PathBuf>,
    /// Where everything is kept, as for `build`
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How remarks are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    /// With the lines they are about
    Text,
    /// One object a line
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Annotations of a GitHub workflow
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// End; `builder debug` looks at the step's files later
    Stop,
    /// Open a shell in the step's files at once
    Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Network {
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// tty where standard error is a terminal, else plain
    Auto,
    /// Every line of every step
    Plain,
    /// What runs now, drawn over
    Tty,
    /// Nothing
    Quiet,
    /// One event a line, as JSON
    Rawjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Reads a rung, in the words of others too.
fn isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "default" => Ok(Isolation::Auto),
        "oci" | "rootless" => Err(format!(
            "`{text}` is a word of Buildah's: auto takes the best way that there is"
        )),
        "process" | "hyperv" => Err(format!("`{text}` is a way of Windows")),
        _ => text.parse(),
    }
}

/// Reads when bases are looked up: what asks for more seldom is refused.
fn pull(text: &str) -> Result<(), String> {
    match text {
        "true" | "false" | "always" | "newer" | "ifnewer" => Ok(()),
        "missing" | "never" => Err("tags of registries are looked up at every build: pin images by digest (FROM image@sha256:…)".to_owned()),
        _ => Err("true, false, always or newer is expected".to_owned()),
    }
}

/// Reads the command line; ends the process where clap does: `--help`, `--version`, a mistake (2).
pub(crate) fn parse() -> Result<Cli, Failure> {
    let line: Vec<OsString> = std::env::args_os().collect();
    if let Some(cli) = alone(&line) {
        return Ok(cli);
    }
    let command = command();
    let line = booleans::spelt_out(&command, line);
    let flags = command.clone();
    match command.try_get_matches_from(&line) {
        // A letter that is refused may be the first of a name.
        Ok(matches) => {
            read(&matches).map_err(|failure| dashes::missing(&flags, &line).unwrap_or(failure))
        }
        Err(error) => Err(dashes::missing(&flags, &line)
            .filter(|_| error.use_stderr())
            .or_else(|| refused::instead(&error, &line))
            .unwrap_or_else(|| refused::own_tips(error, &flags, &line).exit())),
    }
}

/// Reads the line of a `build` in which there is nothing to say something of.
fn alone(line: &[OsString]) -> Option<Cli> {
    if line.get(1)? != "build" {
        return None;
    }
    let command = with_refused(Cli::<Alone>::command());
    let line = booleans::spelt_out(&command, line.iter().cloned());
    let matches = command.try_get_matches_from(line).ok()?;
    if refused::given(&matches).is_some() {
        return None;
    }
    let Cli { root, command } = Cli::from_arg_matches(&matches).ok()?;
    let Alone::Build(args) = command;
    let command = Command::Build(args);
    Some(Cli { root, command })
}

fn command() -> clap::Command {
    with_refused(Cli::<Command>::command())
}

/// Adds the flags that are refused.
fn with_refused(command: clap::Command) -> clap::Command {
    // A flag given twice counts as it was given last, as with Docker: wrappers add theirs in front.
    let with = |command: clap::Command| {
        let refused = refused::flags(command.get_name());
        command.args(refused).args_override_self(true)
    };
    command
        .args(refused::flags(""))
        .args_override_self(true)
        .mut_subcommands(with)
}

fn read(matches: &ArgMatches) -> Result<Cli, Failure> {
    match refused::given(matches) {
        Some(failure) => Err(failure),
        None => Cli::from_arg_matches(matches).map_err(|error| error.exit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        command().debug_assert();
    }

    #[test]
    fn lists_grow_and_of_the_rest_the_last_counts() {
        let line = "builder build -t a --root x --root y --tag b --target s --target t .";
        let matches = command().try_get_matches_from(line.split(' '));
        match matches.map(|matches| read(&matches)) {
            Ok(Ok(Cli {
                command: Command::Build(args),
                root: None,
            })) => {
                assert_eq!(args.tag, ["a", "b"]);
                assert_eq!(args.inputs.root, Some(PathBuf::from("y")));
                assert_eq!(args.inputs.target.as_deref(), Some("t"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_build_alone_is_read_as_among_all_commands() {
        for (line, is_read) in [
            ("builder build .", true),
            (
                "builder build -t a:b --push=true --no-cache=3 -f x --root y .",
                true,
            ),
            ("builder build --layers=true --rm .", true),
            // What there is to be said of is read among all.
            ("builder build --squash .", false),
            ("builder build --help", false),
            ("builder build --nope .", false),
            ("builder build", false),
            ("builder --root x build .", false),
            ("builder images", false),
            ("builder", false),
        ] {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let found = alone(&line);
            assert_eq!(found.is_some(), is_read, "{line:?}");
            if let Some(found) = found {
                let spelt_out = booleans::spelt_out(&command(), line);
                let matches = command().try_get_matches_from(spelt_out).expect("matches");
                let among_all = read(&matches).ok();
                assert_eq!(format!("{:?}", Some(found)), format!("{among_all:?}"));
            }
        }
    }

    #[test]
    fn the_store_may_stand_before_the_command() {
        for (line, outer, inner) in [
            ("builder --root x build .", Some("x"), None),
            ("builder --root x --root=y build .", Some("y"), None),
            ("builder --root x build --root y .", Some("x"), Some("y")),
            ("builder build --root y .", None, Some("y")),
        ] {
            let matches = command().try_get_matches_from(line.split(' '));
            match matches.map(|matches| read(&matches)) {
                Ok(Ok(Cli {
                    command: Command::Build(args),
                    root,
                })) => {
                    assert_eq!(root, outer.map(PathBuf::from), "{line}");
                    assert_eq!(args.inputs.root, inner.map(PathBuf::from), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
