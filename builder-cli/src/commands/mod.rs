//! One file a command; `inputs` is what they share.

mod build;
mod call;
mod check;
mod explain;
mod inputs;
mod plan;

use crate::args::{Cli, Command};
use crate::environment::Environment;
use crate::exit::Failure;

/// Does what the command line says.
pub(crate) fn run(cli: Cli, environment: &Environment) -> Result<(), Failure> {
    match cli.command {
        Command::Build(args) => build::run(*args, environment),
        Command::Plan(args) => plan::run(*args, environment),
        Command::Check(args) => check::run(args, environment),
        Command::Explain(args) => explain::run(args, environment),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Io(format!("cannot start threads: {error}")))
}
