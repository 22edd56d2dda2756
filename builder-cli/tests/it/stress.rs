//! Many builds on one store, killed at random, while it is pruned all the time.
//!
//! `STRESS_ROUNDS=20` makes so many rounds of eight builds.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::crash::check_blobs;
use crate::fixture;
use crate::prune::assert_exact;

const BUILDS: usize = 8;
const VARIANTS: usize = 4;
const ROUNDS: usize = 2;
/// Dockerfiles come back after so many rounds.
const KINDS: usize = 3;

const DOCKERFILE: &str = "\
FROM busybox AS one
ARG VARIANT
COPY files /files
RUN --mount=type=cache,target=/cache cat /files/* > /sum && cat /files/* >> /cache/seen
RUN for i in 1 2 3 4 5; do mkdir -p /many/$i; for j in 1 2 3 4 5 6 7 8; do echo $i$j$VARIANT > /many/$i/$j; done; done
FROM busybox AS two
ARG KIND
RUN echo $KIND > /kind
COPY --from=one /many /many
FROM busybox
COPY --from=one /sum /sum
COPY --from=two /many /many
COPY --from=two /kind /kind
RUN cat /sum /kind > /all && rm -r /many/1
";

fn project(dir: &Path) {
    let noise = |seed: u64| -> String {
        (0..20_000_u64)
            .map(|n| format!("{:x}\n", n.wrapping_mul(seed)))
            .collect()
    };
    let (a, b) = (noise(0x9E37_79B9_7F4A_7C15), noise(0xBF58_476D_1CE4_E5B9));
    fixture::write_files(
        dir,
        &[("Dockerfile", DOCKERFILE), ("files/a", &a), ("files/b", &b)],
    );
}

fn random(below: u64) -> u64 {
    RandomState::new().hash_one(below) % below
}

fn command(
    base: &Path,
    store: &Path,
    dir: &Path,
    variant: usize,
    kind: usize,
    iid: &Path,
) -> Command {
    let mut command = fixture::build(base, store);
    command
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .args([
            "--progress=plain",
            "--gc=max-used-space=20MB,every=0s",
            "--build-arg",
        ])
        .arg(format!("VARIANT={variant}"))
        .arg("--build-arg")
        .arg(format!("KIND={kind}"))
        .arg("-t")
        .arg(format!("stress:{variant}"))
        .arg("--iidfile")
        .arg(iid)
        .arg(dir);
    command
}

/// Waits a while, then kills the process with all that it started.
fn kill_later(mut child: Child, after: Duration) {
    std::thread::sleep(after);
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let group = group.expect("a process id");
    // It may have ended by itself.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    child.wait().expect("wait");
}

struct Over(AtomicBool);

/// Says that it is over when it is dropped.
struct End<'a>(&'a Over);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn builds_prunes_and_kills_at_once_leave_every_result_right() {
    let Some(base) = fixture::base("stress") else {
        return;
    };
    if !fixture::has("du") {
        return fixture::skip("stress", "du");
    }
    let rounds = std::env::var("STRESS_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |it| it.parse().expect("STRESS_ROUNDS"));
    let temp = fixture::temp_dir();
    let (dir, store) = (temp.path().join("context"), temp.path().join("store"));
    project(&dir);

    // What each comes to when it is alone.
    let mut expected = vec![vec![String::new(); KINDS]; VARIANTS];
    let mut whole = Duration::from_millis(100);
    for (variant, kinds) in expected.iter_mut().enumerate() {
        for (kind, id) in kinds.iter_mut().enumerate() {
            let iid = temp.path().join("alone");
            let start = std::time::Instant::now();
            let store = temp.path().join("alone-store");
            fixture::run(command(base, &store, &dir, variant, kind, &iid).arg("--no-cache")).ok();
            whole = whole.max(start.elapsed());
            *id = fs::read_to_string(&iid).expect("iidfile");
        }
    }

    let over = Over(AtomicBool::new(false));
    let (mut prunes, mut kills, mut done) = (0, 0, 0);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let mut prunes = 0;
            while !over.0.load(Ordering::SeqCst) {
                let args: &[&str] = match random(4) {
                    0 => &["prune"],
                    1 => &["prune", "--all"],
                    2 => &["prune", "--all", "--keep-storage=5MB"],
                    _ => &["du"],
                };
                let mut prune = Command::new(fixture::program());
                prune.args(args).arg("--root").arg(&store);
                if store.is_dir() {
                    fixture::run(&mut prune).ok();
                    prunes += 1;
                }
                std::thread::sleep(Duration::from_millis(random(30)));
            }
            prunes
        });
        // A failure ends the pruner, too.
        let end = End(&over);
        for round in 0..rounds {
            let kind = round % KINDS;
            std::thread::scope(|scope| {
                let runs: Vec<_> = (0..BUILDS)
                    .map(|nth| {
                        let iid = temp.path().join(format!("iid-{round}-{nth}"));
                        let mut command = command(base, &store, &dir, nth % VARIANTS, kind, &iid);
                        scope.spawn(move || {
                            if nth >= 3 {
                                let ran = fixture::run(&mut command);
                                return Some((nth, ran, fs::read_to_string(&iid).ok()));
                            }
                            command.process_group(0).stdin(Stdio::null());
                            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                            let most = u64::try_from(whole.as_millis()).expect("small") * 4;
                            kill_later(child.expect("start"), Duration::from_millis(random(most)));
                            None
                        })
                    })
                    .collect();
                for run in runs {
                    match run.join().expect("a thread") {
                        None => kills += 1,
                        Some((nth, ran, id)) => {
                            let ran = ran.ok();
                            let id = id.expect("iidfile");
                            let expected = &expected[nth % VARIANTS][kind];
                            assert_eq!(
                                id, *expected,
                                "round {round}, build {nth}:\n{}",
                                ran.stderr
                            );
                            done += 1;
                        }
                    }
                }
            });
            check_blobs(&store);
        }
        drop(end);
        prunes = pruner.join().expect("the pruner");
    });
    assert_exact(&store);
    let left: Vec<_> = fs::read_dir(store.join("tmp")).expect("tmp").collect();
    assert!(left.is_empty(), "left over: {left:?}");
    for variant in 0..VARIANTS {
        let name = format!("docker.io/library/stress:{variant}");
        let image = crate::tree::Image::open(&store, Some(&name));
        assert!(image.diff_ids().len() > 2, "{name} is whole");
    }
    use std::io::Write;
    let line = format!("stress: {rounds} rounds, {done} builds, {kills} killed, {prunes} prunes\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
