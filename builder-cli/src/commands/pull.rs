//! `builder pull`.

use super::store::{host, name, open_with, options, platform, with_creds, with_progress};
use crate::args::images::PullArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: PullArgs, environment: &Environment) -> Result<(), Failure> {
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
    let text = args.platform.as_deref();
    let platform = text.map(|it| platform(Some(it))).transpose()?;
    let mut options = options(args.registry, None, environment)?;
    if let Some(creds) = &args.creds {
        let host = host(&options, &wanted)?;
        options = with_creds(options, &host, creds)?;
    }
    let images = open_with(args.store, options, environment)?;
    let (pulled, skipped) = with_progress(args.quiet, environment, async |events| {
        let names = match args.all_tags {
            true => images.remote_tags(&wanted).await?,
            false => vec![wanted.clone()],
        };
        let (mut all, mut skipped) = (Vec::new(), Vec::new());
        for name in names {
            let pulled = match args.all_platforms {
                true => images.pull_all_platforms(&name, &events).await,
                false => images.pull(&name, platform.as_ref(), &events).await,
            };
            match pulled {
                // What else is in a repository: charts, signatures, bills of materials.
                Err(error) if args.all_tags && error.is_no_image() => skipped.push(error),
                pulled => all.push(pulled?),
            }
        }
        match (all.is_empty(), skipped.pop()) {
            (true, Some(error)) => return Err(error.into()),
            (_, last) => skipped.extend(last),
        }
        Ok((all, skipped))
    })?;
    for error in skipped {
        render::note(&format!("skipped: {error}\n"));
    }
    let mut text = String::new();
    for it in pulled {
        if !args.quiet {
            let short = it.name.familiar();
            let status = match it.newer {
                true => format!("Downloaded newer image for {short}"),
                false => format!("Image is up to date for {short}"),
            };
            text += &format!("Digest: {}\nStatus: {status}\n", it.digest);
        }
        text += &format!("{}\n", it.name);
    }
    render::result(&text)
}
