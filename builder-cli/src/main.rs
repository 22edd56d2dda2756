//! The `builder` command. It translates: arguments and environment into a request to `builder-core`, events and
//! errors into text and an exit code. What a build means is decided there, not here.
//!
//! | File          | Its question                                                        |
//! |---------------|---------------------------------------------------------------------|
//! | `args`        | what may be written on the command line?                            |
//! | `environment` | what do variables and the user's folders say? (the only reader)     |
//! | `attest`, `caches`, `fields`, `outputs`, `quantities`, `secrets`, `ssh`, `step_flags`, `template` | what do the small languages of flags mean? |
//! | `commands`    | what does each command do?                                          |
//! | `render`      | how does it look? (the only place that prints)                      |
//! | `exit`        | with which code does it end?                                        |

mod args;
mod attest;
mod caches;
mod commands;
mod environment;
mod exit;
mod fields;
mod outputs;
mod quantities;
mod render;
mod secrets;
mod ssh;
mod step_flags;
mod template;

use std::process::ExitCode;

use environment::Environment;

fn main() -> ExitCode {
    // Steps are run by this program, started again: nothing may come before this.
    builder_core::sandbox::init_if_child();
    let mut environment = Environment::read();
    let result = args::parse().and_then(|mut cli| {
        environment.set_root(cli.root.take());
        commands::run(cli, &environment)
    });
    exit::end(result, &environment)
}
