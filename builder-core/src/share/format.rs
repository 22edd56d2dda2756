//! The config of a cache: BuildKit's part of it, and ours.
//!
//! ```text
//! {"layers": [{"blob", "parent", "annotations"}],          BuildKit's: a layer, and the one below it (-1: none)
//!  "records": [{"digest", "layers": [{"layer"}]}],          BuildKit's: what a key leads to
//!  "builder": {"version": 1,
//!    "layers": [{"diff_id", "content", "created", "blob"}],  the same layers, in the same order
//!    "bases": [["sha256:…"]],                                diff_ids of bases, which are not in the cache
//!    "steps": [{"keys", "base", "layers", "name"}],
//!    "mounts": [{"name", "id", "blob"}],
//!    "parts": {…}}}                                          a blob, for explaining misses; see `parts`
//! ```
//!
//! Pure: values in, values out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::{Earlier, Layer};
use crate::digest::{ContentDigest, DiffId, Digest};
use crate::image::Descriptor;
use crate::image::time::rfc3339;

/// The media type of a cache's config, as BuildKit has it.
pub(super) const CONFIG_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// A change of what the fields of our part mean is a new number.
const VERSION: u32 = 1;
/// What BuildKit calls the uncompressed digest of a layer, in annotations of its descriptor.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
const CREATED_AT: &str = "buildkit/createdat";

/// A step of a solved build.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its definition key, and its content key.
    pub keys: Vec<Digest>,
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// The whole root file system, base first; those of a base have no time.
    pub layers: Vec<Layer>,
    /// What its content key was made from.
    pub parts: Option<Earlier>,
}

/// The files of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// As the store names it: made from its id, and from what its first content is.
    pub name: String,
    /// For people.
    pub id: String,
    pub blob: Descriptor,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct CacheConfig {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<CacheLayer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<CacheRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) builder: Option<Own>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheLayer {
    blob: Digest,
    #[serde(default)]
    parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Annotations {
    media_type: String,
    #[serde(rename = "diffID", skip_serializing_if = "Option::is_none")]
    diff_id: Option<DiffId>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

/// BuildKit's record: a key, and what it leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheRecord {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<CacheResult>,
    digest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CacheResult {
    layer: usize,
    #[serde(rename = "createdAt", default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

/// Our part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Own {
    version: u32,
    #[serde(default)]
    layers: Vec<OwnLayer>,
    #[serde(default)]
    bases: Vec<Vec<DiffId>>,
    #[serde(default)]
    steps: Vec<OwnStep>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
    /// Older builders wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<Descriptor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnLayer {
    diff_id: DiffId,
    content: ContentDigest,
    created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clamped: Option<i64>,
    /// Left out in an image, whose manifest has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Descriptor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnStep {
    keys: Vec<Digest>,
    base: usize,
    /// Above the base, bottom first.
    layers: Vec<usize>,
    name: String,
}

/// A step that a cache knows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) keys: Vec<Digest>,
    pub(super) name: String,
    /// The diff_ids of the base below.
    pub(super) base: Vec<DiffId>,
    /// Above the base, bottom first.
    pub(super) layers: Vec<Layer>,
}

/// What a cache holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) steps: Vec<Known>,
    pub(super) mounts: Vec<Mount>,
    /// What the steps' keys were made from.
    pub(super) parts: Option<Descriptor>,
    /// Where the blobs are to be had.
    pub(super) origin: String,
    /// There are records, and none of them is ours.
    pub(super) is_foreign: bool,
    /// An image that nobody wrote a cache into.
    pub(super) is_bare: bool,
}

/// What is written for some steps.
pub(super) struct Encoded {
    pub(super) config: CacheConfig,
    /// The layers, each once.
    pub(super) layers: Vec<Descriptor>,
}

/// Says where the base of a step ends: its layers have no time.
fn split(layers: &[Layer]) -> (&[Layer], &[Layer]) {
    let own = layers.iter().position(|layer| layer.created.is_some());
    layers.split_at(own.unwrap_or(layers.len()))
}

/// Returns the layers that a cache of `steps` needs, each once; those of bases are had from where the bases are.
pub fn own_layers(steps: &[Step]) -> Vec<Layer> {
    let mut seen = std::collections::BTreeSet::new();
    let all = steps.iter().flat_map(|step| split(&step.layers).1);
    all.filter(|layer| seen.insert(layer.diff_id))
        .cloned()
        .collect()
}

/// Encodes `steps`, whose layers have these blobs; a step that lacks one is left out.
pub(super) fn encode(
    steps: &[Step],
    blobs: &BTreeMap<DiffId, Descriptor>,
    mounts: Vec<Mount>,
    parts: Option<Descriptor>,
) -> Encoded {
    let mut chains = Chains::default();
    let mut bases: Vec<Vec<DiffId>> = Vec::new();
    let mut own = Vec::new();
    let mut records: BTreeMap<Digest, CacheRecord> = BTreeMap::new();
    for step in steps {
        let (base, above) = split(&step.layers);
        if !above.iter().all(|layer| blobs.contains_key(&layer.diff_id)) {
            continue;
        }
        let base: Vec<DiffId> = base.iter().map(|layer| layer.diff_id).collect();
        let base = bases.iter().position(|it| *it == base).unwrap_or_else(|| {
            bases.push(base);
            bases.len() - 1
        });
        let top = chains.stack(base, above, blobs);
        for key in &step.keys {
            let results = top.map(|layer| CacheResult {
                layer,
                created_at: above.last().and_then(|it| it.created).map(rfc3339),
            });
            let record = CacheRecord {
                layers: results.into_iter().collect(),
                digest: *key,
            };
            records.entry(*key).or_insert(record);
        }
        own.push(OwnStep {
            keys: step.keys.clone(),
            base,
            layers: above.iter().map(|it| chains.own_of(it, blobs)).collect(),
            name: step.name.clone(),
        });
    }
    let mut layers = chains.blobs;
    layers.extend(mounts.iter().map(|mount| mount.blob.clone()));
    layers.extend(parts.clone());
    Encoded {
        config: CacheConfig {
            layers: chains.links,
            records: records.into_values().collect(),
            builder: Some(Own {
                version: VERSION,
                layers: chains.own,
                bases,
                steps: own,
                mounts,
                parts,
            }),
        },
        layers,
    }
}

/// Layers, and chains of them. BuildKit's list has one entry a place in a chain, ours one a layer.
#[derive(Default)]
struct Chains {
    links: Vec<CacheLayer>,
    known: BTreeMap<(usize, Option<usize>, DiffId), usize>,
    own: Vec<OwnLayer>,
    own_known: BTreeMap<(DiffId, Option<i64>), usize>,
    blobs: Vec<Descriptor>,
}

impl Chains {
    /// Adds a stack above a base; returns the place of its top.
    fn stack(
        &mut self,
        base: usize,
        above: &[Layer],
        blobs: &BTreeMap<DiffId, Descriptor>,
    ) -> Option<usize> {
        let mut below = None;
        for layer in above {
            let blob = &blobs[&layer.diff_id];
            let key = (base, below, layer.diff_id);
            let at = match self.known.get(&key) {
                Some(at) => *at,
                None => {
                    self.links.push(CacheLayer {
                        blob: blob.digest,
                        parent: below.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX)),
                        annotations: Some(Annotations {
                            media_type: blob.media_type.clone(),
                            diff_id: Some(layer.diff_id),
                            size: blob.size,
                            created_at: layer.created.map(rfc3339),
                        }),
                    });
                    self.known.insert(key, self.links.len() - 1);
                    self.links.len() - 1
                }
            };
            below = Some(at);
        }
        below
    }

    /// Returns the place of a layer among ours.
    fn own_of(&mut self, layer: &Layer, blobs: &BTreeMap<DiffId, Descriptor>) -> usize {
        if let Some(at) = self.own_known.get(&(layer.diff_id, layer.created)) {
            return *at;
        }
        let blob = &blobs[&layer.diff_id];
        let mut annotated = Descriptor::new(&blob.media_type, blob.digest, blob.size)
            .annotate(UNCOMPRESSED, layer.diff_id.0.to_string());
        if let Some(created) = layer.created {
            annotated = annotated.annotate(CREATED_AT, rfc3339(created));
        }
        if !self.blobs.iter().any(|it| it.digest == blob.digest) {
            self.blobs.push(annotated);
        }
        self.own.push(OwnLayer {
            diff_id: layer.diff_id,
            content: layer.content,
            created: layer.created.unwrap_or_default(),
            clamped: layer.clamped,
            blob: Some(Descriptor::new(&blob.media_type, blob.digest, blob.size)),
        });
        self.own_known
            .insert((layer.diff_id, layer.created), self.own.len() - 1);
        self.own.len() - 1
    }
}

impl CacheConfig {
    /// Reads a config.
    pub(super) fn parse(bytes: &[u8]) -> Result<CacheConfig, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists: serialising them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns what is in it. Layers come from `origin`; one without a blob of its own has that of `blobs`.
    pub(super) fn contents(self, origin: &str, blobs: &BTreeMap<DiffId, Descriptor>) -> Contents {
        let has_records = !self.records.is_empty();
        let Some(own) = self.builder.filter(|own| own.version == VERSION) else {
            return Contents {
                is_foreign: has_records,
                origin: origin.to_owned(),
                ..Contents::default()
            };
        };
        let layer = |at: &usize| -> Option<Layer> {
            let OwnLayer {
                diff_id,
                content,
                created,
                clamped,
                blob,
            } = own.layers.get(*at)?;
            Some(Layer {
                diff_id: *diff_id,
                blob: blob.as_ref().or_else(|| blobs.get(diff_id))?.clone(),
                content: *content,
                created: Some(*created),
                clamped: *clamped,
                origin: Some(origin.to_owned()),
            })
        };
        let steps = own.steps.iter().filter_map(|step| {
            Some(Known {
                keys: step.keys.clone(),
                name: step.name.clone(),
                base: own.bases.get(step.base)?.clone(),
                layers: step.layers.iter().map(layer).collect::<Option<_>>()?,
            })
        });
        Contents {
            steps: steps.collect(),
            mounts: own.mounts.clone(),
            parts: own.parts.clone(),
            origin: origin.to_owned(),
            ..Contents::default()
        }
    }
}

/// Makes what an image carries: BuildKit's records, whose layers are places in the image, and our part without blobs.
pub(super) fn encode_inline(steps: &[Step], stack: &[Layer]) -> (Vec<CacheRecord>, Own) {
    let is_within = |step: &&Step| {
        step.layers.len() <= stack.len()
            && step
                .layers
                .iter()
                .zip(stack)
                .all(|(a, b)| a.diff_id == b.diff_id)
    };
    let steps: Vec<Step> = steps.iter().filter(is_within).cloned().collect();
    let mut records: BTreeMap<Digest, CacheRecord> = BTreeMap::new();
    for step in &steps {
        for key in &step.keys {
            let result = step.layers.len().checked_sub(1).map(|layer| CacheResult {
                layer,
                created_at: step.layers[layer].created.map(rfc3339),
            });
            let record = CacheRecord {
                layers: result.into_iter().collect(),
                digest: *key,
            };
            records.entry(*key).or_insert(record);
        }
    }
    let blobs = stack.iter().map(|it| (it.diff_id, it.blob.clone()));
    let encoded = encode(&steps, &blobs.collect(), Vec::new(), None);
    let mut own = encoded.config.builder.unwrap_or(Own {
        version: VERSION,
        layers: Vec::new(),
        bases: Vec::new(),
        steps: Vec::new(),
        mounts: Vec::new(),
        parts: None,
    });
    for layer in &mut own.layers {
        layer.blob = None;
    }
    (records.into_values().collect(), own)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
