//! Why a step has to run: what differs from the parts of an earlier key.

use std::collections::BTreeMap;
use std::fmt;

use super::{Earlier, FROM, Part, Parts};
use crate::progress::Change;

/// So many differences are told one by one.
const TOLD: usize = 16;
/// So many are named in one line.
const NAMED: usize = 3;

fn kind(name: &str) -> &'static str {
    match name {
        "the base image" => "base",
        "the step before" => "parent",
        _ if name.starts_with("variable ") => "variable",
        _ if name.starts_with("build arg ") => "build arg",
        _ if name.starts_with("mount ") => "mount",
        "--shm-size" => "limit",
        _ if name.starts_with("--ulimit ") => "limit",
        "SOURCE_DATE_EPOCH" | "host name" => "build arg",
        _ => "argument",
    }
}

fn field(name: &str, what: &str, old: Option<&str>, new: Option<&str>) -> Change {
    Change {
        kind: kind(name).to_owned(),
        name: name.to_owned(),
        what: what.to_owned(),
        attributes: Vec::new(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    }
}

/// What differs from an earlier key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// The first ones.
    pub changes: Vec<Change>,
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self
            .changes
            .iter()
            .take(NAMED)
            .map(Change::to_string)
            .collect();
        f.write_str(&named.join(", "))?;
        match self.count.saturating_sub(named.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns what changed between `before` and `now`; `None` where nothing did.
pub fn explain(before: &Parts, now: &Parts) -> Option<Reason> {
    let mut reason = Reason::default();
    let mut add = |change: Change| {
        reason.count += 1;
        if reason.changes.len() < TOLD {
            reason.changes.push(change);
        }
    };
    let index = |parts: &Parts| -> BTreeMap<String, String> {
        let fields = parts.fields.iter();
        fields
            .map(|Part { name, value }| (name.clone(), value.clone()))
            .collect()
    };
    let (old, new) = (index(before), index(now));
    let mut parent = None;
    for Part { name, value } in &now.fields {
        let change = match old.get(name) {
            None => field(name, "new", None, Some(value)),
            Some(before) if before != value => field(name, "changed", Some(before), Some(value)),
            Some(_) => continue,
        };
        // The step's own differences say more than that of the step before.
        match change.kind.as_str() {
            "parent" => parent = Some(change),
            _ => add(change),
        }
    }
    for Part { name, value } in &before.fields {
        if !new.contains_key(name) {
            add(field(name, "gone", Some(value), None));
        }
    }
    let nothing = super::FileList::default();
    for (name, list) in &now.lists {
        let old = before.lists.iter().find(|(known, _)| known == name);
        let old = old.map_or(&nothing, |(_, list)| list.as_ref());
        if old != list.as_ref() {
            let room = TOLD.saturating_sub(reason.changes.len());
            let (mut changes, count) = old.changes(list, room);
            if let Some((_, context)) = name.rsplit_once(FROM) {
                for change in &mut changes {
                    change.name = format!("{} of context {context}", change.name);
                }
            }
            reason.changes.extend(changes);
            reason.count += count;
        }
    }
    if let Some(parent) = parent {
        reason.count += 1;
        reason.changes.push(parent);
    }
    (reason.count > 0).then_some(reason)
}

/// Returns the earlier key that is nearest to `now`, which is used at `stage` and `ordinal` of a build of `variant`.
///
/// A step that does the same is the same step, wherever it stood. Else it is the one that stood at the same place, or the
/// most alike of its stage, if that is not one of `claimed`, the steps of today: then this step is a new one. Other variants are
/// looked at where this one has nothing of the kind.
pub fn nearest<'a>(
    earlier: &'a [Earlier],
    now: &Parts,
    stage: &str,
    ordinal: usize,
    variant: &str,
    claimed: &[&Parts],
) -> Option<&'a Earlier> {
    let same_kind: Vec<&Earlier> = earlier
        .iter()
        .filter(|it| it.parts.domain == now.domain)
        .collect();
    let distance = |it: &Earlier| {
        let away = it.place.ordinal.abs_diff(ordinal);
        (it.place.stage != stage, it.place.variant != variant, away)
    };
    let own = identity(now);
    let doing_the_same = same_kind.iter().filter(|it| identity(&it.parts) == own);
    if let Some(same) = doing_the_same.min_by_key(|it| distance(it)) {
        return Some(same);
    }
    let claimed: Vec<_> = claimed.iter().map(|parts| identity(parts)).collect();
    let is_own = |it: &Earlier| it.place.stage == stage && it.place.variant == variant;
    let has_own = same_kind.iter().any(|it| is_own(it));
    let free = same_kind
        .into_iter()
        .filter(|it| it.place.stage == stage && (!has_own || is_own(it)))
        .filter(|it| !claimed.contains(&identity(&it.parts)));
    free.max_by_key(|it| {
        let alike = likeness(&it.parts, now);
        (
            it.place.ordinal == ordinal,
            alike,
            std::cmp::Reverse(it.place.ordinal),
        )
    })
}

/// What a step does, whatever it is done to.
fn identity(parts: &Parts) -> (&str, Vec<&Part>) {
    let is_input = |name: &str| {
        matches!(
            kind(name),
            "base" | "parent" | "mount" | "variable" | "build arg" | "limit"
        ) || matches!(name, "source" | "source tree" | "exclude")
    };
    let fields = parts.fields.iter().filter(|part| !is_input(&part.name));
    (&parts.domain, fields.collect())
}

fn likeness(before: &Parts, now: &Parts) -> usize {
    let fields = now
        .fields
        .iter()
        .filter(|part| before.fields.contains(part));
    let lists = now.lists.iter().filter(|list| before.lists.contains(list));
    fields.count() + lists.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &str)]) -> Parts {
        let fields = list.iter().map(|(name, value)| Part {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        });
        Parts {
            fields: fields.collect(),
            ..Parts::default()
        }
    }

    #[test]
    fn names_what_changed() {
        let long = "x".repeat(100);
        for (before, now, expected) in [
            (vec![("a", "1")], vec![("a", "1")], None),
            (
                vec![("build arg V", "1")],
                vec![("build arg V", "2")],
                Some("build arg V changed from `1` to `2`"),
            ),
            (
                vec![("the step before", "aa")],
                vec![("the step before", "bb")],
                Some("the step before changed"),
            ),
            (
                vec![("the step before", "aa"), ("user", "a")],
                vec![("the step before", "bb"), ("user", "b")],
                Some("user changed from `a` to `b`, the step before changed"),
            ),
            (vec![], vec![("x", "")], Some("x is new")),
            (vec![("x", "")], vec![], Some("x is gone")),
            (
                vec![("command", &format!("{long} one"))],
                vec![("command", &format!("{long} two"))],
                Some("command changed from `…xxxxxxxxxxxxxx one` to `…xxxxxxxxxxxxxx two`"),
            ),
            (
                vec![],
                vec![("a", ""), ("b", ""), ("c", ""), ("d", "")],
                Some("a is new, b is new, c is new and 1 more"),
            ),
        ] {
            let explained = explain(&parts(&before), &parts(&now));
            assert_eq!(explained.map(|it| it.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn the_nearest_is_who_does_the_same_then_who_stood_there() {
        let run = |command: &str, parent: &str| {
            let mut parts = parts(&[
                ("command", command),
                ("user", "0"),
                ("the step before", parent),
            ]);
            parts.domain = "run/1".to_owned();
            parts
        };
        let at = |ordinal, parts| Earlier {
            place: crate::cache::Place {
                stage: "s".to_owned(),
                ordinal,
                key: crate::digest::Digest::of(b""),
                variant: String::new(),
            },
            parts,
        };
        let earlier = [
            at(0, run("a", "0")),
            at(1, run("b", "1")),
            at(2, run("c", "2")),
        ];
        let (a, b, c, d) = (run("a", "9"), run("b", "9"), run("c", "9"), run("d", "9"));
        for (now, ordinal, today, expected) in [
            // in its place, and moved
            (&b, 1, vec![&a, &b, &c], Some(1)),
            (&b, 2, vec![&a, &d, &b, &c], Some(1)),
            // a new step between old ones has no earlier record
            (&d, 1, vec![&a, &d, &b, &c], None),
            // an edited one has that of its place
            (&d, 1, vec![&a, &d, &c], Some(1)),
            (&d, 5, vec![&a, &d, &c], Some(1)),
        ] {
            let found = nearest(&earlier, now, "s", ordinal, "", &today);
            assert_eq!(found.map(|it| it.place.ordinal), expected);
        }
    }
}
