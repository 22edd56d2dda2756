//! What the store knows of earlier builds.

use std::path::Path;

use super::error::BuildError;
use super::request::Build;
use crate::cache::{Cache, KeyHasher, LastBuild};
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

    /// Returns what became of the steps when this was last built; `None` where the store knows of no build.
    ///
    /// # Errors
    /// A store that cannot be opened.
    pub fn last(&self) -> Result<Option<LastBuild>, BuildError> {
        let cache = Cache::new(self.open_store()?);
        Ok(cache.last_build(&self.project()))
    }
}

/// Returns the last build of all in the store at `root`.
///
/// # Errors
/// A store that cannot be opened.
pub fn last_build(root: &Path) -> Result<Option<LastBuild>, BuildError> {
    Ok(Cache::new(Store::open(root)?).newest_build())
}
