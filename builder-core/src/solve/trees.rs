//! Trees that a plan's inputs are: contexts on disk, root file systems as views.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::SolveErrorKind;
use super::inputs::{ContextDir, Inputs, Origin};
use super::layered_tree::LayeredTree;
use super::retime::RetimedTree;
use crate::cache::Layer;
use crate::context::digests::DigestCache;
use crate::context::{
    ContextError, LocalTree, Lookup, Node, RootTree, Tree, Xattrs, find_ignore_file,
};
use crate::digest::{ChainId, ContentDigest, DiffId};
use crate::snapshot::{Mounted, View};
use crate::store::Store;

/// A tree with what is known of its files.
#[derive(Clone)]
pub(super) struct KnownTree {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) digests: Arc<DigestCache>,
}

/// A context, listed.
pub(super) struct Context {
    pub(super) known: KnownTree,
    pub(super) local: Arc<LocalTree>,
}

impl Context {
    /// Walks the directory of a context, until the build is cancelled.
    pub(super) fn load(
        root: &Path,
        no_cache: bool,
        cancel: &CancellationToken,
        name: Option<&str>,
        dir: &ContextDir,
    ) -> Result<Context, SolveErrorKind> {
        let place = match name {
            None => "the build context",
            Some(_) => "the named context",
        };
        let ignore = find_ignore_file(&dir.path, dir.dockerfile.as_deref())?;
        if dir.origin != Origin::Local {
            let local = match dir.origin {
                Origin::Archive => LocalTree::walk_with_owners(&dir.path, ignore, place)?,
                _ => LocalTree::walk(&dir.path, ignore, place, None)?,
            };
            let local = Arc::new(local);
            let known = KnownTree {
                tree: local.clone(),
                digests: Arc::new(DigestCache::in_memory()),
            };
            return Ok(Context { known, local });
        }
        let is_over = || cancel.is_cancelled();
        let local = LocalTree::walk_until(&dir.path, ignore, place, store_inode(root), &is_over);
        let local = match local {
            Err(ContextError::Stopped) => return Err(SolveErrorKind::Cancelled),
            local => Arc::new(local?),
        };
        let path = dir.path.canonicalize().unwrap_or_else(|_| dir.path.clone());
        let id = ContentDigest::of(path.as_os_str().as_encoded_bytes());
        let file = Store::cache_dir_of(root).join("files").join(id.to_string());
        Ok(Context {
            known: KnownTree {
                tree: local.clone(),
                digests: Arc::new(match no_cache {
                    true => DigestCache::anew(&file),
                    false => DigestCache::load(&file),
                }),
            },
            local,
        })
    }

    /// Writes what was learned of the files. A cache that cannot be written costs time, not the build.
    pub(super) fn save(&self, inputs: &Inputs) {
        let present = |path: &[u8]| self.local.has(path);
        let _ = self.known.digests.save(inputs.store.tmp_dir(), &present);
    }
}

/// Tells the store's directory from others: it may be inside a context.
pub(super) fn store_inode(root: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(root).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A root file system, read through a mount that goes when this does.
struct ViewTree {
    tree: RootTree,
    _view: Mounted,
}

impl Lookup for ViewTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        self.tree.lookup(path)
    }
}

impl Tree for ViewTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        self.tree.children(path)
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
        true
    }
}

/// Shows the root file system of `layers`, which are unpacked.
pub(super) fn view(inputs: &Inputs, layers: &[Layer]) -> Result<KnownTree, SolveErrorKind> {
    const PLACE: &str = "that stage or image";
    let tree: Arc<dyn Tree> = match inputs.snapshots.view(&chains(layers))? {
        View::Layers(stack) => Arc::new(LayeredTree::new(stack, PLACE)),
        View::Mounted(view) => {
            let root = view.root().try_clone_to_owned();
            let root = root.map_err(|error| SolveErrorKind::io("look at a snapshot", error))?;
            Arc::new(ViewTree {
                tree: RootTree::new(root, PLACE),
                _view: view,
            })
        }
    };
    Ok(KnownTree {
        tree: RetimedTree::of(inputs, layers, tree),
        digests: Arc::new(DigestCache::in_memory()),
    })
}

/// Names the snapshots of `layers`, base first. A layer without any entry has none.
pub(super) fn chains(layers: &[Layer]) -> Vec<ChainId> {
    stacked(layers)
        .into_iter()
        .map(|(chain, _)| chain)
        .collect()
}

/// The layers that are in the tree, base first, each with its snapshot's name.
pub(super) fn stacked(layers: &[Layer]) -> Vec<(ChainId, &Layer)> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    let named = ChainId::stack(&diff_ids).into_iter().zip(layers);
    named
        .filter(|(_, layer)| !layer.diff_id.is_empty_layer())
        .collect()
}
