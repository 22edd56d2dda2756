//! `builder logout`: forgets credentials, wherever they are kept.

use builder_core::images::ImagesError;
use builder_core::registry::LoginFile;

use super::login::{files, host};
use crate::args::images::LogoutArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: &LogoutArgs, environment: &Environment) -> Result<(), Failure> {
    let files: Vec<LoginFile> = files(args.authfile.clone(), environment)?
        .into_iter()
        .map(|path| LoginFile::new(path, environment.program_dirs()))
        .collect();
    let hosts = match args.all {
        false => vec![host(args.server.as_deref())?],
        true => {
            let mut hosts = Vec::new();
            for file in &files {
                hosts.extend(file.hosts().map_err(ImagesError::from)?);
            }
            hosts.sort();
            hosts.dedup();
            hosts
        }
    };
    let mut text = String::new();
    for host in &hosts {
        let mut kept = false;
        for file in &files {
            kept |= file.forget(host).map_err(ImagesError::from)?.is_some();
        }
        text += &match kept {
            true => format!("Removing login credentials for {host}\n"),
            false => format!("Not logged in to {host}\n"),
        };
    }
    render::result(&text)
}
