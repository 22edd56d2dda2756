//! Images packed into an archive, and out of one.

use std::io::{self, Read};
use std::path::Path;

use super::transfer::verify_now;
use super::{Image, Images, ImagesError};
use crate::digest::Digest;
use crate::export::{self, Destination, Finished, Selection};
use crate::image::{Descriptor, Platform, Reference};
use crate::registry::{Contents, Resolved, layout};
use crate::store::Store;

/// What an archive is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// For `docker load`; an OCI archive as well.
    #[default]
    Docker,
    /// An OCI image layout in a tar.
    Oci,
}

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub id: Digest,
    /// None where the archive has none for it.
    pub names: Vec<Reference>,
}

impl Images {
    /// Packs images, with the names that they are asked for by: one that is asked for by its id has none. Blocks. Layers that are not here
    /// are not fetched: [`complete`](Self::complete) does that.
    ///
    /// # Errors
    /// As [`find`](Self::find); a layer that `docker load` could not read; what writing says.
    pub fn save(
        &self,
        wanted: &[String],
        format: ArchiveFormat,
        destination: Destination<'_>,
    ) -> Result<(), ImagesError> {
        let mut selection = Selection::default();
        let mut taken: Vec<(Image, Vec<Reference>)> = Vec::new();
        for text in wanted {
            let image = self.find(text)?;
            let asked = text
                .parse::<Reference>()
                .ok()
                .filter(|it| image.names.contains(it));
            let names: Vec<Reference> = asked.into_iter().collect();
            match taken
                .iter_mut()
                .find(|(it, _)| it.top.digest == image.top.digest)
            {
                Some((_, known)) => known.extend(names),
                None => taken.push((image, names)),
            }
        }
        for (image, mut names) in taken {
            names.sort();
            names.dedup();
            self.whole(&image, &names, format)?;
            if format == ArchiveFormat::Oci && image.top.digest != image.manifest_descriptor.digest
            {
                let contents = Contents::read(&image.top, self.store.blobs())?;
                selection.add_index(&image.top, below(contents), &names);
            } else {
                selection.add(&finished(&image, names));
            }
        }
        let blobs = self.store.blobs();
        match format {
            ArchiveFormat::Docker => export::save_docker(&selection, blobs, destination)?,
            ArchiveFormat::Oci => export::save_oci(&selection, blobs, destination)?,
        }
        Ok(())
    }

    /// Unpacks all images of a layout or an archive (`gzip` and `zstd` too), verified. Blocks. An index is kept whole where the
    /// archive has all of it and no `platform` is asked for.
    ///
    /// # Errors
    /// Where `path` is no such thing; an image in it that is damaged: those before it are kept, and nothing of itself.
    pub fn load(
        &self,
        path: &Path,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, ImagesError> {
        self.load_from(path.into(), platform)
    }

    /// Unpacks an archive that comes as a stream, which is standard input to errors. Blocks.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_stream(
        &self,
        stream: &mut dyn Read,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, ImagesError> {
        let mut file =
            tempfile::NamedTempFile::new_in(self.store.tmp_dir()).map_err(ImagesError::Spool)?;
        io::copy(stream, &mut file).map_err(ImagesError::Spool)?;
        let place = layout::Place {
            path: file.path(),
            called: Some("standard input"),
        };
        self.load_from(place, platform)
    }

    fn load_from(
        &self,
        place: layout::Place<'_>,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, ImagesError> {
        let entries = layout::list(place, self.store.blobs())?;
        if entries.is_empty() {
            let path = place.shown().to_owned();
            return Err(ImagesError::Empty { path });
        }
        let mut loaded = Vec::new();
        for entry in entries {
            let staged = self.store.staged()?;
            let trial = Images::new(staged.store().clone(), self.client.clone());
            let (top, id, only) = trial.take_in(place, &entry.wanted, platform)?;
            staged.commit(only.as_deref())?;
            for name in &entry.names {
                self.store.tag(name, top.clone())?;
            }
            if entry.names.is_empty() {
                self.store.keep(&top)?;
            }
            loaded.push(Loaded {
                id,
                names: entry.names,
            });
        }
        Ok(loaded)
    }

    /// Unpacks one image, verified; returns what stands for it, its id, and, where more came than it needs, what it needs.
    fn take_in(
        &self,
        place: layout::Place<'_>,
        wanted: &str,
        platform: Option<&Platform>,
    ) -> Result<(Descriptor, Digest, Option<Vec<Digest>>), ImagesError> {
        if platform.is_none()
            && let Some((top, id)) = self.load_whole(place, wanted)?
        {
            return Ok((top, id, None));
        }
        let host = Platform::host();
        let platform = platform.unwrap_or(&host);
        let found = layout::resolve(place, Some(wanted), platform, self.store.blobs())?;
        self.check(&found)?;
        let Resolved {
            manifest,
            manifest_descriptor: top,
            layers,
            ..
        } = found;
        let parts = layers.iter().chain([&manifest.config, &top]);
        let only = parts.map(|it| it.digest).collect();
        Ok((top, manifest.config.digest, Some(only)))
    }

    /// Holds that the layers are what the config says.
    pub(super) fn check(&self, found: &Resolved) -> Result<(), ImagesError> {
        for (layer, diff_id) in found.layers.iter().zip(&found.config.diff_ids) {
            verify_now(&self.store, layer.digest, *diff_id)?;
        }
        Ok(())
    }

    /// Has all layers of an image at hand, before anything is written.
    fn whole(
        &self,
        image: &Image,
        names: &[Reference],
        format: ArchiveFormat,
    ) -> Result<(), ImagesError> {
        let blobs = self.store.blobs();
        let parts = self.parts(image, format)?;
        let missing = parts
            .iter()
            .find(|(it, _)| !blobs.has_sized(&it.digest, it.size));
        match missing {
            None => Ok(()),
            Some((layer, _)) => Err(ImagesError::Incomplete {
                name: names
                    .first()
                    .map_or_else(|| image.id().to_string(), Reference::familiar),
                digest: layer.digest,
            }),
        }
    }
}

/// One platform's image, to be written.
pub(super) fn finished(image: &Image, names: Vec<Reference>) -> Finished {
    let mut manifest = image.manifest_descriptor.clone();
    manifest.platform = Some(image.config.platform());
    Finished {
        index: None,
        others: Vec::new(),
        manifest,
        config: image.manifest.config.clone(),
        layers: image.manifest.layers.clone(),
        names,
    }
}

/// All that stands below an index.
pub(super) fn below(contents: Contents) -> Vec<Descriptor> {
    let manifests = contents.manifests.into_iter().map(|(it, _)| it);
    manifests.chain(contents.blobs).collect()
}

/// A store that is gone afterwards, for what only passes through.
pub(super) fn passing(store: &Store) -> Result<(tempfile::TempDir, Store), ImagesError> {
    let dir = tempfile::tempdir_in(store.tmp_dir()).map_err(ImagesError::Spool)?;
    let passing = Store::open(dir.path())?;
    Ok((dir, passing))
}
