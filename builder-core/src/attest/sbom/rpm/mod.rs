//! RPM's packages: one header each, in a database of one of three kinds.
//!
//! | file             | kind                  | since                    |
//! |------------------|-----------------------|--------------------------|
//! | `rpmdb.sqlite`   | SQLite                | RPM 4.16: Fedora, RHEL 9 |
//! | `Packages.db`    | RPM's own, ndb        | SUSE                     |
//! | `Packages`       | Berkeley DB, hash     | before: RHEL 8, CentOS 7 |
//!
//! Each reader is small and reads alone: it knows the one table that holds the headers. A database that a crate would open
//! through its C library is not worth that library: these come from whoever made the image.

mod bdb;
mod bytes;
mod header;
mod ndb;
mod sqlite;

use std::collections::BTreeSet;

use super::files::{Files, MAX_DATABASE_BYTES};
use super::package::Package;

/// Where RPM and its later layouts keep the database.
const DIRECTORIES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// Returns the headers in a database, or why it cannot be read.
type Reader = fn(&[u8]) -> Result<Vec<Vec<u8>>, &'static str>;

const KINDS: [(&str, Reader); 3] = [
    ("rpmdb.sqlite", sqlite::headers),
    ("Packages.db", ndb::headers),
    ("Packages", bdb::headers),
];

pub(super) fn packages(files: &mut Files<'_>) -> Vec<Package> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        for (name, headers) in KINDS {
            let path = format!("{directory}/{name}");
            let Some(node) = files.place(&path) else {
                continue;
            };
            // One directory may be a link to another.
            if !seen.insert(node.path.clone()) {
                continue;
            }
            let Some(bytes) = files.read_node(&node, MAX_DATABASE_BYTES) else {
                continue;
            };
            // What was written last may still stand in a log of its own.
            let log = files.read(&format!("{path}-wal"), MAX_DATABASE_BYTES);
            if log.is_some_and(|log| !log.is_empty()) {
                files.warn(&path, "it has a log beside it, which is not read");
            }
            match headers(&bytes) {
                Ok(headers) => found.extend(read(files, &path, &headers)),
                Err(why) => files.warn(&path, why),
            }
        }
    }
    found
}

fn read(files: &mut Files<'_>, path: &str, headers: &[Vec<u8>]) -> Vec<Package> {
    let mut broken = 0;
    let mut found = Vec::new();
    for bytes in headers {
        match header::package(bytes, path) {
            // The keys that packages are signed with stand among them.
            Some(package) if package.name == "gpg-pubkey" => {}
            Some(package) => found.push(package),
            None => broken += 1,
        }
    }
    if broken > 0 {
        files.warn(path, &format!("{broken} headers cannot be read"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn no_broken_database_does_more_than_fail() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sbom");
        for (case, (name, headers)) in [("rpm-sqlite", KINDS[0]), ("rpm-bdb", KINDS[2])] {
            let path = cases.join(case).join("root/var/lib/rpm").join(name);
            let whole = std::fs::read(path).expect(case);
            let count = |bytes: &[u8]| {
                let headers = headers(bytes).unwrap_or_default();
                let packages = headers.iter().filter_map(|it| header::package(it, "x"));
                packages.count()
            };
            assert_eq!(count(&whole), 3, "{case}");
            for length in (0..whole.len()).step_by(13) {
                assert!(count(&whole[..length]) < 3, "{case} cut at {length}");
            }
            let mut broken = whole.clone();
            for at in (0..whole.len()).step_by(3) {
                for value in [0, 1, 0x7f, 0xff] {
                    broken[at] = value;
                    assert!(count(&broken) <= 3, "{case} with {value} at {at}");
                }
                broken[at] = whole[at];
            }
        }
    }
}
