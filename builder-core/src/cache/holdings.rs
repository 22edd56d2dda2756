//! What the store has, who refers to what, and the removal of what is not worth keeping.
//!
//! ```text
//! index.json ─▶ manifests ─▶ configs, layers                       named images: they stay
//! steps/* ─▶ stacks/* ─▶ blobs and snapshots of the result         a record lasts as long as it is used,
//! builds/* ─▶ parts ─▶ lists                                       and what it refers to as long as it does
//! same/*, placed/*, retimed/*, compressed/*, members/*, tar-parts/*  last as long as their blob
//! ```
//!
//! The last use of a thing is its own, or that of the latest that refers to it. So the longest unused things never leave
//! a record behind that is younger and has lost what it leads to.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use super::last::{BUILDS, LISTS, PARTS};
use super::placed::{PLACED, Placed};
use super::prune::{self, Need, Policy, Rules, Thing};
use super::record::{RETIMED, SAME, STEPS, Written};
use super::stack::STACKS;
use super::web::{By, Index, Stacks, Web, above};
use super::{Cache, Found, LastBuild, Layer};
use crate::digest::{ChainId, DiffId, Digest};
use crate::image::{Descriptor, ImageConfig};
use crate::store::{Condemned, Kind, Measured, Size, StoreError, Stored};

/// Written by `export`: what a layer was once compressed to.
const COMPRESSED: &str = "compressed";
const MEMBERS: &str = "members";
const TAR_PARTS: &str = "tar-parts";
/// Written by `registry`: what a blob is when it is decompressed.
const DIFF_IDS: &str = "diff-ids";
/// Written by `registry`: which repositories have a blob.
const ORIGINS: &str = "origins";
/// Far more than any real manifest or config.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// When the store was last looked at, and what did not have to be measured again.
const MEMORY: &str = "gc";

/// All that a store has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holdings {
    pub things: Vec<Thing>,
    /// Directories, locks, the index, and what builds have not finished.
    pub other: Size,
    pub total: Size,
}

/// What has been removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    pub things: Vec<Thing>,
    pub size: Size,
    /// What the store takes now.
    pub left: Size,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Memory {
    /// Kind, name, seconds since the epoch, bytes, inodes.
    sizes: Vec<(bool, String, u64, u64, u64)>,
}

impl Cache {
    /// Measures all that is there, to the last block.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn holdings(&self) -> Result<Holdings, StoreError> {
        Ok(self.relate(self.store.measure()?).0)
    }

    /// Removes what `rules` say; with `dry_run` nothing, and what would go is returned.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub fn prune(
        &self,
        rules: &Rules,
        now: SystemTime,
        dry_run: bool,
    ) -> Result<Pruned, StoreError> {
        let (holdings, stored) = self.relate(self.store.measure()?);
        let free = self.store.free();
        let gone = prune::decide(&holdings.things, holdings.total, free, rules, now);
        self.remove(holdings, &stored, gone, dry_run)
    }

    /// Holds the store to `policy`, after a build. `None`: it was looked at a moment ago.
    ///
    /// Costs next to nothing while that is so, and a look at each blob and record else: what does not change is not
    /// measured twice.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub fn keep_within(
        &self,
        policy: &Policy,
        now: SystemTime,
    ) -> Result<Option<Pruned>, StoreError> {
        let key = Digest::of(MEMORY.as_bytes());
        let looked = self.store.records().used(MEMORY, &key);
        let recent = looked.and_then(|at| now.duration_since(at).ok());
        let free = self.store.free();
        let is_room = free.bytes >= policy.min_free_bytes && free.inodes >= policy.min_free_inodes;
        if is_room && recent.is_some_and(|since| since < policy.every) {
            return Ok(None);
        }
        let memory: Memory = self.store.records().get(MEMORY, &key).unwrap_or_default();
        let measured = self.store.measure_with(&remembered(&memory))?;
        let memory = memory_of(&measured, now);
        let (mut holdings, stored) = self.relate(measured);
        let mut gone: Vec<usize> = Vec::new();
        for rules in policy.rules() {
            let total = holdings.total;
            gone.extend(prune::decide(&holdings.things, total, free, &rules, now));
        }
        if let Some(max_bytes) = policy.max_mounts_bytes {
            gone.extend(prune::decide_mounts(&holdings.things, max_bytes));
        }
        gone.sort_unstable();
        gone.dedup();
        // Whoever refers goes before what it refers to.
        gone.sort_by_key(|&at| (prune::rank(&holdings.things[at]), at));
        self.store.records().put(MEMORY, &key, &memory)?;
        if gone.is_empty() {
            let left = std::mem::take(&mut holdings.total);
            return Ok(Some(Pruned {
                left,
                ..Pruned::default()
            }));
        }
        self.remove(holdings, &stored, gone, false).map(Some)
    }

    fn remove(
        &self,
        holdings: Holdings,
        stored: &[Stored],
        gone: Vec<usize>,
        dry_run: bool,
    ) -> Result<Pruned, StoreError> {
        let condemned: Vec<Condemned> = gone
            .iter()
            .map(|&at| Condemned {
                path: stored[at].path.clone(),
                used: stored[at].used,
                lock: stored[at].kind.lock(&stored[at].name),
            })
            .collect();
        let removed = match dry_run {
            true => vec![true; gone.len()],
            false => self.store.sweep(&condemned)?,
        };
        let mut pruned = Pruned {
            left: holdings.total,
            ..Pruned::default()
        };
        let mut things: Vec<Option<Thing>> = holdings.things.into_iter().map(Some).collect();
        for (at, _) in gone
            .into_iter()
            .zip(removed)
            .filter(|(_, removed)| *removed)
        {
            if let Some(thing) = things[at].take() {
                pruned.size += thing.size;
                pruned.things.push(thing);
            }
        }
        let Size { bytes, inodes } = pruned.size;
        pruned.left.bytes = pruned.left.bytes.saturating_sub(bytes);
        pruned.left.inodes = pruned.left.inodes.saturating_sub(inodes);
        Ok(pruned)
    }

    /// Says what was noted of a thing that has no record: a cache mount's id, a repository's address.
    fn noted(&self, item: &Stored) -> String {
        let lock = item.kind.lock(&item.name);
        lock.and_then(|lock| self.store.noted(&lock))
            .unwrap_or_default()
    }

    /// Finds out who refers to what.
    fn relate(&self, measured: Measured) -> (Holdings, Vec<Stored>) {
        let total = measured.total();
        let Measured { items, other } = measured;
        let numbered = items.iter().enumerate();
        let index: Index = numbered
            .map(|(at, item)| ((item.kind, item.name.clone()), at))
            .collect();
        let things = items.iter().map(|item| Thing {
            kind: item.kind,
            name: item.name.clone(),
            what: self.noted(item),
            size: item.size,
            used: item.used,
            need: match item.kind {
                Kind::CacheMount | Kind::FileDigests | Kind::Git => Need::Kept,
                Kind::Record if item.name.starts_with(BUILDS) => Need::Kept,
                Kind::Record if item.name.starts_with(MEMORY) => Need::Image,
                _ => Need::None,
            },
            references: 0,
        });
        let mut web = Web {
            things: things.collect(),
            index,
        };
        let named = self.named_images(&mut web);
        self.tie_steps(&mut web, &named);
        self.tie_parts(&mut web);
        self.tie_followers(&mut web);
        let things = web.things;
        (
            Holdings {
                things,
                other,
                total,
            },
            items,
        )
    }

    /// Marks what named images consist of; returns their stacks.
    fn named_images(&self, web: &mut Web) -> Vec<Vec<DiffId>> {
        let mut stacks = Vec::new();
        let names: BTreeMap<Digest, String> = self
            .store
            .list()
            .unwrap_or_default()
            .into_iter()
            .map(|tag| (tag.descriptor.digest, tag.reference.to_string()))
            .collect();
        let mut todo: Vec<(Digest, String)> = self.store.index_digests().unwrap_or_default();
        while let Some((digest, name)) = todo.pop() {
            let name = names.get(&digest).cloned().unwrap_or(name);
            web.hold(Kind::Blob, &digest.hex(), By::image(), &name);
            let Ok(bytes) = self.store.blobs().read(&digest, MAX_DOCUMENT_BYTES) else {
                continue;
            };
            let Ok(document) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
                continue;
            };
            let digests = |field: &serde_json::Value| -> Vec<Digest> {
                let list = match field {
                    serde_json::Value::Array(list) => list.as_slice(),
                    one => std::slice::from_ref(one),
                };
                let texts = list.iter().filter_map(|it| it["digest"].as_str());
                texts.filter_map(|text| text.parse().ok()).collect()
            };
            todo.extend(
                digests(&document["manifests"])
                    .into_iter()
                    .map(|it| (it, name.clone())),
            );
            for blob in digests(&document["layers"]) {
                web.hold(Kind::Blob, &blob.hex(), By::image(), &name);
                // Where it can be had, if it is not here.
                let here = web.index.contains_key(&(Kind::Blob, blob.hex()));
                let need = if here { Need::Kept } else { Need::Image };
                let origins = format!("{ORIGINS}/{}", blob.hex());
                web.hold(
                    Kind::Record,
                    &origins,
                    By {
                        need,
                        ..By::image()
                    },
                    "",
                );
            }
            for config in digests(&document["config"]) {
                web.hold(Kind::Blob, &config.hex(), By::image(), &name);
                let bytes = self.store.blobs().read(&config, MAX_DOCUMENT_BYTES);
                let config = bytes.ok().and_then(|bytes| ImageConfig::parse(&bytes).ok());
                stacks.extend(config.map(|config| config.diff_ids));
            }
        }
        stacks
    }

    /// Ties results to the records that lead to them: first to each what it says itself, then to the pieces of stacks, from
    /// the topmost down, what all that stand on them say. Each layer is gone to once for each piece that names it.
    fn tie_steps(&self, web: &mut Web, named: &[Vec<DiffId>]) {
        let bases = named.iter().flat_map(|stack| ChainId::stack(stack));
        let named: HashSet<ChainId> = bases.collect();
        let mut stacks = Stacks::default();
        let read = |name: &Digest| self.store.records().get_bytes(STACKS, name);
        for at in web.records(STEPS) {
            let written = self.record::<Written<'_>>(web, at);
            let found = written.and_then(|it| stacks.pieces.found(it, &read));
            let Some(Found { stack, step, .. }) = found else {
                continue;
            };
            let below = stack.below.as_ref().map(|piece| stacks.top_of(piece));
            let chains = above(below, &stack.top);
            if chains.last().is_none_or(|top| named.contains(top)) && !named.is_empty() {
                web.things[at].need = Need::Kept;
            }
            web.things[at].what.clone_from(&step);
            let by = By {
                used: Some(web.things[at].used),
                need: web.things[at].need,
                times: 1,
            };
            web.hold_layers(&stack.top, &chains, by, &step);
            if let Some(below) = stack.below {
                stacks.hold(below, by);
            }
        }
        stacks.tie(web);
    }

    /// Ties what explains a miss to the builds that it explains.
    fn tie_parts(&self, web: &mut Web) {
        for at in web.records(BUILDS) {
            let Some(build) = self.record::<LastBuild>(web, at) else {
                continue;
            };
            web.things[at].what.clone_from(&build.project);
            let by = By {
                used: Some(web.things[at].used),
                need: Need::Kept,
                times: 1,
            };
            for place in build.places() {
                let name = format!("{PARTS}/{}", place.key.hex());
                web.hold(Kind::Record, &name, by, "");
                for list in self.lists_of(&place.key) {
                    let name = format!("{LISTS}/{}", list.hex());
                    web.hold(Kind::Record, &name, by, "");
                }
            }
        }
    }

    /// Lets records that are about one blob last as long as that.
    fn tie_followers(&self, web: &mut Web) {
        let mut follow = |kind: &str, blob: &dyn Fn(&Web, usize) -> Option<Digest>| {
            for at in web.records(kind) {
                let blob = blob(web, at).map(|digest| (Kind::Blob, digest.hex()));
                let Some(blob) = blob.and_then(|blob| web.index.get(&blob).copied()) else {
                    continue;
                };
                let (used, need) = (web.things[blob].used, web.things[blob].need);
                let own = &mut web.things[at];
                own.used = own.used.max(used);
                own.need = own.need.max(need.min(Need::Kept));
            }
        };
        for kind in [SAME, RETIMED] {
            follow(kind, &|web, at| {
                Some(self.record::<Layer>(web, at)?.blob.digest)
            });
        }
        // As long as that of the latest.
        follow(PLACED, &|web, at| {
            let placed = self.record::<Vec<Placed>>(web, at)?;
            Some(placed.first()?.layer.blob.digest)
        });
        // Named by the blob that they are about.
        for kind in [MEMBERS, TAR_PARTS, DIFF_IDS] {
            follow(kind, &|web, at| {
                let (_, hex) = web.things[at].name.split_once('/')?;
                format!("sha256:{hex}").parse().ok()
            });
        }
        follow(COMPRESSED, &|web, at| {
            Some(self.record::<Descriptor>(web, at)?.digest)
        });
    }

    fn record<T: serde::de::DeserializeOwned>(&self, web: &Web, at: usize) -> Option<T> {
        let (kind, hex) = web.things[at].name.split_once('/')?;
        let key: Digest = format!("sha256:{hex}").parse().ok()?;
        self.store.records().get(kind, &key)
    }
}

fn remembered(memory: &Memory) -> BTreeMap<(Kind, String), (SystemTime, Size)> {
    let sizes = memory.sizes.iter();
    sizes
        .map(|(is_mount, name, at, bytes, inodes)| {
            let kind = match is_mount {
                true => Kind::CacheMount,
                false => Kind::Snapshot,
            };
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(*at);
            let (bytes, inodes) = (*bytes, *inodes);
            ((kind, name.clone()), (at, Size { bytes, inodes }))
        })
        .collect()
}

fn memory_of(measured: &Measured, now: SystemTime) -> Memory {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let slow = |it: &&Stored| matches!(it.kind, Kind::Snapshot | Kind::CacheMount);
    let items = measured.items.iter().filter(slow);
    let sizes = items.map(|it| {
        let is_mount = it.kind == Kind::CacheMount;
        let Size { bytes, inodes } = it.size;
        (is_mount, it.name.clone(), now.as_secs(), bytes, inodes)
    });
    Memory {
        sizes: sizes.collect(),
    }
}
