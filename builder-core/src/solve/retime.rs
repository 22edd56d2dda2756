//! Times of what RUN steps made earlier, as they would be if it were made under today's `SOURCE_DATE_EPOCH`.
//!
//! That variable is not in a RUN's key: with the time of a commit for it, as is usual, every commit would run everything again. So
//! a result that is found may be of another epoch, or of none. What a step wrote itself is not older than the step; made again,
//! it would have the epoch for its time. What is older it took from elsewhere, with its time.
//!
//! Layers of files (COPY, ADD, WORKDIR) have the epoch in their keys and need none of this.

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

use super::SolveErrorKind;
use super::inputs::Inputs;
use super::layers::{LayerLoader, bad, limits, unreadable};
use crate::cache::{Cache, Layer, Retimed};
use crate::context::{ContextError, Lookup, Node, Tree, Xattrs};
use crate::export::LayerWriter;
use crate::image::{Descriptor, media_type};
use crate::layer::compression::decompressor;
use crate::layer::{Reader, ReaderOptions, Writer, WriterOptions, Written};
use crate::progress::VertexId;

/// When the layer's step began, if its times are not those of `epoch`.
fn other(layer: &Layer, epoch: i64) -> Option<i64> {
    match layer.clamped == Some(epoch) {
        true => None,
        false => layer.created,
    }
}

/// The time of something under `epoch`, of a step that began at `since`.
fn told(mtime: i64, since: i64, epoch: i64) -> i64 {
    if mtime >= since {
        epoch
    } else {
        mtime.min(epoch)
    }
}

/// How the times of a layer are told.
#[derive(Debug)]
pub(super) struct Retiming {
    since: i64,
    epoch: i64,
    is_exact: bool,
}

impl Retiming {
    /// Of a step that began at `since`.
    pub(super) fn new(since: i64, epoch: i64) -> Self {
        Retiming {
            since,
            epoch,
            is_exact: true,
        }
    }

    pub(super) fn told(&mut self, mtime: i64) -> i64 {
        // It will look as if the step had written it, though that gave it a time.
        self.is_exact &= !(self.epoch..self.since).contains(&mtime);
        told(mtime, self.since, self.epoch)
    }

    /// Whether the times of every other epoch can be told from those that were told.
    pub(super) fn is_exact(&self) -> bool {
        self.is_exact
    }
}

/// Keeps a layer that was written with the times of `epoch`.
pub(super) fn made(
    out: LayerWriter,
    written: &Written,
    epoch: i64,
) -> Result<Layer, SolveErrorKind> {
    let size = out.commit(written.diff_id)?;
    Ok(Layer {
        diff_id: written.diff_id,
        blob: Descriptor::new(media_type::OCI_LAYER, written.diff_id.0, size),
        content: written.content,
        created: Some(epoch),
        clamped: Some(epoch),
        origin: None,
    })
}

/// Whether the layer has times of another epoch than this build's.
pub(super) fn is_other(inputs: &Inputs, layer: &Layer) -> bool {
    let epoch = inputs.plan.source_date_epoch;
    epoch.is_some_and(|epoch| other(layer, epoch).is_some())
}

/// Returns the layer as the result has it, where that was made before and tells as much.
pub(super) fn known(inputs: &Inputs, cache: &Cache, layer: Layer) -> Layer {
    match inputs.plan.source_date_epoch {
        Some(epoch) if other(&layer, epoch).is_some() => {
            let found = cache.find_retimed(&layer, epoch);
            let exact = found.filter(|it| it.exact);
            exact.map_or(layer, |it| it.layer)
        }
        _ => layer,
    }
}

/// Returns the layers of a result with the times of today's epoch.
pub(super) async fn layers(
    inputs: &Arc<Inputs>,
    layers: Vec<Layer>,
    vertex: VertexId,
) -> Result<Vec<Layer>, SolveErrorKind> {
    let Some(epoch) = inputs.plan.source_date_epoch else {
        return Ok(layers);
    };
    let loader = LayerLoader::default();
    let mut out = Vec::with_capacity(layers.len());
    for layer in layers {
        out.push(match other(&layer, epoch) {
            Some(since) => retimed(inputs, &loader, &layer, since, epoch, vertex).await?,
            None => layer,
        });
    }
    Ok(out)
}

async fn retimed(
    inputs: &Arc<Inputs>,
    loader: &LayerLoader,
    layer: &Layer,
    since: i64,
    epoch: i64,
    vertex: VertexId,
) -> Result<Layer, SolveErrorKind> {
    let cache = Cache::new(inputs.store.clone());
    if let Some(known) = cache.find_retimed(layer, epoch) {
        let layer = known.layer;
        inputs.compressor.expect(layer.diff_id, layer.blob.size);
        return Ok(layer);
    }
    let (inputs_there, wanted) = (inputs.clone(), layer.clone());
    let work = move |blob: &mut (dyn Read + Send)| {
        let inputs = &inputs_there;
        let buffered = BufReader::with_capacity(256 << 10, blob);
        let tar = decompressor(buffered).map_err(|error| unreadable(&wanted, error))?;
        let options = ReaderOptions {
            whiteouts: true,
            limits: limits(inputs, &wanted),
        };
        let out = inputs.compressor.writer(true)?;
        let mut times = Retiming::new(since, epoch);
        let mut reader = Reader::new(tar, options);
        let mut writer = Writer::new(out, WriterOptions::default());
        let failed = |error: crate::layer::LayerError| bad(&wanted, error.into());
        while let Some(mut entry) = reader.next().map_err(failed)? {
            entry.mtime = times.told(entry.mtime);
            writer.append(&entry, &mut reader).map_err(failed)?;
        }
        let (out, written) = writer.finish().map_err(failed)?;
        Ok(Retimed {
            layer: made(out, &written, epoch)?,
            exact: times.is_exact(),
        })
    };
    let made = loader.read(inputs, layer, vertex, work).await?;
    cache.put_retimed(layer, epoch, &made)?;
    Ok(made.layer)
}

/// A tree of a result that was found, with the times of today's epoch. Which layer a file is of it does not know: what is
/// not older than the first RUN counts as written.
pub(super) struct RetimedTree {
    tree: Arc<dyn Tree>,
    since: i64,
    epoch: i64,
}

impl RetimedTree {
    /// Returns `tree`, which `layers` come to, as it is or so shown.
    pub(super) fn of(inputs: &Inputs, layers: &[Layer], tree: Arc<dyn Tree>) -> Arc<dyn Tree> {
        let Some(epoch) = inputs.plan.source_date_epoch else {
            return tree;
        };
        match layers.iter().filter_map(|it| other(it, epoch)).min() {
            Some(since) => Arc::new(RetimedTree { tree, since, epoch }),
            None => tree,
        }
    }

    fn node(&self, mut node: Node) -> Node {
        node.mtime = told(node.mtime, self.since, self.epoch);
        node
    }
}

impl Lookup for RetimedTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        Ok(self.tree.lookup(path)?.map(|node| self.node(node)))
    }
}

impl Tree for RetimedTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        let children = self.tree.children(path)?;
        Ok(children.iter().map(|it| self.node(it.clone())).collect())
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        self.tree.open(node)
    }

    fn open_with_xattrs(&self, node: &Node) -> Result<(File, Xattrs), ContextError> {
        self.tree.open_with_xattrs(node)
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, ContextError> {
        self.tree.xattrs(node)
    }

    fn place(&self) -> &'static str {
        self.tree.place()
    }

    fn has_owners(&self) -> bool {
        self.tree.has_owners()
    }

    fn ignored_by(&self, path: &[u8]) -> Option<String> {
        self.tree.ignored_by(path)
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_a_step_wrote_has_the_epoch_and_what_it_brought_keeps_its_time() {
        for (mtime, since, epoch, expected) in [
            (150, 100, 50, 50),
            (150, 100, 200, 200),
            (100, 100, 200, 200),
            (40, 100, 200, 40),
            (70, 100, 50, 50),
        ] {
            assert_eq!(
                told(mtime, since, epoch),
                expected,
                "{mtime} {since} {epoch}"
            );
        }
    }
}
