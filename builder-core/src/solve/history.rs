//! What becomes of each step, told and remembered: hit or miss, and why.
//!
//! The last build of the project is read when the first step misses; a build that finds everything reads one small file at
//! its end, and writes it only where it says something else.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::inputs::Inputs;
use crate::cache::{
    Cache, Came, Earlier, Key, LastBuild, Parts, Reason, StepReport, explain, nearest,
};
use crate::digest::Digest;
use crate::plan::{Input, Op, Plan};

/// The steps of this build so far, and those of the one before.
pub(super) struct History {
    cache: Cache,
    before: OnceLock<Option<LastBuild>>,
    earlier: OnceLock<Vec<Earlier>>,
    came: Mutex<BTreeMap<Input, What>>,
}

struct What {
    came: Came,
    key: Option<Digest>,
    reason: Option<Why>,
    /// The shared cache that it was found in.
    from: Option<String>,
}

/// Why a step runs.
pub(super) struct Why {
    pub(super) text: String,
    pub(super) reason: Reason,
}

impl From<&str> for Why {
    fn from(text: &str) -> Why {
        Why {
            text: text.to_owned(),
            reason: Reason::default(),
        }
    }
}

impl History {
    pub(super) fn new(cache: Cache) -> History {
        History {
            cache,
            before: OnceLock::new(),
            earlier: OnceLock::new(),
            came: Mutex::default(),
        }
    }

    fn before(&self, project: &str) -> Option<&LastBuild> {
        let read = || self.cache.last_build(project);
        self.before.get_or_init(read).as_ref()
    }

    /// Notes a step that was found.
    pub(super) fn hit(&self, index: Input, came: Came, key: Option<Digest>) {
        let earlier = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it was found was told before.
        let from = earlier.get(&index).and_then(|what| what.from.clone());
        drop(earlier);
        let reason = None;
        self.note(
            index,
            What {
                came,
                key,
                reason,
                from,
            },
        );
    }

    /// Notes a step that was found in a shared cache.
    pub(super) fn hit_in(&self, index: Input, came: Came, key: Option<Digest>, from: String) {
        let (reason, from) = (None, Some(from));
        self.note(
            index,
            What {
                came,
                key,
                reason,
                from,
            },
        );
    }

    /// Notes a step that runs now.
    pub(super) fn runs(&self, index: Input, why: Why) {
        let (came, key) = (Came::Failed, None);
        let (reason, from) = (Some(why), None);
        self.note(
            index,
            What {
                came,
                key,
                reason,
                from,
            },
        );
    }

    /// Notes that a step came to its end.
    pub(super) fn ran(&self, index: Input, key: Digest) {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = came.get_mut(&index) {
            what.came = Came::Ran;
            what.key = Some(key);
        }
    }

    fn note(&self, index: Input, what: What) {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.insert(index, what);
    }

    /// Says why a step that was not found under `key` has to run. `definitions` are the steps of today.
    pub(super) async fn why(
        &self,
        inputs: &Inputs,
        index: Input,
        key: &Key,
        definitions: &[Option<Key>],
    ) -> Why {
        if inputs.options.no_cache {
            return "the cache is off".into();
        }
        if inputs.options.forced.contains(&index) {
            return "the cache is off for it".into();
        }
        let (stage, ordinal) = place(&inputs.plan, index);
        let others = definitions
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index);
        let claimed: Vec<&Parts> = others
            .filter_map(|(_, key)| Some(&key.as_ref()?.parts))
            .collect();
        let before = self.before(&inputs.options.project);
        let earlier = before.and_then(|before| {
            let earlier = self.earlier.get_or_init(|| self.cache.earlier(before));
            let variant = &inputs.options.variant;
            nearest(earlier, &key.parts, stage, ordinal, variant, &claimed)
        });
        if let Some(earlier) = earlier {
            return match explain(&earlier.parts, &key.parts) {
                Some(reason) => Why {
                    text: reason.to_string(),
                    reason,
                },
                None => "its result is no longer in the store".into(),
            };
        }
        // Where nothing is known here, a shared cache may know what it was elsewhere.
        let elsewhere = inputs.shared.why(&key.parts, stage, ordinal, &claimed);
        match (elsewhere.await, before) {
            (Some((reason, cache)), _) => Why {
                text: format!("{reason} since {cache}"),
                reason,
            },
            (None, None) => "first build of this step: the project has no earlier record".into(),
            (None, Some(_)) => "first build of this step: no earlier record of it".into(),
        }
    }

    /// Remembers what became of each step, and returns whether any ran. A store that cannot be written fails what matters,
    /// not this.
    pub(super) fn save(&self, inputs: &Inputs) -> bool {
        let plan = &inputs.plan;
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let mut build = LastBuild {
            project: inputs.options.project.clone(),
            variant: inputs.options.variant.clone(),
            platform: inputs.options.platform.clone(),
            ..LastBuild::default()
        };
        for (index, vertex) in plan.vertices.iter().enumerate() {
            if matches!(vertex.op, Op::Image(_) | Op::Context { .. }) {
                continue;
            }
            let (stage, ordinal) = place(plan, index);
            let what = came.remove(&index);
            let key = what.as_ref().and_then(|what| what.key);
            let (came, why, from) = match what {
                Some(What {
                    came, reason, from, ..
                }) => (came, reason, from),
                None => (Came::NotReached, None, None),
            };
            let (reason, changes) = why.map(|why| (why.text, why.reason.changes)).unzip();
            build.steps.push(StepReport {
                name: vertex.name.clone(),
                line: vertex.line,
                stage: stage.to_owned(),
                ordinal,
                came,
                reason,
                changes: changes.unwrap_or_default(),
                key,
                from,
            });
        }
        let before = self.before(&build.project);
        if let Some(before) = before {
            build.keep_places(before);
        }
        let _ = self.cache.put_last_build(&build, before, SystemTime::now());
        let ran = build.steps.iter().any(|step| step.came == Came::Ran);
        let mut table = inputs.table.lock().unwrap_or_else(PoisonError::into_inner);
        *table = Some(build);
        ran
    }
}

/// Returns the stage of a vertex, and which of the stage's vertices it is.
pub(super) fn place(plan: &Plan, index: Input) -> (&str, usize) {
    let stage = &plan.vertices[index].stage;
    let before = plan.vertices[..index].iter();
    (stage, before.filter(|it| it.stage == *stage).count())
}
