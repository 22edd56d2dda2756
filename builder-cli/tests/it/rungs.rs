//! Every rung of the ladder makes the same layers: root on overlays, compared with each of the others.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::build_cases::{self, Case};
use crate::fixture;
use crate::tree::Image;
use crate::users::ordinary_user;

/// A way of running steps, and who runs it.
struct Rung {
    isolation: &'static str,
    ordinary_user: bool,
}

const RUNGS: &[Rung] = &[
    Rung {
        isolation: "overlay",
        ordinary_user: true,
    },
    Rung {
        isolation: "copied",
        ordinary_user: false,
    },
    Rung {
        isolation: "copied",
        ordinary_user: true,
    },
    Rung {
        isolation: "single-id",
        ordinary_user: true,
    },
    Rung {
        isolation: "chroot",
        ordinary_user: false,
    },
];

/// Where a rung shows: the process's number, and what is in /dev and /proc; that mounts are copies, so that a step can
/// write to what is mounted read-only, for itself.
const SHOWS: &[(&str, &str)] = &[
    ("chroot", "run-environment"),
    ("chroot", "run-secret-forms"),
    ("chroot", "run-bind-nested"),
    ("chroot", "run-bind-rw"),
    ("chroot", "run-cache"),
    // a filter, where there is none else
    ("single-id", "run-security-insecure"),
];

/// What a rung does not have: the case, and what its error says.
const LACKS: &[(&str, &str, &str)] = &[
    ("chroot", "run-network-none", "--network=none needs"),
    ("chroot", "run-network-modes", "--network=none needs"),
    ("chroot", "run-limits", "--shm-size needs"),
    (
        "single-id",
        "run-limit-of-locks",
        "--ulimit locks= cannot be had with one id",
    ),
    ("chroot", "run-tmpfs", "`size` of a tmpfs needs"),
    (
        "chroot",
        "run-security-insecure",
        "--security=insecure gives",
    ),
];

/// What is needed to become an ordinary user with subordinate ids; says so where it is not there.
fn other_user() -> Option<(String, u32, u32)> {
    for tool in ["newuidmap", "newgidmap", "setpriv"] {
        if !fixture::has(tool) {
            fixture::skip("rungs of an ordinary user", tool);
            return None;
        }
    }
    let user = ordinary_user();
    if user.is_none() {
        fixture::skip(
            "rungs of an ordinary user",
            "an ordinary user with 65536 ids in /etc/subuid",
        );
    }
    user
}

#[test]
fn every_rung_makes_the_same_layers() {
    let Some(base) = fixture::base("rungs") else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip("rungs", "to be run by root, which then gives rights up");
    }
    let user = other_user();
    let temp = fixture::temp_dir();
    let program = temp.path().join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    fixture::set_mode(&program, 0o755);
    let home = temp.path().join("home");
    fs::create_dir(&home).expect("mkdir");
    fs::write(home.join("auth.json"), "{}").expect("write");
    if let Some((_, uid, gid)) = &user {
        std::os::unix::fs::chown(&home, Some(*uid), Some(*gid)).expect("chown");
    }

    let mut wrong = Vec::new();
    let mut compared = 0;
    for dir in build_cases::all() {
        let case = Case::load(&dir);
        if case.fails() || !case.fits_ordinary_user() {
            continue;
        }
        let name = build_cases::name(&dir);
        // A folder of its own: the checkout may be out of the user's reach.
        let here = temp.path().join(&name);
        fixture::copy_tree(&dir, &here);
        let context = here.join("written-context");
        case.write_context(&dir, &context);
        // A user builds what is the user's: a folder that nobody else may read is in one of the cases.
        if let Some((_, uid, gid)) = &user {
            let chown = Command::new("chown")
                .args(["-hR", &format!("{uid}:{gid}")])
                .arg(&context)
                .status();
            assert!(chown.is_ok_and(|it| it.success()), "chown of the context");
        }
        let build = |command: &mut Command, isolation: &str, store: &Path, out: &Path| {
            command.args(["build", "--isolation", isolation, "--root"]);
            command.arg(store);
            for (name, tag) in [("busybox", "latest"), ("busybox:onbuild", "onbuild")] {
                command
                    .arg("--build-context")
                    .arg(format!("{name}=oci-layout://{}:{tag}", base.display()));
            }
            command
                .arg("--progress=plain")
                .arg("--output")
                .arg(format!("type=oci,dest={},tar=false", out.display()));
            case.arguments(&here, &context, command);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            fixture::run(command)
        };
        let first_out = here.join("first-out");
        let store = temp.path().join("first-store");
        let first = build(&mut Command::new(&program), "overlay", &store, &first_out);
        if first.code != Some(0) {
            wrong.push(format!("── {name} ──\n{}", first.stderr));
            continue;
        }
        for rung in RUNGS {
            let mut command = Command::new(&program);
            let mut whose = temp.path();
            if rung.ordinary_user {
                let Some((user, uid, gid)) = &user else {
                    continue;
                };
                whose = &home;
                command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .args(["--clear-groups", "--inh-caps=-all", "--"])
                    .arg(&program)
                    .current_dir(&home)
                    .env("HOME", &home)
                    .env("USER", user)
                    .env("REGISTRY_AUTH_FILE", home.join("auth.json"))
                    .env_remove("XDG_RUNTIME_DIR")
                    .env_remove("XDG_DATA_HOME");
            }
            let isolation = rung.isolation;
            let who = if rung.ordinary_user { "a user" } else { "root" };
            let title = format!("{name}, {isolation} as {who}");
            let out = whose.join(format!("out-{name}-{isolation}"));
            let store = whose.join(format!("store-{isolation}"));
            let ended = build(&mut command, isolation, &store, &out);
            if SHOWS.contains(&(isolation, &name)) {
                continue;
            }
            let lacks = LACKS
                .iter()
                .find(|lack| (lack.0, lack.1) == (isolation, &name));
            if let Some((_, _, said)) = lacks {
                assert_eq!(ended.code, Some(1), "{title}: {}", ended.stderr);
                assert!(ended.stderr.contains(said), "{title}: {}", ended.stderr);
                continue;
            }
            if ended.code != Some(0) {
                wrong.push(format!("── {title} ──\n{}", ended.stderr));
                continue;
            }
            let said = format!("isolation: {isolation} (");
            assert!(ended.stderr.contains(&said), "{title}: {}", ended.stderr);
            let (one, two) = (Image::open(&first_out, None), Image::open(&out, None));
            if one.diff_ids() != two.diff_ids() {
                let base = Image::open(base, Some("latest"));
                wrong.push(format!(
                    "── {title} ── other layers\nfirst:\n{}then:\n{}",
                    one.changes_above(Some(&base)),
                    two.changes_above(Some(&base))
                ));
            }
            compared += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} builds differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        compared > 30 || std::env::var_os("CASE").is_some(),
        "only {compared} builds compared"
    );
}

#[test]
fn an_id_beyond_the_users_range_is_named() {
    let Some(base) = fixture::base("ids beyond a range") else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip(
            "ids beyond a range",
            "to be run by root, which changes to an ordinary user",
        );
    }
    let Some((user, uid, gid)) = other_user() else {
        return;
    };
    let temp = fixture::temp_dir();
    let home = temp.path().join("home");
    fs::create_dir(&home).expect("mkdir");
    fs::write(home.join("auth.json"), "{}").expect("write");
    fixture::write_files(
        &home,
        &[(
            "context/Dockerfile",
            "FROM busybox\nCOPY --chown=4000000:4000001 Dockerfile /wide/file\nRUN true\n",
        )],
    );
    let program = temp.path().join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    let chown = Command::new("chown")
        .args(["-hR", &format!("{uid}:{gid}")])
        .arg(&home)
        .status();
    assert!(chown.is_ok_and(|it| it.success()), "chown");
    let done = fixture::run(
        Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={gid}")])
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(&program)
            .args(["build", "--root=store", "--authfile=auth.json"])
            .arg(format!(
                "--build-context=busybox=oci-layout://{}:latest",
                base.display()
            ))
            .arg("context")
            .current_dir(&home)
            .env("HOME", &home)
            .env("USER", user),
    );
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said = "`wide` belongs to 4000000:4000001, which is beyond the ids that are mapped here";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn a_user_without_subordinate_ids_gets_the_rung_of_one_id() {
    let Some(base) = fixture::base("a user without subordinate ids") else {
        return;
    };
    if !fixture::is_root() || !fixture::has("setpriv") {
        return fixture::skip(
            "a user without subordinate ids",
            "root with setpriv, to become one",
        );
    }
    // nobody's number, so nobody has granted it anything
    let id = "54321";
    let temp = fixture::temp_dir();
    let home = temp.path().join("home");
    fs::create_dir(&home).expect("mkdir");
    fs::write(home.join("auth.json"), "{}").expect("write");
    fixture::write_files(
        &home,
        &[(
            "context/Dockerfile",
            "FROM busybox\n\
             COPY --chown=4000000:7 Dockerfile /wide/file\n\
             RUN touch /f && chown 5:6 /f && ln -s f /l && chown -h 7:8 /l && test \"$(stat -c %u:%g /f /wide/file /l | tr '\\n' ' ')\" = '5:6 4000000:7 7:8 '\n\
             USER 1000:1001\n\
             RUN test \"$(id -u) $(id -g)\" = '1000 1001' && mkdir /tmp/d && touch /tmp/d/f && test \"$(stat -c %u:%g /tmp/d /tmp/d/f | tr '\\n' ' ')\" = '1000:1001 1000:1001 ' && ! chown 0 /tmp/d\n",
        )],
    );
    let program = temp.path().join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    let chown = Command::new("chown")
        .args(["-hR", &format!("{id}:{id}")])
        .arg(&home)
        .status();
    assert!(chown.is_ok_and(|it| it.success()), "chown");
    let done = fixture::run(
        Command::new("setpriv")
            .args([format!("--reuid={id}"), format!("--regid={id}")])
            .args(["--clear-groups", "--inh-caps=-all", "--"])
            .arg(&program)
            .args([
                "build",
                "--root=store",
                "--authfile=auth.json",
                "--progress=plain",
            ])
            .arg(format!(
                "--build-context=busybox=oci-layout://{}:latest",
                base.display()
            ))
            .arg("context")
            .current_dir(&home)
            .env("HOME", &home),
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("isolation: single-id ("),
        "{}",
        done.stderr
    );
}
