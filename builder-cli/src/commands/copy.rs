//! `builder copy`.

use builder_core::images::{CopyOptions, Location};
use builder_core::registry::Client;

use super::store::{host, open_with, options, platform, with_creds, with_progress};
use crate::args::images::CopyArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: CopyArgs, environment: &Environment) -> Result<(), Failure> {
    let place = |text: &str| {
        text.parse::<Location>()
            .map_err(|it| Failure::usage(it.to_string()))
    };
    let (from, to) = (place(&args.source)?, place(&args.target)?);
    if args.all && matches!(to, Location::DockerArchive { .. }) {
        return Err(Failure::usage(
            "--all: a docker archive has one platform, use oci-archive:",
        ));
    }
    let copying = CopyOptions {
        all: args.all,
        platform: platform(args.platform.as_deref())?,
    };
    let common = options(args.registry, None, environment)?;
    let given = |place: &Location, creds: Option<&str>| match (place, creds) {
        (_, None) => Ok(None),
        (Location::Registry(name), Some(creds)) => {
            with_creds(common.clone(), name.domain(), creds).map(Some)
        }
        (_, Some(_)) => Err(Failure::usage("credentials are for docker:// alone")),
    };
    let source = match (&from, args.src_creds.as_deref()) {
        (Location::Registry(name), Some(creds)) => {
            let host = host(&common, name)?;
            Some(with_creds(common.clone(), &host, creds)?)
        }
        (_, creds) => given(&from, creds)?,
    };
    let target = given(&to, args.dest_creds.as_deref())?;
    let client = Client::new(source.unwrap_or_else(|| common.clone()));
    let target = match target {
        Some(options) => Client::new(options),
        None if args.src_creds.is_none() => client.clone(),
        None => Client::new(common.clone()),
    };
    let images = open_with(args.store, common, environment)?.with_client(client);
    let digest = with_progress(args.quiet, environment, async |events| {
        Ok(images.copy(&from, &to, &copying, &target, &events).await?)
    })?;
    render::result(&format!("{digest}\n"))
}
