//! What a COPY or a WORKDIR stands on: the tree below, unpacked only where somebody needs its files.
//!
//! ```text
//! its snapshots are there, or a step will look into it ──▶ unpacked, viewed
//! else: each layer listed? ─no─▶ fetched if need be, listed while it comes, the listing kept by diff_id
//!         └─yes─▶ the merged listings                        └─ odd layers ──▶ unpacked, viewed
//! ```
//!
//! So `FROM` a large image and `COPY` cost no unpacking, and later builds not even the layers: what a listing says is enough to
//! place files and to write the directories that lead there.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use super::SolveErrorKind;
use super::inputs::Inputs;
use super::job::Job;
use super::layers::{LayerLoader, bad, limits, unreadable};
use super::listed_tree::ListedTree;
use super::trees::{KnownTree, chains, stacked, view};
use crate::cache::Layer;
use crate::digest::DiffId;
use crate::layer::compression::decompressor;
use crate::layer::listing::{Listing, Merged, Recorder};
use crate::layer::{Reader, ReaderOptions, hashed};
use crate::plan::{Input, Op, Plan};
use crate::progress::VertexId;
use crate::registry::note_diff_id;
use crate::snapshot::SnapshotError;

/// Listings by diff_id.
const LISTINGS: &str = "listings";

/// The tree that a step stands on, as far as it must be had.
#[derive(Debug)]
pub(super) enum Ground {
    /// Every layer is unpacked.
    Unpacked,
    Listed(Merged),
}

/// Returns the vertices whose files are looked into by steps that must be gone into, other than to put something on them.
pub(super) fn looked_into(plan: &Plan, needed: &BTreeSet<Input>) -> BTreeSet<Input> {
    let mut found = BTreeSet::new();
    for &index in needed {
        let op = &plan.vertices[index].op;
        let mut inputs = op.inputs();
        if matches!(op, Op::Copy(_) | Op::Mkdir(_)) {
            let parent = op.parent();
            // A tree may be copied from, and stood on.
            if let Some(at) = inputs.iter().position(|input| Some(*input) == parent) {
                inputs.remove(at);
            }
        }
        let mut stack = inputs;
        while let Some(at) = stack.pop() {
            if found.insert(at) {
                stack.extend(plan.vertices[at].op.parent());
            }
        }
    }
    found
}

/// Has the tree of `parent`, which the vertex `below` made, as far as a COPY needs it.
pub(super) async fn ground(
    job: &Job,
    below: Option<Input>,
    parent: &[Layer],
) -> Result<Ground, SolveErrorKind> {
    let inputs = &job.inputs;
    let seen = below.is_some_and(|below| job.shared.looked_into.contains(&below));
    let there = |layers: &[Layer]| {
        let mut chains = chains(layers).into_iter();
        chains.all(|chain| inputs.snapshots.has(chain))
    };
    if !seen
        && !there(parent)
        && let Some(merged) = job.loader.list(inputs, parent, job.vertex).await?
    {
        return Ok(Ground::Listed(merged));
    }
    job.loader.unpack(inputs, parent, job.vertex).await?;
    Ok(Ground::Unpacked)
}

/// Shows the tree. Blocks.
pub(super) fn shown(
    job: &Job,
    ground: Ground,
    parent: &[Layer],
) -> Result<KnownTree, SolveErrorKind> {
    match ground {
        Ground::Unpacked => view(&job.inputs, parent),
        Ground::Listed(merged) => Ok(ListedTree::known(merged, job.clone(), parent.to_vec())),
    }
}

/// Keeps a listing. One that cannot be kept costs time, not the build.
pub(super) fn keep_listing(inputs: &Inputs, diff_id: DiffId, listing: &[u8]) {
    let records = inputs.store.records();
    let _ = records.put_bytes(LISTINGS, &diff_id.0, listing);
}

impl LayerLoader {
    /// Lists `layers` (base first), all at the same time; `None` where only unpacking can tell what they come to.
    async fn list(
        &self,
        inputs: &Arc<Inputs>,
        layers: &[Layer],
        vertex: VertexId,
    ) -> Result<Option<Merged>, SolveErrorKind> {
        let layers: Vec<&Layer> = stacked(layers).into_iter().map(|(_, it)| it).collect();
        let listings = layers.into_iter().map(|layer| async move {
            let known = inputs.store.records().get_bytes(LISTINGS, &layer.diff_id.0);
            if let Some(listing) = known.and_then(|bytes| Listing::parse(&bytes)) {
                return Ok(Some(listing));
            }
            let (inputs_there, wanted) = (inputs.clone(), layer.clone());
            let work = move |blob: &mut (dyn Read + Send)| listed(&inputs_there, &wanted, blob);
            let bytes = self.read(inputs, layer, vertex, work).await?;
            Ok::<_, SolveErrorKind>(bytes.and_then(|bytes| Listing::parse(&bytes)))
        });
        let listings = futures_util::future::try_join_all(listings).await?;
        let whole: Option<Vec<Listing>> = listings.into_iter().collect();
        Ok(whole.and_then(|listings| Merged::of(&listings)))
    }
}

/// Lists a blob that is read on the way, holds that it is its layer, and keeps the listing.
fn listed(
    inputs: &Inputs,
    layer: &Layer,
    blob: &mut (dyn Read + Send),
) -> Result<Option<Vec<u8>>, SolveErrorKind> {
    let mut tar = decompressor(blob).map_err(|error| unreadable(layer, error))?;
    let options = ReaderOptions {
        whiteouts: true,
        limits: limits(inputs, layer),
    };
    let (recorder, found) = hashed(&mut tar, |tar| {
        let mut reader = Reader::new(tar, options);
        let mut recorder = Recorder::default();
        recorder.read(&mut reader)?;
        reader.drain()?;
        Ok::<_, SnapshotError>(recorder)
    })
    .map_err(|source| bad(layer, source))?;
    if found != layer.diff_id {
        let expected = layer.diff_id;
        return Err(bad(layer, SnapshotError::DiffId { expected, found }));
    }
    // One that is not noted is looked at once more.
    let _ = note_diff_id(inputs.store.records(), &layer.blob.digest, found);
    let listing = recorder.finish();
    if let Some(listing) = &listing {
        keep_listing(inputs, layer.diff_id, listing);
    }
    Ok(listing)
}
