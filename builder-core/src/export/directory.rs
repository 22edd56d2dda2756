//! An OCI layout as a directory.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::archive::LAYOUT;
use super::finished::{blob_name, open};
use super::{ExportError, Finished, Selection};
use crate::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index};
use crate::store::Blobs;

/// Writes `image` into the layout in `directory`, which is made where there is none.
///
/// Blobs come first and `index.json` last, each by rename, so the layout is valid at any moment. Entries of
/// other images stay; those of the same names, or of the same manifest where there is no name, are replaced.
///
/// # Errors
/// Where a blob is missing, or the directory cannot be written or holds something else.
pub fn oci_directory(image: &Finished, blobs: &Blobs, directory: &Path) -> Result<(), ExportError> {
    save_directory(&image.into(), blobs, directory)
}

/// Writes several images into the layout in `directory`, as [`oci_directory`] does one.
///
/// # Errors
/// As [`oci_directory`].
pub fn save_directory(
    image: &Selection,
    blobs: &Blobs,
    directory: &Path,
) -> Result<(), ExportError> {
    let index_path = directory.join("index.json");
    let earlier = match fs::read(&index_path) {
        Ok(bytes) => Some(Index::parse(&bytes).map_err(|source| ExportError::Index {
            path: index_path.clone(),
            source,
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&index_path)(error)),
    };
    let layout = directory.join("oci-layout");
    if !layout.exists() && fs::read_dir(directory).is_ok_and(|mut it| it.next().is_some()) {
        return Err(ExportError::NotALayout {
            path: directory.to_owned(),
        });
    }
    let blob_directory = directory.join("blobs/sha256");
    fs::create_dir_all(&blob_directory).map_err(failed(&blob_directory))?;
    replace(&layout, LAYOUT.as_bytes())?;
    for blob in image.blobs() {
        let path = directory.join(blob_name(blob));
        let file = open(blobs, blob)?;
        if !fs::metadata(&path).is_ok_and(|it| it.len() == blob.size) {
            replace(&path, file)?;
        }
    }
    let mut index = earlier.unwrap_or_else(|| Index::new(Vec::new()));
    let entries = image.entries();
    index
        .manifests
        .retain(|old| !entries.iter().any(|new| replaces(new, old)));
    index.manifests.extend(entries.iter().cloned());
    replace(&index_path, &index.to_bytes()[..])
}

/// Whether `new` takes the place of `old`: the same name, as this or another tool writes it, or neither has
/// one and both are the same manifest.
fn replaces(new: &Descriptor, old: &Descriptor) -> bool {
    let get = |it: &Descriptor, key: &str| it.annotations.get(key).cloned();
    let full = |it| get(it, ANNOTATION_IMAGE_NAME);
    let short = |it| get(it, ANNOTATION_REF_NAME);
    match (full(new), full(old)) {
        (Some(new), Some(old)) => new == old,
        // Tools that know tags only: two entries of one tag would be ambiguous.
        (Some(_), None) => short(old).is_some() && short(new) == short(old),
        (None, None) => short(old).is_none() && new.digest == old.digest,
        (None, Some(_)) => false,
    }
}

fn replace(path: &Path, mut content: impl Read) -> Result<(), ExportError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".export-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(failed(path))?;
    io::copy(&mut content, &mut file).map_err(failed(path))?;
    file.flush().map_err(failed(path))?;
    file.persist(path).map_err(|it| failed(path)(it.error))?;
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ExportError + use<> {
    let path = path.to_owned();
    move |source| ExportError::Write {
        path: path.clone(),
        source,
    }
}
