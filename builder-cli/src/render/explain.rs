//! What became of the steps of a build: a line for each, and what changed below those that ran.
//!
//! ```text
//! cached  [build 2/4] WORKDIR /src
//! ran     [build 3/4] COPY tools tools
//!           tools/gen.sh changed (mode 644 → 755)
//! ```
//!
//! Of several platforms each has its table, below its name.

use builder_core::cache::{Came, LastBuild, StepReport};
use serde_json::json;

use super::plain::one_line;

pub(crate) fn text(tables: &[LastBuild]) -> String {
    tables.iter().map(table).collect()
}

fn table(table: &LastBuild) -> String {
    let steps = table.steps.iter().map(step);
    match table.platform.as_str() {
        "" => steps.collect(),
        platform => format!("{}\n{}", one_line(platform), steps.collect::<String>()),
    }
}

/// An object with `project` and `steps`, or with `project` and `platforms`, each of which has `platform` and `steps`.
pub(crate) fn json(tables: &[LastBuild]) -> String {
    let object = match tables {
        [one] if one.platform.is_empty() => json!({"project": one.project, "steps": one.steps}),
        many => {
            let project = many.first().map(|it| {
                let suffix = format!(" {}", it.platform);
                it.project.strip_suffix(&suffix).unwrap_or(&it.project)
            });
            let platforms = many.iter();
            let platforms = platforms.map(|it| json!({"platform": it.platform, "steps": it.steps}));
            json!({"project": project, "platforms": platforms.collect::<Vec<_>>()})
        }
    };
    format!("{object:#}\n")
}

fn step(step: &StepReport) -> String {
    let came = match step.came {
        Came::Definition => "cached",
        // What is above it was made again, and is the same.
        Came::Content => "cached by content",
        Came::Rebased => "cached, rebased",
        Came::Ran => "ran",
        Came::Failed => "failed",
        _ => "not reached",
    };
    let mut out = format!("{came:<18}{}\n", one_line(&step.name));
    let mut line = |text: &str| {
        out += &format!("{:20}{}\n", "", one_line(text));
    };
    for change in &step.changes {
        line(&change.to_string());
    }
    if let Some(from) = &step.from {
        line(&format!("found in {from}"));
    }
    if step.changes.is_empty()
        && let Some(reason) = &step.reason
    {
        line(reason);
    }
    out
}
