//! A COPY or a WORKDIR is put on a new base as it is, where that is the same at all that it looks at; and is then what it would
//! be if it were done again.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Steps};

const DOCKERFILE: &str = "\
FROM base
WORKDIR /srv/app/work
COPY one /srv/app/
COPY --chown=daemon one /data/owned/
COPY --link one two /linked/
COPY --from=other /f /via/link/f
";

/// A change of the base, and the steps that it changes.
struct Change {
    what: &'static str,
    run: &'static str,
    runs: &'static [&'static str],
}

const CHANGES: &[Change] = &[
    Change {
        what: "a file that no step looks at",
        run: "echo other > /else",
        runs: &[],
    },
    Change {
        what: "the mode of a directory above a destination",
        run: "chmod 0700 /srv",
        runs: &["WORKDIR /srv/app/work", "COPY one /srv/app/"],
    },
    Change {
        what: "a file beside what is copied, and so the time of the directory",
        run: "echo other > /srv/beside",
        runs: &["WORKDIR /srv/app/work", "COPY one /srv/app/"],
    },
    Change {
        what: "a directory that a step would make is there",
        run: "mkdir -m 0711 /srv/app && touch -d '2001-02-03 04:05:06' /srv /srv/app",
        runs: &["WORKDIR /srv/app/work", "COPY one /srv/app/"],
    },
    Change {
        what: "the ids of a user",
        run: "sed -i 's/^daemon:x:[0-9]*:[0-9]*:/daemon:x:77:78:/' /etc/passwd",
        runs: &["COPY --chown=daemon one /data/owned/"],
    },
    Change {
        what: "where a link leads",
        run: "rm /via && mkdir /elsewhere && ln -s elsewhere /via",
        runs: &["COPY --from=other /f /via/link/f"],
    },
    Change {
        what: "a directory that is linked to is gone",
        run: "rm -rf /target/link",
        runs: &["COPY --from=other /f /via/link/f"],
    },
];

#[test]
fn what_is_put_on_a_base_moves_to_the_next() {
    let Some(base) = fixture::base("rebase") else {
        return;
    };
    let temp = fixture::temp_dir();
    let path = |name: &str| temp.path().join(name);
    let write = |dir: &Path, text: &str| {
        let files = [("Dockerfile", text), ("one", "1\n"), ("two", "2\n")];
        fixture::write_files(dir, &files);
    };
    let store = path("store");
    // The base, and those that come after it: each in a directory of its own, which all stores read.
    let made = |name: &str, run: &str| {
        let dest = path(&format!("{name}.oci"));
        write(
            &path(name),
            &format!(
                "FROM busybox\nRUN grep -q ^daemon: /etc/passwd || echo daemon:x:1:1::/:/bin/sh >> /etc/passwd\n\
                 RUN mkdir -p /srv /data /target/link && ln -s target /via && \
                 touch -d '2001-01-01 00:00:00' /srv /data /target /target/link\nRUN {run}\n"
            ),
        );
        let to = format!("type=oci,tar=false,dest={}", dest.display());
        let mut command = fixture::build(base, &store);
        fixture::run(
            command
                .args(["-t", "base:latest", "-o", &to])
                .arg(path(name)),
        )
        .ok();
        dest
    };
    write(&path("other"), "FROM scratch\nCOPY one /f\n");
    write(&path("context"), DOCKERFILE);
    let build = |store: &Path, base: &Path, epoch: Option<&str>| {
        let iid = path("iid");
        let mut command = Command::new(fixture::program());
        command.args(["build", "--progress=rawjson", "--root"]);
        command.arg(store).env_remove("SOURCE_DATE_EPOCH");
        command.envs(epoch.map(|it| ("SOURCE_DATE_EPOCH", it)));
        let context = format!("base=oci-layout://{}:latest", base.display());
        command.args(["--build-context", &context, "--build-context"]);
        command.arg(format!("other={}", path("files").display()));
        command.arg("--iidfile").arg(&iid).arg(path("context"));
        let ran = fixture::run(&mut command).ok();
        let steps = Steps::of(&ran);
        let reran: Vec<String> = steps.reran().into_iter().map(str::to_owned).collect();
        (reran, fs::read_to_string(iid).expect("an image id"))
    };
    fixture::write_files(&path("files"), &[("f", "f\n")]);

    let first = made("first", "true");
    for epoch in [None, Some("1000000000")] {
        let (reran, _) = build(&store, &first, epoch);
        assert_eq!(reran.len(), 5, "{epoch:?}: {reran:?}");
        for change in CHANGES {
            let next = made("next", change.run);
            let (reran, image) = build(&store, &next, epoch);
            if epoch.is_none() {
                assert_eq!(reran, change.runs, "{}", change.what);
            } else {
                // Times are clamped, so fewer steps see a change; and an empty store comes to the very same.
                let runs = |it: &String| change.runs.contains(&it.as_str());
                assert!(reran.iter().all(runs), "{}: {reran:?}", change.what);
                let empty = path("empty");
                let (_, uncached) = build(&empty, &next, epoch);
                assert_eq!(image, uncached, "{}", change.what);
                fs::remove_dir_all(empty).expect("remove");
            }
            fs::remove_dir_all(next).expect("remove");
        }
    }
}

#[test]
fn an_image_is_as_young_as_the_youngest_of_its_steps() {
    let Some(base) = fixture::base("rebase") else {
        return;
    };
    let temp = fixture::temp_dir();
    let (context, store) = (temp.path().join("context"), temp.path().join("store"));
    let build = |name: &str, middle: &str| {
        let dockerfile = format!("FROM busybox\n{middle}COPY a /data/a\n");
        fixture::write_files(&context, &[("Dockerfile", &dockerfile), ("a", "a\n")]);
        let iid = temp.path().join("iid");
        let mut command = fixture::build(base, &store);
        command.env_remove("SOURCE_DATE_EPOCH").args(["-t", name]);
        fixture::run(command.arg("--iidfile").arg(&iid).arg(&context)).ok();
        fs::read_to_string(iid).expect("an image id")
    };
    let says = |args: &[&str]| {
        let mut command = Command::new(fixture::program());
        command.args(&args[..1]).arg("--root").arg(&store);
        let said = fixture::run(command.args(&args[1..])).ok().stdout;
        said.trim().to_owned()
    };
    let created = |name: &str| says(&["inspect", "-f", "{{.Created}}", name]);
    build("one:1", "");
    fixture::another_second();
    let first = build("two:1", "RUN true > /data/z\n");
    assert!(created("two:1") > created("one:1"));
    let since = ["images", "-f", "since=one:1", "--format", "{{.Repository}}"];
    assert_eq!(says(&since), "two");
    fixture::another_second();
    assert_eq!(build("two:1", "RUN true > /data/z\n"), first);
}
