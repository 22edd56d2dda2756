//! `builder images`.

use builder_core::images::{Filter, Row};
use serde_json::{Value, json};

use super::store::{id, now, open};
use crate::args::images::ImagesArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render::{self, table, units};

const NONE: &str = "<none>";
const UNKNOWN: &str = "N/A";

pub(super) fn run(args: ImagesArgs, environment: &Environment) -> Result<(), Failure> {
    let mut filters = Vec::new();
    for text in &args.filter {
        let filter = text.parse::<Filter>();
        filters.push(filter.map_err(|why| Failure::usage(format!("--filter {text}: {why}")))?);
    }
    filters.extend(args.name.clone().map(Filter::Reference));
    let listing = open(args.store, environment)?.list(&filters)?;
    for (name, error) in &listing.broken {
        render::note(&format!("WARN: {name} cannot be shown: {error}\n"));
    }
    if args.quiet {
        let mut ids: Vec<String> = Vec::new();
        for row in &listing.rows {
            let id = id(row.image.id(), args.no_trunc);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        return render::result(&ids.iter().map(|it| format!("{it}\n")).collect::<String>());
    }
    let now = now();
    let rows: Vec<Value> = listing
        .rows
        .iter()
        .map(|row| value(row, args.no_trunc, now))
        .collect();
    let columns: &[&str] = match args.digests {
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    };
    render::result(&table::show(&rows, columns, args.format.as_deref())?)
}

fn value(row: &Row, whole: bool, now: i64) -> Value {
    let name = row.name.as_ref();
    let tag = name.and_then(|it| it.tag());
    let familiar = name.map(|it| it.familiar());
    let repository = familiar.map_or(NONE.to_owned(), |text| {
        let text = text.split('@').next().unwrap_or_default();
        let suffix = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        text.strip_suffix(&suffix).unwrap_or(text).to_owned()
    });
    let repo_digests = row.image.repo_digests.iter();
    let digest = repo_digests
        .filter(|it| name.is_some_and(|name| name.repository() == it.repository()))
        .find_map(|it| it.digest());
    let created = row.created();
    let size = units::size(row.image.size());
    // There are no containers here, and Docker too tells what is shared in `system df` alone.
    json!({
        "Containers": UNKNOWN,
        "CreatedAt": created.map_or(NONE.to_owned(), units::at),
        "CreatedSince": created.map_or("N/A".to_owned(), |at| units::since(now - at)),
        "Digest": digest.map_or(NONE.to_owned(), |it| it.to_string()),
        "ID": id(row.image.id(), whole),
        "Repository": repository,
        "SharedSize": UNKNOWN,
        "Size": size,
        "Tag": tag.unwrap_or(NONE),
        "UniqueSize": UNKNOWN,
        "VirtualSize": size,
    })
}
