//! `builder copy`.

use std::path::PathBuf;

use builder_core::images::{CopyOptions, Location};
use builder_core::registry::{Client, ClientOptions};

use super::inputs::directory;
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
    let source = End {
        place: &from,
        creds: args.src_creds.as_deref(),
        certs: ("--src-cert-dir", args.src_cert_dir),
        is_target: false,
    };
    let target = End {
        place: &to,
        creds: args.dest_creds.as_deref(),
        certs: ("--dest-cert-dir", args.dest_cert_dir),
        is_target: true,
    };
    let source = source.options(&common)?;
    let target = target.options(&common)?;
    // One client, where both ends are spoken to alike: what it has learned of a host holds for both.
    let is_common = source.is_none();
    let client = Client::new(source.unwrap_or_else(|| common.clone()));
    let target = match target {
        Some(options) => Client::new(options),
        None if is_common => client.clone(),
        None => Client::new(common.clone()),
    };
    let images = open_with(args.store, common, environment)?.with_client(client);
    let digest = with_progress(args.quiet, environment, async |events| {
        Ok(images.copy(&from, &to, &copying, &target, &events).await?)
    })?;
    render::result(&format!("{digest}\n"))
}

/// One end of a copy, and what is given for it alone.
struct End<'a> {
    place: &'a Location,
    creds: Option<&'a str>,
    /// The flag, and what it says.
    certs: (&'static str, Option<PathBuf>),
    /// Nobody is asked which registry a short name means there.
    is_target: bool,
}

impl End<'_> {
    /// Says how its registry is spoken to; `None` where nothing is given for it alone.
    fn options(self, common: &ClientOptions) -> Result<Option<ClientOptions>, Failure> {
        let (flag, certs) = self.certs;
        let name = match (self.place, self.creds, &certs) {
            (_, None, None) => return Ok(None),
            (Location::Registry(name), ..) => name,
            (_, Some(_), _) => {
                return Err(Failure::usage("credentials are for docker:// alone"));
            }
            (_, None, Some(_)) => {
                return Err(Failure::usage(format!("{flag} is for docker:// alone")));
            }
        };
        let mut options = common.clone();
        if let Some(dir) = certs {
            options.certificates.given = Some(directory(flag, dir)?);
        }
        match self.creds {
            Some(creds) => {
                let host = match self.is_target {
                    true => name.domain().to_owned(),
                    false => host(common, name)?,
                };
                with_creds(options, &host, creds).map(Some)
            }
            None => Ok(Some(options)),
        }
    }
}
