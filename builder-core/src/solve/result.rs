//! What a solved plan came to, for outputs: its layers here as far as they are read, its files.

use std::sync::Arc;

use super::blocking::wait_for;
use super::inputs::{Inputs, Reads};
use super::layers::LayerLoader;
use super::scheduler::{Solved, id, unplaced};
use super::trees::{chains, view};
use super::{SolveError, SolveErrorKind};
use crate::cache::Layer;
use crate::context::Tree;

/// Has those layers of a result in the store that outputs read. Others of a base stay where they are: what is only named or
/// pushed is mounted, or copied, from there.
///
/// # Errors
/// A layer that cannot be fetched.
pub async fn fetch_layers(inputs: &Arc<Inputs>, solved: &Solved) -> Result<(), SolveError> {
    let is_read = |layer: &&Layer| {
        let of_base = layer.created.is_none();
        match inputs.options.reads {
            Reads::Nothing => !of_base,
            Reads::Uncompressed => !of_base || layer.blob.digest == layer.diff_id.0,
            Reads::All => true,
        }
    };
    let layers: Vec<Layer> = solved.layers.iter().filter(is_read).cloned().collect();
    fetch_all(inputs, &layers).await
}

/// Has the layers of a result in the store, but for its `held` lowest ones.
///
/// # Errors
/// A layer that cannot be fetched.
pub async fn fetch_above(
    inputs: &Arc<Inputs>,
    solved: &Solved,
    held: usize,
) -> Result<(), SolveError> {
    fetch_all(inputs, &solved.layers[held..]).await
}

/// Has layers in the store, wherever they come from.
pub(super) async fn fetch_all(inputs: &Arc<Inputs>, layers: &[Layer]) -> Result<(), SolveError> {
    let vertex = id(inputs.plan.target.unwrap_or_default());
    let loader = LayerLoader::default();
    let fetched = loader.fetch_right(inputs, layers, vertex).await;
    fetched.map_err(unplaced)
}

/// Shows the root file system of a result; `None` for an empty one. Blocks, on a thread of the runtime that may, while layers are
/// fetched and unpacked.
///
/// # Errors
/// A layer that cannot be fetched or unpacked.
pub fn result_tree(
    inputs: &Arc<Inputs>,
    solved: &Solved,
) -> Result<Option<Arc<dyn Tree>>, SolveError> {
    if solved.layers.is_empty() {
        return Ok(None);
    }
    let shown = || -> Result<Arc<dyn Tree>, SolveErrorKind> {
        inputs.store.claim_snapshots(&chains(&solved.layers))?;
        let vertex = id(inputs.plan.target.unwrap_or_default());
        let loader = LayerLoader::default();
        let unpacking = loader.unpack(inputs, &solved.layers, vertex);
        wait_for(unpacking)?;
        Ok(view(inputs, &solved.layers)?.tree)
    };
    shown().map(Some).map_err(unplaced)
}
