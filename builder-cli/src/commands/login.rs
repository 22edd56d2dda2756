//! `builder login`: asks the registry first, and keeps what it takes.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::Arc;

use builder_core::images::ImagesError;
use builder_core::registry::{
    Client, ClientOptions, Credential, GivenCredential, Kept, LoginFile, NoCredentials,
};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::store::options;
use crate::args::images::{LoginArgs, RegistryArgs};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

const MAX_PASSWORD_BYTES: u64 = 64 << 10;

pub(super) fn run(args: LoginArgs, environment: &Environment) -> Result<(), Failure> {
    let key = key(args.server.as_deref())?;
    let host = key.split('/').next().unwrap_or(&key).to_owned();
    let file = environment.login_file(args.registry.authfile.clone())?;
    let username = match &args.username {
        Some(username) if !username.is_empty() => username.clone(),
        _ if args.password_stdin => {
            return Err(Failure::usage("--password-stdin needs --username"));
        }
        _ => ask("Username: ")?,
    };
    let password = match &args.password {
        Some(password) => {
            render::note(
                "WARN: a password on the command line can be seen by others: use --password-stdin\n",
            );
            password.clone()
        }
        None if args.password_stdin => read_password()?,
        None => ask_unseen("Password: ")?,
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    // The file that is written need not be there yet.
    let registry = RegistryArgs {
        authfile: args.registry.authfile.filter(|it| it.exists()),
        ..args.registry
    };
    let options = ClientOptions {
        credentials: Arc::new(GivenCredential {
            host: host.clone(),
            credential: Credential::of(&username, &password),
            others: Arc::new(NoCredentials),
        }),
        ..options(registry, None, environment)?
    };
    let client = Client::new(options);
    super::runtime()?
        .block_on(client.check_login(&host))
        .map_err(ImagesError::from)?;
    let login = LoginFile::new(file, environment.program_dirs());
    let kept = login
        .keep(&key, &username, &password)
        .map_err(ImagesError::from)?;
    let place = match kept {
        Kept::File(path) => format!("{}, where it is not encrypted", path.display()),
        Kept::Helper(name) => format!("docker-credential-{name}"),
        _ => String::new(),
    };
    render::note(&format!("the password for {key} is kept in {place}\n"));
    render::result("Login Succeeded\n")
}

/// Reads a registry as people write it (`https://a.io/`, `a.io`), or one with names below it (`a.io/team`), as Podman has them.
pub(super) fn key(server: Option<&str>) -> Result<String, Failure> {
    let text = server.unwrap_or("docker.io");
    let address = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let bare = address.unwrap_or(text).trim_end_matches('/');
    let (host, path) = match bare.split_once('/') {
        // Behind an address stands what the registry has there.
        Some((host, path)) if address.is_none() && !matches!(path, "v1" | "v2") => {
            (host, Some(path))
        }
        Some((host, _)) => (host, None),
        None => (bare, None),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    let key = match path {
        Some(path) => format!("{host}/{path}"),
        None => host.to_owned(),
    };
    let reference = format!("{key}/name").parse::<builder_core::image::Reference>();
    match reference {
        Ok(reference) if reference.domain() == host => Ok(key),
        _ => Err(Failure::usage(format!(
            "`{text}` is not a registry: HOST or HOST:PORT is expected, and may have names below it (HOST/NAME)"
        ))),
    }
}

fn read_password() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text);
    read.map_err(|error| Failure::Io(format!("cannot read the password: {error}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn ask(what: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(
            "standard input is no terminal to ask at: give --username and --password-stdin",
        ));
    }
    render::note(what);
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    read.map_err(|error| Failure::Io(format!("cannot read from the terminal: {error}")))?;
    Ok(line.trim().to_owned())
}

/// Asks while the terminal does not show what is typed.
fn ask_unseen(what: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let failed = |error| Failure::Io(format!("cannot set the terminal up: {error}"));
    if !stdin.is_terminal() {
        return ask(what);
    }
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut unseen = before.clone();
    unseen.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &unseen).map_err(failed)?;
    let typed = ask(what);
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(failed)?;
    render::note("\n");
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_read() {
        for (text, expected) in [
            (None, Some("docker.io")),
            (Some("https://index.docker.io/v1/"), Some("docker.io")),
            (Some("localhost:5000"), Some("localhost:5000")),
            (Some("https://a.io/"), Some("a.io")),
            (Some("https://a.io/v2/"), Some("a.io")),
            (Some("a.io/v2/"), Some("a.io")),
            (Some("a.io/team"), Some("a.io/team")),
            (
                Some("localhost:5000/team/app/"),
                Some("localhost:5000/team/app"),
            ),
            (Some("a.io/Team"), None),
            (Some("a.io//team"), None),
            (Some("app"), None),
            (Some("a b"), None),
            (Some(""), None),
        ] {
            assert_eq!(key(text).ok().as_deref(), expected, "{text:?}");
        }
    }
}
