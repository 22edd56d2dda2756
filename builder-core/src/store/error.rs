//! Why the store could not do what it was asked to.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "cannot {action} {}: no space left on the disk (free some, or put the store elsewhere)",
        path.display()
    )]
    DiskFull { action: &'static str, path: PathBuf },
    #[error(
        "cannot {action} {}: the file system is read-only (put the store on a writable one)",
        path.display()
    )]
    ReadOnly { action: &'static str, path: PathBuf },
    #[error(
        "cannot {action} {}: permission denied (the store belongs to another user, or was made by root: \
         choose another directory, or change its owner)",
        path.display()
    )]
    Permission { action: &'static str, path: PathBuf },
    #[error("{} has other things in it and is no store: choose an empty directory", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is damaged, or not of an OCI image layout of version 1: choose another directory", path.display())]
    NotALayout { path: PathBuf },
    #[error("{} is damaged ({source}): repair it, or remove it to forget the names of images", path.display())]
    Index {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("blob {digest} is not in the store")]
    NotFound { digest: Digest },
    #[error("content has digest {actual}, not {expected} as asked for")]
    Mismatch { expected: Digest, actual: Digest },
    #[error("blob {digest} is damaged in the store (its content has digest {actual}): remove {}", path.display())]
    Damaged {
        digest: Digest,
        actual: Digest,
        path: PathBuf,
    },
    #[error("blob {digest} has {size} bytes, more than the {max} allowed here")]
    TooLarge { digest: Digest, size: u64, max: u64 },
    #[error("`{name}` is not a name for a lock or a kind of record (a-z, 0-9, `-`, `_`, `.`)")]
    Name { name: String },
    #[error("a record of kind `{kind}` cannot be written as JSON: {source}")]
    Record {
        kind: String,
        source: serde_json::Error,
    },
}

/// Turns an I/O error into one that says what was done to `path`.
pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::DiskFull { action, path }
        }
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { action, path },
        io::ErrorKind::PermissionDenied => StoreError::Permission { action, path },
        _ => StoreError::Io {
            action,
            path,
            source,
        },
    }
}

/// Whether `name` may become a file's name.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}
