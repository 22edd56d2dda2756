//! What `-o` asks for.
//!
//! | type   | what is written                                | compression   |
//! |--------|------------------------------------------------|---------------|
//! | image  | names in the store, which is there anyway; with `push=true` as registry |   |
//! | cacheonly | nothing                                     |               |
//! | registry | nothing here: the image is pushed, under `name` or the build's names | gzip, level 5 |
//! | oci    | OCI layout, a tar or (`tar=false`) a directory | gzip, level 5 |
//! | docker | an archive for `docker load`, or, without a    | none          |
//! |        | `dest`, the image into the engine itself       |               |
//! | tar    | the files of the image, as a tar               |               |
//! | local  | the files of the image, in a directory         |               |
//!
//! `-o DIR` alone is `type=local,dest=DIR`; `-o -` is `type=tar,dest=-`, which is standard output. Nothing unknown is
//! passed over.

use std::path::PathBuf;

use builder_core::Output;
use builder_core::build::{Annotation, Dest, Engine, ImageOptions, Sink, Split};
use builder_core::image::Reference;
use builder_core::layer::compression::{Compression, GZIP_LEVEL, ZSTD_LEVEL};

use crate::exit::Failure;
use crate::fields;

/// What an output may need of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Standard output is a terminal, which no archive is for.
    pub(crate) stdout_is_terminal: bool,
    /// Where the engine listens, or why that is not known.
    pub(crate) engine: Result<Engine, String>,
    /// All times are clamped.
    pub(crate) has_epoch: bool,
}

/// All that was given, before it is known to make sense.
#[derive(Debug, Default)]
struct Given {
    kind: Option<String>,
    dest: Option<String>,
    tar: Option<bool>,
    codec: Option<String>,
    level: Option<u8>,
    force: bool,
    names: Option<Vec<Reference>>,
    annotations: Vec<Annotation>,
    oci_types: Option<bool>,
    referrers: bool,
    push: Option<bool>,
    by_digest: bool,
    split: Option<bool>,
}

/// Keys of BuildKit's exporters that ask for what is always so here, or never: the value that is taken, and why no other.
const FIXED: &[(&str, &str, &str)] = &[
    (
        "mode",
        "copy",
        "what else is in the directory stays: remove it before the build",
    ),
    (
        "name-canonical",
        "true",
        "NAME@DIGEST always names an image here",
    ),
    (
        "prefer-nondist-layers",
        "false",
        "layers are all distributed",
    ),
    (
        "registry.insecure",
        "false",
        "mark the registry in registries.conf: [[registry]] location = \"HOST\" insecure = true",
    ),
    (
        "store",
        "true",
        "what is built is in the store: `prune` removes it, `--root` names another",
    ),
    (
        "unpack",
        "false",
        "layers are unpacked when a step must see them",
    ),
];

/// Keys of BuildKit's exporters that are refused, and what to do.
const REFUSED: &[(&str, &str)] = &[
    ("buildinfo", "use --metadata-file"),
    ("buildinfo-attrs", "use --metadata-file"),
    ("context", "DOCKER_HOST says where the engine is"),
    (
        "dangling-name-prefix",
        "an image without a name is kept by its digest: give name=",
    ),
];

/// Reads the value of one `--output`.
pub(crate) fn parse(text: &str, around: &Surroundings) -> Result<Output, Failure> {
    let wrong = |why: String| Failure::usage(format!("--output {text}: {why}"));
    if let Ok([alone]) = fields::split(text).as_deref()
        && !alone.starts_with("type=")
    {
        return match alone.as_str() {
            "" => Err(wrong("a directory or type=… is expected".to_owned())),
            "-" => Ok(Output::Tar {
                dest: stream(around).map_err(wrong)?,
                split: Split::default(),
            }),
            dest => Ok(Output::Local {
                dest: dest.into(),
                split: Split::default(),
            }),
        };
    }
    let mut given = Given::default();
    for (key, value) in fields::pairs("--output", text)? {
        take(&mut given, &key, value, around).map_err(&wrong)?;
    }
    output(given, around).map_err(wrong)
}

/// Returns what `--load` asks for.
pub(crate) fn load(around: &Surroundings) -> Result<Output, Failure> {
    let given = Given {
        kind: Some("docker".to_owned()),
        ..Given::default()
    };
    output(given, around).map_err(|why| Failure::usage(format!("--load: {why}")))
}

/// Returns what `--push` asks for.
pub(crate) fn registry() -> Output {
    Output::Registry {
        image: ImageOptions::default(),
    }
}

fn take(given: &mut Given, key: &str, value: String, around: &Surroundings) -> Result<(), String> {
    let boolean = |value: &str| {
        boolean(value).ok_or_else(|| format!("{key}=`{value}` is neither true nor false"))
    };
    if let Some((_, only, why)) = FIXED.iter().find(|it| it.0 == key) {
        let same = match *only {
            "true" | "false" => boolean(&value)?.to_string() == *only,
            only => value == only,
        };
        return match same {
            true => Ok(()),
            false => Err(format!("{key}={value} is not supported: {why}")),
        };
    }
    if let Some((_, why)) = REFUSED.iter().find(|it| it.0 == key) {
        return Err(format!("{key} is not supported: {why}"));
    }
    match key {
        "type" => given.kind = Some(value),
        "dest" => given.dest = Some(value),
        "tar" => given.tar = Some(boolean(&value)?),
        "platform-split" => given.split = Some(boolean(&value)?),
        "push-by-digest" => given.by_digest = boolean(&value)?,
        "compression" => given.codec = Some(value),
        "force-compression" => given.force = boolean(&value)?,
        "compression-level" => {
            let number = value.parse::<u8>();
            let number =
                number.map_err(|_| format!("compression-level=`{value}` is not a small number"))?;
            given.level = Some(number);
        }
        "name" => {
            let names = value.split(',').map(|name| {
                name.parse::<Reference>()
                    .map_err(|error| format!("name={name}: {error}"))
            });
            given.names = Some(names.collect::<Result<_, _>>()?);
        }
        "oci-mediatypes" => given.oci_types = Some(boolean(&value)?),
        "oci-artifact" => given.referrers = boolean(&value)?,
        "push" => given.push = Some(boolean(&value)?),
        "rewrite-timestamp" => match (boolean(&value)?, around.has_epoch) {
            (true, true) | (false, false) => {}
            (true, false) => {
                return Err("rewrite-timestamp needs SOURCE_DATE_EPOCH".to_owned());
            }
            (false, true) => {
                let why =
                    "rewrite-timestamp=false: with SOURCE_DATE_EPOCH times are always clamped";
                return Err(why.to_owned());
            }
        },
        _ => match key.strip_prefix("annotation") {
            Some(rest) => given.annotations.push(annotation(rest, &value)?),
            None => return Err(format!("unknown key `{key}`")),
        },
    }
    Ok(())
}

/// Reads what follows `annotation` in a key: `.KEY`, `-LEVEL.KEY` or `-LEVEL[PLATFORM].KEY`.
fn annotation(rest: &str, value: &str) -> Result<Annotation, String> {
    let (level, key) = match rest.find("].") {
        Some(at) => (&rest[..=at], &rest[at + 2..]),
        None => rest.split_once('.').unwrap_or((rest, "")),
    };
    let level = match level.strip_prefix('-') {
        Some(level) => level.to_owned(),
        None => format!("manifest{level}"),
    };
    Annotation::at(&level, key, value).map_err(|error| format!("annotation{rest}: {error}"))
}

fn output(given: Given, around: &Surroundings) -> Result<Output, String> {
    let Given {
        kind,
        dest,
        tar,
        codec,
        level,
        force,
        names,
        annotations,
        oci_types,
        referrers,
        push,
        by_digest,
        split,
    } = given;
    let kind = kind.ok_or("type=oci, docker, image, local or tar is missing")?;
    // An image that is pushed is a registry's.
    let kind = match (kind.as_str(), push) {
        ("image", Some(true)) => "registry".to_owned(),
        _ => kind,
    };
    let is_image = match kind.as_str() {
        "oci" | "docker" | "registry" => true,
        "local" | "tar" | "image" | "cacheonly" => false,
        other => {
            return Err(format!(
                "unknown type `{other}`: oci, docker, local, tar, registry, image or cacheonly is expected"
            ));
        }
    };
    if kind == "registry" && (push == Some(false) || dest.is_some() || tar.is_some()) {
        return Err(format!(
            "type={kind} is pushed, and takes neither push=false, dest nor tar"
        ));
    }
    if kind != "registry" && push == Some(true) {
        return Err(format!(
            "type={kind} is not pushed: use type=registry, or --push"
        ));
    }
    if tar == Some(false) && kind != "oci" {
        return Err(format!("tar=false is for type=oci, not type={kind}"));
    }
    if !is_image && (codec.is_some() || level.is_some() || force) {
        return Err(format!("type={kind} is not compressed"));
    }
    if referrers && !is_image && kind != "image" {
        return Err(format!(
            "oci-artifact: type={kind} holds no image, use type=image, registry or oci"
        ));
    }
    if !is_image && (!annotations.is_empty() || oci_types.is_some()) {
        return Err(format!(
            "type={kind} takes no annotations or media types: give --annotation, or type=oci"
        ));
    }
    if names.is_some() && matches!(kind.as_str(), "local" | "tar" | "cacheonly") {
        return Err(format!("type={kind} has no name"));
    }
    if by_digest && kind != "registry" {
        return Err(format!("push-by-digest: type={kind} is not pushed"));
    }
    if split.is_some() && !matches!(kind.as_str(), "local" | "tar") {
        return Err(format!(
            "platform-split is for type=local and type=tar, not type={kind}"
        ));
    }
    let split = match split {
        None => Split::Several,
        Some(true) => Split::Always,
        Some(false) => Split::Never,
    };
    if kind == "cacheonly" {
        return match dest {
            Some(_) => Err("type=cacheonly writes nothing, and takes no dest".to_owned()),
            None => Ok(Output::Store {
                names: Vec::new(),
                referrers: false,
            }),
        };
    }
    if kind == "image" {
        if dest.is_some() {
            return Err("type=image is kept in the store: for a file use type=oci".to_owned());
        }
        return Ok(Output::Store {
            names: names.unwrap_or_default(),
            referrers,
        });
    }
    let default = if kind != "docker" {
        "gzip"
    } else {
        "uncompressed"
    };
    let compression = compression(codec.as_deref().unwrap_or(default), level)?;
    if kind == "docker" && matches!(compression, Compression::Zstd(_)) {
        return Err("`docker load` takes no zstd: use gzip or uncompressed".to_owned());
    }
    if oci_types == Some(false) && matches!(compression, Compression::Zstd(_)) {
        return Err("oci-mediatypes=false: Docker's media types have no zstd: use compression=gzip, or leave oci-mediatypes out".to_owned());
    }
    if kind == "oci" && oci_types == Some(false) {
        return Err("type=oci has the media types of OCI: for Docker's use type=docker".to_owned());
    }
    let image = ImageOptions {
        compression,
        force_compression: force,
        names,
        annotations,
        by_digest,
        docker_types: oci_types == Some(false),
        referrers,
    };
    if kind == "registry" {
        return Ok(Output::Registry { image });
    }
    let dest = match dest.as_deref() {
        None | Some("") if kind == "docker" => {
            let at = around.engine.clone()?;
            return Ok(Output::Engine { at, image });
        }
        None | Some("") => return Err(format!("type={kind} needs dest=PATH, or dest=-")),
        Some("-") => None,
        Some(dest) => Some(PathBuf::from(dest)),
    };
    let file = || match &dest {
        Some(path) => Ok(Dest::File(path.clone())),
        None => stream(around),
    };
    let directory = || {
        let path = dest.clone();
        path.ok_or_else(|| "a directory cannot be written to standard output".to_owned())
    };
    Ok(match (kind.as_str(), tar) {
        ("local", _) => Output::Local {
            dest: directory()?,
            split,
        },
        ("tar", _) => Output::Tar {
            dest: file()?,
            split,
        },
        ("docker", _) => Output::DockerArchive {
            dest: file()?,
            image,
        },
        (_, Some(false)) => Output::OciDirectory {
            dest: directory()?,
            image,
        },
        _ => Output::OciArchive {
            dest: file()?,
            image,
        },
    })
}

fn stream(around: &Surroundings) -> Result<Dest, String> {
    if around.stdout_is_terminal {
        return Err("standard output is a terminal: redirect it, or name a file".to_owned());
    }
    Ok(Dest::Stream(Sink::new(std::io::stdout())))
}

pub(crate) fn compression(codec: &str, level: Option<u8>) -> Result<Compression, String> {
    let (made, range): (fn(u8) -> Compression, _) = match codec {
        "gzip" => (Compression::Gzip, (0, GZIP_LEVEL, 12)),
        "zstd" => (Compression::Zstd, (1, ZSTD_LEVEL, 22)),
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
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
