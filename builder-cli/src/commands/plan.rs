//! `builder plan`: the graph, as text or JSON. Only configs of bases are fetched, and no namespace is entered.

use builder_core::plan;

use super::inputs::request;
use crate::args::{Format, PlanArgs};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: PlanArgs, environment: &Environment) -> Result<(), Failure> {
    let build = request(args.inputs, environment)?;
    let planned = super::runtime()?.block_on(build.plan())?;
    let text = match args.format {
        Format::Text => plan::to_text(&planned.plan),
        Format::Json => format!("{:#}\n", plan::to_json(&planned.plan)),
    };
    render::result(&text)
}
