//! `builder history`.

use builder_core::image::time::parse_rfc3339;
use builder_core::images::HistoryLine;
use serde_json::{Value, json};

use super::store::{id, now, open};
use crate::args::images::HistoryArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render::{self, table, units};

const COMMAND_CHARS: usize = 45;

pub(super) fn run(args: HistoryArgs, environment: &Environment) -> Result<(), Failure> {
    let image = open(args.store, environment)?.find(&args.image)?;
    let now = now();
    let lines = image.history();
    // The image's own id stands for its last step; what came before has no name.
    let top = id(image.id(), args.no_trunc);
    let ids = std::iter::once(top).chain(std::iter::repeat("<missing>".to_owned()));
    let lines = lines.iter().zip(ids);
    if args.quiet {
        return render::result(&lines.map(|(_, id)| format!("{id}\n")).collect::<String>());
    }
    let rows: Vec<Value> = lines
        .map(|(line, id)| value(line, id, args.human, args.no_trunc, now))
        .collect();
    let when = match args.human {
        true => "CreatedSince",
        false => "CreatedAt",
    };
    let columns = ["ID", when, "CreatedBy", "Size", "Comment"];
    render::result(&table::show(&rows, &columns, args.format.as_deref())?)
}

fn value(line: &HistoryLine, id: String, human: bool, whole: bool, now: i64) -> Value {
    let created = line.created.as_deref().and_then(parse_rfc3339);
    let one_line = line
        .created_by
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let by = match whole || one_line.chars().count() <= COMMAND_CHARS {
        true => one_line,
        false => {
            let start: String = one_line.chars().take(COMMAND_CHARS - 1).collect();
            format!("{start}…")
        }
    };
    json!({
        "ID": id,
        "CreatedAt": line.created.clone().unwrap_or_default(),
        "CreatedSince": created.map_or("N/A".to_owned(), |at| units::since(now - at)),
        "CreatedBy": by,
        "Size": match human {
            true => units::size(line.size),
            false => line.size.to_string(),
        },
        "Comment": line.comment,
    })
}
