//! Records: from a key to a result, kept in the store.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{ContentDigest, DiffId, Digest};
use crate::image::Descriptor;
use crate::store::{Claiming, Store, StoreError};

use super::KeyHasher;
use super::stack::{Pieces, STACKS, Stack};

/// One layer of a result.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    pub diff_id: DiffId,
    /// The blob as the store or a registry has it.
    pub blob: Descriptor,
    /// What the layer holds, times left out. A foreign layer's is that of its `diff_id`.
    pub content: ContentDigest,
    /// Seconds since the epoch; `None` for a layer of a base.
    pub created: Option<i64>,
    /// The `SOURCE_DATE_EPOCH` that no time in it is later than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamped: Option<i64>,
    /// The image that the blob can be fetched from.
    pub origin: Option<String>,
}

impl Layer {
    /// Names what a stack of layers holds, base first.
    pub fn stack_content(layers: &[Layer]) -> ContentDigest {
        let mut hasher = blake3::Hasher::new();
        for layer in layers {
            hasher.update(&layer.content.0);
        }
        ContentDigest(*hasher.finalize().as_bytes())
    }
}

/// A layer with the times of a `SOURCE_DATE_EPOCH`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Retimed {
    pub layer: Layer,
    /// From it the times of every other epoch can be told, too: all that is now the epoch was written by the step.
    pub exact: bool,
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The whole root file system, base first.
    pub layers: Vec<Layer>,
    /// The content key, under which its parts are kept.
    pub key: Option<Digest>,
    /// The step that made it, for people: `RUN make`.
    pub step: String,
}

/// What a key led to; its layers are put together only where they are wanted.
#[derive(Debug, Clone)]
pub struct Found {
    pub key: Option<Digest>,
    pub step: String,
    pub(super) stack: Stack,
}

impl Found {
    /// Returns the whole root file system, base first.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.stack.layers()
    }
}

impl From<Found> for Record {
    fn from(found: Found) -> Record {
        let layers = found.layers().cloned().collect();
        let Found { key, step, .. } = found;
        Record { layers, key, step }
    }
}

impl From<Record> for Found {
    fn from(record: Record) -> Found {
        let Record { layers, key, step } = record;
        let (top, below) = (layers, None);
        let stack = Stack { top, below };
        Found { key, step, stack }
    }
}

/// What a record's file holds.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Written<'a> {
    /// Called `layers` where those are all, as they once always were: who knows no pieces must not take these for all.
    #[serde(alias = "layers")]
    pub(super) top: Cow<'a, [Layer]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) below: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Digest>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(super) step: Cow<'a, str>,
}

pub(super) const STEPS: &str = "steps";
pub(super) const SAME: &str = "same";
pub(super) const RETIMED: &str = "retimed";

/// The records of a store.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(super) store: Store,
    /// Blobs that were there, and stay: the records of a build name the same ones again and again.
    there: Arc<Mutex<HashSet<(Digest, u64)>>>,
    /// What stacks are made of, read or written before.
    pieces: Arc<Pieces>,
}

impl Cache {
    pub fn new(store: Store) -> Self {
        Cache {
            store,
            there: Arc::default(),
            pieces: Arc::default(),
        }
    }

    /// Returns the record of `key`, if all that it refers to is there or can be fetched. It stays while the store is open.
    pub fn find(&self, key: &Digest) -> Option<Found> {
        let records = self.store.records();
        let written: Written<'_> = records.claim(STEPS, key)?;
        let read = |name: &Digest| records.claim_bytes(STACKS, name);
        let found = self.pieces.found(written, &read)?;
        let is_there = |layer: &Layer| self.is_there(layer);
        found.stack.is_there(&is_there).then_some(found)
    }

    /// Keeps sweeps away while several records are looked up: each look would ask for itself otherwise.
    pub fn claiming(&self) -> Option<Claiming> {
        self.store.records().claiming()
    }

    /// Writes the record of `key`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put(&self, key: &Digest, record: &Record) -> Result<(), StoreError> {
        self.put_all(&[key], record)
    }

    /// Writes the one record of several keys.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_all(&self, keys: &[&Digest], record: &Record) -> Result<(), StoreError> {
        let records = self.store.records();
        let (below, top) = self.pieces.cut(&record.layers, &|name, bytes| {
            // What is there is not to go before the record refers to it.
            match records.claim_bytes(STACKS, name) {
                Some(known) if known == bytes => Ok(()),
                _ => records.put_bytes(STACKS, name, bytes),
            }
        })?;
        let (top, step) = (Cow::from(top), Cow::from(&record.step));
        let key = record.key;
        let written = Written {
            top,
            below,
            key,
            step,
        };
        records.put_all(STEPS, keys, &written)
    }

    /// Returns the layer that first made this change to this parent.
    pub fn find_same(&self, parent: &[Layer], content: ContentDigest) -> Option<Layer> {
        let layer: Layer = self.store.records().get(SAME, &same_key(parent, content))?;
        self.is_there(&layer).then_some(layer)
    }

    /// Remembers that `layer` makes this change to this parent.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_same(&self, parent: &[Layer], layer: &Layer) -> Result<(), StoreError> {
        let key = same_key(parent, layer.content);
        self.store.records().put(SAME, &key, layer)
    }

    /// Returns `layer` with the times of `epoch`, if it was made once.
    pub fn find_retimed(&self, layer: &Layer, epoch: i64) -> Option<Retimed> {
        let key = retimed_key(layer, epoch);
        let found: Retimed = self.store.records().get(RETIMED, &key)?;
        self.is_there(&found.layer).then_some(found)
    }

    /// Remembers `layer` with the times of `epoch`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn put_retimed(&self, layer: &Layer, epoch: i64, made: &Retimed) -> Result<(), StoreError> {
        let key = retimed_key(layer, epoch);
        self.store.records().put(RETIMED, &key, made)
    }

    pub(super) fn is_there(&self, layer: &Layer) -> bool {
        if layer.origin.is_some() {
            return true;
        }
        let blob = (layer.blob.digest, layer.blob.size);
        let there = || self.there.lock().unwrap_or_else(PoisonError::into_inner);
        if there().contains(&blob) {
            return true;
        }
        let found = self.store.blobs().has_sized(&blob.0, blob.1);
        if found {
            there().insert(blob);
        }
        found
    }
}

fn same_key(parent: &[Layer], content: ContentDigest) -> Digest {
    let mut hasher = KeyHasher::new("same/1");
    hasher.field("parent", Layer::stack_content(parent).0);
    hasher.field("content", content.0);
    hasher.finish().digest
}

fn retimed_key(layer: &Layer, epoch: i64) -> Digest {
    let mut hasher = KeyHasher::new("retimed/2");
    hasher.field("layer", layer.diff_id.0.as_bytes());
    hasher.field("created", layer.created.unwrap_or_default().to_string());
    hasher.field("epoch", epoch.to_string());
    hasher.finish().digest
}
