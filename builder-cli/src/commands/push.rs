//! `builder push`.

use builder_core::images::{Filter, PushOptions};

use super::store::{name, open_with, options, platform, with_progress};
use crate::args::images::PushArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::outputs::compression;
use crate::render;

pub(super) fn run(args: PushArgs, environment: &Environment) -> Result<(), Failure> {
    let wanted = name(&args.name)?;
    let has_tag = args
        .name
        .rsplit('/')
        .next()
        .is_some_and(|it| it.contains([':', '@']));
    if args.all_tags && has_tag {
        return Err(Failure::usage(
            "--all-tags takes a repository: leave the tag out",
        ));
    }
    let platform = match &args.platform {
        Some(text) => Some(platform(Some(text))?),
        None => None,
    };
    let codec = args.compression_format.as_deref();
    let compression = compression(codec.unwrap_or("gzip"), args.compression_level);
    let sending = PushOptions {
        platform,
        compression: compression.map_err(Failure::usage)?,
        force_compression: args.force_compression.unwrap_or(codec.is_some()),
    };
    let creds = args.creds.as_deref().map(|it| (wanted.domain(), it));
    let options = options(args.registry, creds, environment)?;
    let images = open_with(args.store, options, environment)?;
    let names = match args.all_tags {
        false => vec![wanted],
        true => {
            let rows = images.list(&[Filter::Dangling(false)])?.rows;
            let names = rows.into_iter().filter_map(|row| row.name);
            let mut names: Vec<_> = names
                .filter(|it| it.repository() == wanted.repository())
                .collect();
            names.sort();
            if names.is_empty() {
                return Err(Failure::Io(format!(
                    "there is no image of {} in the store",
                    wanted.repository()
                )));
            }
            names
        }
    };
    let pushed = with_progress(args.quiet, environment, async |events| {
        let mut all = Vec::new();
        for name in names {
            let pushed = images.push(&name, &sending, &events).await?;
            all.push((name, pushed));
        }
        Ok(all)
    })?;
    let mut text = String::new();
    for (name, it) in pushed {
        text += &match args.quiet {
            true => format!("{name}\n"),
            false => format!(
                "{}: digest: {} size: {} ({} sent, {} mounted, {} there already)\n",
                name.tag().unwrap_or("<none>"),
                it.digest,
                it.size,
                it.sent,
                it.mounted,
                it.there
            ),
        };
    }
    render::result(&text)
}
