//! The last build of each project: what became of every step, for `builder explain` and for explaining the next miss.
//!
//! ```text
//! builds/<project>          the steps of the last build, and older places that it did not come by; of one for several
//!                           platforms their names alone
//! builds/<project platform> the steps for one of several platforms
//! parts/<content key>       what a key was made from; its lists of files by digest
//! lists/<digest>            a list of files
//! ```
//!
//! All of it is read on a miss alone. A build that finds everything writes nothing but, where it differs, the first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Cache, FileList, Key, KeyHasher, Part, Parts};
use crate::digest::{ContentDigest, Digest};
use crate::progress::Change;
use crate::store::StoreError;

/// How a step came to its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// Found by what it does and to which inputs.
    Definition,
    /// Found by what it sees of its inputs, which were made again.
    Content,
    /// On a base that is new, and the same where it looks: its earlier layer was put there.
    Rebased,
    /// It ran.
    Ran,
    /// It ran, and did not come to its end.
    Failed,
    /// The build ended before.
    NotReached,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepReport {
    /// `[build 2/5] RUN make`.
    pub name: String,
    pub line: Option<u32>,
    pub stage: String,
    /// Among the steps of its stage.
    pub ordinal: usize,
    pub came: Came,
    /// Why it ran, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What differs from the nearest earlier record; the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// The shared cache that it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Names the parts of its content key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
}

/// The last build of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastBuild {
    /// Context and Dockerfile.
    pub project: String,
    /// Names what was asked of them: build args, target.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Of which of several platforms this is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// The build was for several platforms, and came to these: each has a record of its own, and the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    pub steps: Vec<StepReport>,
    /// Places of earlier builds that this one did not come by: other variants, other targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Place>,
}

/// Where a key was used before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub stage: String,
    pub ordinal: usize,
    pub key: Digest,
    /// Of the build that used it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A key of an earlier build, with its parts.
#[derive(Debug, Clone)]
pub struct Earlier {
    pub place: Place,
    pub parts: Parts,
}

/// Of a Dockerfile with very many stages the oldest places are forgotten.
const PLACES: usize = 500;
/// Of a project that is built with other args each time the oldest builds are.
const VARIANTS: usize = 8;

pub(super) const BUILDS: &str = "builds";
pub(super) const PARTS: &str = "parts";
pub(super) const LISTS: &str = "lists";

#[derive(serde::Serialize, serde::Deserialize)]
struct PartsDocument {
    domain: String,
    fields: Vec<Part>,
    lists: Vec<(String, Digest)>,
}

impl LastBuild {
    /// Returns the places at which keys are known, this build's first.
    pub fn places(&self) -> Vec<Place> {
        let steps = self.steps.iter().filter_map(|step| {
            Some(Place {
                stage: step.stage.clone(),
                ordinal: step.ordinal,
                key: step.key?,
                variant: self.variant.clone(),
            })
        });
        steps.chain(self.earlier.iter().cloned()).collect()
    }

    /// Takes over the places of `before` that this build did not come by, and those of other variants: a build with other
    /// args is no reason to forget how it was with these.
    pub fn keep_places(&mut self, before: &LastBuild) {
        let own = self.places();
        let is_new = |place: &Place| {
            let at = |it: &Place| it.stage == place.stage && it.ordinal == place.ordinal;
            place.variant != self.variant || !own.iter().any(at)
        };
        let mut variants = Vec::new();
        let mut is_recent = |place: &Place| {
            if !variants.contains(&place.variant) {
                variants.push(place.variant.clone());
            }
            variants
                .iter()
                .take(VARIANTS)
                .any(|it| *it == place.variant)
        };
        let places = before.places().into_iter().filter(is_new);
        let places = places.filter(|it| is_recent(it));
        self.earlier = places.take(PLACES).collect();
    }
}

/// Names what one of several platforms of a project is remembered as.
pub fn project_of(project: &str, platform: &str) -> String {
    format!("{project} {platform}")
}

fn project_key(project: &str) -> Digest {
    let mut key = KeyHasher::new("project/1");
    key.field("project", project);
    key.finish().digest
}

impl Cache {
    pub fn last_build(&self, project: &str) -> Option<LastBuild> {
        self.store.records().get(BUILDS, &project_key(project))
    }

    /// Returns what became of the steps of the project's last build, for each platform that it was for.
    pub fn last_tables(&self, project: &str) -> Vec<LastBuild> {
        let Some(last) = self.last_build(project) else {
            return Vec::new();
        };
        if last.platforms.is_empty() {
            return vec![last];
        }
        let platforms = last.platforms.iter();
        platforms
            .filter_map(|platform| self.last_build(&project_of(project, platform)))
            .collect()
    }

    /// Returns that of the last build of all projects.
    pub fn newest_tables(&self) -> Vec<LastBuild> {
        let records = self.store.records();
        let keys = records.list(BUILDS).unwrap_or_default();
        let used = |key: &Digest| records.used(BUILDS, key);
        let newest: Option<LastBuild> = keys
            .into_iter()
            .max_by_key(used)
            .and_then(|key| records.get(BUILDS, &key));
        let Some(newest) = newest else {
            return Vec::new();
        };
        let platform = format!(" {}", newest.platform);
        match newest.project.strip_suffix(&platform) {
            Some(project) if !newest.platform.is_empty() => self.last_tables(project),
            _ => self.last_tables(&newest.project),
        }
    }

    /// Remembers that the project was built for several platforms, and came to these so far.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_platforms(
        &self,
        project: &str,
        platforms: &[String],
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let before = self.last_build(project);
        let build = LastBuild {
            project: project.to_owned(),
            platforms: platforms.to_vec(),
            // for the next build that is for one platform
            earlier: before.iter().flat_map(LastBuild::places).collect(),
            ..LastBuild::default()
        };
        self.put_last_build(&build, before.as_ref(), now)
    }

    /// Remembers a build; `before` is what was remembered of the project until now.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_last_build(
        &self,
        build: &LastBuild,
        before: Option<&LastBuild>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let key = project_key(&build.project);
        if before == Some(build) {
            self.store.records().touch(BUILDS, &key, now);
            return Ok(());
        }
        self.store.records().put(BUILDS, &key, build)
    }

    /// Keeps the parts of `key`, if they are not kept already.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_parts(&self, key: &Key) -> Result<(), StoreError> {
        let records = self.store.records();
        if records.used(PARTS, &key.digest).is_some() {
            return Ok(());
        }
        let mut lists = Vec::new();
        for (name, list) in &key.parts.lists {
            let (head, body) = list.to_parts();
            let mut hash = blake3::Hasher::new();
            hash.update(&head).update(body);
            let digest = Digest::from_bytes(*hash.finalize().as_bytes());
            if records.used(LISTS, &digest).is_none() {
                records.put_parts(LISTS, &digest, &[&head, body])?;
            }
            lists.push((name.clone(), digest));
        }
        let Parts { domain, fields, .. } = &key.parts;
        let document = PartsDocument {
            domain: domain.clone(),
            fields: fields.clone(),
            lists,
        };
        records.put(PARTS, &key.digest, &document)
    }

    /// Returns what the keys of a build were made from; what is not there any more is left out.
    pub fn earlier(&self, build: &LastBuild) -> Vec<Earlier> {
        let mut read: HashMap<Digest, Option<Parts>> = HashMap::new();
        let places = build.places().into_iter();
        places
            .filter_map(|place| {
                let parts = read
                    .entry(place.key)
                    .or_insert_with(|| self.parts(&place.key));
                let parts = parts.clone()?;
                Some(Earlier { place, parts })
            })
            .collect()
    }

    /// Whether the store may have a result of the step of `parts` on other inputs: of any step with the same command.
    pub fn knows_command(&self, parts: &Parts) -> bool {
        let command = |fields: &[Part]| fields.iter().find(|it| it.name == "command").cloned();
        let (records, wanted) = (self.store.records(), command(&parts.fields));
        let keys = records.list(PARTS).unwrap_or_default();
        keys.iter().any(|key| {
            let document: Option<PartsDocument> = records.get(PARTS, key);
            document.is_some_and(|it| it.domain == parts.domain && command(&it.fields) == wanted)
        })
    }

    /// Returns what a key was made from.
    pub fn parts(&self, key: &Digest) -> Option<Parts> {
        let records = self.store.records();
        let document: PartsDocument = records.get(PARTS, key)?;
        let mut lists = Vec::new();
        for (name, digest) in document.lists {
            let bytes = records.get_bytes(LISTS, &digest)?;
            if ContentDigest::of(&bytes).0 != *digest.as_bytes() {
                return None;
            }
            lists.push((name, Arc::new(FileList::from_bytes(bytes)?)));
        }
        Some(Parts {
            domain: document.domain,
            fields: document.fields,
            lists,
        })
    }

    /// Returns the lists that parts refer to.
    pub(super) fn lists_of(&self, parts: &Digest) -> Vec<Digest> {
        let document: Option<PartsDocument> = self.store.records().get(PARTS, parts);
        let lists = document.map(|it| it.lists).unwrap_or_default();
        lists.into_iter().map(|(_, digest)| digest).collect()
    }
}
