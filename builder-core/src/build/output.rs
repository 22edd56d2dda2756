//! Where results go.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::BuildError;
use super::annotations::Annotation;
use crate::image::Reference;
use crate::layer::compression::Compression;
use crate::solve::Reads;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The store alone, under further names.
    Store {
        names: Vec<Reference>,
        /// As [`ImageOptions::referrers`].
        referrers: bool,
    },
    /// An OCI image layout as one tar.
    OciArchive { dest: Dest, image: ImageOptions },
    /// An OCI image layout as a directory.
    OciDirectory { dest: PathBuf, image: ImageOptions },
    /// An archive for `docker load`.
    DockerArchive { dest: Dest, image: ImageOptions },
    /// A registry, under the image's own names or those of the build.
    Registry { image: ImageOptions },
    /// A Docker or Podman engine, by its socket.
    Engine { at: Engine, image: ImageOptions },
    /// The files of the image, in a directory; owned by whoever runs the build.
    Local { dest: PathBuf, split: Split },
    /// The files of the image as a tar, owners as they are.
    Tar { dest: Dest, split: Split },
}

/// Whether the files of a platform have a directory of their own: `linux_arm64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// Where there are several platforms.
    #[default]
    Several,
    Always,
    /// Files of several platforms would overwrite one another: that is refused.
    Never,
}

/// How an image is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageOptions {
    pub compression: Compression,
    /// Layers of a base that came in another form are brought to this one, too.
    pub force_compression: bool,
    /// Names in place of the build's.
    pub names: Option<Vec<Reference>>,
    pub annotations: Vec<Annotation>,
    /// A push gives the repository no tag: the image is there by its digest alone.
    pub by_digest: bool,
    /// Docker's media types in place of OCI's.
    pub docker_types: bool,
    /// Attestations refer to their image as OCI 1.1 has it (`subject`), besides the entry in the index.
    pub referrers: bool,
}

impl ImageOptions {
    /// Returns options with this compression and nothing else.
    pub fn compressed(compression: Compression) -> Self {
        ImageOptions {
            compression,
            ..ImageOptions::default()
        }
    }
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// A file, replaced once all is written.
    File(PathBuf),
    Stream(Sink),
}

impl From<PathBuf> for Dest {
    fn from(path: PathBuf) -> Self {
        Dest::File(path)
    }
}

impl std::fmt::Display for Dest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dest::File(path) => write!(f, "{}", path.display()),
            Dest::Stream(_) => f.write_str("standard output"),
        }
    }
}

/// A writer that is used once.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Box<dyn Write + Send>>>);

impl Sink {
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Sink(Arc::new(Mutex::new(Box::new(writer))))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let poisoned = |_| std::io::Error::other("an earlier write ended early");
        self.0.lock().map_err(poisoned)?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let poisoned = |_| std::io::Error::other("an earlier write ended early");
        self.0.lock().map_err(poisoned)?.flush()
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl PartialEq for Sink {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Sink {}

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    Unix(PathBuf),
    /// `host:port`, in the clear.
    Tcp(String),
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Engine::Unix(path) => write!(f, "unix://{}", path.display()),
            Engine::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl Output {
    /// Which layers it reads, rather than name them or have a registry mount them. Those that an engine lacks are known when it
    /// has been asked, and fetched then.
    pub(super) fn reads(&self) -> Reads {
        match self {
            Output::Store { .. } | Output::Local { .. } | Output::Tar { .. } => Reads::Nothing,
            Output::Registry { image } | Output::Engine { image, .. } => {
                match (image.force_compression, image.compression) {
                    (true, _) => Reads::All,
                    (false, Compression::None) => Reads::Nothing,
                    (false, _) => Reads::Uncompressed,
                }
            }
            Output::OciArchive { .. }
            | Output::OciDirectory { .. }
            | Output::DockerArchive { .. } => Reads::All,
        }
    }

    /// Refuses, before anything is built, a destination that cannot be written.
    /// Finds what would be wrong with the destinations of `outputs` when it is too late, and two that would overwrite each other.
    pub(super) fn check_all(outputs: &[Output]) -> Result<(), BuildError> {
        let mut files = BTreeSet::new();
        for output in outputs {
            output.check()?;
            if let Output::OciArchive { dest, .. }
            | Output::DockerArchive { dest, .. }
            | Output::Tar { dest, .. } = output
                && let Dest::File(path) = dest
            {
                let is_device = std::fs::metadata(path).is_ok_and(|it| !it.is_file());
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                if !is_device && !files.insert(whole) {
                    return Err(BuildError::Destination {
                        dest: path.clone(),
                        reason: "two outputs would be written there",
                    });
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), BuildError> {
        let (dest, is_directory): (&Path, bool) = match self {
            Output::OciArchive { dest, .. }
            | Output::DockerArchive { dest, .. }
            | Output::Tar { dest, .. } => match dest {
                Dest::File(path) => (path, false),
                Dest::Stream(_) => return Ok(()),
            },
            Output::OciDirectory { dest, .. } | Output::Local { dest, .. } => (dest, true),
            Output::Engine {
                at: Engine::Unix(socket),
                ..
            } => {
                return match socket.exists() {
                    true => Ok(()),
                    false => Err(BuildError::Destination {
                        dest: socket.clone(),
                        reason: "no engine listens there",
                    }),
                };
            }
            Output::Engine { .. } | Output::Store { .. } | Output::Registry { .. } => {
                return Ok(());
            }
        };
        let wrong = |reason| {
            let dest = dest.to_owned();
            Err(BuildError::Destination { dest, reason })
        };
        match (std::fs::metadata(dest), is_directory) {
            (Ok(there), true) if !there.is_dir() => {
                wrong("a file is there, and a directory would be written")
            }
            (Ok(there), false) if there.is_dir() => {
                wrong("a directory is there, and a file would be written")
            }
            (Err(_), false) => match dest.parent() {
                Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
                    wrong("its directory does not exist")
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether attestations are asked for as referrers.
    pub(super) fn has_referrers(&self) -> bool {
        match self {
            Output::Store { referrers, .. } => *referrers,
            _ => self.image().is_some_and(|image| image.referrers),
        }
    }

    /// Returns how the image is written; `None` for a tree of files and for the store.
    pub(super) fn image(&self) -> Option<&ImageOptions> {
        match self {
            Output::OciArchive { image, .. }
            | Output::OciDirectory { image, .. }
            | Output::DockerArchive { image, .. }
            | Output::Registry { image }
            | Output::Engine { image, .. } => Some(image),
            Output::Local { .. } | Output::Tar { .. } | Output::Store { .. } => None,
        }
    }

    /// Whether the output is a stream of the caller's.
    pub fn is_stream(&self) -> bool {
        match self {
            Output::OciArchive { dest, .. }
            | Output::DockerArchive { dest, .. }
            | Output::Tar { dest, .. } => matches!(dest, Dest::Stream(_)),
            _ => false,
        }
    }

    /// Returns the place of the output, for people.
    pub fn place(&self) -> String {
        match self {
            // Told by its names.
            Output::Store { .. } | Output::Registry { .. } => String::new(),
            Output::OciArchive { dest, .. }
            | Output::DockerArchive { dest, .. }
            | Output::Tar { dest, .. } => dest.to_string(),
            Output::OciDirectory { dest, .. } | Output::Local { dest, .. } => {
                dest.display().to_string()
            }
            Output::Engine { at, .. } => at.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outputs_are_not_written_to_one_file() {
        let tar = |path: &str| Output::Tar {
            dest: Dest::File(PathBuf::from(path)),
            split: Split::default(),
        };
        for (paths, is_right) in [
            (["a.tar", "b.tar"], true),
            (["a.tar", "a.tar"], false),
            (["a.tar", "./a.tar"], false),
            (["/dev/null", "/dev/null"], true),
        ] {
            let checked = Output::check_all(&paths.map(tar));
            assert_eq!(checked.is_ok(), is_right, "{paths:?}: {checked:?}");
        }
    }
}
