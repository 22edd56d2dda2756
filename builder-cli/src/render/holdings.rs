//! What a store takes, and what was removed, as text and JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use builder_core::cache::{Holdings, Need, Pruned, Thing};
use builder_core::store::{Kind, Size};
use serde_json::json;

use super::plain::{one_line, size};

const KINDS: [(Kind, &str); 6] = [
    (Kind::Blob, "blobs"),
    (Kind::Snapshot, "snapshots"),
    (Kind::CacheMount, "cache mounts"),
    (Kind::Record, "records"),
    (Kind::FileDigests, "file digests"),
    (Kind::Git, "git clones"),
];

pub(crate) fn text(holdings: &Holdings, verbose: bool) -> String {
    let mut out = format!(
        "{:<16} {:>8} {:>9} {:>10}  {:<12} {}\n",
        "ID", "SIZE", "INODES", "USED", "RECLAIMABLE", "WHAT"
    );
    for thing in &holdings.things {
        if verbose || !matches!(thing.kind, Kind::Record | Kind::FileDigests) {
            out += &line(thing);
        }
    }
    out.push('\n');
    out += &format!(
        "{:<16} {:>8} {:>9} {:>10}  {}\n",
        "KIND", "SIZE", "INODES", "NUMBER", "RECLAIMABLE"
    );
    for (kind, name) in KINDS {
        let things = holdings.things.iter().filter(|it| it.kind == kind);
        let things: Vec<&Thing> = things.collect();
        let sum = sum(&things);
        let free: Vec<&Thing> = things
            .iter()
            .copied()
            .filter(|it| it.need < Need::Image)
            .collect();
        let (bytes, inodes, number) = (size(sum.bytes), sum.inodes, things.len());
        out += &format!(
            "{name:<16} {bytes:>8} {inodes:>9} {number:>10}  {}\n",
            size(self::sum(&free).bytes)
        );
    }
    let Size { bytes, inodes } = holdings.other;
    out += &format!(
        "{:<16} {:>8} {inodes:>9} {:>10}  0B\n",
        "other",
        size(bytes),
        ""
    );
    let Size { bytes, inodes } = holdings.total;
    out += &format!("{:<16} {:>8} {inodes:>9}\n", "total", size(bytes));
    out
}

pub(crate) fn json(holdings: &Holdings) -> String {
    let things: Vec<_> = holdings.things.iter().map(object).collect();
    let mut kinds = BTreeMap::new();
    for (kind, _) in KINDS {
        let things = holdings.things.iter().filter(|it| it.kind == kind);
        let things: Vec<&Thing> = things.collect();
        let Size { bytes, inodes } = sum(&things);
        kinds.insert(
            format!("{}", json!(kind)).trim_matches('"').to_owned(),
            json!({"bytes": bytes, "inodes": inodes, "number": things.len()}),
        );
    }
    let Holdings { other, total, .. } = holdings;
    let object = json!({"total": total, "other": other, "kinds": kinds, "items": things});
    format!("{object:#}\n")
}

pub(crate) fn pruned_text(pruned: &Pruned, dry_run: bool) -> String {
    let mut out = String::new();
    for thing in pruned.things.iter().filter(|it| it.kind != Kind::Record) {
        out += &line(thing);
    }
    let records = pruned
        .things
        .iter()
        .filter(|it| it.kind == Kind::Record)
        .count();
    if records > 0 {
        out += &format!("and {records} records\n");
    }
    let word = if dry_run { "would free" } else { "freed" };
    let Size { bytes, inodes } = pruned.size;
    out += &format!("{word} {} in {inodes} inodes\n", size(bytes));
    out
}

pub(crate) fn pruned_json(pruned: &Pruned) -> String {
    let things: Vec<_> = pruned.things.iter().map(object).collect();
    let object = json!({"freed": pruned.size, "left": pruned.left, "items": things});
    format!("{object:#}\n")
}

fn sum(things: &[&Thing]) -> Size {
    let mut sum = Size::default();
    things.iter().for_each(|thing| sum += thing.size);
    sum
}

fn line(thing: &Thing) -> String {
    let id: String = match thing.name.split_once('/') {
        Some((kind, hex)) => format!("{kind}/{}", hex.get(..6).unwrap_or(hex)),
        None => thing.name.chars().take(12).collect(),
    };
    let kind = KINDS.iter().find(|(kind, _)| *kind == thing.kind);
    let kind = kind.map_or("", |(_, name)| name.trim_end_matches('s'));
    let what = match thing.what.as_str() {
        "" => kind.to_owned(),
        what => format!("{kind}: {}", one_line(what)),
    };
    format!(
        "{id:<16} {:>8} {:>9} {:>10}  {:<12} {what}\n",
        size(thing.size.bytes),
        thing.size.inodes,
        ago(thing.used),
        match (thing.need, thing.references) {
            (Need::Image, _) => "no",
            (_, 0 | 1) => "yes",
            _ => "yes, shared",
        },
    )
}

fn object(thing: &Thing) -> serde_json::Value {
    let used = thing.used.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "kind": thing.kind,
        "id": thing.name,
        "what": thing.what,
        "bytes": thing.size.bytes,
        "inodes": thing.size.inodes,
        "last_used": used.as_secs(),
        "shared": thing.references > 1,
        "references": thing.references,
        "reclaimable": thing.need < Need::Image,
        "need": thing.need,
    })
}

fn ago(used: SystemTime) -> String {
    let since: Duration = SystemTime::now().duration_since(used).unwrap_or_default();
    let seconds = since.as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}
