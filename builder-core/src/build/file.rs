//! The Dockerfile: which, and its text.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::BuildError;
use super::request::Build;

/// Far more than any real one.
pub(super) const MAX_DOCKERFILE_BYTES: u64 = 64 << 20;

impl Build {
    /// Returns the Dockerfile's name, as messages have it, and its text.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn read_dockerfile(&self) -> Result<(String, String), BuildError> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        if self.context_dir().is_none() && self.dockerfile.is_none() {
            return Err(BuildError::NoContext {
                place: self.context_label(),
                reason: "it is not on this machine yet, and its Dockerfile is in it".to_owned(),
            });
        }
        let whole = self.dockerfile_path();
        // Inside a context that was fetched, its place there is what a user knows.
        let path = match self.prepared.get(&None) {
            Some(prepared) => whole.strip_prefix(&prepared.path).unwrap_or(&whole),
            None => &whole,
        };
        let path = path.to_owned();
        let failed = |source| BuildError::ReadDockerfile {
            path: path.clone(),
            source,
        };
        let file = crate::context::open_text(&whole).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_DOCKERFILE_BYTES + 1).read_to_end(&mut bytes);
        if read.map_err(failed)? as u64 > MAX_DOCKERFILE_BYTES {
            return Err(failed(std::io::Error::other("it is larger than 64 MiB")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|&&b| b == b'\n').count() + 1;
            let path = path.clone();
            BuildError::NotText { path, line }
        })?;
        Ok((path.display().to_string(), text))
    }

    pub(super) fn dockerfile_path(&self) -> PathBuf {
        if let Some(path) = &self.dockerfile {
            return path.clone();
        }
        let context = self.context_dir().unwrap_or(Path::new(""));
        let names = ["Dockerfile", "Containerfile"].map(|name| context.join(name));
        let found = names.iter().find(|path| path.exists());
        let path = found.unwrap_or(&names[0]).clone();
        path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)
    }
}
