//! Why a step has to run: what differs from the parts of an earlier key.

use std::collections::BTreeMap;

use super::Part;

/// At most so many differences are named.
const NAMED: usize = 3;

/// Returns, in one line, what changed between `before` and `now`; `None` where nothing did.
pub fn explain(before: &[Part], now: &[Part]) -> Option<String> {
    let index = |parts: &[Part]| -> BTreeMap<String, String> {
        let parts = parts.iter();
        parts
            .map(|it| (it.name.clone(), it.value.clone()))
            .collect()
    };
    let (old, new) = (index(before), index(now));
    let mut changes = Vec::new();
    for part in now {
        match old.get(&part.name) {
            None => changes.push(format!("{} is new", part.name)),
            Some(value) if *value != part.value => {
                changes.push(change(&part.name, value, &part.value));
            }
            Some(_) => {}
        }
    }
    for part in before {
        if !new.contains_key(&part.name) {
            changes.push(format!("{} is gone", part.name));
        }
    }
    if changes.is_empty() {
        return None;
    }
    let more = changes.len().saturating_sub(NAMED);
    changes.truncate(NAMED);
    let mut text = changes.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    Some(text)
}

fn change(name: &str, old: &str, new: &str) -> String {
    // A file's value is its attributes, each `name=value`, so that the one that changed can be named.
    if let Some(file) = name.strip_prefix("file ") {
        let attributes = |text: &str| -> BTreeMap<String, String> {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        };
        let (old, new) = (attributes(old), attributes(new));
        let changed: Vec<&str> = new
            .iter()
            .filter(|(key, value)| old.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect();
        return format!("{file} changed ({})", changed.join(", "));
    }
    let short = |text: &str| text.len() <= 32 && !text.contains('\n');
    if short(old) && short(new) {
        return format!("{name} changed from `{old}` to `{new}`");
    }
    format!("{name} changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &str)]) -> Vec<Part> {
        list.iter()
            .map(|(name, value)| Part {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect()
    }

    #[test]
    fn names_what_changed() {
        let file = "file src/main.rs";
        for (before, now, expected) in [
            (vec![("a", "1")], vec![("a", "1")], None),
            (
                vec![(file, "type=file mode=644 content=aa")],
                vec![(file, "type=file mode=755 content=aa")],
                Some("src/main.rs changed (mode)"),
            ),
            (
                vec![("arg V", "1")],
                vec![("arg V", "2")],
                Some("arg V changed from `1` to `2`"),
            ),
            (vec![], vec![("file x", "")], Some("file x is new")),
            (vec![("file x", "")], vec![], Some("file x is gone")),
            (
                vec![],
                vec![("a", ""), ("b", ""), ("c", ""), ("d", "")],
                Some("a is new, b is new, c is new and 1 more"),
            ),
        ] {
            let explained = explain(&parts(&before), &parts(&now));
            assert_eq!(explained.as_deref(), expected);
        }
    }
}
