//! `builder logout`: forgets credentials where `login` keeps them.
//!
//! What other tools keep in files of theirs, or with a helper that those name, is theirs to forget: it is told of.

use builder_core::images::ImagesError;
use builder_core::registry::LoginFile;

use super::login::key;
use crate::args::images::LogoutArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: &LogoutArgs, environment: &Environment) -> Result<(), Failure> {
    let own = environment.login_file(args.authfile.clone())?;
    let mut others = match args.authfile {
        Some(_) => Vec::new(),
        None => environment.auth_files(None)?,
    };
    others.retain(|it| *it != own);
    let file = LoginFile::new(own, environment.program_dirs());
    let keys = match args.all {
        false => vec![key(args.server.as_deref())?],
        true => {
            let mut keys = file.hosts().map_err(ImagesError::from)?;
            keys.sort();
            keys.dedup();
            keys
        }
    };
    let mut text = String::new();
    for key in &keys {
        let kept = file.forget(key).map_err(ImagesError::from)?.is_some();
        text += &match kept {
            true => format!("Removing login credentials for {key}\n"),
            false => format!("Not logged in to {key}\n"),
        };
        for path in &others {
            let elsewhere = LoginFile::new(path, environment.program_dirs());
            if elsewhere.hosts().map_err(ImagesError::from)?.contains(key) {
                render::note(&format!(
                    "{} has credentials for {key}, too: what wrote it forgets them (`docker logout`)\n",
                    path.display()
                ));
            }
        }
    }
    render::result(&text)
}
