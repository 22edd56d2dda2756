//! `kill -9` at any moment, and two builds at once, leave a store that is right.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fixture;

const DOCKERFILE: &str = "\
FROM busybox AS a
COPY big /a/
RUN for i in 1 2 3 4 5 6 7 8; do cat /a/big > /a/$i; done
FROM busybox AS b
RUN i=0; while [ $i -lt 200 ]; do echo $i > /b$i; i=$((i+1)); done
FROM busybox
COPY --from=a /a /a
COPY --from=b /b* /b/
RUN cat /b/* > /all && rm -r /b
";

/// Every blob of the store has the digest of its name; says how many there are.
pub(crate) fn check_blobs(store: &Path) -> usize {
    let Ok(blobs) = fs::read_dir(store.join("blobs/sha256")) else {
        return 0;
    };
    let mut count = 0;
    for blob in blobs {
        let path = blob.expect("entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        // It may be pruned meanwhile.
        let Ok(bytes) = fs::read(&path) else {
            continue;
        };
        assert_eq!(fixture::sha256(&bytes), name, "{}", path.display());
        count += 1;
    }
    count
}

fn project(dir: &Path) {
    let noise: String = (0..60_000_u64)
        .map(|n| format!("{:x}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    fixture::write_files(dir, &[("Dockerfile", DOCKERFILE), ("big", &noise)]);
}

/// What a file is after a power cut: empty, cut short, or as long as it was with nothing in it.
fn tear(path: &Path, how: usize) {
    let Ok(bytes) = fs::read(path) else { return };
    let torn = match how % 3 {
        0 => Vec::new(),
        1 => bytes[..bytes.len() / 2].to_vec(),
        _ => vec![0; bytes.len()],
    };
    // in place: the file keeps its owner and its links
    fs::write(path, torn).expect("tear");
}

/// All files below, in order.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.map(|it| it.expect("entry").path()) {
        match path.symlink_metadata().expect("metadata").file_type() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn after_a_power_cut_nothing_torn_is_used() {
    let Some(base) = fixture::base("crash") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    project(&dir);
    let build = |out: &str| {
        let out = temp.path().join(out);
        let mut command = fixture::build(base, &store);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command.args(["-q", "-t", "app:1", "-o"]).arg(&out);
        let ran = fixture::run(command.arg(&dir)).ok();
        (
            ran.stdout,
            fixture::sha256(&fs::read(out.join("all")).expect("read")),
        )
    };
    let first = build("first");
    let mark = store.join("synced/mark");
    for round in 0..3 {
        // the machine was started again, and nothing had reached the disk for sure
        fs::write(&mark, "an-earlier-start 0\n").expect("write");
        for place in ["blobs", "snapshots", "cache", "index.json", "oci-layout"] {
            let place = store.join(place);
            let list = match place.is_dir() {
                true => files(&place),
                false => vec![place],
            };
            for (number, file) in list.iter().enumerate() {
                if (number + round) % 2 == 0 && !file.ends_with("oci-layout") {
                    tear(file, number / 2 + round);
                } else if file.ends_with("oci-layout") {
                    tear(file, 0);
                }
            }
        }
        assert_eq!(build(&format!("out{round}")), first, "round {round}");
        check_blobs(&store);
        let mut inspect = std::process::Command::new(fixture::program());
        inspect
            .arg("inspect")
            .arg("--root")
            .arg(&store)
            .arg("app:1");
        fixture::run(&mut inspect).ok();
    }
}

#[test]
fn killed_ten_times_the_next_build_succeeds() {
    let Some(base) = fixture::base("crash") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    project(&dir);
    let command = |store: &Path| {
        let mut command = fixture::build(base, store);
        command.args(["-t", "crash:1", "--progress=rawjson"]);
        command.arg("--output").arg(format!(
            "type=oci,dest={}",
            temp.path().join("out.tar").display()
        ));
        command.arg(&dir);
        command
    };
    let start = Instant::now();
    fixture::run(&mut command(&temp.path().join("measure"))).ok();
    let whole = start.elapsed().max(Duration::from_millis(20));

    let mut moments = Vec::new();
    for nth in 0..10_u32 {
        // A seed of the process's own; the moment is printed when the test fails.
        let random = RandomState::new().hash_one(nth) % 1000;
        let moment = whole.mul_f64(random as f64 / 1000.0);
        moments.push(moment);
        let mut child = command(&store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        std::thread::sleep(moment);
        child.kill().expect("kill");
        child.wait().expect("wait");
        check_blobs(&store);
        // Another instruction each time, so that the next build has work to be killed in.
        let text = format!("{DOCKERFILE}RUN echo {nth} > /nth\n")
            .replace("8; do", &format!("8 n{nth}; do"));
        fs::write(dir.join("Dockerfile"), text).expect("write");
    }
    let ran = fixture::run(&mut command(&store));
    assert_eq!(
        ran.code,
        Some(0),
        "after kills at {moments:?} of {whole:?}:\n{}",
        ran.stderr
    );
    assert!(check_blobs(&store) >= 3, "the store holds the image");
    let again = fixture::run(&mut command(&store)).ok();
    assert!(
        crate::fixture::Steps::of(&again).reran().is_empty(),
        "cached after the crashes"
    );
}

#[test]
fn two_builds_at_once_share_one_store() {
    let Some(base) = fixture::base("crash") else {
        return;
    };
    let temp = fixture::temp_dir();
    let store = temp.path().join("store");
    let dirs: Vec<_> = (0..4)
        .map(|n| temp.path().join(format!("context{n}")))
        .collect();
    for (nth, dir) in dirs.iter().enumerate() {
        project(dir);
        // Two builds of the same project, two of others.
        let text = format!("{DOCKERFILE}RUN echo {} > /nth\n", nth.max(1));
        fs::write(dir.join("Dockerfile"), text).expect("write");
    }
    let digests: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = dirs
            .iter()
            .enumerate()
            .map(|(nth, dir)| {
                let store = &store;
                let iid = temp.path().join(format!("iid{nth}"));
                scope.spawn(move || {
                    let mut command = fixture::build(base, store);
                    command.env("SOURCE_DATE_EPOCH", "1700000000");
                    command
                        .arg("-t")
                        .arg(format!("at-once:{nth}"))
                        .arg("--iidfile")
                        .arg(&iid)
                        .arg(dir);
                    fixture::run(&mut command).ok();
                    fs::read_to_string(iid).expect("iidfile")
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().expect("a build"))
            .collect()
    });
    assert_eq!(
        digests[0], digests[1],
        "the same project gives the same image"
    );
    assert_ne!(digests[1], digests[2]);
    check_blobs(&store);
    let index = fs::read_to_string(store.join("index.json")).expect("index.json");
    for nth in 0..4 {
        assert!(
            index.contains(&format!("at-once:{nth}")),
            "tag at-once:{nth} is in the store's index: {index}"
        );
    }
}
