//! One file a command; `inputs` is what those for Dockerfiles share, `store` what those for images do.

mod build;
mod call;
mod check;
mod copy;
mod debug;
mod doctor;
mod explain;
mod history;
mod images;
mod inputs;
mod inspect;
mod load;
mod login;
mod logout;
mod logs;
mod plan;
mod prune;
mod pull;
mod push;
mod rmi;
mod save;
mod store;
mod tag;

pub(crate) use debug::DebugArgs;
pub(crate) use logs::LogsArgs;
pub(crate) use prune::{DuArgs, PruneArgs};

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
        Command::Pull(args) => pull::run(args, environment),
        Command::Push(args) => push::run(args, environment),
        Command::Tag(args) => tag::run(args, environment),
        Command::Images(args) => images::run(args, environment),
        Command::Rmi(args) => rmi::run(args, environment),
        Command::Inspect(args) => inspect::run(args, environment),
        Command::History(args) => history::run(args, environment),
        Command::Save(args) => save::run(args, environment),
        Command::Load(args) => load::run(args, environment),
        Command::Login(args) => login::run(args, environment),
        Command::Logout(args) => logout::run(&args, environment),
        Command::Copy(args) => copy::run(args, environment),
        Command::Debug(args) => debug::run(args, environment),
        Command::Logs(args) => logs::run(args, environment),
        Command::Du(args) => prune::du(args, environment),
        Command::Prune(args) => prune::prune(args, environment),
        Command::Doctor(args) => doctor::run(args, environment),
    }
}

/// What takes processor time has threads of its own: these only wait for the network, and for others.
const WAITING_THREADS: usize = 4;

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WAITING_THREADS))
        .enable_all()
        .build()
        .map_err(|error| Failure::Io(format!("cannot start threads: {error}")))
}
