//! What the store knows of earlier builds.

use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

use super::error::BuildError;
use super::request::Build;
use crate::cache::{Cache, KeyHasher, LastBuild};
use crate::solve::Inputs;
use crate::store::Store;

impl Build {
    /// Names what is asked of a project; empty where nothing is said.
    pub(super) fn variant(&self) -> String {
        let (args, target) = (&self.plan.build_args, &self.plan.target);
        if args.is_empty() && target.is_none() {
            return String::new();
        }
        let mut key = KeyHasher::new("variant/1");
        key.list("args", args.iter().flat_map(|(name, value)| [name, value]));
        key.list("target", target);
        key.finish().digest.hex()[..16].to_owned()
    }

    /// Names what is built, for comparing it with what it was last time: the context, and the Dockerfile.
    pub(super) fn project(&self) -> String {
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = self.dockerfile_path();
        let dockerfile = match (&self.text, self.prepared.get(&None)) {
            (Some((name, _)), _) => name.clone(),
            // What was fetched lies elsewhere each time.
            (None, Some(prepared)) => {
                let inside = path.strip_prefix(&prepared.path).unwrap_or(&path);
                inside.display().to_string()
            }
            (None, None) => absolute(&path).display().to_string(),
        };
        format!("{} {dockerfile}", self.context_label())
    }

    /// Returns what became of the steps when this was last built, for each platform; nothing where the store knows of no
    /// build.
    ///
    /// # Errors
    /// A store that cannot be opened.
    pub fn last(&self) -> Result<Vec<LastBuild>, BuildError> {
        let cache = Cache::new(self.open_store()?);
        Ok(cache.last_tables(&self.project()))
    }

    /// Returns what became of the steps of the latest run of this or of a clone of it, for each platform that the run came
    /// to: nothing where it failed before any step.
    pub fn tables(&self) -> Vec<LastBuild> {
        let tables = self.tables.lock();
        tables.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn forget_tables(&self) {
        let tables = self.tables.lock();
        tables.unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps the table of a platform whose steps are over. A store that cannot be written fails what matters, not this.
    pub(super) fn keep_table(&self, inputs: &Inputs) {
        let table = inputs.table.lock();
        let Some(table) = table.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let is_one_of_many = !table.platform.is_empty();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.push(table);
        if is_one_of_many {
            let platforms: Vec<String> = tables.iter().map(|it| it.platform.clone()).collect();
            let cache = Cache::new(inputs.store.clone());
            let _ = cache.put_platforms(&self.project(), &platforms, SystemTime::now());
        }
    }
}

/// Returns what became of the steps of the last build of all in the store at `root`, for each platform.
///
/// # Errors
/// A store that cannot be opened.
pub fn last_build(root: &Path) -> Result<Vec<LastBuild>, BuildError> {
    Ok(Cache::new(Store::open(root)?).newest_tables())
}
