//! An OCI layout as a directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::archive::LAYOUT;
use super::finished::{blob_name, open};
use super::{ExportError, Finished, Selection};
use crate::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Index};
use crate::store::Blobs;

/// What is being written is named so.
const UNFINISHED: &str = ".export-";
/// Longer than it takes from making a file to locking it.
const NEW: Duration = Duration::from_secs(60);

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
    replace(&index_path, &index.to_bytes()[..])?;
    sweep(directory);
    sweep(&blob_directory);
    Ok(())
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

/// Removes what exports that were killed have left unfinished in `dir`. One that is being written is locked, or, in the moment
/// before, new.
fn sweep(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata.modified().ok().and_then(|it| it.elapsed().ok());
        let is_old = age.is_some_and(|it| it >= NEW);
        // A pipe that somebody named so would block.
        let path = entry.path();
        if is_old
            && metadata.is_file()
            && let Ok(file) = File::open(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
}

fn replace(path: &Path, mut content: impl Read) -> Result<(), ExportError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(failed(path))?;
    // Shows to others that it is being written; where locks are not to be had, it is only not swept.
    let _ = flock(file.as_file(), FlockOperation::NonBlockingLockShared);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_exports_left_goes_and_what_is_written_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let make = |name: &str, seconds: u64| {
            let file = File::create(dir.path().join(name)).expect("create");
            let time = std::time::SystemTime::now() - Duration::from_secs(seconds);
            file.set_modified(time).expect("time");
            file
        };
        make(".export-old", 3600);
        make(".export-new", 1);
        make("other", 3600);
        let written = make(".export-written", 3600);
        flock(&written, FlockOperation::NonBlockingLockShared).expect("lock");
        fs::create_dir(dir.path().join(".export-dir")).expect("mkdir");
        sweep(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [".export-dir", ".export-new", ".export-written", "other"]
        );
    }
}
