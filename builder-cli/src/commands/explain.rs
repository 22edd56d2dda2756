//! `builder explain`: the last build, step by step.

use builder_core::{Build, last_build};

use super::inputs::context;
use crate::args::{ExplainArgs, Format};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: ExplainArgs, environment: &Environment) -> Result<(), Failure> {
    let root = environment.store_root(args.root)?;
    let shown = root.display().to_string();
    if !root.is_dir() {
        let root = root.display();
        return Err(Failure::usage(format!(
            "there is no store in {root}: nothing was built yet"
        )));
    }
    let last = match &args.context {
        None => last_build(&root)?,
        Some(path) => {
            let build = Build::new(context(path)?).store(root);
            let build = match args.file {
                Some(file) => build.dockerfile(file),
                None => build,
            };
            build.last()?
        }
    };
    if last.is_empty() {
        let of = args.context.map(|it| format!(" of {}", it.display()));
        return Err(Failure::Io(match of {
            None => format!("there was no build yet in {shown}"),
            Some(of) => format!(
                "there was no build{of} in {shown}: context and --file are expected as `build` had them"
            ),
        }));
    }
    match args.format {
        Format::Text => render::result(&render::explain::text(&last)),
        Format::Json => render::result(&render::explain::json(&last)),
    }
}
