//! Shared caches, as a solve sees them: a second place to look keys up in, and what goes into one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::SolveErrorKind;
use super::history::{History, place};
use super::inputs::Inputs;
use super::layers::image_layers;
use super::retime;
use super::scheduler::{Solved, id};
use crate::cache::{Cache, Came, Earlier, Found, Key, Layer, Place, Record};
use crate::digest::{DiffId, Digest};
use crate::plan::{Input, MountSource, Op};
use crate::progress::Event;
use crate::share::{Hit, Mode, Step};

/// Returns the store's own record of a key, unless it stands on a cache that is lost.
pub(super) fn own(inputs: &Inputs, cache: &Cache, key: &Digest) -> Option<Found> {
    let found = cache.find(key)?;
    (!inputs.shared.is_lost(found.layers())).then_some(found)
}

/// Looks a key up in the shared caches.
pub(super) fn look_up(inputs: &Inputs, key: &Digest) -> Option<Hit> {
    let of_bases = |diff_id: &DiffId| -> Option<Layer> {
        let bases = inputs.bases.values();
        let mut layers = bases.filter_map(|base| image_layers(base).ok()).flatten();
        layers.find(|layer| layer.diff_id == *diff_id)
    };
    inputs.shared.find(key, &of_bases)
}

/// Takes a hit over into the store's records; its layers stay where they are until something must see them.
pub(super) fn keep(
    inputs: &Inputs,
    cache: &Cache,
    history: &History,
    index: Input,
    came: Came,
    hit: &Hit,
) -> Result<(), SolveErrorKind> {
    for key in &hit.keys {
        cache.put(key, &hit.record)?;
    }
    inputs.shared.note_origins(&hit.record.layers)?;
    inputs.events.emit(Event::Found {
        vertex: id(index),
        from: hit.from.clone(),
    });
    history.hit_in(index, came, hit.record.key, hit.from.clone());
    Ok(())
}

/// Finds, in the shared caches, vertices that would have to be gone into. `runs`: what is made to run, or stands on it.
pub(super) fn find(
    inputs: &Inputs,
    definitions: &[Option<Key>],
    needed: &BTreeSet<Input>,
    runs: &[bool],
) -> HashMap<Input, Hit> {
    let of = |index: &Input| {
        let key = definitions[*index].as_ref().filter(|_| !runs[*index])?;
        Some((*index, look_up(inputs, &key.digest)?))
    };
    needed.iter().filter_map(of).collect()
}

/// Returns the steps of a solved plan that a cache of this mode holds, in the order of the Dockerfile; the count of those
/// that neither the store nor a cache has any more.
pub fn steps(inputs: &Inputs, solved: &Solved, mode: Mode) -> (Vec<Step>, usize) {
    let cache = Cache::new(inputs.store.clone());
    let plan = &inputs.plan;
    let leaving: BTreeSet<Input> =
        std::iter::successors(plan.target, |at| plan.vertices[*at].op.parent()).collect();
    let mut steps = Vec::new();
    let mut missing = 0;
    for (index, key) in solved.keys.iter().enumerate() {
        let Some(key) = key.filter(|_| mode == Mode::Max || leaving.contains(&index)) else {
            continue;
        };
        let record = own(inputs, &cache, &key).map(Record::from);
        let record = record.or_else(|| Some(look_up(inputs, &key)?.record));
        let Some(record) = record else {
            missing += 1;
            continue;
        };
        let content = record.key.filter(|content| *content != key);
        let parts = record.key.and_then(|content| {
            let (stage, ordinal) = place(plan, index);
            let parts = cache.parts(&content)?;
            let stage = stage.to_owned();
            let key = content;
            let place = Place {
                stage,
                ordinal,
                key,
                variant: String::new(),
            };
            Some(Earlier { place, parts })
        });
        steps.push(Step {
            parts,
            keys: [Some(key), content].into_iter().flatten().collect(),
            name: plan.vertices[index].name.clone(),
            layers: record
                .layers
                .into_iter()
                .map(|layer| retime::known(inputs, &cache, layer))
                .collect(),
        });
    }
    (steps, missing)
}

/// Has the layers of a cache's steps in the store.
///
/// # Errors
/// A layer that cannot be had.
pub async fn fetch(inputs: &Arc<Inputs>, layers: &[Layer]) -> Result<(), super::SolveError> {
    super::result::fetch_all(inputs, layers).await
}

/// Returns the ids of the cache mounts of a plan, each with the name that the store has for it. One that starts with files of a
/// stage or a context is left out: what it is called depends on them.
pub fn cache_mounts(inputs: &Inputs) -> Vec<(String, String)> {
    let mut mounts: Vec<(String, String)> = Vec::new();
    for vertex in &inputs.plan.vertices {
        let Op::Run(run) = &vertex.op else { continue };
        for mount in &run.mounts {
            if let MountSource::Cache { id, from: None, .. } = &mount.source {
                let name = super::run_step::cache_name(id);
                if !mounts.iter().any(|(known, _)| *known == name) {
                    mounts.push((name, id.clone()));
                }
            }
        }
    }
    mounts
}
