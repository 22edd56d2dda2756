//! Copied snapshots give the layers that overlays give, and keep apart what must be apart.

use std::process::Command;

use super::super::overlay::tests::{STEPS, STEPS_BASE, root, shown, tar};
use super::*;
use crate::digest::Digest;

fn unpacked(copied: &Copied, layers: &[&[&str]]) -> Vec<ChainId> {
    let tars: Vec<Vec<u8>> = layers.iter().map(|lines| tar(lines)).collect();
    let ids: Vec<DiffId> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let chains = ChainId::stack(&ids);
    for (at, tar) in tars.iter().enumerate() {
        copied
            .unpack(&chains[..=at], ids[at], &mut &tar[..], Limits::default())
            .expect("unpack");
    }
    chains
}

fn store(dir: &Path) -> Copied {
    Copied::new(&dir.join("s"), &dir.join("tmp")).expect("a store")
}

fn sh(active: &Active, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&active.upper)
        .output()
        .expect("sh");
    assert!(output.status.success(), "{script}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_copy_gives_the_layer_that_an_overlay_gives() {
    if !root() {
        return;
    }
    for (script, expected) in STEPS {
        let dir = tempfile::tempdir().expect("tempdir");
        let copied = store(dir.path());
        let chains = unpacked(&copied, &[STEPS_BASE]);
        let active = copied.prepare(&chains).expect("prepare");
        sh(&active, script);
        let found = copied.changes(&active).expect("changes");
        assert_eq!(shown(&found), *expected, "{script}");

        // What the next step finds, in the tree that was left and in one that is made anew.
        let list = "find . -mindepth 1 | sort | xargs -r -d '\\n' stat -c '%n %f %u:%g %s %Y'; cat f 2>&1 || :";
        let left = sh(&active, list);
        let mut both = chains.clone();
        if !found.is_empty() {
            both.push(ChainId(Digest::of(script.as_bytes())));
        }
        copied.commit(active, &found, &both).expect("commit");
        let warm = copied.prepare(&both).expect("prepare again");
        assert_eq!(copied.changes(&warm).expect("changes"), [], "{script}");
        assert_eq!(sh(&warm, list), left, "{script}");
        let cold = copied.prepare(&both).expect("prepare anew");
        assert_eq!(sh(&cold, list), left, "{script}");
    }
}

#[test]
fn names_of_one_file_stay_that_and_a_step_changes_no_layer() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let copied = store(dir.path());
    let mut chains = unpacked(&copied, &[&["f a one", "h b a"]]);
    for (script, expected, counts) in [
        (
            "stat -c %h a b; ln a c; echo x > d",
            "file a, link c, file d",
            "2\n2\n",
        ),
        (
            "stat -c %h a b c; chmod 600 a",
            "file a, file c",
            "2\n1\n2\n",
        ),
        (
            "stat -c %h a d; ln d e; ln d f",
            "file d, link e, link f",
            "1\n1\n",
        ),
        (
            "stat -c %h d e f; rm d; echo three >> e",
            "whiteout d, file e, file f",
            "3\n3\n3\n",
        ),
    ] {
        let active = copied.prepare(&chains).expect("prepare");
        let layer = copied.lowers(&chains).remove(0);
        let list = |layer: &Path| {
            let list = "find . | sort | xargs stat -c '%n %f %h %s %Y'; cat * 2>/dev/null";
            let output = Command::new("sh")
                .args(["-c", list])
                .current_dir(layer)
                .output();
            String::from_utf8(output.expect("sh").stdout).expect("text")
        };
        let before = list(&layer);
        assert_eq!(sh(&active, script), counts, "{script}");
        let found = copied.changes(&active).expect("changes");
        assert_eq!(shown(&found), expected, "{script}");
        chains.push(ChainId(Digest::of(script.as_bytes())));
        copied.commit(active, &found, &chains).expect("commit");
        assert_eq!(list(&layer), before, "{script}");
    }
}

#[test]
fn a_layer_over_another_replaces_what_it_names() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let copied = store(dir.path());
    let chains = unpacked(
        &copied,
        &[
            &[
                "d a", "f a/x 1", "d b", "f b/x 1", "f c 1", "l d c", "f e 1",
            ],
            &[
                "w a/x", "f a/y 2", "d b", "o b", "f b/z 2", "d c", "f d 2", "w e",
            ],
        ],
    );
    let active = copied.prepare(&chains).expect("prepare");
    let found = sh(&active, "find . -mindepth 1 | sort");
    assert_eq!(found, "./a\n./a/y\n./b\n./b/z\n./c\n./d\n");
    assert_eq!(sh(&active, "cat d"), "2");
}
