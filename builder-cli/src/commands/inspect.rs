//! `builder inspect`.

use serde_json::Value;

use super::store::open;
use crate::args::images::InspectArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;
use crate::template::Template;

pub(super) fn run(args: InspectArgs, environment: &Environment) -> Result<(), Failure> {
    let format = args.format.as_deref().unwrap_or("");
    let wrong = |why: String| Failure::usage(format!("--format {format}: {why}"));
    let template = match format {
        "" | "json" => None,
        format => Some(Template::parse(format).map_err(wrong)?),
    };
    let images = open(args.store, environment)?;
    if args.raw {
        for name in &args.images {
            let bytes = images.raw_manifest(name)?;
            render::result(&String::from_utf8_lossy(&bytes))?;
        }
        return Ok(());
    }
    // Those that are there are shown, and the first that is not is the error, as with Docker.
    let (mut values, mut failed) = (Vec::new(), None);
    for name in &args.images {
        match images.find(name) {
            Ok(image) => values.push(image.inspect()),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    let text = match template {
        Some(template) => {
            let mut text = String::new();
            for value in &values {
                text += &template.fill(value, false).map_err(wrong)?;
                text.push('\n');
            }
            text
        }
        None if format == "json" => format!("{}\n", Value::Array(values)),
        None => format!("{:#}\n", Value::Array(values)),
    };
    render::result(&text)?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
