//! With `SOURCE_DATE_EPOCH` an image is the same to the byte, whoever builds it, where, when and how.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture;
use crate::users::{Who, everybody};

const DOCKERFILE: &str = "\
FROM busybox AS one
WORKDIR /w
RUN umask > /umask && echo ${HOME:-none} > /home-of-run && date > /dev/null && mkdir -p a/b && ln -s b a/c

FROM busybox AS two
RUN --mount=type=cache,target=/cache touch /cache/x && for n in 1 2 3 4 5 6 7 8; do echo $n > /$n; done
COPY --chmod=640 a.txt /two/

FROM busybox
COPY a.txt sub /files/
ADD x.tar /x/
COPY --link --from=one / /one
COPY --from=two /1 /2 /3 /two/ /two/
RUN touch /now && chown app /now && rm -r /files/b
ENV A=b
LABEL made=again
";

/// All that must not matter.
struct Circumstances {
    directory: &'static str,
    umask: &'static str,
    zone: &'static str,
    locale: &'static str,
    jobs: &'static str,
    /// The times of the context's files.
    files: &'static str,
    /// How far the clock is off, as `faketime` takes it.
    clock: Option<&'static str>,
}

const HERE: Circumstances = Circumstances {
    directory: "one",
    umask: "022",
    zone: "UTC",
    locale: "C",
    jobs: "1",
    files: "2024-01-02 03:04:05",
    clock: None,
};

const ELSEWHERE: Circumstances = Circumstances {
    directory: "else/where",
    umask: "077",
    zone: "Asia/Tokyo",
    locale: "tr_TR.UTF-8",
    jobs: "8",
    files: "2025-06-07 08:09:10",
    clock: Some("+500d"),
};

/// Builds in `home` and returns the digest of every output.
fn build(base: &Path, who: &Who, now: &Circumstances) -> BTreeMap<String, String> {
    let dir = who.home.join(now.directory);
    fixture::write_files(
        &dir.join("context"),
        &[
            ("Dockerfile", DOCKERFILE),
            ("a.txt", "a\n"),
            ("sub/b", "b\n"),
            ("sub/d/e", "e\n"),
        ],
    );
    let prepare = "cd \"$1\"; find . -type f -exec chmod 644 {} +; find . -type d -exec chmod 755 {} +; \
        tar --mtime=@1 --owner=0 --group=0 --sort=name -cf x.tar sub; chmod 644 x.tar; \
        find . -exec touch -d \"$2\" {} +";
    let mut shell = Command::new("sh");
    shell.args(["-ec", prepare, "sh"]).arg(dir.join("context"));
    fixture::run(shell.arg(now.files)).ok();
    who.give(&who.home);

    let outputs = [
        ("oci.tar", "type=oci"),
        ("zstd.tar", "type=oci,compression=zstd"),
        ("docker.tar", "type=docker"),
        ("files.tar", "type=tar"),
    ];
    let build = who.build(base);
    let mut command = Command::new("sh");
    command.args(["-ec", "cd \"$1\"; umask \"$2\"; shift 2; exec \"$@\"", "sh"]);
    command.arg(dir.join("context")).arg(now.umask);
    if let Some(clock) = now.clock.filter(|_| fixture::has("faketime")) {
        command.args(["faketime", "-f", clock]);
    }
    command.arg(build.get_program()).args(build.get_args());
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["--progress=plain", "-t", "same:1", "--jobs", now.jobs]);
    for (file, output) in outputs {
        let dest = dir.join(file).display().to_string();
        command.args(["-o", &format!("{output},dest={dest}")]);
    }
    command
        .arg("--iidfile")
        .arg(dir.join("iid"))
        .arg(".")
        .env("SOURCE_DATE_EPOCH", "1600000000")
        .env("TZ", now.zone)
        .env("LC_ALL", now.locale);
    fixture::run(&mut command).ok();
    let files = outputs.iter().map(|(file, _)| *file).chain(["iid"]);
    files
        .map(|file| {
            let bytes = fs::read(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            (file.to_owned(), fixture::sha256(&bytes))
        })
        .collect()
}

#[test]
fn who_where_and_when_do_not_matter() {
    let test = "reproducible";
    let Some(base) = fixture::base(test) else {
        return;
    };
    if !fixture::has("faketime") {
        fixture::skip(
            test,
            "faketime (the clock is not another in the second build)",
        );
    }
    let temp = fixture::temp_dir();
    fixture::set_mode(temp.path(), 0o755);
    let mut first = None;
    for who in everybody(test, temp.path()) {
        for now in [&HERE, &ELSEWHERE] {
            let _ = fs::remove_dir_all(who.store());
            let found = build(base, &who, now);
            let expected = first.get_or_insert_with(|| found.clone());
            assert_eq!(&found, expected, "{} in {}", who.name, now.directory);
        }
    }
}

/// The time of a commit changes with every commit: what is found of an earlier one is not run again, and is as if it were.
#[test]
fn what_was_made_at_another_epoch_does_not_matter() {
    let Some(base) = fixture::base("reproducible") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    let dockerfile = "FROM busybox AS one\n\
        RUN mkdir /made && echo new > /made/new && touch -d '2001-02-03 04:05:06' /made/old && ln -s new /made/link\n\
        FROM busybox\nCOPY a /files/a\nWORKDIR /work\nRUN echo more > more && rm /files/a && touch -d '2002-01-01 01:02:03' past\n\
        COPY --from=one /made /made/\nRUN cat /made/new > /read\n";
    fixture::write_files(&dir, &[("Dockerfile", dockerfile), ("a", "a\n")]);
    let build = |store: &str, epoch: Option<&str>| {
        let iid = temp.path().join("iid");
        let mut command = fixture::build(base, &temp.path().join(store));
        command.envs(epoch.map(|it| ("SOURCE_DATE_EPOCH", it)));
        command.args(["--progress=rawjson", "--iidfile"]).arg(&iid);
        let ran = fixture::run(command.arg(&dir)).ok();
        let steps = fixture::Steps::of(&ran);
        let runs = steps
            .reran()
            .into_iter()
            .filter(|it| it.starts_with("RUN"))
            .count();
        (runs, fs::read_to_string(iid).expect("an image id"))
    };
    let (first, _) = build("warm", None);
    assert_eq!(first, 3);
    for (nth, epoch) in ["1600000000", "1650000000", "1600000000"]
        .iter()
        .enumerate()
    {
        let (runs, warm) = build("warm", Some(epoch));
        assert_eq!(runs, 0, "{epoch}");
        let (runs, cold) = build(&format!("cold{nth}"), Some(epoch));
        assert_eq!(runs, 3, "{epoch}");
        assert_eq!(warm, cold, "{epoch}");
    }
}

/// A time that a step gave lies between two epochs: under the earlier it is that, under the later it is its own.
#[test]
fn a_later_epoch_tells_what_an_earlier_one_hid() {
    let Some(base) = fixture::base("reproducible") else {
        return;
    };
    let temp = fixture::temp_dir();
    let dir = temp.path().join("context");
    let dockerfile =
        "FROM busybox\nRUN mkdir /q && echo 1 > /q/new && touch -d @1500000000 /q/given\n";
    fixture::write_files(&dir, &[("Dockerfile", dockerfile)]);
    let build = |store: &str, epoch: Option<&str>| {
        let path = |name: &str| temp.path().join(name);
        let mut command = fixture::build(base, &path(store));
        command.envs(epoch.map(|it| ("SOURCE_DATE_EPOCH", it)));
        let tar = format!("type=tar,dest={}", path("files.tar").display());
        command.args(["-t", "x", "-o", &tar, "--iidfile"]);
        fixture::run(command.arg(path("iid")).arg(&dir)).ok();
        let tar = fs::read(path("files.tar")).expect("an archive");
        let times: BTreeMap<String, u64> = tar::Archive::new(&tar[..])
            .entries()
            .expect("a tar")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let path = entry.path().expect("a path").display().to_string();
                (path, entry.header().mtime().expect("a time"))
            })
            .filter(|(path, _)| path.contains("q/"))
            .collect();
        let iid = fs::read_to_string(path("iid")).expect("an image id");
        (iid, times["q/given"], times["q/new"])
    };
    for (nth, (epoch, given, new)) in [
        ("1000000000", 1_000_000_000, 1_000_000_000),
        ("1700000000", 1_500_000_000, 1_700_000_000),
        ("1500000000", 1_500_000_000, 1_500_000_000),
        ("1600000000", 1_500_000_000, 1_600_000_000),
    ]
    .into_iter()
    .enumerate()
    {
        let warm = build("warm", Some(epoch));
        assert_eq!((warm.1, warm.2), (given, new), "{epoch}");
        assert_eq!(warm, build(&format!("cold{nth}"), Some(epoch)), "{epoch}");
    }
    let (_, given, new) = build("warm", None);
    assert_eq!(given, 1_500_000_000);
    assert!(new > 1_700_000_000, "{new}");
}
