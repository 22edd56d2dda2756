//! `builder logs`: what the steps of the last build wrote.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use builder_core::build::{StepLog, StepState, last_logs};
use serde_json::json;

use crate::args::Format;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Only this step: its number, as `--progress=plain` has it, or a part of its name
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// `json` is an object a step
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where everything is kept, as for `build`
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(super) fn run(args: LogsArgs, environment: &Environment) -> Result<(), Failure> {
    let root = environment.store_root(args.root)?;
    let logs = last_logs(&root)
        .map_err(|error| {
            Failure::Io(format!(
                "cannot read the logs in {}: {error}",
                root.display()
            ))
        })?
        .ok_or_else(|| Failure::Io(format!("there was no build yet in {}", root.display())))?;
    let chosen = match &args.step {
        None => logs,
        Some(step) => chosen(logs, step)?,
    };
    let alone = args.step.is_some() && chosen.len() == 1;
    let mut out = Vec::new();
    for log in &chosen {
        match args.format {
            Format::Json => {
                let _ = writeln!(out, "{}", object(log));
            }
            Format::Text if alone => out.extend(output(log)),
            Format::Text => text(log, &mut out),
        }
    }
    match std::io::stdout().is_terminal() {
        true => render::result_bytes(render::for_terminal(&out).as_bytes()),
        false => render::result_bytes(&out),
    }
}

fn chosen(logs: Vec<StepLog>, step: &str) -> Result<Vec<StepLog>, Failure> {
    let number = step.trim_start_matches('#').parse::<u32>();
    let is = |log: &StepLog| match number {
        Ok(number) => log.id.0 == number,
        Err(_) => log.name.contains(step),
    };
    let found: Vec<StepLog> = logs.into_iter().filter(is).collect();
    match found.is_empty() {
        true => Err(Failure::usage(format!(
            "no step of the last build is `{step}`: `builder logs` lists them"
        ))),
        false => Ok(found),
    }
}

fn output(log: &StepLog) -> Vec<u8> {
    log.output
        .iter()
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect()
}

fn text(log: &StepLog, out: &mut Vec<u8>) {
    let took = log
        .took
        .map_or(String::new(), |it| format!(" {:.1}s", it.as_secs_f64()));
    let state = log.state.word().to_uppercase();
    let _ = writeln!(
        out,
        "#{} {} {state}{took}",
        log.id.0,
        render::one_line(&log.name)
    );
    let bytes = output(log);
    out.extend(&bytes);
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        out.push(b'\n');
    }
    if let StepState::Failed(error) = &log.state {
        let _ = writeln!(out, "#{} ERROR: {}", log.id.0, render::one_line(error));
    }
}

fn object(log: &StepLog) -> serde_json::Value {
    let output: Vec<_> = log
        .output
        .iter()
        .map(|(stream, bytes)| json!({ "stream": stream, "text": String::from_utf8_lossy(bytes) }))
        .collect();
    json!({
        "step": log.id.0,
        "name": log.name,
        "line": log.line,
        "state": log.state.word(),
        "seconds": log.took.map(|it| it.as_secs_f64()),
        "error": match &log.state {
            StepState::Failed(error) => Some(error),
            _ => None,
        },
        "output": output,
    })
}
