//! Why input files cannot be had.

use std::io;

/// Paths are shown as text; bytes that are not UTF-8 are replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    #[error("`{path}`: {source}")]
    Io { path: String, source: io::Error },
    #[error("the build context `{path}` is not a directory")]
    NotADirectory { path: String },
    #[error("`{path}` is a {what}, a regular file is expected")]
    NotAFile { path: String, what: &'static str },
    #[error("`{path}` is larger than {max_bytes} bytes")]
    TooLarge { path: String, max_bytes: u64 },
    #[error("`{path}` changed while it was read; build again when nothing writes to it")]
    Changed { path: String },
    #[error("`{path}`: too many levels of symbolic links")]
    Loop { path: String },
    #[error("nobody waits for the listing any more")]
    Stopped,
    #[error("{file}: {reason}")]
    Pattern { file: String, reason: String },
    #[error("`{pattern}` is not found in {place}")]
    NotFound {
        pattern: String,
        place: &'static str,
        /// The path is there, but an ignore file leaves it out.
        ignored_by: Option<String>,
        /// It is there, but is a symlink to nothing inside.
        leads_out: bool,
        /// A path of the tree with a similar name.
        near: Option<String>,
    },
}

impl ContextError {
    pub(crate) fn io(path: &[u8], source: impl Into<io::Error>) -> Self {
        ContextError::Io {
            path: String::from_utf8_lossy(path).into_owned(),
            source: source.into(),
        }
    }

    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            ContextError::NotFound {
                ignored_by: Some(file),
                pattern,
                ..
            } => Some(format!(
                "{file} leaves it out; add `!{pattern}` there to keep it"
            )),
            ContextError::NotFound {
                leads_out: true, ..
            } => Some("it is a symbolic link that leads out, or to nothing".to_owned()),
            ContextError::NotFound {
                near: Some(near), ..
            } => Some(format!("did you mean `{near}`?")),
            ContextError::NotFound { .. } => {
                Some("paths of COPY and ADD are relative to the build context".to_owned())
            }
            _ => None,
        }
    }
}
