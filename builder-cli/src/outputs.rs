//! What `-o` asks for.
//!
//! | type   | what is written                        | compression        |
//! |--------|----------------------------------------|--------------------|
//! | oci    | OCI layout, a tar or (`tar=false`) a directory | gzip, level 6 |
//! | docker | an archive for `docker load`           | none               |
//! | tar    | the files of the image, as a tar       |                    |
//! | local  | the files of the image, in a directory |                    |
//! | registry | nothing here: the image is pushed, under `name` or the build's names | gzip, level 6 |
//! | image  | the same with `push=true`              |                    |
//!
//! `-o DIR` alone is `type=local,dest=DIR`. Nothing unknown is passed over.

use std::path::PathBuf;

use builder_core::Output;
use builder_core::layer::compression::Compression;

use crate::exit::Failure;
use crate::fields;

/// Reads the value of one `--output`.
pub(crate) fn parse(text: &str) -> Result<Output, Failure> {
    let wrong = |why: String| Failure::usage(format!("--output {text}: {why}"));
    if let Ok([alone]) = fields::split(text).as_deref()
        && !alone.starts_with("type=")
    {
        return match alone.as_str() {
            "" => Err(wrong("a directory or type=… is expected".to_owned())),
            "-" => Err(wrong(STDOUT.to_owned())),
            dest => Ok(Output::Local { dest: dest.into() }),
        };
    }
    let (mut kind, mut dest, mut tar) = (None, None, true);
    let (mut codec, mut level) = (None, None);
    let (mut names, mut push) = (Vec::new(), None);
    for (key, value) in fields::pairs("--output", text)? {
        match key.as_str() {
            "type" => kind = Some(value),
            "dest" => dest = Some(value),
            "tar" => {
                tar = boolean(&value)
                    .ok_or_else(|| wrong(format!("tar=`{value}` is neither true nor false")))?;
            }
            "compression" => codec = Some(value),
            "compression-level" => {
                let number = value.parse::<u8>().map_err(|_| {
                    wrong(format!("compression-level=`{value}` is not a small number"))
                })?;
                level = Some(number);
            }
            "name" => {
                for name in value.split(',').map(str::trim) {
                    names.push(name.parse().map_err(|error| wrong(format!("{error}")))?);
                }
            }
            "push" => {
                push =
                    Some(boolean(&value).ok_or_else(|| {
                        wrong(format!("push=`{value}` is neither true nor false"))
                    })?);
            }
            _ => return Err(wrong(format!("unknown key `{key}`"))),
        }
    }
    let kind = kind.ok_or_else(|| wrong("type=oci, docker, local or tar is missing".to_owned()))?;
    match kind.as_str() {
        "oci" | "docker" | "local" | "tar" => {}
        "image" if push != Some(true) => {
            let why = "type=image without push=true is not needed: the image is kept in the store, name it with -t";
            return Err(wrong(why.to_owned()));
        }
        "registry" | "image" => {
            if push == Some(false) || dest.is_some() || !tar {
                return Err(wrong(format!(
                    "type={kind} is pushed, and takes neither push=false, dest nor tar"
                )));
            }
            let compression =
                compression(codec.as_deref().unwrap_or("gzip"), level).map_err(&wrong)?;
            return Ok(Output::Registry { names, compression });
        }
        other => {
            return Err(wrong(format!(
                "unknown type `{other}`: oci, docker, local, tar, registry or image is expected"
            )));
        }
    }
    if !names.is_empty() {
        return Err(wrong(format!("type={kind} takes no `name`: use -t NAME")));
    }
    if push == Some(true) {
        return Err(wrong(format!(
            "type={kind} is not pushed: use type=registry, or --push"
        )));
    }
    let dest = match dest.as_deref() {
        None | Some("") if kind == "docker" => {
            let why = "type=docker needs dest=FILE, there is no daemon to load into; \
                       then `docker load -i FILE`";
            return Err(wrong(why.to_owned()));
        }
        None | Some("") => return Err(wrong(format!("type={kind} needs dest=PATH"))),
        Some("-") => return Err(wrong(STDOUT.to_owned())),
        Some(dest) => PathBuf::from(dest),
    };
    if !tar && kind != "oci" {
        return Err(wrong(format!("tar=false is for type=oci, not type={kind}")));
    }
    if matches!(kind.as_str(), "local" | "tar") {
        if codec.is_some() || level.is_some() {
            return Err(wrong(format!("type={kind} is not compressed")));
        }
        return Ok(match kind.as_str() {
            "local" => Output::Local { dest },
            _ => Output::Tar { dest },
        });
    }
    let default = if kind == "oci" {
        "gzip"
    } else {
        "uncompressed"
    };
    let compression = compression(codec.as_deref().unwrap_or(default), level).map_err(&wrong)?;
    match (kind.as_str(), tar) {
        ("docker", _) if matches!(compression, Compression::Zstd(_)) => Err(wrong(
            "`docker load` takes no zstd: use gzip or uncompressed".to_owned(),
        )),
        ("docker", _) => Ok(Output::DockerArchive { dest, compression }),
        (_, true) => Ok(Output::OciArchive { dest, compression }),
        (_, false) => Ok(Output::OciDirectory { dest, compression }),
    }
}

/// What `--push` stands for.
pub(crate) fn registry() -> Output {
    Output::Registry {
        names: Vec::new(),
        compression: Compression::default(),
    }
}

const STDOUT: &str = "standard output as a destination is not supported yet: name a file";

fn compression(codec: &str, level: Option<u8>) -> Result<Compression, String> {
    let (made, range): (fn(u8) -> Compression, _) = match codec {
        "gzip" => (Compression::Gzip, (1, 6, 12)),
        "zstd" => (Compression::Zstd, (1, 3, 22)),
        "uncompressed" if level.is_some() => {
            return Err("compression-level is for gzip and zstd".to_owned());
        }
        "uncompressed" => return Ok(Compression::None),
        other => {
            return Err(format!(
                "unknown compression `{other}`: gzip, zstd or uncompressed is expected"
            ));
        }
    };
    let (lowest, default, highest) = range;
    let level = level.unwrap_or(default);
    if !(lowest..=highest).contains(&level) {
        return Err(format!(
            "compression-level={level} is not {lowest} to {highest}"
        ));
    }
    Ok(made(level))
}

/// As Go's `strconv.ParseBool`, which Docker reads it with.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let dest = || PathBuf::from("x");
        let archive = |compression| Output::OciArchive {
            dest: dest(),
            compression,
        };
        for (text, expected) in [
            ("x", Output::Local { dest: dest() }),
            ("type=local,dest=x", Output::Local { dest: dest() }),
            ("type=tar,dest=x", Output::Tar { dest: dest() }),
            ("type=oci,dest=x", archive(Compression::Gzip(6))),
            ("dest=x,TYPE=oci,tar=1", archive(Compression::Gzip(6))),
            (
                "type=oci,dest=x,compression=zstd,compression-level=9",
                archive(Compression::Zstd(9)),
            ),
            (
                "type=oci,dest=x,compression=uncompressed",
                archive(Compression::None),
            ),
            (
                "type=oci,dest=x,compression-level=1",
                archive(Compression::Gzip(1)),
            ),
            (
                "type=oci,\"dest=x,y\",tar=false",
                Output::OciDirectory {
                    dest: "x,y".into(),
                    compression: Compression::Gzip(6),
                },
            ),
            ("type=registry", registry()),
            (
                "type=image,\"name=a.io/b:1,c\",push=true,compression=zstd",
                Output::Registry {
                    names: vec![
                        "a.io/b:1".parse().expect("name"),
                        "c".parse().expect("name"),
                    ],
                    compression: Compression::Zstd(3),
                },
            ),
            (
                "type=docker,dest=x",
                Output::DockerArchive {
                    dest: dest(),
                    compression: Compression::None,
                },
            ),
        ] {
            match parse(text) {
                Ok(output) => assert_eq!(output, expected, "{text}"),
                Err(failure) => panic!("{text}: {failure:?}"),
            }
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for (text, expected) in [
            ("", "a directory"),
            ("-", "standard output"),
            ("type=tar,dest=-", "standard output"),
            ("type=oci", "needs dest"),
            ("dest=a,tar=true", "is missing"),
            ("type=docker", "docker load"),
            ("type=registry,dest=x", "neither push=false, dest"),
            ("type=registry,push=false", "neither push=false, dest"),
            ("type=registry,name=A", "lower-case"),
            ("type=oci,dest=x,push=true", "type=registry"),
            ("type=oci,dest=x,name=a", "-t NAME"),
            ("type=image,push=maybe", "neither true nor false"),
            ("type=image", "-t"),
            ("type=vhd,dest=x", "unknown type `vhd`"),
            ("type=oci,dest=x,colour=red", "unknown key `colour`"),
            ("type=oci,dest=x,tar=maybe", "neither true nor false"),
            ("type=oci,dest=x,compression=xz", "unknown compression `xz`"),
            ("type=oci,dest=x,compression-level=13", "1 to 12"),
            (
                "type=oci,dest=x,compression=uncompressed,compression-level=1",
                "for gzip and zstd",
            ),
            ("type=docker,dest=x,compression=zstd", "no zstd"),
            ("type=docker,dest=x,tar=false", "for type=oci"),
            ("type=local,dest=x,compression=gzip", "not compressed"),
            ("type=oci,dest", "KEY=VALUE"),
        ] {
            match parse(text) {
                Err(Failure::Usage(message)) => {
                    assert!(message.contains(expected), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
