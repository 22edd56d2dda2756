//! Archives: one tar, written from its start to its end.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::finished::{blob_name, open};
use super::target::Target;
use super::{ExportError, Finished, Selection};
use crate::store::Blobs;

pub(super) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const BUFFER_BYTES: usize = 256 << 10;
const BLOCK: u64 = 512;

/// Where an archive goes.
pub enum Destination<'a> {
    /// A file, replaced in one step once the archive is whole; a device or a pipe is written to.
    File(&'a Path),
    /// What `dest=-` means, decided by the caller.
    Writer(&'a mut dyn Write),
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::File(path) => f.debug_tuple("File").field(path).finish(),
            Destination::Writer(_) => f.write_str("Writer"),
        }
    }
}

/// Writes `image` as an OCI archive: a layout in a tar.
///
/// # Errors
/// Where a blob is missing, or the destination cannot be written; a file there is then as it was.
pub fn oci_archive(
    image: &Finished,
    blobs: &Blobs,
    destination: Destination<'_>,
) -> Result<(), ExportError> {
    save_oci(&image.into(), blobs, destination)
}

/// Writes `image` as an archive for `docker load`, which is an OCI archive too.
///
/// # Errors
/// As [`oci_archive`]; [`ExportError::LayerType`] where a layer is compressed as Docker cannot read it.
pub fn docker_archive(
    image: &Finished,
    blobs: &Blobs,
    destination: Destination<'_>,
) -> Result<(), ExportError> {
    save_docker(&image.into(), blobs, destination)
}

/// Writes several images as an OCI archive.
///
/// # Errors
/// As [`oci_archive`].
pub fn save_oci(
    images: &Selection,
    blobs: &Blobs,
    destination: Destination<'_>,
) -> Result<(), ExportError> {
    deliver(images, blobs, None, destination)
}

/// Writes several images as an archive for `docker load`.
///
/// # Errors
/// As [`docker_archive`].
pub fn save_docker(
    images: &Selection,
    blobs: &Blobs,
    destination: Destination<'_>,
) -> Result<(), ExportError> {
    let manifest = images.docker_manifest()?;
    deliver(images, blobs, Some(&manifest), destination)
}

fn deliver(
    image: &Selection,
    blobs: &Blobs,
    docker_manifest: Option<&[u8]>,
    destination: Destination<'_>,
) -> Result<(), ExportError> {
    let path = match destination {
        Destination::Writer(out) => {
            return write(
                image,
                blobs,
                docker_manifest,
                &mut *out,
                &ExportError::Stream,
            );
        }
        Destination::File(path) => path,
    };
    let failed = |source| ExportError::Write {
        path: path.to_owned(),
        source,
    };
    let mut target = Target::open(path).map_err(failed)?;
    write(image, blobs, docker_manifest, target.file(), &failed)?;
    target.finish().map_err(failed)
}

/// Writes the members, sorted by name: `blobs/…`, `index.json`, `manifest.json`, `oci-layout`.
fn write<W: Write>(
    image: &Selection,
    blobs: &Blobs,
    docker_manifest: Option<&[u8]>,
    out: W,
    failed: &dyn Fn(std::io::Error) -> ExportError,
) -> Result<(), ExportError> {
    let mut tar = Builder::new(BufWriter::with_capacity(BUFFER_BYTES, out));
    for directory in ["blobs/", "blobs/sha256/"] {
        let empty = std::io::empty();
        append(&mut tar, directory, EntryType::Directory, 0, empty).map_err(failed)?;
    }
    for blob in image.blobs() {
        let file = open(blobs, blob)?;
        let name = blob_name(blob);
        append_file(tar.get_mut(), &name, blob.size, file).map_err(failed)?;
    }
    let index = image.index();
    let documents = [
        ("index.json", Some(&index[..])),
        ("manifest.json", docker_manifest),
        ("oci-layout", Some(LAYOUT.as_bytes())),
    ];
    for (name, bytes) in documents {
        if let Some(bytes) = bytes {
            let size = bytes.len() as u64;
            append(&mut tar, name, EntryType::Regular, size, bytes).map_err(failed)?;
        }
    }
    let mut out = tar.into_inner().map_err(failed)?;
    out.flush().map_err(failed)
}

fn append<W: Write, R: Read>(
    tar: &mut Builder<W>,
    name: &str,
    kind: EntryType,
    size: u64,
    data: R,
) -> std::io::Result<()> {
    tar.append(&header(name, kind, size)?, data)
}

/// Adds a blob in large pieces: `tar` itself takes those of 8 KiB.
fn append_file<W: Write>(
    out: &mut BufWriter<W>,
    name: &str,
    size: u64,
    file: File,
) -> std::io::Result<()> {
    out.write_all(header(name, EntryType::Regular, size)?.as_bytes())?;
    // A blob that shrinks meanwhile must not shift what follows.
    if std::io::copy(&mut file.take(size), out)? != size {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let padding = size.next_multiple_of(BLOCK) - size;
    std::io::copy(&mut std::io::repeat(0).take(padding), out)?;
    Ok(())
}

fn header(name: &str, kind: EntryType, size: u64) -> std::io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
