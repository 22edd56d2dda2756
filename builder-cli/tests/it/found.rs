//! A build whose steps are all found enters no namespaces and tries no overlay, whoever builds; one step that is not found,
//! and it is as every build.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{self, Ran};
use crate::users::{Who, everybody};

const DOCKERFILE: &str = "\
FROM busybox
COPY src /src
RUN --mount=type=bind,target=/all cat /all/src/a > /made
CMD [\"cat\", \"/made\"]
";

struct Case {
    what: &'static str,
    edit: fn(&Path),
    args: &'static [&'static str],
    /// How many steps run.
    runs: usize,
}

/// Each goes on from the one before; the first build was before them.
const CASES: &[Case] = &[
    Case {
        what: "nothing changed",
        edit: |_| {},
        args: &[],
        runs: 0,
    },
    Case {
        what: "touched",
        edit: |dir| fs::write(dir.join("src/a"), "a\n").expect("write"),
        args: &[],
        runs: 0,
    },
    Case {
        what: "a file of the bind mount alone",
        edit: |dir| fs::write(dir.join("other"), "x").expect("write"),
        args: &[],
        runs: 1,
    },
    Case {
        what: "a file of the COPY",
        edit: |dir| fs::write(dir.join("src/a"), "b\n").expect("write"),
        args: &[],
        runs: 2,
    },
    Case {
        what: "a directory that its owner may not list",
        edit: |dir| fixture::set_mode(&dir.join("closed"), 0o000),
        args: &[],
        runs: 1,
    },
    Case {
        what: "the same again",
        edit: |_| {},
        args: &[],
        runs: 0,
    },
    Case {
        what: "made to run",
        edit: |_| {},
        args: &["--no-cache-filter=0"],
        runs: 2,
    },
    Case {
        what: "an output",
        edit: |_| {},
        args: &["-o", "type=oci,dest=image.tar"],
        runs: 0,
    },
];

fn build(who: &Who, base: &Path, args: &[&str]) -> (Ran, String, Value) {
    let mut command = who.build(base);
    let [id, about] = ["id", "about.json"].map(|name| who.home.join(name));
    command
        .args(["--progress=rawjson", "-t", "app:1", "--iidfile"])
        .arg(&id)
        .arg("--metadata-file")
        .arg(&about)
        .args(args)
        .arg("context");
    let ran = fixture::run(&mut command).ok();
    let id = fs::read_to_string(id).expect("the id");
    let about = fs::read(about).expect("the metadata");
    let about = serde_json::from_slice(&about).expect("JSON");
    (ran, id, about)
}

fn count(ran: &Ran, event: &str) -> usize {
    let events = ran.events().into_iter();
    events.filter(|it| it["event"] == event).count()
}

#[test]
fn what_is_found_needs_no_namespaces() {
    let Some(base) = fixture::base("found") else {
        return;
    };
    let temp = fixture::temp_dir();
    for who in everybody("found", temp.path()) {
        let dir = who.home.join("context");
        fixture::write_files(
            &dir,
            &[
                ("Dockerfile", DOCKERFILE),
                ("src/a", "a\n"),
                ("closed/a", "a\n"),
                ("other", ""),
            ],
        );
        who.give(&dir);
        let (ran, mut id, _) = build(&who, base, &[]);
        assert_eq!(count(&ran, "isolation"), 1, "{}: {}", who.name, ran.stderr);
        for case in CASES {
            (case.edit)(&dir);
            let title = format!("{}: {}", who.name, case.what);
            let (ran, now, about) = build(&who, base, case.args);
            assert_eq!(count(&ran, "missed"), case.runs, "{title}: {}", ran.stderr);
            let cached = 2 - case.runs;
            assert_eq!(count(&ran, "cached"), cached, "{title}: {}", ran.stderr);
            assert_eq!(about["containerimage.config.digest"], now, "{title}");
            if case.runs == 0 {
                assert_eq!(now, id, "{title}");
                // an output is work that may need a namespace, but no overlay
                assert_eq!(count(&ran, "isolation"), 0, "{title}: {}", ran.stderr);
            }
            let mut said = who.command(&who.program);
            said.args(["explain", "--root"]).arg(who.store());
            let said = fixture::run(said.current_dir(&who.home)).ok();
            assert!(
                said.stdout.contains("COPY src /src"),
                "{title}: {}",
                said.stdout
            );
            id = now;
        }
        fixture::set_mode(&dir.join("closed"), 0o755);
    }
}
