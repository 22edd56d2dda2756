//! Why a layer could not be written, read, compressed or unpacked.

use std::io;

use rustix::io::Errno;

/// Why a layer could not be written, read, compressed or unpacked. Paths are shown as text, other bytes escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    #[error("`{path}` changed while it was read: {expected} bytes were expected, {found} came")]
    Changed {
        path: String,
        expected: u64,
        /// At least this many, when there is more than expected.
        found: u64,
    },
    #[error(
        "`{path}` changed while the build was at work: it was looked at before, and then held other bytes"
    )]
    Rewritten { path: String },
    #[error("`{path}` cannot be put into a layer: {why}")]
    Unrepresentable { path: String, why: &'static str },
    #[error("tar entry `{path}` at byte {offset}: {why}")]
    Malformed {
        path: String,
        offset: u64,
        why: &'static str,
    },
    #[error("tar ends in the middle of `{path}`, at byte {offset}")]
    Truncated { path: String, offset: u64 },
    #[error("tar entry `{path}`: {what} exceeds the limit of {limit}")]
    Limit {
        path: String,
        what: &'static str,
        limit: u64,
    },
    #[error("tar entry `{path}` is refused: {why}")]
    Unsafe { path: String, why: &'static str },
    #[error("hard link `{path}`: its target `{target}` does not exist")]
    LinkTarget { path: String, target: String },
    #[error(
        "`{path}` belongs to {uid}:{gid}, which is beyond the ids that are mapped here: give this user a range in \
         /etc/subuid and in /etc/subgid that is large enough for {most}"
    )]
    UnmappedOwner {
        path: String,
        uid: u32,
        gid: u32,
        /// The larger of the two.
        most: u32,
    },
    #[error(
        "`{path}` belongs to {uid}:{gid}, and files can be given to nobody here, without root's rights and without user \
         namespaces: see `builder doctor`"
    )]
    NoOwners { path: String, uid: u32, gid: u32 },
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action}: {source}")]
    Stream {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

/// A path may be a megabyte long; a message is not.
const SHOWN_BYTES: usize = 300;

/// Returns `path` as it is shown to people.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.len() > SHOWN_BYTES {
        let part = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let (start, end) = (
            &path[..SHOWN_BYTES * 2 / 3],
            &path[path.len() - SHOWN_BYTES / 3..],
        );
        return format!("{}…{}", part(start), part(end));
    }
    match std::str::from_utf8(path) {
        Ok("") => "/".to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

impl LayerError {
    /// What exceeds [`Limits::total_bytes`](super::Limits::total_bytes).
    pub(crate) const SIZE: &str = "what it unpacks to";

    /// Whether a caller may allow what was refused, by a higher limit.
    pub fn is_size_limit(&self) -> bool {
        matches!(self, LayerError::Limit { what, .. } if *what == Self::SIZE)
    }

    /// Returns a closure for `map_err` that names the path and what was tried.
    pub(crate) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> LayerError {
        move |source| LayerError::Io {
            action,
            path: shown(path),
            source: source.into(),
        }
    }

    /// The same for a change of owner.
    pub(crate) fn owner(path: &[u8], uid: u32, gid: u32) -> impl FnOnce(Errno) -> LayerError {
        move |errno| {
            let path = shown(path);
            match errno {
                Errno::INVAL => LayerError::UnmappedOwner {
                    path,
                    uid,
                    gid,
                    most: uid.max(gid),
                },
                Errno::PERM => LayerError::NoOwners { path, uid, gid },
                errno => LayerError::Io {
                    action: "change the owner of",
                    path,
                    source: errno.into(),
                },
            }
        }
    }

    /// The same for a stream without a name of its own; a layer error that came through `Read` comes out again.
    pub(crate) fn stream(action: &'static str) -> impl FnOnce(io::Error) -> LayerError {
        move |source| match source.downcast::<LayerError>() {
            Ok(inner) => inner,
            Err(source) => LayerError::Stream { action, source },
        }
    }
}

impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> io::Error {
        let kind = match error {
            LayerError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
