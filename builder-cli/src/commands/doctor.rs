//! `builder doctor`: the rung of the ladder that this machine gives.

use std::fmt::Write as _;
use std::path::Path;

use builder_core::sandbox::{self, Diagnosis, DoctorError, Rung};

use crate::args::{DoctorArgs, Format};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: DoctorArgs, environment: &Environment) -> Result<(), Failure> {
    let root = environment.store_root(args.root)?;
    // The store need not be there yet: what counts is its file system.
    let store = root.ancestors().find(|path| path.is_dir());
    let store = store.unwrap_or(Path::new("/"));
    let found = sandbox::examine(store).map_err(|error| match error {
        DoctorError::Enter(error) => Failure::Enter(error),
        error => Failure::Io(error.to_string()),
    })?;
    let text = match args.format {
        Format::Text => text(&found),
        Format::Json => serde_json::to_string_pretty(&found)
            .map(|text| text + "\n")
            .map_err(|error| Failure::Io(error.to_string()))?,
    };
    render::result(&text)
}

/// What each rung is, in a line.
fn meaning(rung: Rung) -> &'static str {
    match rung {
        Rung::Overlay => "namespaces, overlays",
        Rung::Copied => "namespaces, copied trees: a RUN on a large base takes seconds",
        Rung::SingleId => {
            "namespaces with one id: owners are remembered, `USER` is a pretence, system calls that look at files take longer"
        }
        Rung::Chroot => {
            "chroot, no namespaces: no /proc, no --network=none, signals reach other processes, no filter but the container's"
        }
        Rung::None => "no RUN; all else works",
        _ => "",
    }
}

fn text(found: &Diagnosis) -> String {
    let Diagnosis {
        rung,
        reason,
        others,
        missed,
    } = found;
    let mut text = format!(
        "steps are run by: {rung} ({})\n  {reason}\n",
        meaning(*rung)
    );
    for missed in missed {
        let _ = writeln!(
            text,
            "not to be had: {} ({})",
            missed.rung,
            meaning(missed.rung)
        );
        let _ = writeln!(text, "  {}", missed.why);
        if let Some(allow) = &missed.allow {
            let _ = writeln!(text, "  to allow it: {allow}");
        }
    }
    for rung in others {
        let _ = writeln!(text, "on request: --isolation={rung} ({})", meaning(*rung));
    }
    text
}
