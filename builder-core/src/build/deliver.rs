//! From solved plans, one a platform, to an image in the store and every output.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::annotations::{self, Annotation, Level};
use super::assemble;
use super::attested::{Attested, left_out};
use super::error::BuildError;
use super::output::{Dest, Engine, ImageOptions, Output, Sink, Split};
use super::run::Image;
use crate::attest::provenance::Facts;
use crate::attest::{self, Attestation};
use crate::export::{self, Destination, Finished};
use crate::image::{ImageConfig, Index, Platform, Reference};
use crate::layer::compression::Compression;
use crate::progress::{Event, EventSink};
use crate::solve::{Inputs, SolveError, Solved, fetch_above, result_tree, wait_for};
use crate::store::Store;

/// A plan that is solved.
pub(super) struct Solution {
    pub(super) inputs: Arc<Inputs>,
    pub(super) config: ImageConfig,
    pub(super) solved: Solved,
    pub(super) facts: Facts,
    pub(super) attested: Attested,
    /// Once the image's files have been looked at.
    pub(super) sbom: Option<Attestation>,
}

impl Solution {
    pub(super) fn platform(&self) -> &Platform {
        &self.inputs.plan.platform
    }
}

/// All that outputs are made from.
pub(super) struct Delivery<'a> {
    pub(super) solutions: &'a [Solution],
    pub(super) outputs: &'a [Output],
    pub(super) names: &'a [Reference],
    pub(super) annotations: &'a [Annotation],
    pub(super) store: &'a Store,
    pub(super) events: &'a dyn EventSink,
    pub(super) fail: &'a dyn Fn(SolveError) -> BuildError,
}

impl Delivery<'_> {
    /// Writes the image into the store, then every output.
    pub(super) fn deliver(&self) -> Result<Image, BuildError> {
        self.refuse_contradictions()?;
        // What is asked of one output is what a later push sends.
        let stored = ImageOptions {
            referrers: self.outputs.iter().any(Output::has_referrers),
            ..ImageOptions::compressed(Compression::None)
        };
        let stored = self.finish(&stored, true)?;
        let mut done = Vec::new();
        let mut more_names = Vec::new();
        for output in self.outputs {
            let finished = output
                .image()
                .map(|image| self.finish(image, false))
                .transpose()?;
            if let Output::Store { names, .. } = output {
                more_names.extend(names.iter().cloned());
            } else {
                let what = self.write(output, finished.as_ref())?;
                self.tell(what);
            }
            done.push(finished);
        }
        self.store.note_built(&stored.config.digest, stored.top())?;
        for index in done.iter().flatten().chain([&stored]) {
            if let Some(index) = &index.index {
                self.store.note_built(&index.digest, index)?;
            }
        }
        self.events.emit(Event::Built {
            image: stored.config.digest.to_string(),
            manifest: stored.top().digest.to_string(),
        });
        for name in self.names.iter().chain(&more_names) {
            self.store.tag(name, stored.top().clone())?;
            self.tell(format!("naming to {name}"));
        }
        Ok(Image {
            stored,
            outputs: done,
            pushed: self
                .outputs
                .iter()
                .position(|it| matches!(it, Output::Registry { .. })),
            platform: self.solutions[0].platform().clone(),
            platforms: self
                .solutions
                .iter()
                .map(|it| it.platform().clone())
                .collect(),
            names: [self.names, &more_names].concat(),
            facts: self.solutions.iter().map(|it| it.facts.clone()).collect(),
        })
    }

    fn tell(&self, what: String) {
        self.events.emit(Event::Exported { what });
    }

    fn has_index(&self) -> bool {
        self.solutions.len() > 1 || self.solutions.iter().any(|it| it.attested.is_any())
    }

    /// Refuses annotations that would be written nowhere, and files that would be written twice.
    fn refuse_contradictions(&self) -> Result<(), BuildError> {
        let together = |output: &&Output| {
            let (Output::Local { split, .. } | Output::Tar { split, .. }) = output else {
                return false;
            };
            *split == Split::Never && self.solutions.len() > 1
        };
        if let Some(output) = self.outputs.iter().find(together) {
            return Err(BuildError::PlatformsTogether {
                place: output.place(),
            });
        }
        let of_outputs = self.outputs.iter().filter_map(Output::image);
        let all = of_outputs
            .flat_map(|image| &image.annotations)
            .chain(self.annotations);
        for annotation in all {
            let of_index = matches!(annotation.level, Level::Index | Level::IndexDescriptor);
            let known = annotation.platform.as_ref().is_none_or(|it| {
                self.solutions
                    .iter()
                    .any(|solution| solution.platform() == it)
            });
            let reason = match (of_index && !self.has_index(), known) {
                (true, _) => {
                    "there is no index: one is made for several platforms, or with attestations"
                }
                (_, false) => "its platform is not built",
                _ => continue,
            };
            let key = annotation.key.clone();
            return Err(BuildError::Annotation { key, reason });
        }
        Ok(())
    }

    /// Writes manifests, and the index where there is one, into the store. `as_it_is`: layers stay as shared caches have them.
    fn finish(&self, options: &ImageOptions, as_it_is: bool) -> Result<Finished, BuildError> {
        let names = options.names.as_deref().unwrap_or(self.names);
        let all = [self.annotations, &options.annotations].concat();
        let blobs = self.store.blobs();
        let mut images = Vec::new();
        for solution in self.solutions {
            let platform = Some(solution.platform());
            let in_manifest = annotations::at(&all, Level::Manifest, platform);
            let Solution {
                inputs,
                config,
                solved,
                ..
            } = solution;
            let mut image =
                assemble::finish(inputs, config, solved, options, in_manifest, as_it_is)?;
            image.names = names.to_vec();
            image.manifest.annotations = annotations::at(&all, Level::ManifestDescriptor, platform);
            images.push(image);
        }
        if !self.has_index() {
            return Ok(images.remove(0));
        }
        let mut others = Vec::new();
        let mut entries = Vec::new();
        for (image, solution) in images.iter().zip(self.solutions) {
            entries.push(
                image
                    .manifest
                    .clone()
                    .for_platform(solution.platform().clone()),
            );
            others.extend([&image.manifest, &image.config].map(Clone::clone));
            others.extend(image.layers.iter().cloned());
        }
        for (image, solution) in images.iter().zip(self.solutions) {
            let said = solution.said(&image.layers);
            if said.is_empty() {
                continue;
            }
            let (platform, referrers) = (solution.platform(), options.referrers);
            let written = attest::attach(&image.manifest, names, platform, &said, referrers);
            for (descriptor, bytes) in written.blobs {
                blobs.put(&bytes)?;
                others.push(descriptor);
            }
            entries.push(written.manifest);
        }
        let mut index = Index::new(entries);
        if options.docker_types && !self.solutions.iter().any(|it| it.attested.is_any()) {
            index.media_type = Some(crate::image::media_type::DOCKER_INDEX.to_owned());
        }
        index.annotations = annotations::at(&all, Level::Index, None);
        let bytes = index.to_bytes();
        blobs.put(&bytes)?;
        let mut top = crate::image::Descriptor::of(index.media_type(), &bytes);
        top.annotations = annotations::at(&all, Level::IndexDescriptor, None);
        let mut finished = images.remove(0);
        finished.index = Some(top);
        finished.others = others;
        Ok(finished)
    }

    /// Writes one output and says so.
    fn write(&self, output: &Output, image: Option<&Finished>) -> Result<String, BuildError> {
        let blobs = self.store.blobs();
        let clamp = self.solutions[0].inputs.plan.source_date_epoch;
        match (output, image) {
            (Output::OciArchive { dest, .. }, Some(image)) => {
                let mut sink = sink(dest);
                export::oci_archive(image, blobs, destination(dest, &mut sink))?;
                Ok(format!("writing {dest}"))
            }
            (Output::OciDirectory { dest, .. }, Some(image)) => {
                export::oci_directory(image, blobs, dest)?;
                Ok(format!("writing {}", dest.display()))
            }
            (Output::DockerArchive { dest, .. }, Some(image)) => {
                let image = self.alone(image, "a docker archive")?;
                let mut sink = sink(dest);
                export::docker_archive(&image, blobs, destination(dest, &mut sink))?;
                Ok(format!("writing {dest}"))
            }
            (Output::Engine { at, .. }, Some(image)) => {
                let image = self.alone(image, "an engine")?;
                let connect = |patience| connect(at, patience);
                let loaded =
                    export::load_into(&image, blobs, &connect, &|held| self.fetch_above(held));
                let loaded = loaded.map_err(|error| match error {
                    BuildError::Export(export::ExportError::Connect(source)) => {
                        BuildError::Engine {
                            engine: at.to_string(),
                            source,
                        }
                    }
                    error => error,
                })?;
                let export::Loaded { said, sent, layers } = loaded;
                Ok(format!(
                    "loading into {at}: {said} ({sent} of {layers} layers sent)"
                ))
            }
            (Output::Local { dest, split }, _) => {
                for (directory, tree) in self.trees(*split)? {
                    let dest = match directory.as_str() {
                        "" => dest.clone(),
                        directory => dest.join(directory),
                    };
                    if let Some(unset) = export::local_directory(tree.as_deref(), &dest, clamp)? {
                        self.events.emit(without_attributes(&unset, &dest));
                    }
                }
                Ok(format!("writing {}", dest.display()))
            }
            (Output::Tar { dest, split }, _) => {
                let trees = self.trees(*split)?;
                let mut sink = sink(dest);
                export::tree_archive(&trees, destination(dest, &mut sink), clamp)?;
                Ok(format!("writing {dest}"))
            }
            _ => Ok(String::new()),
        }
    }

    /// Has the layers of the one image in the store, but for its `held` lowest ones. Blocks while they come.
    fn fetch_above(&self, held: usize) -> Result<(), BuildError> {
        let Solution { inputs, solved, .. } = &self.solutions[0];
        let fetched = wait_for(async {
            tokio::select! {
                fetched = fetch_above(inputs, solved, held) => Some(fetched),
                () = inputs.cancel.cancelled() => None,
            }
        });
        let fetched = fetched.ok_or(BuildError::Cancelled)?;
        fetched.map_err(self.fail)
    }

    /// Returns the one image that `place` can hold; attestations stay behind, which is said.
    fn alone(&self, image: &Finished, place: &str) -> Result<Finished, BuildError> {
        if self.solutions.len() > 1 {
            return Err(BuildError::ManyPlatforms);
        }
        if image.index.is_some() {
            self.events.emit(left_out(place));
        }
        Ok(Finished {
            index: None,
            others: Vec::new(),
            ..image.clone()
        })
    }

    /// Returns the files of each platform, with the directory that they go into; the empty one is none.
    fn trees(&self, split: Split) -> Result<Vec<export::Placed>, BuildError> {
        let many = split == Split::Always || self.solutions.len() > 1;
        let each = self.solutions.iter().map(|solution| {
            let tree = result_tree(&solution.inputs, &solution.solved).map_err(self.fail)?;
            let tree = solution.beside(tree, self.store)?;
            let directory = match many {
                true => solution.platform().to_string().replace('/', "_"),
                false => String::new(),
            };
            Ok((directory, tree))
        });
        each.collect()
    }
}

fn destination<'a>(dest: &'a Dest, sink: &'a mut Sink) -> Destination<'a> {
    match dest {
        Dest::File(path) => Destination::File(path),
        Dest::Stream(_) => Destination::Writer(sink),
    }
}

/// Returns the writer of a stream; of a file, one that is not used.
fn sink(dest: &Dest) -> Sink {
    match dest {
        Dest::File(_) => Sink::new(std::io::sink()),
        Dest::Stream(sink) => sink.clone(),
    }
}

fn connect(engine: &Engine, patience: Duration) -> std::io::Result<Box<dyn export::Wire>> {
    Ok(match engine {
        Engine::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Box::new(stream)
        }
        Engine::Tcp(host) => {
            let stream = TcpStream::connect(host)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Box::new(stream)
        }
    })
}

/// What an ordinary user, or a file system, does not take is missed by few, and fails nothing.
fn without_attributes(unset: &export::Unset, dest: &Path) -> Event {
    let export::Unset {
        count,
        path,
        name,
        errno,
    } = unset;
    Event::Warning {
        vertex: None,
        line: None,
        message: format!(
            "extended attributes that cannot be set in {}: {count}; the first is {name} of /{path} ({})",
            dest.display(),
            std::io::Error::from(*errno)
        ),
    }
}
