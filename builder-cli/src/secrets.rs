//! What `--secret` gives: the value is read now, so that a step never waits for one that cannot be had.

use crate::environment::Environment;
use crate::exit::Failure;
use crate::fields;

/// Where a secret's value is.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(String),
    Variable(String),
    /// A variable of the id's name, else a file of that name, as buildx has it.
    Named,
}

/// Reads `id=…,src=…|env=…|type=…` and then the value.
pub(crate) fn read(text: &str, environment: &Environment) -> Result<(String, Vec<u8>), Failure> {
    let (id, source) = parse(text)?;
    let file = |path: &str| {
        std::fs::read(path).map_err(|error| {
            Failure::usage(format!("--secret id={id}: cannot read {path}: {error}"))
        })
    };
    let value = match source {
        Source::File(path) => file(&path)?,
        Source::Variable(name) => environment.bytes(&name).ok_or_else(|| {
            Failure::usage(format!("--secret id={id}: the environment has no `{name}`"))
        })?,
        Source::Named => match environment.bytes(&id) {
            Some(value) => value,
            None => file(&id)?,
        },
    };
    Ok((id, value))
}

fn parse(text: &str) -> Result<(String, Source), Failure> {
    let wrong = |why: String| Failure::usage(format!("--secret {text}: {why}"));
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for (key, value) in fields::pairs("--secret", text)? {
        match key.as_str() {
            "id" => id = Some(value),
            "type" => kind = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            _ => return Err(wrong(format!("unknown key `{key}`"))),
        }
    }
    let id = id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| wrong("id=… is missing".to_owned()))?;
    let source = match (kind.as_deref(), file, variable) {
        (_, Some(_), Some(_)) => return Err(wrong("src and env are both given".to_owned())),
        (None | Some("file"), Some(path), None) => Source::File(path),
        // With type=env, src is another word for env.
        (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => {
            Source::Variable(name)
        }
        (None, None, None) => Source::Named,
        (Some("file"), None, None) => Source::File(id.clone()),
        (Some("env"), None, None) => Source::Variable(id.clone()),
        (Some("file"), None, Some(_)) => {
            return Err(wrong("env does not go with type=file".to_owned()));
        }
        (Some(other), _, _) => {
            return Err(wrong(format!(
                "unknown type `{other}`: file or env is expected"
            )));
        }
    };
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let file = |path: &str| Ok(Source::File(path.to_owned()));
        let variable = |name: &str| Ok(Source::Variable(name.to_owned()));
        for (text, expected) in [
            ("id=a,src=f", file("f")),
            ("id=a,source=f", file("f")),
            ("type=file,id=a,src=f", file("f")),
            ("id=a,env=V", variable("V")),
            ("id=a,type=env,env=V", variable("V")),
            ("id=a,type=env,src=V", variable("V")),
            ("id=a", Ok(Source::Named)),
            ("id=a,type=file", file("a")),
            ("id=a,type=env", variable("a")),
            ("src=f", Err("id=")),
            ("id=,src=f", Err("id=")),
            ("id=a,src=f,env=V", Err("both")),
            ("id=a,type=file,env=V", Err("type=file")),
            ("id=a,type=vault,src=f", Err("unknown type `vault`")),
            ("id=a,mode=0400", Err("unknown key `mode`")),
            ("a", Err("KEY=VALUE")),
        ] {
            match (parse(text), expected) {
                (Ok((id, source)), expected) => {
                    assert_eq!((id.as_str(), Ok(source)), ("a", expected), "{text}");
                }
                (Err(Failure::Usage(message)), Err(part)) => {
                    assert!(message.contains(part), "{text}: {message}");
                }
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
