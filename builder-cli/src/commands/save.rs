//! `builder save`.

use std::io::IsTerminal;
use std::path::Path;

use builder_core::export::Destination;
use builder_core::images::ArchiveFormat;

use super::store::{open_with, options, with_progress};
use crate::args::images::{Archive, SaveArgs};
use crate::environment::Environment;
use crate::exit::Failure;

pub(super) fn run(args: SaveArgs, environment: &Environment) -> Result<(), Failure> {
    let format = match args.format {
        Archive::DockerArchive => ArchiveFormat::Docker,
        Archive::OciArchive => ArchiveFormat::Oci,
    };
    let mut stdout = std::io::stdout();
    if args.output.is_none() && stdout.is_terminal() {
        return Err(Failure::usage(
            "an archive is not for a terminal: give --output FILE, or redirect",
        ));
    }
    let parent = args.output.as_deref().and_then(Path::parent);
    if let Some(parent) = parent.filter(|it| !it.as_os_str().is_empty() && !it.is_dir()) {
        let parent = parent.display();
        return Err(Failure::usage(format!(
            "--output: there is no directory {parent}"
        )));
    }
    let options = options(args.registry, None, environment)?;
    let images = open_with(args.store, options, environment)?;
    // Says nothing unless there is something to fetch.
    with_progress(args.quiet, environment, async |events| {
        Ok(images.complete(&args.images, format, &events).await?)
    })?;
    let destination = match &args.output {
        Some(path) => Destination::File(path),
        None => Destination::Writer(&mut stdout),
    };
    Ok(images.save(&args.images, format, destination)?)
}
