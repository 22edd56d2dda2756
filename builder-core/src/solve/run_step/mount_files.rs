//! The files of cache mounts as blobs, for shared caches: packed at the end of a build, unpacked where a mount is first used.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

use crate::image::Descriptor;
use crate::layer::compression::{Compression, compress, decompressor};
use crate::layer::{
    EntryKind, Limits, Reader, ReaderOptions, UnpackOptions, Unpacker, Writer, WriterOptions,
};
use crate::sandbox::has_single_id;
use crate::share::Mount;
use crate::snapshot::{changes, open_data};
use crate::solve::SolveErrorKind;
use crate::solve::file::FileError;
use crate::solve::inputs::Inputs;

/// Much the same size as higher levels, in a part of the time.
const CODEC: Compression = Compression::Zstd(3);

/// Packs the files of the cache mount `name`; `None` where it has none.
///
/// # Errors
/// What cannot be read; a mount that somebody is at work in.
pub fn pack_mount(inputs: &Inputs, name: &str, id: &str) -> Result<Option<Mount>, SolveErrorKind> {
    let io = |error| SolveErrorKind::io(format!("pack the cache mount `{id}`"), error);
    let path = inputs.store.cache_dir().join("mounts").join(name);
    if !path.is_dir() {
        return Ok(None);
    }
    // Nobody may write meanwhile.
    let lock = inputs.store.try_lock(&format!("mount-{name}"))?;
    let busy = || {
        io(std::io::Error::other(
            "a step of another build is at work in it",
        ))
    };
    let _lock = lock.ok_or_else(busy)?;
    let directory = File::open(&path).map_err(io)?;
    let entries = changes(directory.as_fd(), &[], inputs.options.userxattr)?;
    if entries.iter().all(|it| it.entry.path.is_empty()) {
        return Ok(None);
    }
    let blobs = inputs.store.blobs();
    let mut writer = Writer::new(
        std::io::BufWriter::new(blobs.scratch()?),
        WriterOptions::default(),
    );
    let layer_error = |error| SolveErrorKind::File(FileError::Layer(error));
    for change in &entries {
        match change.entry.kind {
            EntryKind::File { .. } => {
                let mut data = open_data(directory.as_fd(), change)?;
                writer
                    .append(&change.entry, &mut data)
                    .map_err(layer_error)?;
            }
            _ => writer
                .append(&change.entry, &mut std::io::empty())
                .map_err(layer_error)?,
        }
    }
    let (out, _) = writer.finish().map_err(layer_error)?;
    let mut tar = out.into_inner().map_err(|error| io(error.into_error()))?;
    tar.rewind().map_err(io)?;
    let mut out = blobs.raw_writer()?;
    let made = compress(&mut tar, CODEC, &mut out).map_err(layer_error)?;
    out.commit_hashed(made.digest)?;
    Ok(Some(Mount {
        name: name.to_owned(),
        id: id.to_owned(),
        blob: Descriptor::new(made.media_type, made.digest, made.size),
    }))
}

/// Unpacks files of a cache mount into an empty directory.
pub(super) fn fill(inputs: &Inputs, mount: &Mount, directory: &Path) -> Result<(), SolveErrorKind> {
    let io = |error| SolveErrorKind::io(format!("fill the cache mount `{}`", mount.id), error);
    let layer_error = |error| SolveErrorKind::File(FileError::Layer(error));
    let packed = inputs.store.blobs().open(&mount.blob.digest)?;
    let tar: Box<dyn Read + Send> = decompressor(packed).map_err(io)?;
    let limits = Limits::of_compressed(mount.blob.size, inputs.options.max_layer_bytes);
    let mut reader = Reader::new(
        tar,
        ReaderOptions {
            whiteouts: false,
            limits,
        },
    );
    let directory = File::open(directory).map_err(io)?;
    let options = UnpackOptions {
        remember: has_single_id(),
        ..UnpackOptions::default()
    };
    let mut unpacker = Unpacker::new(directory.as_fd(), options).map_err(layer_error)?;
    unpacker.unpack(&mut reader).map_err(layer_error)?;
    unpacker.finish().map_err(layer_error)?;
    Ok(())
}
