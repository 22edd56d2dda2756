//! Contexts and Dockerfiles that are clumsy or mean: a clear error in bounded time and memory, never a crash, never a byte
//! from outside the context, never a control character of a name on the terminal.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fixture::{self, Ran};
use crate::users::{Who, everybody, on_every_rung};

/// What a build may have of the address space, in KiB.
const ADDRESS_SPACE_KIB: u64 = 4 << 20;

/// The command with a limit of its address space, and an end in case it hangs.
pub(crate) fn limited(command: &Command) -> Command {
    let mut out = Command::new("sh");
    out.arg("-c")
        .arg(format!(
            "ulimit -v {ADDRESS_SPACE_KIB}; exec timeout -s KILL 120 \"$@\""
        ))
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => out.env(key, value),
            None => out.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        out.current_dir(directory);
    }
    out
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("mkfifo");
}

fn socket(path: &Path) {
    drop(UnixListener::bind(path).expect("a socket"));
}

fn write(dir: &Path, name: &[u8], content: &[u8]) {
    fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), content).expect("write");
}

/// The size of a case, a twentieth of it unless `LONG` is set: debug builds are slow.
fn many(size: usize) -> usize {
    match std::env::var_os("LONG") {
        Some(_) => size,
        None => size / 20,
    }
}

/// Makes directories, one in the other.
fn nest(dir: &Path, depth: usize) {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let none = rustix::fs::Mode::empty();
    let mut at = rustix::fs::open(dir, flags, none).expect("open");
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::from_raw_mode(0o755)).expect("mkdir");
        at = rustix::fs::openat(&at, "d", flags, none).expect("open");
    }
}

enum Expect {
    Fails(&'static [&'static str]),
    Succeeds,
    /// One or the other, without a crash.
    Ends,
}
use Expect::{Ends, Fails, Succeeds};

type Case = (&'static str, fn(&Path), Expect);

const PLAIN: &[u8] = b"FROM busybox\nCOPY . /x/\n";

const CASES: &[Case] = &[
    (
        "a fifo as Dockerfile",
        |dir| fifo(&dir.join("Dockerfile")),
        Fails(&["Dockerfile", "named pipe"]),
    ),
    (
        "a socket as Dockerfile",
        |dir| socket(&dir.join("Dockerfile")),
        Fails(&["Dockerfile"]),
    ),
    (
        "a directory as Dockerfile",
        |dir| fs::create_dir(dir.join("Dockerfile")).expect("mkdir"),
        Fails(&["Dockerfile", "directory"]),
    ),
    (
        "a device as Dockerfile",
        |dir| std::os::unix::fs::symlink("/dev/zero", dir.join("Dockerfile")).expect("symlink"),
        Fails(&["Dockerfile", "larger than 64 MiB"]),
    ),
    (
        "a fifo as ignore file",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            fifo(&dir.join(".dockerignore"));
        },
        Fails(&[".dockerignore", "special file"]),
    ),
    (
        "a socket as ignore file",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            socket(&dir.join(".dockerignore"));
        },
        Fails(&[".dockerignore"]),
    ),
    (
        "a fifo as the Dockerfile's own ignore file",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            fifo(&dir.join("Dockerfile.dockerignore"));
        },
        Fails(&["Dockerfile.dockerignore", "special file"]),
    ),
    (
        "an endless ignore file",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            std::os::unix::fs::symlink("/dev/zero", dir.join(".dockerignore")).expect("symlink");
        },
        Fails(&[".dockerignore", "special file"]),
    ),
    (
        "an ignore file of twenty megabytes",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            write(dir, b".dockerignore", &b"a/b/c\n".repeat(4_000_000));
        },
        Fails(&[".dockerignore", "bytes"]),
    ),
    (
        "a hundred thousand patterns",
        |dir| {
            let patterns: String = (0..100_000)
                .map(|nth| format!("**/a{nth}*/**/b\n"))
                .collect();
            write(dir, b"Dockerfile", PLAIN);
            write(dir, b".dockerignore", patterns.as_bytes());
        },
        Ends,
    ),
    (
        "a fifo and a socket among the files",
        |dir| {
            write(
                dir,
                b"Dockerfile",
                b"FROM busybox\nCOPY . /x/\nRUN test -p /x/pipe\n",
            );
            fifo(&dir.join("pipe"));
            socket(&dir.join("socket"));
        },
        Succeeds,
    ),
    (
        "a fifo that is added",
        |dir| {
            write(dir, b"Dockerfile", b"FROM busybox\nADD pipe /x/\n");
            fifo(&dir.join("pipe"));
        },
        Ends,
    ),
    (
        "a link in a circle",
        |dir| {
            write(dir, b"Dockerfile", b"FROM busybox\nCOPY a/x /x\n");
            std::os::unix::fs::symlink("b", dir.join("a")).expect("symlink");
            std::os::unix::fs::symlink("a", dir.join("b")).expect("symlink");
        },
        Fails(&["a/x"]),
    ),
    (
        "names that are not UTF-8",
        |dir| {
            write(
                dir,
                b"Dockerfile",
                b"FROM busybox\nCOPY . /x/\nRUN test -f \"$(printf '/x/a\\377b')\"\n",
            );
            write(dir, b"a\xffb", b"x");
        },
        Succeeds,
    ),
    (
        "names with control characters",
        |dir| {
            write(
                dir,
                b"Dockerfile",
                b"FROM busybox\nCOPY . /x/\nCOPY red\x1b[31m /\n",
            );
            write(dir, b"red\x1b[31m\n\r\x07", b"x");
            write(dir, b"\x1b]0;title\x07", b"x");
        },
        Fails(&["syntax error in pattern"]),
    ),
    (
        "a name with control characters beside the one asked for",
        |dir| {
            write(dir, b"Dockerfile", b"FROM busybox\nCOPY file /x/\n");
            write(dir, b"file\x1b", b"x");
        },
        Fails(&["`file` is not found"]),
    ),
    (
        "control characters in a stage and a step",
        |dir| {
            write(
                dir,
                b"Dockerfile",
                b"FROM busybox\nLABEL a=\"\x1b[31m\"\nRUN echo '\x1b[31mred'\nRUNN \x1b[31m\n",
            );
        },
        Fails(&["RUNN"]),
    ),
    (
        "a Dockerfile of fifty megabytes",
        |dir| {
            let text = format!(
                "FROM busybox\n{}",
                "# comment comment comment\n".repeat(many(2_000_000))
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "one line of fifty megabytes",
        |dir| {
            let text = format!("FROM busybox\nLABEL a={}\n", "x".repeat(many(50 << 20)));
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "a hundred thousand instructions",
        |dir| {
            let text = format!("FROM busybox\n{}", "ENV A=b\n".repeat(many(100_000)));
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "a hundred thousand stages",
        |dir| {
            let text: String = (0..many(100_000))
                .map(|nth| format!("FROM busybox AS s{nth}\n"))
                .collect();
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "a hundred thousand continued lines",
        |dir| {
            let text = format!(
                "FROM busybox\nENV A=b \\\n{} C=d\n",
                "  X=y \\\n".repeat(100_000)
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "braces nested a hundred thousand deep",
        |dir| {
            let text = format!(
                "FROM busybox\nENV A={}{}\n",
                "${a:-".repeat(100_000),
                "}".repeat(100_000)
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Fails(&["Dockerfile:2"]),
    ),
    (
        "JSON nested a hundred thousand deep",
        |dir| {
            let text = format!(
                "FROM busybox\nCMD {}{}\n",
                "[".repeat(100_000),
                "]".repeat(100_000)
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Ends,
    ),
    (
        "a variable that doubles without end",
        |dir| {
            let text = format!(
                "FROM busybox\nENV A=xxxxxxxxxxxxxxxx\n{}",
                "ENV A=$A$A\n".repeat(60)
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Fails(&["Dockerfile:"]),
    ),
    (
        "an argument that doubles without end",
        |dir| {
            let text = format!(
                "ARG A=xxxxxxxxxxxxxxxx\n{}FROM busybox\n",
                "ARG A=$A$A\n".repeat(60)
            );
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Fails(&["Dockerfile:"]),
    ),
    (
        "a here-document without end",
        |dir| {
            let text = format!("FROM busybox\nRUN <<E\n{}", "line\n".repeat(1_000_000));
            write(dir, b"Dockerfile", text.as_bytes());
        },
        Fails(&["here-document"]),
    ),
    (
        "a thousand directories, one in the other",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            nest(dir, 1000);
        },
        Succeeds,
    ),
    (
        "three thousand directories, one in the other",
        |dir| {
            write(dir, b"Dockerfile", PLAIN);
            nest(dir, 3000);
        },
        Ends,
    ),
];

fn ended_well(ran: &Ran, expect: &Expect) -> bool {
    let clean = !ran.stderr.contains('\x1b') && !ran.stderr.contains('\x07');
    let short = ran.stderr.len() < 20_000;
    clean
        && short
        && !ran.stderr.contains("panicked")
        && match expect {
            Succeeds => ran.code == Some(0),
            Ends => {
                matches!(ran.code, Some(0 | 1))
                    && (ran.code == Some(0) || ran.stderr.contains("error: "))
            }
            Fails(words) => {
                ran.code == Some(1) && words.iter().all(|word| ran.stderr.contains(word))
            }
        }
}

#[test]
fn what_is_no_context_is_refused() {
    let Some(base) = fixture::base("hostile_contexts") else {
        return;
    };
    let temp = fixture::temp_dir();
    let people = on_every_rung("hostile_contexts", temp.path());
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = people
            .iter()
            .map(|who| scope.spawn(|| try_contexts(who, base)))
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().expect("no panic"))
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Builds each and says what went otherwise than it should.
fn try_contexts(who: &Who, base: &Path) -> Vec<String> {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let mut wrong = Vec::new();
    for (nth, (name, make, expect)) in CASES.iter().enumerate() {
        if !name.contains(&wanted) {
            continue;
        }
        let context = who.home.join(format!("context{nth}"));
        fs::create_dir(&context).expect("mkdir");
        make(&context);
        who.give(&context);
        let mut command = who.build(base);
        command.arg("--progress=plain").arg(&context);
        let ran = fixture::run(&mut limited(&command));
        if !ended_well(&ran, expect) {
            let text: String = ran.stderr.chars().take(1500).collect();
            wrong.push(format!(
                "── {name} ({}) ── code {:?}\n{}",
                who.name,
                ran.code,
                text.escape_debug().to_string().replace("\\n", "\n")
            ));
        }
        let removed = Command::new("rm").arg("-rf").arg(&context).status();
        assert!(removed.expect("rm").success());
    }
    wrong
}

/// A context whose own name is not text.
#[test]
fn a_context_may_have_any_name() {
    let Some(base) = fixture::base("hostile_contexts") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = temp
        .path()
        .join(std::ffi::OsStr::from_bytes(b"a\xff\x1b[31mb"));
    fixture::write_files(
        &context,
        &[
            ("Dockerfile", "FROM busybox\nCOPY f /f\nRUN test -f /f\n"),
            ("f", "x"),
        ],
    );
    let mut command = fixture::build(base, &temp.path().join("store"));
    command.arg("--progress=plain").arg(&context);
    let ran = fixture::run(&mut command);
    assert!(
        !ran.stderr.contains('\x1b'),
        "{}",
        ran.stderr.escape_debug()
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn an_unreadable_file_is_named() {
    let Some(base) = fixture::base("hostile_contexts") else {
        return;
    };
    let temp = fixture::temp_dir();
    for who in everybody("hostile_contexts", temp.path()).iter().skip(1) {
        let context = who.home.join("context");
        fixture::write_files(
            &context,
            &[
                ("Dockerfile", "FROM busybox\nCOPY . /x\n"),
                ("theirs", "x"),
                ("d/f", "x"),
            ],
        );
        who.give(&context);
        // Root's own: neither readable nor to be made so.
        std::os::unix::fs::chown(context.join("theirs"), Some(0), Some(0)).expect("chown");
        fixture::set_mode(&context.join("theirs"), 0o600);
        let mut command = who.build(base);
        command.arg(&context);
        let ran = fixture::run(&mut command);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        for word in ["theirs", "denied"] {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
        fs::write(context.join(".dockerignore"), "theirs\n").expect("write");
        fixture::run(who.build(base).arg(&context)).ok();
    }
}

/// Runs `change` over and over while `work` runs.
fn meanwhile(change: impl Fn(usize) + Sync, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for nth in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                change(nth);
            }
        });
        work();
        over.store(true, Ordering::Relaxed);
    });
}

/// What is swapped for what, and how it is looked at. The host's files hold `SENTINEL`.
const SWAPS: &[(&str, &str)] = &[
    ("COPY of a file", "COPY swapped/config /x/\n"),
    ("COPY of a directory", "COPY swapped /x/\n"),
    ("COPY of all", "COPY . /x/\n"),
    (
        "a bind mount of a directory",
        "RUN --mount=type=bind,source=swapped,target=/m mkdir /x && cp -r /m/. /x/\n",
    ),
    (
        "a bind mount of a file",
        "RUN --mount=type=bind,source=swapped/config,target=/m mkdir /x && cp /m /x/\n",
    ),
];

#[test]
fn what_is_swapped_for_a_link_shows_nothing_of_the_host() {
    let Some(base) = fixture::base("hostile_contexts") else {
        return;
    };
    let rounds = if std::env::var_os("LONG").is_some() {
        200
    } else {
        8
    };
    let temp = fixture::temp_dir();
    let host = temp.path().join("host");
    fixture::write_files(&host, &[("config", "SENTINEL\n"), ("other", "SENTINEL\n")]);
    for (nth, (name, step)) in SWAPS.iter().enumerate() {
        let context = temp.path().join(format!("context{nth}"));
        fixture::write_files(&context, &[("swapped/config", "of the context\n")]);
        std::os::unix::fs::symlink(&host, temp.path().join(format!("link{nth}"))).expect("symlink");
        let (one, two) = (
            context.join("swapped"),
            temp.path().join(format!("link{nth}")),
        );
        let swap = |_| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &two, flags)
                .expect("swap");
        };
        let mut ended = [0, 0];
        meanwhile(swap, || {
            for round in 0..rounds {
                let dockerfile = temp.path().join(format!("Dockerfile{nth}"));
                fs::write(
                    &dockerfile,
                    format!(
                        "FROM busybox\nENV ROUND={round}\n{step}FROM scratch\nCOPY --from=0 /x /\n"
                    ),
                )
                .expect("write");
                let out = temp.path().join(format!("out{nth}-{round}"));
                let mut command = fixture::build(base, &temp.path().join("store"));
                command
                    .arg("-f")
                    .arg(&dockerfile)
                    .arg("--output")
                    .arg(&out)
                    .arg(&context);
                let ran = fixture::run(&mut command);
                assert!(!ran.stderr.contains("panicked"), "{name}: {}", ran.stderr);
                assert!(matches!(ran.code, Some(0 | 1)), "{name}: {}", ran.stderr);
                ended[usize::from(ran.code == Some(0))] += 1;
                let found = Command::new("grep")
                    .args(["-rs", "SENTINEL"])
                    .arg(&out)
                    .output()
                    .expect("grep");
                assert!(
                    found.stdout.is_empty(),
                    "{name}: {}",
                    String::from_utf8_lossy(&found.stdout)
                );
            }
        });
        assert_eq!(ended[0] + ended[1], rounds, "{name}");
    }
}

#[test]
fn files_that_grow_shrink_or_vanish_are_an_error_or_whole() {
    let Some(base) = fixture::base("hostile_contexts") else {
        return;
    };
    let temp = fixture::temp_dir();
    let context = temp.path().join("context");
    fixture::write_files(&context, &[("f", "x"), ("d/f", "x")]);
    let changes: [(&str, &(dyn Fn(usize) + Sync)); 3] = [
        ("grows and shrinks", &|nth| {
            fs::write(context.join("f"), "x".repeat(nth % 50 * 10_000)).expect("write");
        }),
        ("vanishes", &|_| {
            let _ = fs::remove_file(context.join("f"));
            fs::write(context.join("f"), "x").expect("write");
        }),
        ("a directory vanishes", &|_| {
            let _ = fs::remove_dir_all(context.join("d"));
            fixture::write_files(&context, &[("d/f", "x")]);
        }),
    ];
    for (name, change) in changes {
        meanwhile(change, || {
            for round in 0..8 {
                let dockerfile = temp.path().join("Dockerfile");
                fs::write(
                    &dockerfile,
                    format!("FROM busybox\nENV ROUND={round}\nCOPY . /x/\n"),
                )
                .expect("write");
                let mut command = fixture::build(base, &temp.path().join("store"));
                command.arg("-f").arg(&dockerfile).arg(&context);
                let ran = fixture::run(&mut command);
                let fine = ran.code == Some(0)
                    || ran.code == Some(1)
                        && [
                            "changed while",
                            "not found",
                            "No such file",
                            "bytes were expected",
                        ]
                        .iter()
                        .any(|it| ran.stderr.contains(it));
                assert!(fine, "{name}: code {:?}\n{}", ran.code, ran.stderr);
            }
        });
    }
}
