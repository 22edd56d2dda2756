//! What `--ssh` gives: the socket of an agent, looked for now, so that a step never waits for one that is not there; or
//! keys, read now. A passphrase is asked for by nobody here: such keys are for `ssh-agent`.

use std::os::unix::fs::FileTypeExt;

use builder_core::solve::{SshKey, SshSource};

use crate::environment::Environment;
use crate::exit::Failure;

const VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads `ID`, `ID=SOCKET` or `ID=KEYFILE[,KEYFILE…]`.
pub(crate) fn read(text: &str, environment: &Environment) -> Result<(String, SshSource), Failure> {
    let wrong = |why: String| Failure::usage(format!("--ssh {text}: {why}"));
    let (id, mut paths) = parse(text).map_err(&wrong)?;
    let usual;
    if paths.is_empty() {
        usual = environment
            .text(VARIABLE)?
            .filter(|path| !path.is_empty())
            .ok_or_else(|| {
                wrong(format!(
                    "{VARIABLE} is not set: start an agent (`eval $(ssh-agent); ssh-add`), or give --ssh {id}=SOCKET \
                     or --ssh {id}=KEYFILE"
                ))
            })?;
        paths.push(&usual);
    }
    let mut keys = Vec::new();
    for &path in &paths {
        let metadata = std::fs::metadata(path)
            .map_err(|error| wrong(format!("cannot look at {path}: {error}")))?;
        if !metadata.file_type().is_socket() {
            let key = SshKey::read(path).map_err(|error| {
                wrong(match error.for_an_agent() {
                    Some(_) => format!(
                        "{error}; start an agent for it, `eval $(ssh-agent); ssh-add {path}`, and give --ssh {id}"
                    ),
                    None => error.to_string(),
                })
            })?;
            keys.push(key);
        } else if paths.len() > 1 {
            return Err(wrong(format!(
                "{path} is the socket of an agent, which stands alone: one agent, or key files"
            )));
        } else {
            let path = std::path::absolute(path)
                .map_err(|error| wrong(format!("cannot find {path}: {error}")))?;
            return Ok((id.to_owned(), SshSource::Agent(path)));
        }
    }
    Ok((id.to_owned(), SshSource::Keys(keys)))
}

fn parse(text: &str) -> Result<(&str, Vec<&str>), String> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, Some(paths)),
        None => (text, None),
    };
    if id.is_empty() {
        return Err("`default`, ID, ID=SOCKET or ID=KEYFILE[,KEYFILE…] is expected".to_owned());
    }
    match paths {
        Some("") => Err("the socket or the key file after `=` is missing".to_owned()),
        Some(paths) if paths.split(',').any(str::is_empty) => {
            Err("a path between the commas is empty".to_owned())
        }
        paths => Ok((id, paths.into_iter().flat_map(|it| it.split(',')).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_and_keys() {
        for (text, expected) in [
            ("default", Ok(("default", vec![]))),
            ("git", Ok(("git", vec![]))),
            ("git=/run/a", Ok(("git", vec!["/run/a"]))),
            ("git=/run/a=b", Ok(("git", vec!["/run/a=b"]))),
            ("git=a,b", Ok(("git", vec!["a", "b"]))),
            ("", Err("expected")),
            ("=/run/a", Err("expected")),
            ("git=", Err("missing")),
            ("git=a,", Err("empty")),
        ] {
            match (parse(text), expected) {
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (parsed, expected) => assert_eq!(parsed.ok(), expected.ok(), "{text}"),
            }
        }
    }
}
