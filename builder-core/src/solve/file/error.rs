//! Why files cannot be put where they should go.

use crate::context::ContextError;
use crate::layer::LayerError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot copy the directory `{path}` onto a file of the same name")]
    DirectoryOntoFile { path: String },
    #[error("cannot copy the file `{path}` onto a directory of the same name")]
    FileOntoDirectory { path: String },
    #[error("`{path}` goes through a file that is not a directory")]
    NotADirectory { path: String },
    #[error("`{name}`: the archive holds the name `{entry}`, which leads out of its destination")]
    Escapes { name: String, entry: String },
    #[error("`{name}`: {source}")]
    Unreadable { name: String, source: LayerError },
    #[error("`{name}`: `{entry}` is a hard link to `{target}`, which is not there")]
    LinkTarget {
        name: String,
        entry: String,
        target: String,
    },
    #[error("`{name}` cannot be the name of a file")]
    HeredocName { name: String },
    #[error("{id} is not a user or group: the largest is 4294967294")]
    NoId { id: u32 },
    #[error("`{name}` is not a user of the image")]
    UnknownUser { name: String },
    #[error("`{name}` is not a group of the image")]
    UnknownGroup { name: String },
    #[error("`{spec}` is not `user` or `user:group`")]
    Owner { spec: String },
    #[error("`{pattern}`: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("writing a temporary file: {0}")]
    Spool(#[source] std::io::Error),
}

impl FileError {
    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            FileError::Context(error) => error.hint(),
            FileError::UnknownUser { .. } => Some(
                "names are looked up in the image's /etc/passwd; use a number where it has none"
                    .to_owned(),
            ),
            FileError::UnknownGroup { .. } => Some(
                "names are looked up in the image's /etc/group; use a number where it has none"
                    .to_owned(),
            ),
            FileError::Unreadable { source, .. } if source.is_size_limit() => Some(
                "an archive may unpack to 4 GiB, or to 100 times its size where that is more; \
                 --max-layer-size allows more, and COPY takes it as it is"
                    .to_owned(),
            ),
            FileError::DirectoryOntoFile { .. } => {
                Some("remove the file in an earlier RUN, or copy to another path".to_owned())
            }
            _ => None,
        }
    }
}

pub(super) fn shown(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    format!("/{}", path.trim_matches('/'))
}
