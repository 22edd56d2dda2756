//! The files of a layout or an archive, by their names in it; and what is said of it in errors.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::super::RegistryError;
use crate::image::DocumentError;
use crate::store::Blobs;

const MAX_LINKS: usize = 8;

/// Where a layout or an archive lies, and what it is called where its path means nothing to the user.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub path: &'a Path,
    pub called: Option<&'a str>,
}

impl<'a> From<&'a Path> for Place<'a> {
    fn from(path: &'a Path) -> Self {
        Place { path, called: None }
    }
}

impl<'a> From<&'a PathBuf> for Place<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Place::from(path.as_path())
    }
}

impl Place<'_> {
    /// Returns what errors call it.
    pub fn shown(&self) -> &Path {
        self.called.map_or(self.path, Path::new)
    }
}

/// A layout or an archive, opened.
pub(super) struct Layout {
    pub(super) path: PathBuf,
    /// What it is called in errors.
    pub(super) shown: PathBuf,
    files: Files,
}

enum Files {
    Directory,
    Archive {
        file: File,
        members: HashMap<PathBuf, Member>,
    },
}

enum Member {
    Data {
        offset: u64,
        size: u64,
    },
    /// Another member's name.
    Link(PathBuf),
}

impl Layout {
    /// Opens what lies at `place`.
    pub(super) fn open(place: &Place<'_>, blobs: &Blobs) -> Result<Self, RegistryError> {
        let (path, shown) = (place.path, place.shown());
        let failed = |source| RegistryError::File {
            path: shown.to_owned(),
            source,
        };
        let files = if fs::metadata(path).map_err(failed)?.is_dir() {
            Files::Directory
        } else {
            let file = uncompressed(File::open(path).map_err(failed)?, blobs, &failed)?;
            let members = members(&file).map_err(|_| RegistryError::NotALayout {
                path: shown.to_owned(),
            })?;
            Files::Archive { file, members }
        };
        Ok(Layout {
            path: path.to_owned(),
            shown: shown.to_owned(),
            files,
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match &self.files {
            Files::Directory => self.path.join(name).is_file(),
            Files::Archive { members, .. } => members.contains_key(Path::new(name)),
        }
    }

    /// Opens a file by its name in the layout; `None` where there is none.
    pub(super) fn file(&mut self, name: &str) -> Result<Option<Box<dyn Read + '_>>, RegistryError> {
        let path = self.shown.clone();
        let failed = |source| RegistryError::File { path, source };
        let Some(name) = clean(Path::new(name)) else {
            return Ok(None);
        };
        match &mut self.files {
            Files::Directory => match File::open(self.path.join(name)) {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(error)),
            },
            Files::Archive { file, members } => {
                let mut name = name;
                for _ in 0..MAX_LINKS {
                    match members.get(&name) {
                        None => return Ok(None),
                        Some(Member::Link(target)) => name.clone_from(target),
                        Some(Member::Data { offset, size }) => {
                            file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                            return Ok(Some(Box::new(file.take(*size))));
                        }
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&mut self, name: &str, max: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let path = self.shown.clone();
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.take(max + 1).read_to_end(&mut bytes);
        read.map_err(|source| RegistryError::File {
            path: path.clone(),
            source,
        })?;
        if bytes.len() as u64 > max {
            return Err(RegistryError::TooLarge {
                what: name.to_owned(),
                host: path.display().to_string(),
                max,
            });
        }
        Ok(Some(bytes))
    }

    pub(super) fn missing(&self, what: impl ToString) -> RegistryError {
        RegistryError::Incomplete {
            path: self.shown.clone(),
            what: what.to_string(),
        }
    }

    pub(super) fn what(&self) -> String {
        self.shown.display().to_string()
    }

    pub(super) fn document(&self) -> impl Fn(DocumentError) -> RegistryError + use<> {
        let what = self.what();
        move |source| RegistryError::Document {
            what: what.clone(),
            source,
        }
    }
}

pub(super) enum Magic {
    Gzip,
    Zstd,
    Other,
}

impl Magic {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Magic::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Magic::Zstd,
            _ => Magic::Other,
        }
    }
}

/// Returns `file`, or a nameless file with what is compressed in it.
fn uncompressed(
    mut file: File,
    blobs: &Blobs,
    failed: &impl Fn(io::Error) -> RegistryError,
) -> Result<File, RegistryError> {
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut reader: Box<dyn Read> = match Magic::of(&magic) {
        Magic::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Magic::Zstd => Box::new(zstd::Decoder::new(file).map_err(failed)?),
        Magic::Other => return Ok(file),
    };
    let mut scratch = blobs.scratch()?;
    io::copy(&mut reader, &mut scratch).map_err(failed)?;
    Ok(scratch)
}

/// Lists an archive's members: where their data is, or whose data they share.
fn members(mut file: &File) -> io::Result<HashMap<PathBuf, Member>> {
    file.seek(SeekFrom::Start(0))?;
    let mut members = HashMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = clean(&path) else { continue };
        let kind = entry.header().entry_type();
        let member = if kind.is_file() {
            Member::Data {
                offset: entry.raw_file_position(),
                size: entry.size(),
            }
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name()? else {
                continue;
            };
            let parent = name.parent().filter(|_| kind.is_symlink());
            let target = parent.map_or_else(|| target.to_path_buf(), |it| it.join(&target));
            let Some(target) = clean(&target) else {
                continue;
            };
            Member::Link(target)
        } else {
            continue;
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// Returns a path without `.` and `..`; `None` where it leads out of the layout.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}
