//! From the Dockerfile's text to a plan, by way of the bases that it asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::base_images::{Bases, info};
use super::error::{BuildError, located};
use super::request::Build;
use crate::dockerfile::{self, ast};
use crate::plan::{Base, BaseInfo, Plan, PlanError, Step, epoch_source, step};
use crate::registry::{Client, Resolved};
use crate::store::Store;

/// A plan, with the file it was made from.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    /// As it is shown in messages.
    pub file: String,
    pub text: String,
    pub(super) bases: BTreeMap<Base, Resolved>,
}

/// A Dockerfile, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    file: String,
    text: String,
    pub(super) ast: ast::Dockerfile,
}

impl Build {
    /// Reads and plans; base images' configs are fetched where they are needed.
    ///
    /// # Errors
    /// A mistake of the author, with its place; a base that cannot be had.
    pub async fn plan(&self) -> Result<Planned, BuildError> {
        let store = self.open_store()?;
        let build = self.clone().with_context_here(&store).await?;
        build.plan_in(&store, build.read()?).await
    }

    /// Fetches the configs of all bases that the target needs.
    pub(super) async fn known_bases(
        &self,
        store: &Store,
    ) -> Result<BTreeMap<Base, BaseInfo>, BuildError> {
        let planned = self.plan_in(store, self.read()?).await?;
        let known = planned.bases.iter();
        Ok(known
            .map(|(base, found)| (base.clone(), info(base, found)))
            .collect())
    }

    /// Reads the Dockerfile, and takes it apart.
    pub(super) fn read(&self) -> Result<Parsed, BuildError> {
        let (file, text) = self.read_dockerfile()?;
        let ast = dockerfile::parse(&text).map_err(|error| {
            let span = Some(error.span);
            BuildError::Parse(Box::new(located(error, &file, &text, span)))
        })?;
        Ok(Parsed { file, text, ast })
    }

    pub(super) async fn plan_in(
        &self,
        store: &Store,
        parsed: Parsed,
    ) -> Result<Planned, BuildError> {
        let Parsed { file, text, ast } = parsed;
        let bases = Bases {
            store: store.clone(),
            client: Client::new(self.client.clone()),
            named: self.named.clone(),
            only_here: self.only_found,
        };
        let (plan, bases) = self.plan_ast(&ast, &bases, &file, &text).await?;
        Ok(Planned {
            plan,
            file,
            text,
            bases,
        })
    }

    /// Goes round until no base is unknown: an ONBUILD may ask for more.
    async fn plan_ast(
        &self,
        ast: &ast::Dockerfile,
        bases: &Bases,
        file: &str,
        text: &str,
    ) -> Result<(Plan, BTreeMap<Base, Resolved>), BuildError> {
        let failed = |error: PlanError| {
            let span = Some(error.span);
            BuildError::Plan(Box::new(located(error, file, text, span)))
        };
        let mut options = Cow::Borrowed(&self.plan);
        if let Some(source) = epoch_source(ast, &self.plan).map_err(failed)? {
            options.to_mut().epoch_of_source = self.time_of(&source, &bases.store).await?;
        }
        let mut known: BTreeMap<Base, BaseInfo> = BTreeMap::new();
        let mut resolved: BTreeMap<Base, Resolved> = BTreeMap::new();
        loop {
            let step = step(ast, &options, &known).map_err(failed)?;
            let missing = match step {
                Step::Ready(plan) => return Ok((*plan, resolved)),
                Step::NeedBases(missing) => missing,
            };
            let all = missing.into_iter().map(|(base, span)| async move {
                let found = bases.resolve(&base).await;
                found
                    .map_err(|error| {
                        let mut located = located(error, file, text, Some(span));
                        located.hint =
                            stage_meant(ast, text.get(span.start..span.end).unwrap_or_default());
                        BuildError::Base(Box::new(located))
                    })
                    .map(|found| (base, found))
            });
            for (base, found) in futures_util::future::try_join_all(all).await? {
                known.insert(base.clone(), info(&base, &found));
                resolved.insert(base, found);
            }
        }
    }
}

/// Returns the stage whose name is much like that of an image which cannot be had.
fn stage_meant(ast: &ast::Dockerfile, name: &str) -> Option<String> {
    let stages = ast.stages.iter();
    let names: Vec<&str> = stages
        .filter_map(|stage| Some(stage.from.alias.as_ref()?.raw.as_str()))
        .collect();
    let near = dockerfile::nearest(name, &names)?;
    Some(format!("did you mean the stage `{near}`?"))
}
