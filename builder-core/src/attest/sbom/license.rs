//! From what package managers call a licence to an expression of SPDX.
//!
//! A name that SPDX has not becomes a `LicenseRef-…`, which the document explains by the words that were found.

use std::collections::BTreeMap;

use spdx::Expression;

use crate::digest::Digest;

/// Names that the document explains: the reference, and the words that were found.
pub(super) type References = BTreeMap<String, String>;

const UNKNOWN: &str = "NOASSERTION";
const PREFIX: &str = "LicenseRef-";
/// Of a reference; what is longer ends in a digest.
const MAX_NAME: usize = 48;

/// Debian's and Fedora's short names where they differ from SPDX.
const ALIASES: &[(&str, &str)] = &[
    ("apache", "Apache-2.0"),
    ("apache-2", "Apache-2.0"),
    ("apache 2.0", "Apache-2.0"),
    ("apache license 2.0", "Apache-2.0"),
    ("apache license, version 2.0", "Apache-2.0"),
    ("apache software license", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-2", "Artistic-2.0"),
    ("asl 2.0", "Apache-2.0"),
    ("boost", "BSL-1.0"),
    ("bsd-2-clauses", "BSD-2-Clause"),
    ("bsl-1", "BSL-1.0"),
    ("bsd-3-clauses", "BSD-3-Clause"),
    ("bsd 3-clause", "BSD-3-Clause"),
    ("bsd-3-clause license", "BSD-3-Clause"),
    ("cc0", "CC0-1.0"),
    ("cc0-1", "CC0-1.0"),
    ("expat", "MIT"),
    ("gfdl-1.2", "GFDL-1.2-only"),
    ("gfdl-1.2+", "GFDL-1.2-or-later"),
    ("gfdl-1.3", "GFDL-1.3-only"),
    ("gfdl-1.3+", "GFDL-1.3-or-later"),
    ("gfdl-niv-1.3+", "GFDL-1.3-no-invariants-or-later"),
    ("gpl-1", "GPL-1.0-only"),
    ("gpl-1+", "GPL-1.0-or-later"),
    ("gpl-2", "GPL-2.0-only"),
    ("gpl-2.0", "GPL-2.0-only"),
    ("gpl-2+", "GPL-2.0-or-later"),
    ("gpl-2.0+", "GPL-2.0-or-later"),
    ("gpl-3", "GPL-3.0-only"),
    ("gpl-3.0", "GPL-3.0-only"),
    ("gpl-3+", "GPL-3.0-or-later"),
    ("gpl-3.0+", "GPL-3.0-or-later"),
    ("gplv2", "GPL-2.0-only"),
    ("gplv2+", "GPL-2.0-or-later"),
    ("gplv3", "GPL-3.0-only"),
    ("gplv3+", "GPL-3.0-or-later"),
    ("lgpl-2", "LGPL-2.0-only"),
    ("lgpl-2+", "LGPL-2.0-or-later"),
    ("lgpl-2.1", "LGPL-2.1-only"),
    ("lgpl-2.1+", "LGPL-2.1-or-later"),
    ("lgpl-3", "LGPL-3.0-only"),
    ("lgpl-3+", "LGPL-3.0-or-later"),
    ("lgplv2", "LGPL-2.0-only"),
    ("lgplv2+", "LGPL-2.0-or-later"),
    ("lgplv3", "LGPL-3.0-only"),
    ("lgplv3+", "LGPL-3.0-or-later"),
    ("mit license", "MIT"),
    ("mpl-2", "MPL-2.0"),
    ("mplv2.0", "MPL-2.0"),
    ("psf", "PSF-2.0"),
    ("psfl", "PSF-2.0"),
    ("python software foundation license", "PSF-2.0"),
    ("the mit license", "MIT"),
    ("zlib/libpng", "Zlib"),
    ("zpl-2.1", "ZPL-2.1"),
];

/// Returns the expression that all of `names` come to, and adds what it refers to.
pub(super) fn declared(names: &[String], references: &mut References) -> String {
    let mut parts: Vec<String> = Vec::new();
    for name in names.iter().map(|name| name.trim()) {
        if name.is_empty() || name.eq_ignore_ascii_case("unknown") {
            continue;
        }
        let part = expression(name, references);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [] => UNKNOWN.to_owned(),
        [one] => one.clone(),
        many => {
            let each = many.iter().map(|it| match it.contains(' ') {
                true => format!("({it})"),
                false => it.clone(),
            });
            each.collect::<Vec<_>>().join(" AND ")
        }
    }
}

fn expression(text: &str, references: &mut References) -> String {
    if let Some(known) = known(text) {
        return known;
    }
    let lower = text.to_ascii_lowercase();
    let is_joined = lower.contains(" or ") || lower.contains(" and ");
    // A text or a clause in brackets is nothing to be taken apart.
    if !is_joined || text.contains(['(', ')', '\n']) || text.len() > 400 {
        return reference(text, references);
    }
    // Debian's comma holds less than its words: `A or B, and C`.
    let parts = lower_split(text, ", and ");
    let joined = match parts.as_slice() {
        _ if text.contains(',') && parts.len() == 1 => return reference(text, references),
        [one] => clauses(one, references),
        many => {
            let each = many.iter().map(|part| {
                let part = clauses(part, references);
                match part.contains(" OR ") {
                    true => format!("({part})"),
                    false => part,
                }
            });
            each.collect::<Vec<_>>().join(" AND ")
        }
    };
    match Expression::parse(&joined) {
        Ok(_) => joined,
        Err(_) => reference(text, references),
    }
}

/// Reads names between `and` and `or`, of which `and` holds more.
fn clauses(text: &str, references: &mut References) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let clauses = words.split(|word| word.eq_ignore_ascii_case("or"));
    let clauses = clauses.map(|clause| {
        let atoms = clause.split(|word| word.eq_ignore_ascii_case("and"));
        let atoms = atoms
            .map(|atom| atom.join(" "))
            .filter(|atom| !atom.is_empty())
            .map(|atom| known(&atom).unwrap_or_else(|| reference(&atom, references)));
        atoms.collect::<Vec<_>>().join(" AND ")
    });
    clauses.collect::<Vec<_>>().join(" OR ")
}

/// Splits at `mark`, in capitals or not.
fn lower_split<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let lower = text.to_ascii_lowercase();
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in lower.match_indices(mark) {
        parts.push(&text[start..at]);
        start = at + mark.len();
    }
    parts.push(&text[start..]);
    parts
}

/// Returns `text` in the words of SPDX, where it has them.
fn known(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, known)) = ALIASES.iter().find(|(alias, _)| *alias == lower) {
        return Some((*known).to_owned());
    }
    let same = |it: &&spdx::License| it.name.eq_ignore_ascii_case(text);
    if let Some(license) = spdx::identifiers::LICENSES.iter().find(same) {
        return Some(license.name.to_owned());
    }
    // Each reference must be explained, and theirs nobody explains here.
    if text.contains("Ref-") || text.len() > 1000 {
        return None;
    }
    match Expression::canonicalize(text) {
        Ok(Some(better)) => Expression::parse(&better).ok().map(|_| better),
        Ok(None) => Expression::parse(text).ok().map(|_| text.to_owned()),
        Err(_) => None,
    }
}

/// Names what SPDX has no name for.
fn reference(text: &str, references: &mut References) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let bare = text.strip_prefix(PREFIX).unwrap_or(text);
    let mut name: String = bare
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let digest = || Digest::of(text.as_bytes()).hex()[..12].to_owned();
    if name.len() > MAX_NAME {
        name.truncate(MAX_NAME);
        name = format!("{name}-{}", digest());
    }
    let mut id = format!("{PREFIX}{name}");
    // Two texts may come to one name.
    if references.get(&id).is_some_and(|it| it != text) {
        id = format!("{id}-{}", digest());
    }
    references.insert(id.clone(), text.to_owned());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for (names, expected) in [
            (&["MIT"][..], "MIT"),
            (&[], "NOASSERTION"),
            (&["UNKNOWN"], "NOASSERTION"),
            (&["Expat", "GPL-2+"], "MIT AND GPL-2.0-or-later"),
            (&["GPL-2+", "GPL-2+"], "GPL-2.0-or-later"),
            (&["GPLv3+ and MIT"], "GPL-3.0-or-later AND MIT"),
            (
                &["GPL-1+ or Artistic"],
                "GPL-1.0-or-later OR Artistic-1.0-Perl",
            ),
            (
                &["GPL-1+ or Artistic, and BSD-3-clause"],
                "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND BSD-3-Clause",
            ),
            (&["MIT, or so"], "LicenseRef-MIT--or-so"),
            (&["MIT OR Apache-2.0", "ISC"], "(MIT OR Apache-2.0) AND ISC"),
            (&["MIT/Apache-2.0"], "MIT OR Apache-2.0"),
            (&["public-domain"], "LicenseRef-public-domain"),
            (
                &["My own: do what you like"],
                "LicenseRef-My-own--do-what-you-like",
            ),
            (&["LicenseRef-Fedora-X"], "LicenseRef-Fedora-X"),
            (
                &["GPL-2.0-only WITH Classpath-exception-2.0"],
                "GPL-2.0-only WITH Classpath-exception-2.0",
            ),
        ] {
            let names: Vec<String> = names.iter().map(|&it| it.to_owned()).collect();
            let mut references = References::new();
            let found = declared(&names, &mut references);
            assert_eq!(found, expected, "{names:?}");
            if found != UNKNOWN {
                assert!(Expression::parse(&found).is_ok(), "{found}");
            }
            assert_eq!(found.contains(PREFIX), !references.is_empty(), "{names:?}");
        }
    }

    #[test]
    fn references_are_told_apart() {
        let mut references = References::new();
        let names = [
            "a b".to_owned(),
            "a/b c".to_owned(),
            "a/b/c".to_owned(),
            "x ".repeat(300),
        ];
        let found = declared(&names, &mut references);
        assert!(Expression::parse(&found).is_ok(), "{found}");
        assert_eq!(references.len(), 4, "{references:?}");
    }
}
