//! What is worth keeping? Decided from a list of things, without any look at the disk.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::stack::STACKS;
use crate::store::{Kind, Size};

/// Who would miss a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// A later build might find it.
    None,
    /// A named image was made with it, or it is kept for all builds: cache mounts, digests of files.
    Kept,
    /// It is part of a named image: never removed.
    Image,
}

/// One thing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub kind: Kind,
    pub name: String,
    /// For people: the step that made it, the image that it belongs to.
    pub what: String,
    pub size: Size,
    /// By itself, or by what refers to it.
    pub used: SystemTime,
    pub need: Need,
    /// How many things refer to it.
    pub references: usize,
}

/// What to remove, from the longest unused on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What named images were made with, and what is kept for all builds, too.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only until the whole store takes no more than this.
    pub max_used_bytes: Option<u64>,
    /// Only until so much of the disk is free; 0: whatever is free.
    pub min_free_bytes: u64,
    /// Only until the whole store has no more inodes than this.
    pub max_used_inodes: Option<u64>,
    /// Only until so many inodes of the file system are free; 0: whatever is free.
    pub min_free_inodes: u64,
    /// Never so much that the store takes less than this.
    pub reserved_bytes: u64,
    /// Only these; empty: all kinds.
    pub kinds: BTreeSet<Kind>,
    /// Only what has one of these at the start of its name; empty: all.
    pub names: Vec<String>,
}

/// What a store may take, held after each build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub max_used_bytes: Option<u64>,
    pub min_free_bytes: u64,
    pub max_used_inodes: Option<u64>,
    pub min_free_inodes: u64,
    pub reserved_bytes: u64,
    /// What was not used for so long goes in any case.
    pub unused_for: Option<Duration>,
    /// What all cache mounts together may take.
    pub max_mounts_bytes: Option<u64>,
    /// Not looked at more often, as long as the disk has enough free.
    pub every: Duration,
}

const GIB: u64 = 1 << 30;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Policy {
    /// Room for daily work on a developer's disk: 60 days, 10 GiB of cache mounts, and 5 GiB and 20,000 inodes left free.
    fn default() -> Self {
        Policy {
            max_used_bytes: None,
            min_free_bytes: 5 * GIB,
            max_used_inodes: None,
            min_free_inodes: 20_000,
            reserved_bytes: GIB,
            unused_for: Some(60 * DAY),
            max_mounts_bytes: Some(10 * GIB),
            every: Duration::from_secs(600),
        }
    }
}

impl Policy {
    /// Returns the rules to follow, one after the other.
    pub fn rules(&self) -> Vec<Rules> {
        let mut rules = Vec::new();
        if let Some(unused_for) = self.unused_for {
            rules.push(Rules {
                all: true,
                unused_for: Some(unused_for),
                ..Rules::default()
            });
        }
        let limits = Rules {
            all: true,
            max_used_bytes: self.max_used_bytes,
            min_free_bytes: self.min_free_bytes,
            max_used_inodes: self.max_used_inodes,
            min_free_inodes: self.min_free_inodes,
            reserved_bytes: self.reserved_bytes,
            ..Rules::default()
        };
        if limits.has_limits() {
            rules.push(limits);
        }
        rules
    }
}

impl Rules {
    /// Says whether things go only until the store is small enough.
    fn has_limits(&self) -> bool {
        let most = self.max_used_bytes.is_some() || self.max_used_inodes.is_some();
        most || self.min_free_bytes > 0 || self.min_free_inodes > 0
    }
}

/// Returns the indices of what goes, longest unused first. `total` is what the whole store takes, `free` what the disk has.
///
/// Who refers comes before what it refers to: nothing that stays refers to what goes, unless the rules name kinds.
pub(super) fn decide(
    things: &[Thing],
    total: Size,
    free: Size,
    rules: &Rules,
    now: SystemTime,
) -> Vec<usize> {
    let keep = keep(total, free, rules);
    let mut left = total;
    let mut gone = Vec::new();
    for at in oldest_first(things) {
        let thing = &things[at];
        let is_small = left.bytes <= keep.bytes && left.inodes <= keep.inodes;
        if is_small || left.bytes <= rules.reserved_bytes {
            break;
        }
        if may_go(thing, rules, now) {
            left.bytes = left.bytes.saturating_sub(thing.size.bytes);
            left.inodes = left.inodes.saturating_sub(thing.size.inodes);
            gone.push(at);
        }
    }
    gone
}

/// Returns the cache mounts that go so that all of them take no more than `max_bytes`, longest unused first.
pub(super) fn decide_mounts(things: &[Thing], max_bytes: u64) -> Vec<usize> {
    let mounts = oldest_first(things).into_iter();
    let mounts: Vec<usize> = mounts
        .filter(|&at| things[at].kind == Kind::CacheMount)
        .collect();
    let mut left: u64 = mounts.iter().map(|&at| things[at].size.bytes).sum();
    let mut gone = Vec::new();
    for at in mounts {
        if left <= max_bytes {
            break;
        }
        left -= things[at].size.bytes;
        gone.push(at);
    }
    gone
}

fn oldest_first(things: &[Thing]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..things.len()).collect();
    order.sort_by_key(|&at| (things[at].used, rank(&things[at]), at));
    order
}

/// Of the same time: records first, which refer to the rest, then what they stand on.
pub(super) fn rank(thing: &Thing) -> u8 {
    match thing.kind {
        Kind::Record if thing.name.starts_with(STACKS) => 1,
        Kind::Record => 0,
        Kind::Snapshot => 2,
        _ => 3,
    }
}

fn may_go(thing: &Thing, rules: &Rules, now: SystemTime) -> bool {
    let Rules {
        all,
        unused_for,
        kinds,
        names,
        ..
    } = rules;
    let unused = now.duration_since(thing.used).unwrap_or_default();
    thing.need < Need::Image
        && (*all || thing.need == Need::None || kinds.contains(&thing.kind))
        && unused_for.is_none_or(|long| unused >= long)
        && (kinds.is_empty() || kinds.contains(&thing.kind))
        && (names.is_empty()
            || names
                .iter()
                .any(|name| thing.name.starts_with(name.as_str())))
}

/// Returns down to what size things go; without limits everything that may go goes.
fn keep(total: Size, free: Size, rules: &Rules) -> Size {
    if !rules.has_limits() {
        return Size::default();
    }
    let down_to = |most: Option<u64>, total: u64, lacking: u64| {
        let most = most.unwrap_or(u64::MAX);
        match lacking {
            0 => most,
            lacking => most.min(total.saturating_sub(lacking)),
        }
    };
    let bytes = rules.min_free_bytes.saturating_sub(free.bytes);
    let inodes = rules.min_free_inodes.saturating_sub(free.inodes);
    Size {
        bytes: down_to(rules.max_used_bytes, total.bytes, bytes),
        inodes: down_to(rules.max_used_inodes, total.inodes, inodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days_ago: u64) -> SystemTime {
        now() - DAY * u32::try_from(days_ago).expect("days")
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    fn thing(kind: Kind, name: &str, bytes: u64, days_ago: u64, need: Need) -> Thing {
        Thing {
            kind,
            name: name.to_owned(),
            what: String::new(),
            size: Size { bytes, inodes: 1 },
            used: at(days_ago),
            need,
            references: 0,
        }
    }

    fn things() -> Vec<Thing> {
        vec![
            thing(Kind::Blob, "new", 100, 1, Need::None),
            thing(Kind::Blob, "old", 100, 30, Need::None),
            thing(Kind::Record, "steps/old", 1, 30, Need::None),
            thing(Kind::Snapshot, "named", 100, 20, Need::Kept),
            thing(Kind::Blob, "image", 100, 40, Need::Image),
            thing(Kind::CacheMount, "m1", 50, 25, Need::Kept),
            thing(Kind::CacheMount, "m2", 60, 2, Need::Kept),
        ]
    }

    #[test]
    fn what_goes() {
        let all = || Rules {
            all: true,
            ..Rules::default()
        };
        let things = things();
        let total = Size {
            bytes: 511,
            inodes: 7,
        };
        for (what, rules, free, expected) in [
            (
                "what no image needs",
                Rules::default(),
                0,
                &["steps/old", "old", "new"][..],
            ),
            (
                "all",
                all(),
                0,
                &["steps/old", "old", "m1", "named", "m2", "new"],
            ),
            (
                "by age",
                Rules {
                    unused_for: Some(DAY * 24),
                    ..all()
                },
                0,
                &["steps/old", "old", "m1"],
            ),
            (
                "by size",
                Rules {
                    max_used_bytes: Some(400),
                    ..all()
                },
                0,
                &["steps/old", "old", "m1"],
            ),
            (
                "small enough",
                Rules {
                    max_used_bytes: Some(511),
                    ..all()
                },
                0,
                &[],
            ),
            (
                "a full disk",
                Rules {
                    min_free_bytes: 1000,
                    ..all()
                },
                900,
                &["steps/old", "old"],
            ),
            (
                "an empty disk",
                Rules {
                    min_free_bytes: 1000,
                    ..all()
                },
                1000,
                &[],
            ),
            (
                "a full disk, but some is reserved",
                Rules {
                    min_free_bytes: 1000,
                    reserved_bytes: 505,
                    ..all()
                },
                0,
                &["steps/old", "old"],
            ),
            (
                "reserved alone",
                Rules {
                    reserved_bytes: 510,
                    ..all()
                },
                0,
                &["steps/old"],
            ),
            (
                "inodes",
                Rules {
                    max_used_inodes: Some(5),
                    ..all()
                },
                0,
                &["steps/old", "old"],
            ),
            (
                "inodes or bytes, whichever asks for more",
                Rules {
                    max_used_inodes: Some(5),
                    max_used_bytes: Some(400),
                    ..all()
                },
                0,
                &["steps/old", "old", "m1"],
            ),
            (
                "a file system without inodes",
                Rules {
                    min_free_inodes: 13,
                    ..all()
                },
                0,
                &["steps/old", "old", "m1"],
            ),
            (
                "inodes enough",
                Rules {
                    min_free_inodes: 10,
                    ..all()
                },
                0,
                &[],
            ),
            (
                "a kind, by name, whoever keeps it",
                Rules {
                    kinds: BTreeSet::from([Kind::CacheMount]),
                    ..Rules::default()
                },
                0,
                &["m1", "m2"],
            ),
            (
                "a name",
                Rules {
                    names: vec!["m2".to_owned()],
                    ..all()
                },
                0,
                &["m2"],
            ),
        ] {
            let free = Size {
                bytes: free,
                inodes: 10,
            };
            let gone = decide(&things, total, free, &rules, now());
            let names: Vec<&str> = gone.iter().map(|&at| things[at].name.as_str()).collect();
            assert_eq!(names, expected, "{what}");
        }
    }

    #[test]
    fn mounts_are_bounded() {
        let things = things();
        for (max, expected) in [(110, &[][..]), (60, &["m1"]), (59, &["m1", "m2"])] {
            let gone = decide_mounts(&things, max);
            let names: Vec<&str> = gone.iter().map(|&at| things[at].name.as_str()).collect();
            assert_eq!(names, expected, "{max}");
        }
    }

    #[test]
    fn the_policy_that_stands_removes_nothing_young() {
        let rules = Policy::default().rules();
        let things = things();
        for rule in &rules {
            let size = |bytes, inodes| Size { bytes, inodes };
            let gone = decide(&things, size(511, 7), size(100 * GIB, 1 << 20), rule, now());
            assert_eq!(gone, [0_usize; 0]);
        }
    }
}
