//! Which tree is this, and what changed in it?
//!
//! A snapshot is a directory `snapshots/<chain>/fs` that holds one layer as overlayfs wants it. A stack of them, topmost
//! first, is a tree: the kernel shows it as a mount ([`View`], or the sandbox's own with an [`Active`]'s upper
//! directory), and [`Stack`] looks names up in it without any mount.
//!
//! ```text
//! layer ──start_unpack──▶ Unpacking ──finish_unpack──▶ snapshots/<chain>     (layers at the same time, ends in order)
//! parents ──prepare──▶ Active (upper, work) ──a step runs──▶ changes() ──▶ layer; commit ──▶ snapshots/<chain>
//! parents ──view──▶ View (read-only, gone when dropped)
//! ```
//!
//! - Nothing is ever changed under its final name: work happens in `tmp/`, then one rename. Who loses the race
//!   between two builds drops his own copy. A directory in `tmp/` is locked (flock) while it is in use, so that
//!   [`Overlay::sweep`] can tell what a killed process left. Files are not synced to disk: a snapshot can be made again
//!   from its layer.
//! - [`changes`]: an upper directory compared with what is below, in layer order. Removals come out as explicit whiteouts,
//!   which the OCI layer spec prefers, even where overlayfs marked a whole directory opaque.
//! - Where no overlay can be mounted, [`Copied`] keeps the same layers: a step then works in a copy of the merged tree,
//!   and its layer is what differs between before and after.
//! - Root and user namespaces differ only in the prefix of overlayfs' attributes (`trusted.`, `user.` with
//!   `userxattr`); layers come out the same.
//!
//! Not here: reading and writing tars (`layer`), the mount that a step runs in (`sandbox`).

mod baseline;
mod changes;
mod copied;
mod copy;
mod merged;
mod overlay;
mod settle;
mod view;

pub(crate) use changes::read_data;
pub use changes::{Change, changes, open_data};
pub use copied::Copied;
pub use merged::{Child, MergedDir, Stack};
pub use overlay::{Active, Overlay, Snapshotter, Unpacking};
pub use settle::settle;
pub use view::{Mounted, View};

use std::io;

use crate::digest::{ChainId, DiffId};
use crate::layer::LayerError;

/// Why a snapshot could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("layer is {found}, but {expected} was expected", expected = .expected.0, found = .found.0)]
    DiffId { expected: DiffId, found: DiffId },
    #[error("snapshot of chain {chain} does not exist", chain = .0.0)]
    Missing(ChainId),
    #[error(
        "`{path}` has the overlay attribute `{name}`: mount without `redirect_dir` and `metacopy`"
    )]
    OverlayFeature { path: String, name: &'static str },
    /// Which form they have could not be found out.
    #[error(transparent)]
    Form(Box<dyn std::error::Error + Send + Sync>),
    #[error("this kernel does not let us mount an overlay ({action})")]
    Mount {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> SnapshotError {
        move |source| SnapshotError::Io {
            action,
            path: crate::layer::shown(path),
            source: source.into(),
        }
    }
}

/// Names what was tried, and where, on the way out.
trait At<T> {
    fn at(self, action: &'static str, path: &[u8]) -> Result<T, SnapshotError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &[u8]) -> Result<T, SnapshotError> {
        self.map_err(SnapshotError::io(action, path))
    }
}
