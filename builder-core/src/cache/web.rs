//! Who refers to what in a store, while it is found out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::Layer;
use super::prune::{Need, Thing};
use super::stack::{Piece, Pieces, STACKS};
use crate::digest::{ChainId, Digest};
use crate::store::Kind;

pub(super) type Index = HashMap<(Kind, String), usize>;

/// Things, found by name.
pub(super) struct Web {
    pub(super) things: Vec<Thing>,
    pub(super) index: Index,
}

impl Web {
    /// Notes who refers to the thing, if that is there, and what it is, if that is not known.
    pub(super) fn hold(&mut self, kind: Kind, name: &str, by: By, what: &str) {
        let Some(&at) = self.index.get(&(kind, name.to_owned())) else {
            return;
        };
        let thing = &mut self.things[at];
        thing.references += by.times;
        thing.need = thing.need.max(by.need);
        thing.used = by.used.map_or(thing.used, |used| thing.used.max(used));
        if thing.what.is_empty() {
            what.clone_into(&mut thing.what);
        }
    }

    /// Ties layers to who refers to them; the topmost is what `step` made.
    pub(super) fn hold_layers(&mut self, layers: &[Layer], chains: &[ChainId], by: By, step: &str) {
        for (nth, (layer, chain)) in layers.iter().zip(chains).enumerate() {
            let what = if nth + 1 == layers.len() { step } else { "" };
            self.hold(Kind::Blob, &layer.blob.digest.hex(), by, what);
            self.hold(Kind::Snapshot, &chain.0.hex(), by, what);
        }
    }

    pub(super) fn records(&self, kind: &str) -> Vec<usize> {
        let prefix = format!("{kind}/");
        let things = self.things.iter().enumerate();
        things
            .filter(|(_, it)| it.kind == Kind::Record && it.name.starts_with(&prefix))
            .map(|(at, _)| at)
            .collect()
    }
}

/// Names the stacks up to each of `layers`, which stand on `below`.
pub(super) fn above(below: Option<ChainId>, layers: &[Layer]) -> Vec<ChainId> {
    let mut chain = below;
    let extend = |layer: &Layer| {
        let next = ChainId::extend(chain, layer.diff_id);
        chain = Some(next);
        next
    };
    layers.iter().map(extend).collect()
}

/// What those that refer to a thing say of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct By {
    pub(super) used: Option<SystemTime>,
    pub(super) need: Need,
    pub(super) times: usize,
}

impl By {
    /// A named image.
    pub(super) fn image() -> By {
        By {
            used: None,
            need: Need::Image,
            times: 1,
        }
    }
}

/// The pieces that records stand on.
#[derive(Default)]
pub(super) struct Stacks {
    pub(super) pieces: Pieces,
    tops: HashMap<Digest, ChainId>,
    /// The pieces by how many there are below them.
    held: BTreeMap<usize, BTreeMap<Digest, (Arc<Piece>, By)>>,
}

impl Stacks {
    /// Names the stack up to the end of a piece.
    pub(super) fn top_of(&mut self, piece: &Piece) -> ChainId {
        if let Some(known) = self.tops.get(&piece.digest) {
            return *known;
        }
        let below = piece.below.as_ref().map(|below| self.top_of(below));
        let chain = above(below, &piece.layers).pop();
        // No piece is without layers.
        let chain = chain.or(below).unwrap_or(ChainId(piece.digest));
        self.tops.insert(piece.digest, chain);
        chain
    }

    pub(super) fn hold(&mut self, piece: Arc<Piece>, by: By) {
        let below = std::iter::successors(piece.below.as_ref(), |it| it.below.as_ref());
        let level = self.held.entry(below.count()).or_default();
        match level.get_mut(&piece.digest) {
            None => {
                level.insert(piece.digest, (piece, by));
            }
            Some((_, all)) => {
                all.used = all.used.max(by.used);
                all.need = all.need.max(by.need);
                all.times += by.times;
            }
        }
    }

    pub(super) fn tie(mut self, web: &mut Web) {
        while let Some((_, level)) = self.held.pop_last() {
            for (piece, by) in level.into_values() {
                let below = piece.below.as_ref().map(|below| self.top_of(below));
                let chains = above(below, &piece.layers);
                let name = format!("{STACKS}/{}", piece.digest.hex());
                web.hold(Kind::Record, &name, by, "");
                web.hold_layers(&piece.layers, &chains, by, "");
                if let Some(below) = piece.below.clone() {
                    self.hold(below, by);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::record::STEPS;
    use super::super::{Cache, Record, Rules};
    use super::*;
    use crate::digest::{ContentDigest, DiffId};
    use crate::image::Descriptor;
    use crate::store::Store;

    fn record(store: &Store, count: usize, own: &str) -> Record {
        let layer = |at: usize| {
            // The last two are the record's own.
            let own = if at + 2 < count { "" } else { own };
            let bytes = format!("{at} {own}");
            let digest = store.blobs().put(bytes.as_bytes()).expect("blob");
            Layer {
                diff_id: DiffId(digest),
                blob: Descriptor::of("tar", bytes.as_bytes()),
                content: ContentDigest::of(bytes.as_bytes()),
                created: Some(1),
                clamped: None,
                origin: None,
            }
        };
        Record {
            layers: (0..count).map(layer).collect(),
            key: None,
            step: format!("RUN {own}"),
        }
    }

    fn key(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Three records: of 30 layers, of 30 that differ in two, of 5.
    fn cache(root: &std::path::Path) -> Cache {
        let store = Store::open(root).expect("open");
        let cache = Cache::new(store.clone());
        for (count, own) in [(30, "a"), (30, "b"), (5, "c")] {
            let record = record(&store, count, own);
            cache.put(&key(own), &record).expect("put");
        }
        cache
    }

    #[test]
    fn every_layer_knows_how_many_records_refer_to_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cache = cache(dir.path());
        let holdings = cache.holdings().expect("holdings");
        let thing = |kind: Kind, name: &str| {
            let found = holdings
                .things
                .iter()
                .find(|it| it.kind == kind && it.name == name);
            found.cloned().expect("there")
        };
        let blob = |bytes: &str| thing(Kind::Blob, &Digest::of(bytes.as_bytes()).hex());
        for (bytes, references, what) in [
            ("0 ", 3, ""),
            ("2 ", 3, ""),
            ("3 ", 2, ""),
            ("27 ", 2, ""),
            ("28 a", 1, ""),
            ("29 a", 1, "RUN a"),
            ("29 b", 1, "RUN b"),
            ("4 c", 1, "RUN c"),
        ] {
            let found = blob(bytes);
            assert_eq!(
                (found.references, &found.what[..]),
                (references, what),
                "{bytes}"
            );
        }
        let stacks = holdings
            .things
            .iter()
            .filter(|it| it.name.starts_with(STACKS));
        let references: Vec<usize> = stacks.map(|it| it.references).collect();
        assert_eq!(references, [2; 3], "0 to 7, 8 to 15, 16 to 23");
    }

    #[test]
    fn what_is_gone_leaves_no_record_without_its_layers() {
        let root = tempfile::tempdir().expect("temp dir");
        drop(cache(root.path()));
        let cache = Cache::new(Store::open(root.path()).expect("open"));
        let now = SystemTime::now() + Duration::from_secs(9);
        let all = cache.holdings().expect("holdings");
        // The records are not of the same time.
        for (own, ago) in [("a", 300), ("b", 200), ("c", 100)] {
            let used = now - Duration::from_secs(ago);
            cache.store.records().touch(STEPS, &key(own), used);
        }
        let mut seen = BTreeSet::new();
        for max_used in (0..=all.total.bytes).rev().step_by(2048) {
            let rules = Rules {
                all: true,
                max_used_bytes: Some(max_used),
                ..Rules::default()
            };
            let gone = cache.prune(&rules, now, true).expect("prune").things;
            let gone: BTreeSet<String> = gone.into_iter().map(|it| it.name).collect();
            for (own, count) in [("a", 30), ("b", 30), ("c", 5)] {
                let name = format!("{STEPS}/{}", key(own).hex());
                if gone.contains(&name) {
                    seen.insert(own);
                    continue;
                }
                let is_own = |at: usize| if at + 2 < count { "" } else { own };
                let mut blobs = (0..count).map(|at| key(&format!("{at} {}", is_own(at))).hex());
                assert!(!blobs.any(|it| gone.contains(&it)), "{own} of {max_used}");
                if count > 8 {
                    assert!(!gone.iter().any(|it| it.starts_with(STACKS)), "{own}");
                }
            }
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn a_record_is_whole_or_a_miss() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let records = store.records();
        let whole = record(&store, 30, "a");
        let found = |name: &str| Cache::new(store.clone()).find(&key(name)).map(Record::from);
        Cache::new(store.clone())
            .put(&key("a"), &whole)
            .expect("put");
        assert_eq!(found("a"), Some(whole.clone()));

        // As records were before there were pieces.
        let old = serde_json::json!({"layers": whole.layers, "step": whole.step});
        records.put(STEPS, &key("old"), &old).expect("put");
        assert_eq!(found("old"), Some(whole.clone()));
        // Who reads only such ones must not take a part for the whole.
        let new: serde_json::Value = records.get(STEPS, &key("a")).expect("record");
        assert!(new.get("layers").is_none() && new["top"].as_array().is_some());

        let stacks = records.list(STACKS).expect("list");
        assert_eq!(stacks.len(), 3);
        for name in stacks {
            let piece = records.get_bytes(STACKS, &name).expect("piece");
            records.remove(STACKS, &name).expect("remove");
            assert_eq!(found("a"), None, "without {name}");
            let other = piece.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
            records.put_bytes(STACKS, &name, &other).expect("put");
            assert_eq!(found("a"), None, "with another {name}");
            // A step that runs again mends it.
            Cache::new(store.clone())
                .put(&key("b"), &whole)
                .expect("put");
            assert_eq!(found("a"), Some(whole.clone()));
        }
        std::fs::remove_file(store.blobs().path(&whole.layers[3].blob.digest)).expect("remove");
        assert_eq!(found("a"), None, "a blob is gone");
    }
}
