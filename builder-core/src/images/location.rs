//! Where images can be besides the store: `docker://a.io/b:1`, `oci:dir:tag`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::image::Reference;

/// A place that an image is copied from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    Registry(Reference),
    /// A layout as a directory; the name is a tag, or full.
    OciDirectory {
        path: PathBuf,
        name: Option<String>,
    },
    OciArchive {
        path: PathBuf,
        name: Option<String>,
    },
    DockerArchive {
        path: PathBuf,
        name: Option<String>,
    },
}

/// Why a text names no such place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    #[error("`{text}`: {why}")]
    Form { text: String, why: String },
    #[error("`{transport}:` is not spoken here: {instead}")]
    Foreign {
        transport: &'static str,
        instead: &'static str,
    },
}

/// Transports of other tools, and what to do instead.
const FOREIGN: &[(&str, &str)] = &[
    (
        "containers-storage",
        "that storage is podman's and buildah's own: copy to oci-archive:FILE, then `podman load -i FILE`",
    ),
    (
        "docker-daemon",
        "no daemon is spoken to: copy to docker-archive:FILE, then `docker load -i FILE`",
    ),
    ("dir", "use oci:DIRECTORY"),
    ("docker-tar", "use docker-archive:FILE"),
    ("ostree", "use oci:DIRECTORY"),
    ("sif", "use oci-archive:FILE"),
    ("tarball", "use oci-archive:FILE"),
];

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = |why: String| LocationError::Form {
            text: text.to_owned(),
            why,
        };
        let Some((transport, rest)) = text.split_once(':') else {
            return Err(wrong(
                "docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME] is expected"
                    .to_owned(),
            ));
        };
        if let Some((transport, instead)) = FOREIGN.iter().find(|(it, _)| *it == transport) {
            return Err(LocationError::Foreign { transport, instead });
        }
        let place = || -> Result<(PathBuf, Option<String>), LocationError> {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) if !name.is_empty() => (path, Some(name.to_owned())),
                Some((path, _)) => (path, None),
                None => (rest, None),
            };
            match path {
                "" => Err(wrong("a path is missing".to_owned())),
                path => Ok((path.into(), name)),
            }
        };
        match transport {
            "docker" => {
                let name = rest
                    .strip_prefix("//")
                    .ok_or_else(|| wrong("docker://NAME is expected".to_owned()))?;
                let name = name.parse().map_err(|error| wrong(format!("{error}")))?;
                Ok(Location::Registry(name))
            }
            "oci" => place().map(|(path, name)| Location::OciDirectory { path, name }),
            "oci-archive" => place().map(|(path, name)| Location::OciArchive { path, name }),
            "docker-archive" => place().map(|(path, name)| Location::DockerArchive { path, name }),
            other => Err(wrong(format!(
                "there is no transport `{other}:`; docker://NAME, oci:DIR, oci-archive:FILE and docker-archive:FILE are known"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let name = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            (
                "docker://a.io/b:1",
                Location::Registry("a.io/b:1".parse().expect("name")),
            ),
            (
                "oci:/x/y:1",
                Location::OciDirectory {
                    path: "/x/y".into(),
                    name: name("1"),
                },
            ),
            (
                "oci:x",
                Location::OciDirectory {
                    path: "x".into(),
                    name: None,
                },
            ),
            (
                "oci-archive:x.tar:",
                Location::OciArchive {
                    path: "x.tar".into(),
                    name: None,
                },
            ),
            (
                "docker-archive:x.tar:a.io:5/b:1",
                Location::DockerArchive {
                    path: "x.tar".into(),
                    name: name("a.io:5/b:1"),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, says) in [
            ("x", "docker://NAME"),
            ("docker:x", "docker://NAME is expected"),
            ("docker://A", "lower-case"),
            ("oci:", "path is missing"),
            ("oci::1", "path is missing"),
            ("containers-storage:x", "podman load"),
            ("docker-daemon:x", "docker load"),
            ("dir:x", "use oci:"),
            ("http://x", "no transport `http:`"),
        ] {
            let error = text.parse::<Location>().expect_err(text);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
