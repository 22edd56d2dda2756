//! Snapshots, settling and changes, with and without real overlay mounts.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::process::Command;

use super::*;
use crate::digest::Digest;
use crate::layer::{Entry, EntryKind, Writer, WriterOptions, listing};
use crate::snapshot::{Change, changes, open_data};

/// `user.` attributes wherever we are not root of the first user namespace.
pub(in crate::snapshot) fn userxattr() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
        || !rustix::process::geteuid().is_root()
}

/// Whiteouts and owners need a root; says so where there is none.
#[expect(clippy::print_stderr, reason = "a skipped test names what it lacks")]
pub(in crate::snapshot) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root or a user namespace (chown, whiteouts)");
    }
    root
}

struct Store {
    _dir: tempfile::TempDir,
    overlay: Overlay,
}

fn store() -> Store {
    let dir = tempfile::tempdir().expect("tempdir");
    let overlay = Overlay::new(&dir.path().join("s"), &dir.path().join("tmp"), userxattr())
        .expect("overlay store");
    Store { _dir: dir, overlay }
}

/// `d a`, `f a/x text`, `l a/y target`, `h b target`, `w a/x`, `o a`: an entry each.
pub(in crate::snapshot) fn tar(lines: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default());
    for line in lines {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let (kind, mode) = match kind {
            "d" => (EntryKind::Directory, 0o750),
            "f" => {
                let size = rest.len() as u64;
                (EntryKind::File { size }, 0o644)
            }
            "l" => (
                EntryKind::Symlink {
                    target: rest.into(),
                },
                0o777,
            ),
            "h" => (
                EntryKind::Hardlink {
                    target: rest.into(),
                },
                0o644,
            ),
            "w" => (EntryKind::Whiteout, 0),
            _ => (EntryKind::OpaqueWhiteout, 0),
        };
        let entry = Entry {
            path: if path == "/" { Vec::new() } else { path.into() },
            kind,
            mode,
            uid: 7,
            gid: 8,
            mtime: 1000,
            xattrs: BTreeMap::new(),
        };
        writer.append(&entry, &mut rest.as_bytes()).expect(line);
    }
    writer.finish().expect("tar").0
}

/// Unpacks `layers`, the last first, then settles them in order.
fn unpacked(store: &Store, layers: &[&[&str]]) -> Vec<ChainId> {
    let tars: Vec<Vec<u8>> = layers.iter().map(|lines| tar(lines)).collect();
    let ids: Vec<DiffId> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let chains = ChainId::stack(&ids);
    let mut started: Vec<Unpacking> = tars
        .iter()
        .zip(&ids)
        .rev()
        .map(|(tar, id)| {
            let limits = Limits::default();
            store
                .overlay
                .start_unpack(*id, &mut &tar[..], limits)
                .expect("unpack")
        })
        .collect();
    for n in 1..=chains.len() {
        let unpacking = started.pop().expect("as many as chains");
        store
            .overlay
            .finish_unpack(unpacking, &chains[..n])
            .expect("settle");
    }
    chains
}

#[expect(clippy::print_stderr, reason = "a skipped test names what it lacks")]
fn view(store: &Store, chains: &[ChainId]) -> Option<Mounted> {
    match store.overlay.view(chains) {
        Ok(View::Mounted(view)) => Some(view),
        Ok(View::Layers(_)) => panic!("not a mount"),
        Err(SnapshotError::Mount { action, source }) => {
            eprintln!("skipped: no overlay mounts here: {action}: {source}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// One row: the layers, and the merged tree as `path type`, with the link's target.
#[test]
fn layers_unpack_alone_and_make_one_tree() {
    if !root() {
        return;
    }
    let cases: &[(&str, &[&[&str]], &str)] = &[
        (
            "plain",
            &[&["d a", "f a/x 1"], &["f b 2"]],
            "a dir, a/x file, b file",
        ),
        (
            "removal",
            &[&["d a", "f a/x 1", "f a/y 1"], &["d a", "w a/x"]],
            "a dir, a/y file",
        ),
        (
            "removal without its parent",
            &[&["d a", "f a/x 1", "f a/y 1"], &["w a/x"]],
            "a dir, a/y file",
        ),
        (
            "opaque",
            &[&["d a", "f a/x 1"], &["d a", "o a", "f a/z 1"]],
            "a dir, a/z file",
        ),
        (
            "opaque after its files",
            &[&["d a", "f a/x 1"], &["d a", "f a/z 1", "o a"]],
            "a dir, a/z file",
        ),
        (
            "removed, then a directory",
            &[&["d a", "f a/x 1"], &["w a", "d a", "f a/z 1"]],
            "a dir, a/z file",
        ),
        (
            "removed, then an implicit directory",
            &[&["d a", "f a/x 1"], &["w a", "f a/z 1"]],
            "a dir, a/z file",
        ),
        (
            "a directory, then its removal",
            &[&["d a", "f a/x 1"], &["d a", "f a/z 1", "w a"]],
            "a dir, a/z file",
        ),
        (
            "a file, then its removal",
            &[&["f a 1"], &["f a 2", "w a"]],
            "a file",
        ),
        (
            "a file, then a directory",
            &[&["d a", "f a/x 1"], &["f a 1", "d a"]],
            "a dir",
        ),
        (
            "a directory, then a file",
            &[&["d a", "f a/x 1"], &["d a", "f a/z 1", "f a 1"]],
            "a file",
        ),
        (
            "file over directory and back",
            &[&["d a", "f a/x 1"], &["f a 1"], &["d a"]],
            "a dir",
        ),
        (
            "opaque root",
            &[&["d a", "f a/x 1", "f b 1"], &["o /", "d a", "f c 1"]],
            "a dir, c file",
        ),
        (
            "through a link below",
            &[
                &["d run", "d var", "l var/run /run", "f run/old 1"],
                &["f var/run/x 1"],
            ],
            "run dir, run/old file, run/x file, var dir, var/run symlink",
        ),
        (
            "through a relative link below, two deep",
            &[
                &["d usr", "d usr/lib", "l lib usr/lib"],
                &["f lib/a/b 1", "f lib/c 1"],
            ],
            "lib symlink, usr dir, usr/lib dir, usr/lib/a dir, usr/lib/a/b file, usr/lib/c file",
        ),
        (
            "a described directory over a link below",
            &[&["d run", "l var /run"], &["d var", "f var/x 1"]],
            "run dir, var dir, var/x file",
        ),
        (
            "through a link of the same layer",
            &[&["d run"], &["l var /run", "f var/x 1"]],
            "run dir, run/x file, var symlink",
        ),
        (
            "a link out of the root stays inside",
            &[&["l up ../../../out", "f up/x 1"]],
            "out dir, out/x file, up symlink",
        ),
        (
            "hard link to a file below",
            &[&["d a", "f a/x 1"], &["h b a/x"]],
            "a dir, a/x file, b link",
        ),
        (
            "hard link to a hard link to a file below",
            &[&["f x 1"], &["d d", "h d/b x", "h d/c d/b"]],
            "d dir, d/b file, d/c link, x link",
        ),
        (
            "hard link through a link below",
            &[&["d usr", "f usr/x 1", "l u usr"], &["h b u/x"]],
            "b file, u symlink, usr dir, usr/x link",
        ),
    ];
    for (name, layers, expected) in cases {
        let store = store();
        let chains = unpacked(&store, layers);
        let Some(view) = view(&store, &chains) else {
            return;
        };
        let found = listing::of_dir(view.root()).expect("list");
        let mut found: Vec<String> = found
            .lines()
            .map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "))
            .collect();
        // Which of two names is "the link" depends on order alone: written as found.
        found.sort();
        let mut expected: Vec<String> = expected.split(", ").map(str::to_owned).collect();
        expected.sort();
        let same = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|l| l.replace(" link", " file")).collect()
        };
        assert_eq!(same(&found), same(&expected), "{name}");
        let links = |lines: &[String]| lines.iter().filter(|l| l.ends_with(" link")).count();
        assert_eq!(links(&found), links(&expected), "{name}: {found:?}");
        // The same tree without a mount.
        let lowers = store.overlay.lowers(&chains);
        let stack = crate::snapshot::Stack::open(&lowers, userxattr()).expect("stack");
        let top = stack.root().names().expect("names");
        let expected_top = expected.iter().filter(|l| !l.contains('/')).count();
        assert_eq!(top.len(), expected_top, "{name}: {top:?}");
    }
}

#[test]
fn undescribed_parents_look_like_those_below() {
    if !root() {
        return;
    }
    let store = store();
    let chains = unpacked(
        &store,
        &[&["d a", "d a/b", "f a/b/x 1"], &["f a/b/y 2"], &["f c/d 1"]],
    );
    let Some(view) = view(&store, &chains) else {
        return;
    };
    let found = listing::of_dir(view.root()).expect("list");
    assert!(found.contains("a dir 750 7:8 0 -\n"), "{found}");
    assert!(found.contains("a/b dir 750 7:8 0 -\n"), "{found}");
    assert!(found.contains("c dir 755 0:0 0 -\n"), "{found}");
    let stat = rustix::fs::statat(view.root(), "a/b", rustix::fs::AtFlags::empty()).expect("stat");
    assert_eq!(stat.st_mtime, 1000);
}

#[test]
fn a_layer_that_is_not_what_was_promised_is_refused() {
    if !root() {
        return;
    }
    let store = store();
    let tar = tar(&["f a 1"]);
    let wrong = DiffId(Digest::of(b"other"));
    let error = store
        .overlay
        .start_unpack(wrong, &mut &tar[..], Limits::default())
        .expect_err("wrong id");
    assert!(matches!(error, SnapshotError::DiffId { .. }), "{error}");
    assert_eq!(
        std::fs::read_dir(&store.overlay.tmp).expect("tmp").count(),
        0
    );
    assert!(store.overlay.view(&[ChainId(wrong.0)]).is_err());
}

fn made() -> Change {
    Change {
        entry: Entry::whiteout("x"),
    }
}

#[test]
fn only_what_nobody_uses_is_swept() {
    if !root() {
        return;
    }
    let store = store();
    let active = store.overlay.prepare(&[]).expect("prepare");
    let left = store.overlay.tmp.join("active-left");
    std::fs::create_dir_all(left.join("work/work")).expect("mkdir");
    let shut = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(left.join("work/work"), shut).expect("chmod");
    assert_eq!(store.overlay.sweep().expect("sweep"), 1);
    assert!(!left.exists() && active.upper.exists());
    let chain = ChainId(Digest::of(b"c"));
    store
        .overlay
        .commit(active, &[made()], &[chain])
        .expect("commit");
    let again = store.overlay.prepare(&[chain]).expect("prepare");
    store
        .overlay
        .commit(again, &[made()], &[chain])
        .expect("the second is dropped");
    assert!(store.overlay.has(chain));
    store.overlay.remove(chain).expect("remove");
    assert!(!store.overlay.has(chain));
    assert_eq!(
        store.overlay.sweep().expect("sweep"),
        1,
        "the first's empty rest"
    );
    assert_eq!(
        std::fs::read_dir(&store.overlay.tmp).expect("tmp").count(),
        0
    );
}

/// Mounts `active`, runs `script` in it, and returns its changes as `kind path`.
#[expect(clippy::print_stderr, reason = "a skipped test names what it lacks")]
fn run(active: &Active, script: &str) -> Option<Vec<Change>> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create};
    use rustix::mount::{fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
    let mounted = (|| {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in &active.lowers {
            fsconfig_set_string(&fs, "lowerdir+", lower)?;
        }
        fsconfig_set_string(&fs, "upperdir", &active.upper)?;
        fsconfig_set_string(&fs, "workdir", &active.work)?;
        match userxattr() {
            true => fsconfig_set_flag(&fs, "userxattr")?,
            false => fsconfig_set_string(&fs, "redirect_dir", "off")?,
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    })();
    let root = match mounted {
        Ok(root) => root,
        Err(error) => {
            eprintln!("skipped: no writable overlay here: {error}");
            return None;
        }
    };
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            root.as_raw_fd()
        ))
        .status()
        .expect("sh");
    assert!(status.success(), "{script}");
    drop(root);
    let upper = File::open(&active.upper).expect("upper");
    Some(changes(upper.as_fd(), &active.lowers, userxattr()).expect("changes"))
}

pub(in crate::snapshot) const STEPS_BASE: &[&str] = &[
    "d a",
    "f a/x 1",
    "f a/y 2",
    "d b",
    "d b/c",
    "f b/c/z 3",
    "f f same",
    "l s f",
];

/// What a step does, and the layer that comes out of it.
pub(in crate::snapshot) const STEPS: &[(&str, &str)] = &[
    ("true", ""),
    ("echo new > n", "file n"),
    ("rm a/x", "dir a, whiteout a/x"),
    ("rm -r a", "whiteout a"),
    ("rm -r a; mkdir a", "dir a, whiteout a/x, whiteout a/y"),
    (
        "rm -r b; mkdir -p b/c; echo q > b/c/q",
        "dir b, dir b/c, whiteout b/c/z, file b/c/q",
    ),
    ("rm -r a; echo q > a", "file a"),
    (
        "rm a/x; mkdir a/x; echo q > a/x/q",
        "dir a, dir a/x, file a/x/q",
    ),
    ("mv a d", "whiteout a, dir d, file d/x, file d/y"),
    ("echo q > n; rm n", ""),
    ("chmod 700 b/c", "dir b, dir b/c"),
    ("chmod 700 b/c; chmod 750 b/c", ""),
    ("chmod 600 f; chmod 644 f", ""),
    ("printf tame > f; touch -d @1000 f", "file f"),
    ("printf same > f; touch -d @1000 f", ""),
    ("touch -d @2000 f", "file f"),
    ("ln f g", "file f, link g"),
    ("ln -sf a s", "symlink s"),
    ("ln -sfn f s; touch -hd @1000 s; chown -h 7:8 s", ""),
    ("mkfifo p; chown 60000:60001 p", "fifo p"),
    ("truncate -s 1M sparse", "file sparse"),
    ("chmod 711 .", "dir "),
    (
        "cd b; mv c ../e; mkdir c",
        "dir b, dir b/c, whiteout b/c/z, dir e, file e/z",
    ),
    ("printf q > \"$(printf 'n\\377')\"", "file n\\xff"),
];

/// The changes as `kind path, kind path`.
pub(in crate::snapshot) fn shown(found: &[Change]) -> String {
    let text: Vec<String> = found
        .iter()
        .map(|change| {
            let kind = match change.entry.kind {
                EntryKind::File { .. } => "file",
                EntryKind::Directory => "dir",
                EntryKind::Symlink { .. } => "symlink",
                EntryKind::Hardlink { .. } => "link",
                EntryKind::Whiteout => "whiteout",
                EntryKind::Fifo => "fifo",
                _ => "?",
            };
            format!("{kind} {}", change.entry.path.escape_ascii())
        })
        .collect();
    text.join(", ")
}

#[test]
fn what_a_step_did_comes_out_as_a_layer() {
    if !root() {
        return;
    }
    for (script, expected) in STEPS {
        let store = store();
        let chains = unpacked(&store, &[STEPS_BASE]);
        let active = store.overlay.prepare(&chains).expect("prepare");
        let Some(found) = run(&active, script) else {
            return;
        };
        let text = shown(&found);
        assert_eq!(text, *expected, "{script}");
        assert!(found.is_sorted_by(|a, b| crate::layer::order(&a.entry, &b.entry).is_lt()));

        // Written, unpacked on top of the base again: the tree that the step left.
        let mut writer = Writer::new(Vec::new(), WriterOptions::default());
        let upper = File::open(&active.upper).expect("upper");
        for change in &found {
            match change.entry.kind {
                EntryKind::File { .. } => {
                    let mut data = open_data(upper.as_fd(), change).expect("data");
                    writer.append(&change.entry, &mut data).expect("append");
                }
                _ => writer
                    .append(&change.entry, &mut io::empty())
                    .expect("append"),
            }
        }
        let (tar, written) = writer.finish().expect("finish");
        let mut both = vec![chains[0], ChainId::extend(Some(chains[0]), written.diff_id)];
        let limits = Limits::default();
        store
            .overlay
            .unpack(&both, written.diff_id, &mut &tar[..], limits)
            .expect("unpack");
        let Some(again) = view(&store, &both) else {
            return;
        };
        let again = listing::of_dir(again.root()).expect("list");
        both[1] = ChainId(Digest::of(script.as_bytes()));
        if found.is_empty() {
            both.pop();
        }
        store.overlay.commit(active, &found, &both).expect("commit");
        let Some(left) = view(&store, &both) else {
            return;
        };
        assert_eq!(
            again,
            listing::of_dir(left.root()).expect("list"),
            "{script}"
        );
    }
}

#[test]
fn a_step_on_nothing() {
    if !root() {
        return;
    }
    let store = store();
    let active = store.overlay.prepare(&[]).expect("prepare");
    std::fs::create_dir(active.upper.join("d")).expect("mkdir");
    std::fs::write(active.upper.join("d/f"), "x").expect("write");
    std::fs::hard_link(active.upper.join("d/f"), active.upper.join("d/g")).expect("link");
    let sock = std::os::unix::net::UnixListener::bind(active.upper.join("s"));
    sock.expect("a socket, which is left out");
    let upper = File::open(&active.upper).expect("upper");
    let found = changes(upper.as_fd(), &[], userxattr()).expect("changes");
    let paths: Vec<_> = found.iter().map(|c| &c.entry.path[..]).collect();
    assert_eq!(paths, [&b"d"[..], b"d/f", b"d/g"]);
    let target = b"d/f".to_vec();
    assert_eq!(found[2].entry.kind, EntryKind::Hardlink { target });
    let view = view(&store, &[]).expect("an empty tree needs no mount");
    assert_eq!(listing::of_dir(view.root()).expect("list"), "");
}

#[test]
fn attributes_and_capabilities_come_through() {
    if !root() {
        return;
    }
    let store = store();
    let active = store.overlay.prepare(&[]).expect("prepare");
    std::fs::write(active.upper.join("f"), "x").expect("write");
    let set = |key: &str, value: &[u8]| {
        let path = active.upper.join("f");
        rustix::fs::setxattr(path, key, value, rustix::fs::XattrFlags::empty())
    };
    // CAP_DAC_OVERRIDE and CAP_FOWNER: a value that holds a line feed.
    let mut capability = vec![1, 0, 0, 2, 10, 0, 0, 0];
    capability.resize(20, 0);
    set("security.capability", &capability).expect("setcap");
    set("user.note", b"a\nb").expect("setfattr");
    set("user.overlay.origin", b"own").expect("setfattr");
    let upper = File::open(&active.upper).expect("upper");
    let found = changes(upper.as_fd(), &[], userxattr()).expect("changes");
    let mut writer = Writer::new(Vec::new(), WriterOptions::default());
    writer
        .append(&found[0].entry, &mut &b"x"[..])
        .expect("append");
    let (tar, written) = writer.finish().expect("finish");
    let chain = [ChainId(written.diff_id.0)];
    store
        .overlay
        .unpack(&chain, written.diff_id, &mut &tar[..], Limits::default())
        .expect("unpack");
    let dir = File::open(&store.overlay.lowers(&chain)[0]).expect("open");
    let all = crate::layer::xattr::all(dir.as_fd(), b"f").expect("attributes");
    let expected = BTreeMap::from([
        (b"security.capability".to_vec(), capability),
        (b"user.note".to_vec(), b"a\nb".to_vec()),
    ]);
    assert_eq!(all, expected);
}
