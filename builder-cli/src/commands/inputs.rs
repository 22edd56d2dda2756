//! From flags and environment to a request: what `build` and `plan` have in common.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder_core::image::Platform;
use builder_core::plan::NetworkMode;
use builder_core::registry::{AuthFiles, ClientOptions, Registries};
use builder_core::source::without_credentials as plain;
use builder_core::{Build, Context, NamedSource};

use crate::args::{Inputs, Network};
use crate::environment::Environment;
use crate::exit::Failure;

/// What messages call a Dockerfile from standard input.
pub(super) const STDIN: &str = "<stdin>";

/// Makes the request; nothing is built, fetched or entered yet.
pub(super) fn request(inputs: Inputs, environment: &Environment) -> Result<Build, Failure> {
    let root = environment.store_root(inputs.root)?;
    let context_is_stdin = inputs.context.as_os_str() == "-";
    let mut build = Build::new(context(&inputs.context)?).store(root);
    build = match inputs.file {
        Some(file) if context_is_stdin && file.as_os_str() == "-" => {
            return Err(Failure::usage(
                "standard input cannot be both the context and the Dockerfile: \
                 give `-f -` or the context `-`, not both",
            ));
        }
        Some(file) if file.as_os_str() == "-" => build.dockerfile_text(STDIN, standard_input()?),
        Some(file) => build.dockerfile(file),
        None => build,
    };
    // Scripts pass an empty one for the last stage.
    if let Some(target) = inputs.target.filter(|it| !it.is_empty()) {
        build = build.target(target);
    }
    for text in &inputs.build_arg {
        if let Some((name, value)) = build_arg(text, environment)? {
            build = build.build_arg(name, value);
        }
    }
    for text in &inputs.label {
        // A label without a value is an empty one, as in Docker.
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Failure::usage(format!("--label {text}: the name is empty")));
        }
        build = build.label(name, value);
    }
    for text in &inputs.build_context {
        let (name, source) = build_context(text)?;
        build = build.build_context(name, source);
    }
    if !inputs.platform.is_empty() {
        build = build.platforms(platforms(&inputs.platform)?);
    }
    if let Some(seconds) = environment.source_date_epoch()? {
        build = build.source_date_epoch(seconds);
    }
    let client = registries(
        inputs.registries_conf,
        inputs.authfile,
        inputs.certs_dir,
        environment,
    )?;
    Ok(build
        .network(match inputs.network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        })
        .registries(client))
}

/// Says how registries are spoken to.
pub(super) fn registries(
    conf: Option<PathBuf>,
    authfile: Option<PathBuf>,
    certs_dir: Option<PathBuf>,
    environment: &Environment,
) -> Result<ClientOptions, Failure> {
    let wrong = |error: builder_core::registry::RegistryError| Failure::usage(error.to_string());
    let registries = environment.registries_files(conf)?;
    let auth_files = environment.auth_files(authfile)?;
    let credentials = AuthFiles::load(&auth_files).map_err(wrong)?;
    let mut certificates = environment.certificate_dirs();
    if let Some(dir) = certs_dir {
        certificates.given = Some(directory("--certs-dir", dir)?);
    }
    Ok(ClientOptions {
        registries: Registries::load(&registries).map_err(wrong)?,
        credentials: Arc::new(credentials.helpers(environment.program_dirs())),
        ca_certificates: environment.ca_certificates(),
        certificates,
        proxies: environment.proxies(),
        ..ClientOptions::default()
    })
}

/// Refuses a directory that is not there.
pub(super) fn directory(flag: &str, dir: PathBuf) -> Result<PathBuf, Failure> {
    match dir.is_dir() {
        true => Ok(dir),
        false => {
            let dir = dir.display();
            Err(Failure::usage(format!("{flag} {dir}: no such directory")))
        }
    }
}

pub(super) fn context(path: &Path) -> Result<Context, Failure> {
    let text = path.to_string_lossy();
    if text == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "the context `-` is read from standard input, which is a terminal: \
                 pipe a tar or a Dockerfile in, or give a directory",
            ));
        }
        return Ok(Context::stream(std::io::stdin()));
    }
    let elsewhere = |text: &str| {
        Context::named(text)
            .map_err(|error| Failure::usage(format!("the context {}: {error}", plain(text))))
    };
    if let Some(url) = local_repository(&text) {
        return elsewhere(&url);
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(Context::dir(path)),
        Ok(metadata) if metadata.is_file() => Ok(Context::Archive(path.to_owned())),
        Ok(_) => Err(Failure::usage(format!(
            "the context {text} is neither a directory nor a tar"
        ))),
        Err(error) => match elsewhere(&text)? {
            Context::Dir(_) if text.contains("://") => Err(Failure::usage(format!(
                "the context {}: a directory, a tar, `-`, https://, git://, ssh:// or file:// is expected",
                plain(&text)
            ))),
            Context::Dir(_) => Err(Failure::usage(format!("the context {text}: {error}"))),
            there => Ok(there),
        },
    }
}

/// Returns the address of a bare repository, or of a `.git`, that is named by its path.
fn local_repository(text: &str) -> Option<String> {
    let (path, rest) = match text.find('#') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let directory = Path::new(path);
    if !path.ends_with(".git") || !directory.join("HEAD").is_file() {
        return None;
    }
    let whole = directory.canonicalize().ok()?;
    Some(format!("file://{}{rest}", whole.display()))
}

pub(super) fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Io(format!(
            "cannot read the Dockerfile from standard input: {error}"
        ))),
    }
}

/// Reads `K=V`, or `K` with the environment's value; `None` where that has none.
pub(super) fn build_arg(
    text: &str,
    environment: &Environment,
) -> Result<Option<(String, String)>, Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, environment.text(text)?),
    };
    if name.is_empty() {
        return Err(Failure::usage(format!(
            "--build-arg {text}: the name is empty"
        )));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

fn build_context(text: &str) -> Result<(String, NamedSource), Failure> {
    let wrong = |why: String| {
        let shown = text.split_once('=').map(|(name, _)| name).unwrap_or(text);
        Failure::usage(format!("--build-context {shown}: {why}"))
    };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
        _ => return Err(wrong("NAME=VALUE is expected".to_owned())),
    };
    let local = local_repository(value);
    let source = local
        .as_deref()
        .unwrap_or(value)
        .parse::<NamedSource>()
        .map_err(|error| wrong(error.to_string()))?;
    let missing = match &source {
        NamedSource::Dir(path) if path.is_file() => {
            return Ok((name.to_owned(), NamedSource::Archive(path.clone())));
        }
        NamedSource::Dir(path) if !path.is_dir() => Some(("directory", path)),
        NamedSource::Layout { path, .. } if !path.exists() => Some(("layout", path)),
        _ => None,
    };
    match missing {
        Some((what, path)) => Err(wrong(format!("there is no {what} {}", path.display()))),
        None => Ok((name.to_owned(), source)),
    }
}

/// Reads a list; `local` is this machine's platform.
fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let parts = texts.iter().flat_map(|text| text.split(','));
    let parse = |text: &str| match text.trim() {
        "local" => Ok(Platform::host()),
        text => Platform::parse(text, &Platform::host())
            .map_err(|error| Failure::usage(format!("--platform {text}: {error}"))),
    };
    parts.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_args() {
        // cargo sets it for its tests
        let environment = Environment::read();
        let version = env!("CARGO_PKG_VERSION");
        for (text, expected) in [
            ("A=1", Some(Some(("A", "1")))),
            ("A=", Some(Some(("A", "")))),
            ("A=b=c", Some(Some(("A", "b=c")))),
            (
                "CARGO_PKG_VERSION",
                Some(Some(("CARGO_PKG_VERSION", version))),
            ),
            ("SURELY_NOT_SET_ANYWHERE", Some(None)),
            ("=1", None),
            ("", None),
        ] {
            let expected = expected.map(|it| it.map(|(k, v)| (k.to_owned(), v.to_owned())));
            assert_eq!(build_arg(text, &environment).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for (result, expected) in [
            (
                context(Path::new("https://u:p@a/b.git#--x")).map(drop),
                "https://a/b.git#--x",
            ),
            (context(Path::new("s3://a/b")).map(drop), "s3://a/b"),
            (
                context(Path::new("/no/such/place")).map(drop),
                "/no/such/place",
            ),
            (
                context(Path::new("/dev/null")).map(drop),
                "neither a directory",
            ),
            (
                platforms(&["linux/amd64,a/b/c/d".to_owned()]).map(drop),
                "a/b/c/d",
            ),
            (build_context("a").map(drop), "NAME=VALUE"),
            (
                build_context("a=/no/such/place").map(drop),
                "/no/such/place",
            ),
            (build_context("a=s3://b").map(drop), "s3://"),
        ] {
            match result {
                Err(Failure::Usage(message)) => assert!(message.contains(expected), "{message}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
