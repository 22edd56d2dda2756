//! What `--ssh` gives: the socket of an agent, looked for now, so that a step never waits for one that is not there.
//!
//! Key files are for an agent to read: it asks for a passphrase, and no key is ever in this process.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::exit::Failure;

const VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads `ID` or `ID=SOCKET`.
pub(crate) fn read(text: &str, environment: &Environment) -> Result<(String, PathBuf), Failure> {
    let wrong = |why: String| Failure::usage(format!("--ssh {text}: {why}"));
    let (id, path) = parse(text).map_err(&wrong)?;
    let path = match path {
        Some(path) => path.to_owned(),
        None => environment
            .text(VARIABLE)?
            .filter(|path| !path.is_empty())
            .ok_or_else(|| {
                wrong(format!(
                    "{VARIABLE} is not set: start an agent (`eval $(ssh-agent); ssh-add`), or give --ssh {id}=SOCKET"
                ))
            })?,
    };
    let metadata = std::fs::metadata(&path);
    let kind = metadata
        .map_err(|error| wrong(format!("cannot look at {path}: {error}")))?
        .file_type();
    if !kind.is_socket() {
        return Err(wrong(format!(
            "{path} is not the socket of an agent; for a key file start one, \
             `eval $(ssh-agent); ssh-add {path}`, and give --ssh {id}"
        )));
    }
    let path = std::path::absolute(&path)
        .map_err(|error| wrong(format!("cannot find {path}: {error}")))?;
    Ok((id.to_owned(), path))
}

fn parse(text: &str) -> Result<(&str, Option<&str>), String> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path)),
        None => (text, None),
    };
    if id.is_empty() {
        return Err("`default`, ID or ID=SOCKET is expected".to_owned());
    }
    match path {
        Some("") => Err("the socket after `=` is missing".to_owned()),
        Some(path) if path.contains(',') => Err(format!(
            "a list of key files is for an agent: `eval $(ssh-agent); ssh-add {}`, and give --ssh {id}",
            path.replace(',', " ")
        )),
        path => Ok((id, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents() {
        for (text, expected) in [
            ("default", Ok(("default", None))),
            ("git", Ok(("git", None))),
            ("git=/run/a", Ok(("git", Some("/run/a")))),
            ("git=/run/a=b", Ok(("git", Some("/run/a=b")))),
            ("", Err("expected")),
            ("=/run/a", Err("expected")),
            ("git=", Err("missing")),
            ("git=a,b", Err("ssh-add a b`, and give --ssh git")),
        ] {
            match (parse(text), expected) {
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (parsed, expected) => assert_eq!(parsed.ok(), expected.ok(), "{text}"),
            }
        }
    }
}
