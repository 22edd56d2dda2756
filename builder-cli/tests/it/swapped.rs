//! Mount points that another step replaces by links while they are mounted on: nothing outside the step's root is touched.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fixture;
use crate::users;

/// How long the other step goes on, at most; each rung has so long.
const SECONDS: u64 = 4;

fn swap(victim: &Path) -> String {
    let victim = victim.display();
    format!(
        "FROM busybox\n\
         RUN --mount=type=cache,id=x,target=/c end=$(($(date +%s)+{SECONDS})); \
         while [ $(date +%s) -lt $end ]; do \
         mkdir -p /c/a/b; rm -rf /c/a; ln -s {victim} /c/a; rm -rf /c/a; \
         mkdir /c/a; ln -s {victim} /c/a/b; rm -rf /c/a; \
         ln -s ../../../../../../../../../../../..{victim} /c/a; rm -rf /c/a; \
         done; echo no more\n"
    )
}

/// Each mounts at, or below, what is swapped, and writes there.
const LOOKS: &[&str] = &[
    "--mount=type=tmpfs,target=/c/a/b touch /c/a/b/mark",
    "--mount=type=cache,id=y,target=/c/a/b/made/deep touch /c/a/b/made/deep/mark",
    "--mount=type=bind,target=/c/a/b,rw touch /c/a/b/mark",
    "--mount=type=secret,id=s,target=/c/a/b/secret cat /c/a/b/secret",
];

#[test]
fn a_mount_point_that_is_swapped_for_a_link_leads_nowhere() {
    let Some(base) = fixture::base("swapped") else {
        return;
    };
    let temp = fixture::temp_dir();
    for who in users::everybody("swapped", temp.path()) {
        let rungs: &[&str] = match who.is_ordinary() {
            true => &["overlay", "copied", "single-id"],
            false if fixture::is_root() => &["overlay", "copied", "chroot"],
            false => &["auto"],
        };
        for rung in rungs {
            let title = format!("{}, {rung}", who.name);
            let place = who.home.join(format!("on-{rung}"));
            let victim = place.join("victim");
            fs::create_dir_all(victim.join("b/kept")).expect("mkdir");
            for context in ["swap", "look"] {
                fs::create_dir(place.join(context)).expect("mkdir");
            }
            fs::write(place.join("swap/Dockerfile"), swap(&victim)).expect("write");
            fs::write(place.join("secret"), "s3cret").expect("write");
            who.give(&place);
            let build = |context: &str| {
                let mut command = who.build(base);
                command.arg(format!("--isolation={rung}")).arg("--no-cache");
                command.arg(place.join(context));
                command
            };
            let (mut done, mut refused) = (0, 0);
            std::thread::scope(|scope| {
                let swapping = scope.spawn(|| fixture::run(&mut build("swap")));
                let start = Instant::now();
                for look in LOOKS.iter().cycle() {
                    if swapping.is_finished() || start.elapsed() > Duration::from_secs(60) {
                        break;
                    }
                    let text =
                        format!("FROM busybox\nRUN --mount=type=cache,id=x,target=/c {look}\n");
                    fs::write(place.join("look/Dockerfile"), text).expect("write");
                    let source = format!("id=s,src={}", place.join("secret").display());
                    let ran = fixture::run(build("look").arg("--secret").arg(source));
                    match ran.code {
                        Some(0) => done += 1,
                        // what it would mount on is gone, or a link to what is not there
                        Some(1) => refused += 1,
                        _ => panic!("{title}: {look}: {}", ran.stderr),
                    }
                }
                let swapped = swapping.join().expect("a thread");
                assert_eq!(swapped.code, Some(0), "{title}: {}", swapped.stderr);
            });
            assert!(done + refused > 0, "{title}: none ran beside");
            let names = |dir: &Path| -> Vec<String> {
                let entries = fs::read_dir(dir).expect("read").flatten();
                entries
                    .map(|it| it.file_name().to_string_lossy().into_owned())
                    .collect()
            };
            assert_eq!(names(&victim), ["b"], "{title}");
            assert_eq!(names(&victim.join("b")), ["kept"], "{title}");
            assert!(names(&victim.join("b/kept")).is_empty(), "{title}");
        }
    }
}
