//! An edit runs again what depends on it, and nothing else.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Steps};

const DOCKERFILE: &str = "\
ARG GLOBAL=1
FROM busybox AS tools
ARG FLAVOUR=plain
RUN echo tools > /tools
RUN env | grep FLAVOUR >> /tools

FROM busybox AS assets
COPY assets/ /assets/
RUN cat /assets/* > /all

FROM busybox
ARG GLOBAL
COPY config /etc/app/
RUN echo base ready > /ready
COPY --from=assets /all /srv/all
COPY --from=tools /tools /srv/tools
COPY src/ /src/
RUN cat /src/main /srv/tools > /app
LABEL version=1
CMD [\"/app\"]
";

const FILES: [(&str, &str); 6] = [
    ("Dockerfile", DOCKERFILE),
    ("assets/one", "one\n"),
    ("assets/two", "two\n"),
    ("config", "a = 1\n"),
    ("src/main", "main\n"),
    ("unused", "nobody copies this\n"),
];

/// One change of the project, and the steps that must run again because of it.
struct Edit {
    what: &'static str,
    make: fn(&Path),
    args: &'static [&'static str],
    reruns: &'static [&'static str],
}

fn replace(dir: &Path, from: &str, to: &str) {
    let path = dir.join("Dockerfile");
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "the edit finds `{from}`");
    fs::write(path, text.replace(from, to)).expect("write");
}

const EDITS: &[Edit] = &[
    Edit {
        what: "nothing",
        make: |_| {},
        args: &[],
        reruns: &[],
    },
    Edit {
        what: "a file that no step copies",
        make: |dir| fs::write(dir.join("unused"), "other\n").expect("write"),
        args: &[],
        reruns: &[],
    },
    Edit {
        what: "only a file's time",
        make: |dir| {
            let text = fs::read(dir.join("src/main")).expect("read");
            fs::write(dir.join("src/main"), text).expect("write");
        },
        args: &[],
        reruns: &[],
    },
    Edit {
        what: "a file of the last COPY",
        make: |dir| fs::write(dir.join("src/main"), "changed\n").expect("write"),
        args: &[],
        reruns: &["COPY src/ /src/", "RUN cat /src/main /srv/tools > /app"],
    },
    Edit {
        what: "only a file's mode",
        make: |dir| fixture::set_mode(&dir.join("src/main"), 0o755),
        args: &[],
        reruns: &["COPY src/ /src/", "RUN cat /src/main /srv/tools > /app"],
    },
    Edit {
        what: "a file added to a copied directory",
        make: |dir| fs::write(dir.join("src/more"), "more\n").expect("write"),
        args: &[],
        reruns: &["COPY src/ /src/", "RUN cat /src/main /srv/tools > /app"],
    },
    Edit {
        what: "a file of another stage",
        make: |dir| fs::write(dir.join("assets/two"), "2\n").expect("write"),
        args: &[],
        reruns: &[
            "COPY assets/ /assets/",
            "RUN cat /assets/* > /all",
            "COPY --from=assets /all /srv/all",
            // `/srv` was made by the step before, now: its time is another
            "COPY --from=tools /tools /srv/tools",
            "RUN cat /src/main /srv/tools > /app",
        ],
    },
    Edit {
        what: "a build argument that one stage declares",
        make: |_| {},
        args: &["--build-arg", "FLAVOUR=rich"],
        reruns: &[
            "RUN echo tools > /tools",
            "RUN env | grep FLAVOUR >> /tools",
            "COPY --from=tools /tools /srv/tools",
            "RUN cat /src/main /srv/tools > /app",
        ],
    },
    Edit {
        what: "a global argument, which steps of the last stage see",
        make: |_| {},
        args: &["--build-arg", "GLOBAL=2"],
        reruns: &[
            "RUN echo base ready > /ready",
            "RUN cat /src/main /srv/tools > /app",
        ],
    },
    Edit {
        what: "an instruction in the middle",
        make: |dir| replace(dir, "echo base ready", "echo base is ready"),
        args: &[],
        reruns: &[
            "RUN echo base is ready > /ready",
            "RUN cat /src/main /srv/tools > /app",
        ],
    },
    Edit {
        what: "an instruction that leaves the same result",
        make: |dir| {
            replace(
                dir,
                "cat /assets/* > /all",
                "cat /assets/one /assets/two > /all",
            )
        },
        args: &[],
        reruns: &["RUN cat /assets/one /assets/two > /all"],
    },
    Edit {
        what: "a label",
        make: |dir| replace(dir, "version=1", "version=2"),
        args: &[],
        reruns: &[],
    },
    Edit {
        what: "a comment",
        make: |dir| replace(dir, "LABEL version=1", "# a word\nLABEL version=1"),
        args: &[],
        reruns: &[],
    },
];

#[test]
fn an_edit_runs_again_what_depends_on_it_and_nothing_else() {
    let Some(base) = fixture::base("cache") else {
        return;
    };
    let temp = fixture::temp_dir();
    let store = temp.path().join("store");
    let build = |dir: &Path, args: &[&str]| {
        let mut command = fixture::build(base, &store);
        command.args(args).arg("--progress=rawjson").arg(dir);
        Steps::of(&fixture::run(&mut command).ok())
    };
    let original = temp.path().join("original");
    fixture::write_files(&original, &FILES);
    let cold = build(&original, &[]);
    assert_eq!(
        cold.reran().len(),
        10,
        "the first build runs every step: {:?}",
        cold.reran()
    );

    // A directory that an edit makes anew has another time than the first build's.
    fixture::another_second();
    let mut wrong = Vec::new();
    for (nth, edit) in EDITS.iter().enumerate() {
        let dir = temp.path().join(format!("edit{nth}"));
        fixture::copy_tree(&original, &dir);
        (edit.make)(&dir);
        let steps = build(&dir, edit.args);
        let (mut have, mut want) = (steps.reran(), edit.reruns.to_vec());
        have.sort_unstable();
        want.sort_unstable();
        if have != want {
            wrong.push(format!(
                "{}:\n  ran again {have:#?}\n  expected {want:#?}",
                edit.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn another_base_runs_every_run_again_and_no_cache_all_steps() {
    let Some(base) = fixture::base("cache") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    fixture::write_files(
        &dir,
        &[
            (
                "Dockerfile",
                "FROM base\nCOPY f /f\nRUN cat /f /data/keep.txt > /g\n",
            ),
            ("f", "f\n"),
        ],
    );
    fixture::write_files(
        &temp.path().join("other"),
        &[(
            "Dockerfile",
            "FROM busybox\nRUN echo other > /data/keep.txt\n",
        )],
    );
    let store = temp.path().join("store");
    let other = temp.path().join("other.oci");
    let dest = format!("type=oci,dest={},tar=false", other.display());
    fixture::run(
        fixture::build(base, &store)
            .args(["-t", "other:latest", "--output", &dest])
            .arg(temp.path().join("other")),
    )
    .ok();

    let build = |context: String, extra: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.args(["build", "--root"]).arg(&store).args([
            "--progress=rawjson",
            "--build-context",
            &context,
        ]);
        let ran = fixture::run(command.args(extra).arg(&dir)).ok();
        Steps::of(&ran).reran().len()
    };
    let first = format!("base=oci-layout://{}:latest", base.display());
    assert_eq!(build(first.clone(), &[]), 2, "cold");
    assert_eq!(build(first.clone(), &[]), 0, "warm");
    assert_eq!(
        build(format!("base=oci-layout://{}:latest", other.display()), &[]),
        1,
        "another base: the COPY is put on it as it is"
    );
    assert_eq!(build(first.clone(), &[]), 0, "the first base again");
    assert_eq!(build(first, &["--no-cache"]), 2, "--no-cache");
}

#[test]
fn a_secret_is_in_no_key_and_a_missed_step_says_what_changed() {
    let Some(base) = fixture::base("cache") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    let text = "FROM busybox\nRUN --mount=type=secret,id=token test -s /run/secrets/token && echo ok > /ok\nCOPY f /f\n";
    fixture::write_files(&dir, &[("Dockerfile", text), ("f", "one\n")]);
    let build = |secret: &str| {
        let mut command = fixture::build(base, &temp.path().join("store"));
        command
            .env("TOKEN", secret)
            .args(["--secret", "id=token,env=TOKEN", "--progress=rawjson"]);
        fixture::run(command.arg(&dir)).ok()
    };
    build("first");
    assert!(
        Steps::of(&build("second")).reran().is_empty(),
        "a secret's value is not part of a key"
    );
    fs::write(dir.join("f"), "two\n").expect("write");
    let ran = build("second");
    assert_eq!(Steps::of(&ran).reran(), ["COPY f /f"]);
    let reasons: Vec<String> = ran
        .events()
        .iter()
        .filter(|e| e["event"] == "missed")
        .map(|e| e["reason"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(
        reasons
            .iter()
            .any(|r| r.split(['/', ' ', ':']).any(|w| w == "f")),
        "a reason names f: {reasons:?}"
    );
}

#[test]
fn a_change_that_the_time_of_a_file_hides_is_seen() {
    let Some(base) = fixture::base("cache") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    let file = dir.join("f");
    fixture::write_files(
        &dir,
        &[("Dockerfile", "FROM busybox\nCOPY f /f\n"), ("f", "one\n")],
    );
    let build = || {
        let mut command = fixture::build(base, &temp.path().join("store"));
        Steps::of(&fixture::run(command.arg("--progress=rawjson").arg(&dir)).ok())
            .reran()
            .len()
    };
    assert_eq!(build(), 1, "cold");
    // Old enough for its digest to be remembered.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(build(), 0, "nothing");
    let time = fs::metadata(&file)
        .and_then(|it| it.modified())
        .expect("time");
    let open = || fs::File::options().write(true).open(&file).expect("open");
    open()
        .set_modified(time + std::time::Duration::from_secs(5))
        .expect("set time");
    assert_eq!(build(), 0, "only the time");
    for (nth, text) in ["two\n", "six\n", "ten\n"].into_iter().enumerate() {
        // In place, of the same size, and the time set back: only the ctime tells.
        fs::write(&file, text).expect("write");
        open().set_modified(time).expect("set time");
        assert_eq!(build(), 1, "{text}");
        if nth == 0 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(build(), 0, "{text} again");
        }
        // The next one is written within the same second, too.
    }
}

/// One build: the digests of the manifest in an archive and of the image.
fn digests(command: &mut Command, out: &Path, iid: &Path) -> (String, String) {
    let dest = format!("type=oci,dest={},tar=false,compression=gzip", out.display());
    command.env("SOURCE_DATE_EPOCH", "1500000000");
    command
        .args(["--progress=plain", "--output", &dest, "--iidfile"])
        .arg(iid);
    fixture::run(command).ok();
    let index = fs::read_to_string(out.join("index.json")).expect("index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let manifest = index["manifests"][0]["digest"]
        .as_str()
        .expect("digest")
        .to_owned();
    (manifest, fs::read_to_string(iid).expect("iidfile"))
}

#[test]
fn workers_users_and_file_systems_do_not_show_in_a_digest() {
    let Some(base) = fixture::base("cache") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    fixture::write_files(&dir, &FILES);
    for nth in 0..300_usize {
        let text = format!("{nth}\n").repeat(nth);
        fixture::write_files(
            &dir.join("assets"),
            &[(&format!("d{}/f{nth}", nth % 7), &text)],
        );
    }
    let text = DOCKERFILE.replace("cat /assets/*", "cat /assets/one /assets/two");
    fs::write(dir.join("Dockerfile"), text).expect("write");
    let mut all = Vec::new();
    let others = crate::users::everybody("cache", temp.path());
    for who in &others {
        who.give(&dir);
        let mut command = who.build(base);
        command.arg(&dir);
        let got = digests(&mut command, &who.home.join("out"), &who.home.join("iid"));
        all.push((who.name.clone(), got));
    }
    let shm = Path::new("/dev/shm");
    let mut places = vec![temp.path().to_owned()];
    let memory = shm
        .is_dir()
        .then(|| tempfile::tempdir_in(shm).ok())
        .flatten();
    match &memory {
        Some(memory) => places.push(memory.path().to_owned()),
        None => fixture::skip("a store on a tmpfs", "a writable /dev/shm"),
    }
    for place in places {
        for workers in ["1", "8"] {
            let store = place.join(format!("store{workers}"));
            let mut command = fixture::build(base, &store);
            command
                .env("RAYON_NUM_THREADS", workers)
                .args(["--jobs", workers])
                .arg(&dir);
            let out = temp.path().join(format!("out{}", all.len()));
            let got = digests(&mut command, &out, &temp.path().join("iid"));
            all.push((format!("{workers} workers in {}", place.display()), got));
        }
    }
    let (first, expected) = &all[0];
    for (who, got) in &all {
        assert_eq!(got, expected, "{who}, and {first}");
    }
}

/// Maps a file and, told so by a line, puts the line there without a system call, so that no time of the file changes.
const MAPPED: &str = "\
import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 5)
for line in sys.stdin.buffer:
    memory[:5] = line
    print('done', flush=True)
";

/// That a remembered digest is an old one shows when the file is read: one error, and it is forgotten.
#[test]
fn a_file_that_changes_without_a_trace_is_found_out_once() {
    let test = "cache";
    let Some(base) = fixture::base(test) else {
        return;
    };
    if !fixture::has("python3") {
        fixture::skip(test, "python3");
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY f g /\n"),
        ("f", "AAAA\n"),
        ("g", "1\n"),
    ];
    fixture::write_files(&dir, &files);
    let out = temp.path().join("out");
    let build = |flags: &[&str]| {
        let mut command = fixture::build(base, &temp.path().join("store"));
        command.args(flags).arg("-o").arg(&out);
        fixture::run(command.arg(&dir))
    };
    let mut mapping = Command::new("python3")
        .args(["-c", MAPPED])
        .arg(dir.join("f"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut lines = std::io::BufReader::new(mapping.stdout.take().expect("stdout")).lines();
    let mut stdin = mapping.stdin.take().expect("stdin");
    let mut put = |text: &str| {
        stdin.write_all(text.as_bytes()).expect("write");
        lines.next().expect("a line").expect("a line");
    };
    let held = || fs::read_to_string(out.join("f")).expect("f");
    put("AAAA\n");
    // Old enough for its digest to be remembered.
    std::thread::sleep(std::time::Duration::from_millis(100));
    build(&[]).ok();
    put("BBBB\n");
    fs::write(dir.join("g"), "2\n").expect("write");
    let first = build(&[]);
    if first.code != Some(0) {
        let told = "`/f` changed while the build was at work";
        assert!(first.stderr.contains(told), "{}", first.stderr);
        build(&[]).ok();
    }
    assert_eq!(held(), "BBBB\n");
    put("CCCC\n");
    build(&["--no-cache"]).ok();
    assert_eq!(held(), "CCCC\n", "without the cache nothing is believed");
    drop(stdin);
    mapping.wait().expect("wait");
}
