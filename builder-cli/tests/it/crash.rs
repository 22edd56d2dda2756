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
