//! What the commands for images share: the store, the client, names and progress.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use builder_core::image::{Platform, Reference};
use builder_core::images::{Images, ImagesError};
use builder_core::progress::EventSink;
use builder_core::registry::{Client, ClientOptions, Credential, GivenCredential};
use builder_core::store::Store;

use super::inputs::registries;
use crate::args::images::{RegistryArgs, StoreArgs};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render::{Mode, Reporter};

/// Opens the store, for what needs no registry.
pub(super) fn open(args: StoreArgs, environment: &Environment) -> Result<Images, Failure> {
    open_with(args, ClientOptions::default(), environment)
}

/// Opens the store, with a way to registries.
pub(super) fn open_with(
    args: StoreArgs,
    options: ClientOptions,
    environment: &Environment,
) -> Result<Images, Failure> {
    let root = environment.store_root(args.root)?;
    let store = Store::open(&root).map_err(ImagesError::from)?;
    Ok(Images::new(store, Client::new(options)))
}

/// Returns the registry that credentials for `name` are for.
pub(super) fn host(options: &ClientOptions, name: &Reference) -> Result<String, Failure> {
    let names = options.registries.names(name);
    match names
        .map_err(|error| Failure::usage(error.to_string()))?
        .as_slice()
    {
        [name] => Ok(name.domain().to_owned()),
        _ => Err(Failure::usage(format!(
            "credentials for `{}`: write the name with its registry, since it may be another's",
            name.familiar()
        ))),
    }
}

/// Says how registries are spoken to; `creds` are for `host`.
pub(super) fn options(
    args: RegistryArgs,
    creds: Option<(&str, &str)>,
    environment: &Environment,
) -> Result<ClientOptions, Failure> {
    let mut options = registries(
        args.registries_conf,
        args.authfile,
        args.certs_dir,
        environment,
    )?;
    if let Some((host, text)) = creds {
        options = with_creds(options, host, text)?;
    }
    Ok(options)
}

/// Adds credentials that were given on the command line.
pub(super) fn with_creds(
    options: ClientOptions,
    host: &str,
    text: &str,
) -> Result<ClientOptions, Failure> {
    // The text holds a password: it is not repeated.
    let (user, password) = text
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .ok_or_else(|| Failure::usage("credentials: USER:PASSWORD is expected"))?;
    Ok(ClientOptions {
        credentials: Arc::new(GivenCredential {
            host: host.to_owned(),
            credential: Credential::of(user, password),
            others: options.credentials.clone(),
        }),
        ..options
    })
}

/// Reads a name.
pub(super) fn name(text: &str) -> Result<Reference, Failure> {
    text.parse::<Reference>()
        .map_err(|error| Failure::usage(error.to_string()))
}

/// Reads a platform; without one, this machine's.
pub(super) fn platform(text: Option<&str>) -> Result<Platform, Failure> {
    match text {
        None => Ok(Platform::host()),
        Some(text) => Platform::parse(text, &Platform::host())
            .map_err(|error| Failure::usage(format!("--platform {text}: {error}"))),
    }
}

/// Runs a command that tells its progress on standard error.
pub(super) fn with_progress<T>(
    quiet: bool,
    environment: &Environment,
    run: impl AsyncFnOnce(Arc<dyn EventSink>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = super::runtime()?;
    let mode = match quiet {
        true => Mode::Quiet,
        false if environment.can_redraw() => Mode::Tty {
            colour: environment.colour(),
        },
        false => Mode::Plain {
            terminal: environment.is_terminal(),
        },
    };
    let reporter = Reporter::start(mode);
    let result = runtime.block_on(run(reporter.sink()));
    reporter.finish();
    result
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(0))
}

/// The first twelve digits of an id, or all of it.
pub(super) fn id(digest: builder_core::digest::Digest, whole: bool) -> String {
    match whole {
        true => digest.to_string(),
        false => digest.hex().chars().take(12).collect(),
    }
}
