//! Snapshots where no overlay can be mounted: the same layers on disk, put together by copying.
//!
//! - A step's root is a copy of its parent's tree. Blocks are shared where the file system can (reflink), else bytes are
//!   copied, in parallel; hard links would let a step change its parent.
//! - The tree that a step leaves serves the next step of the chain: what was taken out of it as a layer is copied back
//!   then, so that a row of RUNs copies its base once. The last few such trees are kept while the build lasts.
//! - Files are looked at layer by layer ([`View::Layers`]), so COPY copies no tree.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::baseline::Baseline;
use super::changes::changes_of_copy;
use super::copy::{apply, take_out};
use super::overlay::{Active, Overlay, Snapshotter, TmpDir, Unpacking, failed};
use super::{Change, SnapshotError, Stack, View};
use crate::digest::{ChainId, DiffId};
use crate::layer::{Limits, Unpacked};

/// A tree may be thousands of directories deep, and each is a call; what is not used of it takes no memory.
const STACK_BYTES: usize = 256 << 20;

/// More would be disk that a build seldom comes back to.
const TREES_KEPT: usize = 2;

/// Snapshots for copying in one directory.
#[derive(Debug)]
pub struct Copied {
    layers: Overlay,
    trees: Mutex<Vec<Tree>>,
    workers: rayon::ThreadPool,
}

/// A tree that lacks the last layers of `chain`.
#[derive(Debug)]
struct Tree {
    chain: Vec<ChainId>,
    applied: usize,
    tmp: TmpDir,
}

impl Copied {
    /// Uses `dir` for snapshots and `tmp`, on the same file system, for what is being made; both are created.
    pub fn new(dir: &Path, tmp: &Path) -> Result<Copied, SnapshotError> {
        Ok(Copied {
            // `trusted.` attributes are not for everybody, and nothing but this room reads these
            layers: Overlay::new(dir, tmp, true)?,
            trees: Mutex::default(),
            workers: rayon::ThreadPoolBuilder::new()
                .stack_size(STACK_BYTES)
                .build()
                .map_err(std::io::Error::other)
                .map_err(failed("start threads for", dir))?,
        })
    }

    /// Remembers owners instead of making them: for one mapped id.
    #[must_use]
    pub fn remembering(mut self, remember: bool) -> Self {
        self.layers = self.layers.remembering(remember);
        self
    }

    /// Returns the tree that lacks least of `parents`, if there is any.
    fn take_tree(&self, parents: &[ChainId]) -> Option<Tree> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |tree: &&Tree| parents.starts_with(&tree.chain);
        let best = trees
            .iter()
            .filter(fits)
            .map(|tree| tree.chain.len())
            .max()?;
        let at = trees
            .iter()
            .position(|tree| tree.chain.len() == best && parents.starts_with(&tree.chain))?;
        Some(trees.remove(at))
    }

    fn keep_tree(&self, tree: Tree) {
        let gone = {
            let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.push(tree);
            let many = trees.len().saturating_sub(TREES_KEPT);
            trees.drain(..many).collect::<Vec<_>>()
        };
        drop(gone); // removes them, without the lock
    }
}

impl Snapshotter for Copied {
    fn has(&self, chain: ChainId) -> bool {
        self.layers.has(chain)
    }

    fn lowers(&self, chains: &[ChainId]) -> Vec<PathBuf> {
        self.layers.lowers(chains)
    }

    fn start_unpack(
        &self,
        diff_id: DiffId,
        tar: &mut (dyn Read + Send),
        limits: Limits,
    ) -> Result<Unpacking, SnapshotError> {
        self.layers.start_unpack(diff_id, tar, limits)
    }

    fn finish_unpack(
        &self,
        unpacking: Unpacking,
        chains: &[ChainId],
    ) -> Result<Unpacked, SnapshotError> {
        self.layers.finish_unpack(unpacking, chains)
    }

    fn prepare(&self, parents: &[ChainId]) -> Result<Active, SnapshotError> {
        let lowers = self.layers.existing(parents)?;
        let (tmp, applied) = match self.take_tree(parents) {
            Some(tree) => (tree.tmp, tree.applied),
            None => {
                let tmp = TmpDir::new(self.layers.tmp(), "active")?;
                tmp.make("fs", 0o755)?;
                tmp.make("work", 0o700)?;
                (tmp, 0)
            }
        };
        let path = tmp.path().join("fs");
        let tree = File::open(&path).map_err(failed("open", &path))?;
        for layer in lowers.iter().rev().skip(applied) {
            let from = File::open(layer).map_err(failed("open", layer))?;
            let format = self.layers.format();
            self.workers
                .install(|| apply(from.as_fd(), tree.as_fd(), format))?;
        }
        let clock = tmp.path().join("clock");
        let clock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&clock)
            .map_err(failed("make", &clock))?;
        let before = self
            .workers
            .install(|| Baseline::take(tree.as_fd(), &clock))?;
        Ok(Active {
            lowers,
            upper: path,
            work: tmp.path().join("work"),
            tmp,
            before: Some(before),
        })
    }

    fn changes(&self, active: &Active) -> Result<Vec<Change>, SnapshotError> {
        let tree = File::open(&active.upper).map_err(failed("open", &active.upper))?;
        let before = active.before.as_ref();
        let format = self.layers.format();
        self.workers
            .install(|| changes_of_copy(tree.as_fd(), &active.lowers, before, format))
    }

    fn commit(
        &self,
        active: Active,
        changed: &[Change],
        chains: &[ChainId],
    ) -> Result<(), SnapshotError> {
        let own = match chains.last() {
            Some(own) if !changed.is_empty() => own,
            _ => {
                self.keep_tree(Tree {
                    chain: chains.to_vec(),
                    applied: chains.len(),
                    tmp: active.tmp,
                });
                return Ok(());
            }
        };
        let layer = TmpDir::new(self.layers.tmp(), "layer")?;
        let to = layer.make("fs", 0o755)?;
        let tree = File::open(&active.upper).map_err(failed("open", &active.upper))?;
        take_out(tree.as_fd(), to.as_fd(), changed, self.layers.format())?;
        self.layers.place(&layer, *own)?;
        self.keep_tree(Tree {
            chain: chains.to_vec(),
            applied: chains.len() - 1,
            tmp: active.tmp,
        });
        Ok(())
    }

    fn view(&self, parents: &[ChainId]) -> Result<View, SnapshotError> {
        let lowers = self.layers.existing(parents)?;
        let stack = Stack::open(&lowers, self.layers.format().userxattr);
        stack
            .map(View::Layers)
            .map_err(SnapshotError::io("open a layer of", b""))
    }
}

#[cfg(test)]
#[path = "copied_tests.rs"]
mod tests;
