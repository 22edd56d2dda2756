//! What `--cache-from` and `--cache-to` ask for.
//!
//! | type     | `--cache-from`                  | `--cache-to`                                                     |
//! |----------|---------------------------------|------------------------------------------------------------------|
//! | registry | `ref`                           | `ref`, `mode`, and what shapes the blobs                          |
//! | local    | `src`, `tag`, `digest`          | `dest`, `tag`, `mode`, and what shapes the blobs                  |
//! | inline   | (read as a registry's)          | nothing: the steps of the image, in the image                     |
//!
//! What shapes the blobs: `compression`, `compression-level`, `force-compression`, `image-manifest`, `oci-mediatypes`; with
//! `mounts=true` the files of cache mounts go along. A name alone is `type=registry,ref=NAME`. Nothing unknown is passed over.

use std::path::PathBuf;
use std::time::Duration;

use builder_core::digest::Digest;
use builder_core::image::Reference;
use builder_core::share::{CacheFrom, CacheTo, Mode, Place};

use crate::exit::Failure;
use crate::outputs::{boolean, compression};
use crate::{fields, quantities};

const KINDS: &str = "registry, local or inline";

/// A type, and what is said of it.
struct Given {
    kind: String,
    fields: Vec<(String, String)>,
}

/// Reads the value of one `--cache-from`.
pub(crate) fn from(text: &str) -> Result<CacheFrom, Failure> {
    let wrong = |why: String| Failure::usage(format!("--cache-from {text}: {why}"));
    let given = given("--cache-from", text)?;
    let (mut reference, mut src, mut tag, mut digest) = (None, None, None, None);
    let mut timeout = None;
    for (key, value) in given.fields {
        match (given.kind.as_str(), key.as_str()) {
            ("registry", "ref") => reference = Some(name(&value).map_err(wrong)?),
            ("local", "src") => src = Some(PathBuf::from(value)),
            ("local", "tag") => tag = Some(value),
            ("local", "digest") => {
                let parsed = value.parse::<Digest>();
                digest = Some(parsed.map_err(|error| wrong(format!("digest={value}: {error}")))?);
            }
            ("registry" | "local", "timeout") => {
                let parsed: Result<Duration, String> = quantities::duration(&value);
                timeout = Some(parsed.map_err(|error| wrong(format!("timeout={value}: {error}")))?);
            }
            (kind, key) => return Err(wrong(unknown(kind, key))),
        }
    }
    let place = match given.kind.as_str() {
        "registry" => {
            Place::Registry(reference.ok_or_else(|| wrong("ref=NAME is missing".to_owned()))?)
        }
        "inline" => {
            let why = "what an image carries is read with type=registry,ref=IMAGE";
            return Err(wrong(why.to_owned()));
        }
        _ => Place::Local {
            path: src.ok_or_else(|| wrong("src=DIR is missing".to_owned()))?,
            tag: tag.unwrap_or_else(|| Place::TAG.to_owned()),
            digest,
        },
    };
    let mut from = CacheFrom::new(place);
    from.timeout = timeout.unwrap_or(from.timeout);
    Ok(from)
}

/// Reads the value of one `--cache-to`.
pub(crate) fn to(text: &str) -> Result<CacheTo, Failure> {
    let wrong = |why: String| Failure::usage(format!("--cache-to {text}: {why}"));
    let given = given("--cache-to", text)?;
    let mut to = CacheTo::new(Place::Inline);
    let (mut reference, mut dest, mut tag) = (None, None, None);
    let (mut codec, mut level, mut manifest) = (None, None, None);
    for (key, value) in given.fields {
        let flag = || {
            let parsed = boolean(&value);
            parsed.ok_or_else(|| wrong(format!("{key}=`{value}` is neither true nor false")))
        };
        match (given.kind.as_str(), key.as_str()) {
            ("registry", "ref") => reference = Some(name(&value).map_err(wrong)?),
            ("local", "dest") => dest = Some(PathBuf::from(value)),
            ("local", "tag") => tag = Some(value),
            (_, "mode") => match value.as_str() {
                "min" => to.mode = Mode::Min,
                "max" if given.kind != "inline" => to.mode = Mode::Max,
                "max" => {
                    let why = "mode=max: an image carries its own steps only (use type=registry)";
                    return Err(wrong(why.to_owned()));
                }
                _ => return Err(wrong(format!("mode=`{value}` is neither min nor max"))),
            },
            ("registry" | "local", "compression") => codec = Some(value),
            ("registry" | "local", "compression-level") => {
                let parsed = value.parse::<u8>();
                let why = format!("compression-level=`{value}` is not a small number");
                level = Some(parsed.map_err(|_| wrong(why))?);
            }
            ("registry" | "local", "force-compression") => to.force_compression = flag()?,
            ("registry" | "local", "image-manifest") => manifest = Some(flag()?),
            ("registry" | "local", "oci-mediatypes") => to.oci_types = flag()?,
            ("registry" | "local", "mounts") => to.mounts = flag()?,
            ("registry" | "local", "ignore-error") => to.ignore_error = flag()?,
            (kind, key) => return Err(wrong(unknown(kind, key))),
        }
    }
    to.image_manifest = manifest.unwrap_or(to.oci_types);
    if to.image_manifest && !to.oci_types {
        let why =
            "a manifest has the media types of OCI: image-manifest=true needs oci-mediatypes=true";
        return Err(wrong(why.to_owned()));
    }
    to.compression = compression(codec.as_deref().unwrap_or("gzip"), level).map_err(wrong)?;
    to.place = match given.kind.as_str() {
        "registry" => {
            Place::Registry(reference.ok_or_else(|| wrong("ref=NAME is missing".to_owned()))?)
        }
        "local" => Place::Local {
            path: dest.ok_or_else(|| wrong("dest=DIR is missing".to_owned()))?,
            tag: tag.unwrap_or_else(|| Place::TAG.to_owned()),
            digest: None,
        },
        _ => Place::Inline,
    };
    Ok(to)
}

fn given(flag: &str, text: &str) -> Result<Given, Failure> {
    let wrong = |why: String| Failure::usage(format!("{flag} {text}: {why}"));
    if let Ok([alone]) = fields::split(text).as_deref()
        && !alone.contains('=')
    {
        return match alone.as_str() {
            "" => Err(wrong("a name, or type=…, is expected".to_owned())),
            name => Ok(Given {
                kind: "registry".to_owned(),
                fields: vec![("ref".to_owned(), name.to_owned())],
            }),
        };
    }
    let mut kind = None;
    let mut others = Vec::new();
    for (key, value) in fields::pairs(flag, text)? {
        match key.as_str() {
            "type" => kind = Some(value),
            _ => others.push((key, value)),
        }
    }
    let kind = kind.ok_or_else(|| wrong(format!("type= is missing: {KINDS}")))?;
    match kind.as_str() {
        "registry" | "local" | "inline" => Ok(Given {
            kind,
            fields: others,
        }),
        "gha" | "s3" | "azblob" | "gcs" => {
            let why = "is not supported: use type=registry, or type=local with a directory that the CI keeps";
            Err(wrong(format!("type={kind} {why}")))
        }
        _ => Err(wrong(format!("unknown type `{kind}`: {KINDS} is expected"))),
    }
}

fn unknown(kind: &str, key: &str) -> String {
    format!("type={kind} has no attribute `{key}`")
}

fn name(text: &str) -> Result<Reference, String> {
    let parsed = text.parse::<Reference>();
    parsed.map_err(|error| format!("ref={text}: {error}"))
}

#[cfg(test)]
mod tests {
    use builder_core::layer::compression::Compression;

    use super::*;

    fn registry(name: &str) -> Place {
        Place::Registry(name.parse().expect("name"))
    }

    fn local(path: &str, tag: &str, digest: Option<Digest>) -> Place {
        Place::Local {
            path: path.into(),
            tag: tag.to_owned(),
            digest,
        }
    }

    #[test]
    fn sources() {
        let digest = Digest::of(b"x");
        for (text, place, seconds) in [
            ("a.io/b:1", registry("a.io/b:1"), 10),
            ("type=registry,ref=a.io/b", registry("a.io/b"), 10),
            (
                "type=registry,ref=a.io/b,timeout=90s",
                registry("a.io/b"),
                90,
            ),
            ("type=local,src=d", local("d", "latest", None), 10),
            (
                &format!("type=local,src=d,tag=t,digest={digest}"),
                local("d", "t", Some(digest)),
                10,
            ),
        ] {
            match from(text) {
                Ok(found) => {
                    assert_eq!(found.place, place, "{text}");
                    assert_eq!(found.timeout.as_secs(), seconds, "{text}");
                }
                Err(failure) => panic!("{text}: {failure:?}"),
            }
        }
    }

    #[test]
    fn destinations() {
        let plain = |place: Place| CacheTo::new(place);
        for (text, expected) in [
            ("a.io/b:1", plain(registry("a.io/b:1"))),
            ("type=inline", plain(Place::Inline)),
            ("type=inline,mode=min", plain(Place::Inline)),
            (
                "type=local,dest=d,mode=max,mounts=true",
                CacheTo {
                    mode: Mode::Max,
                    mounts: true,
                    ..plain(local("d", "latest", None))
                },
            ),
            (
                "type=registry,ref=a.io/b,compression=zstd,compression-level=9,ignore-error=false",
                CacheTo {
                    compression: Compression::Zstd(9),
                    ignore_error: false,
                    ..plain(registry("a.io/b"))
                },
            ),
            (
                "type=registry,ref=a.io/b,oci-mediatypes=false,force-compression=1",
                CacheTo {
                    oci_types: false,
                    image_manifest: false,
                    force_compression: true,
                    ..plain(registry("a.io/b"))
                },
            ),
        ] {
            match to(text) {
                Ok(found) => assert_eq!(found, expected, "{text}"),
                Err(failure) => panic!("{text}: {failure:?}"),
            }
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for (text, expected) in [
            ("", "a name"),
            ("ref=a", "type= is missing"),
            ("type=gha", "type=gha is not supported: use type=registry"),
            ("type=s3,bucket=b", "type=s3 is not supported"),
            ("type=azblob", "type=azblob is not supported"),
            ("type=ftp", "unknown type `ftp`"),
            ("type=registry", "ref=NAME is missing"),
            ("type=registry,ref=A", "ref=A"),
            (
                "type=registry,ref=a,scope=x",
                "type=registry has no attribute `scope`",
            ),
            (
                "type=registry,ref=a,dest=x",
                "type=registry has no attribute `dest`",
            ),
            ("type=local", "dest=DIR is missing"),
            ("type=local,dest=d,mode=all", "neither min nor max"),
            ("type=local,dest=d,compression=xz", "unknown compression"),
            ("type=local,dest=d,mounts=some", "neither true nor false"),
            ("type=inline,mode=max", "its own steps only"),
            ("type=inline,ref=a", "type=inline has no attribute `ref`"),
            (
                "type=registry,ref=a,image-manifest=true,oci-mediatypes=false",
                "needs oci-mediatypes",
            ),
        ] {
            match to(text) {
                Err(Failure::Usage(message)) => {
                    assert!(message.contains(expected), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for (text, expected) in [
            ("type=inline", "type=registry,ref=IMAGE"),
            ("type=gha", "not supported"),
            ("type=registry,ref=a,mode=max", "no attribute `mode`"),
            ("type=local,src=d,digest=x", "digest=x"),
            ("type=registry,ref=a,timeout=soon", "timeout=soon"),
        ] {
            match from(text) {
                Err(Failure::Usage(message)) => {
                    assert!(message.contains(expected), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
