//! Snapshots in the form that the store's file system allows, which is found out when a step first needs files.
//!
//! To try an overlay costs a tenth of a build that finds everything in the cache, which needs none.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::error::BuildError;
use crate::digest::{ChainId, DiffId};
use crate::layer::{Limits, Unpacked};
use crate::progress::{Event, EventSink};
use crate::sandbox::{Isolation, Rung, SandboxError, Standing};
use crate::snapshot::{
    Active, Change, Copied, Overlay, SnapshotError, Snapshotter, Unpacking, View,
};
use crate::store::Store;

type Made = Result<Arc<dyn Snapshotter>, Arc<SnapshotError>>;

/// Snapshots of a build; see the module.
pub(super) struct Snapshots {
    store: Store,
    standing: Option<Standing>,
    events: Arc<dyn EventSink>,
    made: OnceLock<Made>,
}

impl Snapshots {
    /// # Errors
    /// An isolation that was asked for is not to be had; the store cannot be written.
    pub(super) fn new(
        store: Store,
        standing: Option<Standing>,
        events: Arc<dyn EventSink>,
    ) -> Result<Snapshots, BuildError> {
        let is_open = standing
            .as_ref()
            .is_none_or(|it| it.overlay && it.isolation == Isolation::Auto);
        let mut snapshots = Snapshots {
            store,
            standing,
            events,
            made: OnceLock::new(),
        };
        if !is_open {
            let standing = snapshots.settled()?;
            snapshots.made = OnceLock::from(Ok(snapshots.of(standing.as_ref())?));
        }
        Ok(snapshots)
    }

    /// Finds out which rung the store's file system allows, and tells.
    fn settled(&self) -> Result<Option<Standing>, SandboxError> {
        let Some(mut standing) = self.standing.clone() else {
            return Ok(None);
        };
        standing.settle(self.store.tmp_dir())?;
        self.events.emit(Event::Isolation {
            rung: standing.rung.name().to_owned(),
            reason: standing.reason.clone(),
        });
        Ok(Some(standing))
    }

    fn of(&self, standing: Option<&Standing>) -> Result<Arc<dyn Snapshotter>, SnapshotError> {
        let store = &self.store;
        let tmp = store.tmp_dir().join("snapshots");
        let rootless = standing.is_some_and(|standing| standing.rootless);
        let single = standing.is_some_and(|standing| standing.rung == Rung::SingleId);
        Ok(match standing {
            Some(standing) if !standing.overlay => {
                let form = if single { "single" } else { "copied" };
                let copied = Copied::new(&store.snapshots_dir_of(form), &tmp)?;
                Arc::new(copied.remembering(single))
            }
            _ if single => {
                let overlay = Overlay::new(&store.snapshots_dir_of("single"), &tmp, true)?;
                Arc::new(overlay.remembering(true))
            }
            _ => Arc::new(Overlay::new(&store.snapshots_dir(), &tmp, rootless)?),
        })
    }

    fn made(&self) -> Result<&dyn Snapshotter, SnapshotError> {
        let make = || -> Result<Arc<dyn Snapshotter>, SnapshotError> {
            let standing = self
                .settled()
                .map_err(|error| SnapshotError::Form(error.into()))?;
            self.of(standing.as_ref())
        };
        match self.made.get_or_init(|| make().map_err(Arc::new)) {
            Ok(made) => Ok(&**made),
            Err(error) => Err(SnapshotError::Form(error.clone().into())),
        }
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("standing", &self.standing)
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl Snapshotter for Snapshots {
    fn has(&self, chain: ChainId) -> bool {
        self.made().is_ok_and(|made| made.has(chain))
    }

    fn lowers(&self, chains: &[ChainId]) -> Vec<PathBuf> {
        self.made()
            .map_or_else(|_| Vec::new(), |made| made.lowers(chains))
    }

    fn start_unpack(
        &self,
        diff_id: DiffId,
        tar: &mut (dyn Read + Send),
        limits: Limits,
    ) -> Result<Unpacking, SnapshotError> {
        self.made()?.start_unpack(diff_id, tar, limits)
    }

    fn finish_unpack(
        &self,
        unpacking: Unpacking,
        chains: &[ChainId],
    ) -> Result<Unpacked, SnapshotError> {
        self.made()?.finish_unpack(unpacking, chains)
    }

    fn prepare(&self, parents: &[ChainId]) -> Result<Active, SnapshotError> {
        self.made()?.prepare(parents)
    }

    fn changes(&self, active: &Active) -> Result<Vec<Change>, SnapshotError> {
        self.made()?.changes(active)
    }

    fn commit(
        &self,
        active: Active,
        changed: &[Change],
        chains: &[ChainId],
    ) -> Result<(), SnapshotError> {
        self.made()?.commit(active, changed, chains)
    }

    fn view(&self, parents: &[ChainId]) -> Result<View, SnapshotError> {
        self.made()?.view(parents)
    }
}
