//! `builder check`: what is questionable in a Dockerfile, without a base image; and `builder build --check`, with them.

use std::path::PathBuf;

use builder_core::build::Checked;
use builder_core::dockerfile::lint::{Names, Settings};
use builder_core::{Build, Context, plan};

use super::inputs::{self, STDIN, standard_input};
use crate::args::{CheckArgs, Format, Report};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render::{self, call, checks};

pub(super) fn run(args: CheckArgs, environment: &Environment) -> Result<(), Failure> {
    if args.rules {
        return render::result(&checks::rules());
    }
    let settings = Settings {
        skip: names(&args.skip)?,
        experimental: names(&args.enable)?,
        error: false,
    };
    let context = inputs::context(&args.context)?;
    if !matches!(context, Context::Dir(_)) {
        return Err(Failure::usage(
            "check reads a directory: for a context from elsewhere use `builder build --check`",
        ));
    }
    let mut build = Build::new(context);
    let mut path = None;
    build = match args.file {
        Some(file) if file.as_os_str() == "-" => build.dockerfile_text(STDIN, standard_input()?),
        Some(file) => {
            path = Some(file.clone());
            build.dockerfile(file)
        }
        None => build,
    };
    for text in &args.build_arg {
        if let Some((name, value)) = inputs::build_arg(text, environment)? {
            build = build.build_arg(name, value);
        }
    }
    let mut checked = build.check(&settings)?;
    if args.fix && checked.fixed != checked.text {
        if checked.file == STDIN {
            return Err(Failure::usage("--fix needs a file to write to"));
        }
        let path = path.unwrap_or_else(|| PathBuf::from(&checked.file));
        std::fs::write(&path, &checked.fixed)
            .map_err(|error| Failure::Io(format!("cannot write {}: {error}", path.display())))?;
        checked = build.check(&settings)?;
    }
    render::result(&checks::report(&checked, args.format))?;
    end(&checked)
}

/// `builder build --check`.
pub(super) fn with_bases(build: &Build, format: Format) -> Result<(), Failure> {
    let settings = Settings::default();
    let checked = super::runtime()?.block_on(build.check_with_bases(&settings))?;
    render::result(&match format {
        Format::Text => checks::report(&checked, Report::Text),
        Format::Json => call::check_json(&checked),
    })?;
    end(&checked)
}

fn end(checked: &Checked) -> Result<(), Failure> {
    match (&checked.error, checked.findings.is_empty()) {
        (Some(_), _) => Err(Failure::Unreadable),
        (None, false) => Err(Failure::Remarks),
        (None, true) => Ok(()),
    }
}

/// Reads rule names; `all` is all of them.
fn names(given: &[String]) -> Result<Names, Failure> {
    let mut out = Names::default();
    for name in given.iter().map(|name| name.trim()) {
        match name {
            "all" => out.all = true,
            name if plan::lint::rules().any(|rule| rule.name.eq_ignore_ascii_case(name)) => {
                out.some.insert(name.to_owned());
            }
            name => {
                return Err(Failure::usage(format!(
                    "there is no rule `{name}`: `builder check --rules` lists them"
                )));
            }
        }
    }
    Ok(out)
}
