//! What became of the steps of a build: a line for each, and what changed below those that ran.
//!
//! ```text
//! cached  [build 2/4] WORKDIR /src
//! ran     [build 3/4] COPY tools tools
//!           tools/gen.sh changed (mode 644 → 755)
//! ```

use builder_core::cache::{Came, LastBuild, StepReport};

use super::plain::one_line;

pub(crate) fn text(build: &LastBuild) -> String {
    build.steps.iter().map(step).collect()
}

pub(crate) fn json(build: &LastBuild) -> String {
    let object = serde_json::json!({"project": build.project, "steps": build.steps});
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
