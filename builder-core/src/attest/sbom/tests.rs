//! Whole trees: each case is a folder of `testdata/sbom`, its files in `root`, what is found in `found.txt`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{About, Scanned, document, scan};
use crate::context::{LocalTree, RootTree};
use crate::image::Platform;

fn shown(scanned: &Scanned) -> String {
    let mut out = String::new();
    for package in &scanned.packages {
        let purl = package.purl(&scanned.os);
        let _ = writeln!(out, "{purl} in /{}", package.found_in);
    }
    for warning in &scanned.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn tree(root: &Path) -> RootTree {
    let directory = fs::File::open(root).expect("a root");
    RootTree::new(directory.into(), "a test")
}

#[test]
fn databases() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sbom");
    let mut cases: Vec<_> = fs::read_dir(&cases)
        .expect("testdata/sbom")
        .map(|it| it.expect("a case").path())
        .collect();
    cases.sort();
    assert!(cases.len() > 5, "only {} cases", cases.len());
    for case in cases {
        let scanned = scan(Some(&tree(&case.join("root")))).expect("a scan");
        let found = shown(&scanned);
        let expected = case.join("found.txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &found).expect("bless");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found, expected, "{}", case.display());
    }
}

#[test]
fn the_same_image_has_the_same_document() {
    let about = About {
        name: "app:1".to_owned(),
        created: "1970-01-01T00:00:00Z".to_owned(),
        tool: "builder-0".to_owned(),
        platform: Platform::new("linux", "amd64", None),
        layers: Vec::new(),
    };
    let empty = document(&Scanned::default(), &about);
    assert_eq!(empty, document(&Scanned::default(), &about));
    let other = About {
        name: "app:2".to_owned(),
        ..about.clone()
    };
    let other = document(&Scanned::default(), &other);
    assert_ne!(empty["documentNamespace"], other["documentNamespace"]);
}

#[test]
fn a_database_that_is_too_large_or_leads_round_is_named() {
    let temp = tempfile::tempdir().expect("a directory");
    let dpkg = temp.path().join("var/lib/dpkg");
    fs::create_dir_all(&dpkg).expect("mkdir");
    let status = fs::File::create(dpkg.join("status")).expect("create");
    status
        .set_len(super::files::MAX_DATABASE_BYTES + 1)
        .expect("grow");
    let apk = temp.path().join("lib/apk/db");
    fs::create_dir_all(&apk).expect("mkdir");
    std::os::unix::fs::symlink("installed", apk.join("installed")).expect("link");
    // A link that leads out finds nothing, whatever is there.
    let rpm = temp.path().join("var/lib/rpm");
    fs::create_dir_all(&rpm).expect("mkdir");
    std::os::unix::fs::symlink("../../../../../../etc/passwd", rpm.join("Packages")).expect("link");
    let scanned = scan(Some(&tree(temp.path()))).expect("a scan");
    assert_eq!(scanned.packages, []);
    let warnings = scanned.warnings.join("\n");
    for expected in ["/var/lib/dpkg/status: it has", "/lib/apk/db/installed: "] {
        assert!(warnings.contains(expected), "{warnings}");
    }
    assert_eq!(scanned.warnings.len(), 2, "{warnings}");
    let local = LocalTree::walk(temp.path(), None, "a test", None).expect("a walk");
    assert_eq!(scan(Some(&local)).expect("a scan").packages, []);
}
