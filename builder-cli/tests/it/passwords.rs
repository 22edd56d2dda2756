//! The password of an address is in nothing that is shown, kept or attested.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use serde_json::Value;

use crate::fixture::{self, Ran, Steps};
use crate::web::Web;

const PASSWORD: &str = "hunter2";

struct Place<'a> {
    dir: &'a Path,
    web: Web,
}

impl Place<'_> {
    /// A build of an ADD of `path`, with the user and the password before the address.
    fn build(&self, path: &str, password: &str, arguments: &[&str]) -> Ran {
        let url = self
            .web
            .url(path)
            .replace("://", &format!("://me:{password}@"));
        let dockerfile = format!("FROM scratch\nADD {url} /f\n");
        fixture::write_files(&self.dir.join("context"), &[("Dockerfile", &dockerfile)]);
        self.run("build", &[arguments, &["CONTEXT"]].concat())
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        let at = self.dir.display().to_string();
        let mut program = Command::new(fixture::program());
        program
            .arg(command)
            .arg("--root")
            .arg(self.dir.join("store"));
        for argument in arguments {
            let argument = argument.replace("CONTEXT", &format!("{at}/context"));
            program.arg(argument.replace("OUT", &format!("{at}/out")));
        }
        program.env("BUILDX_METADATA_PROVENANCE", "max");
        fixture::run(program.env_remove("SOURCE_DATE_EPOCH"))
    }
}

/// Returns the files below `dir` that hold `text`.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|it| it == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn of_an_add_it_is_nowhere() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(&dir.join("www"), &[("f", "content\n")]);
    fs::create_dir(dir.join("out")).expect("a directory");
    let place = Place {
        dir,
        web: Web::start(&dir.join("www")),
    };
    let clean = |ran: &Ran| {
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(PASSWORD), "{text}");
        }
    };
    let outputs = [
        "--progress=rawjson",
        "--provenance=mode=max",
        "--output=type=oci,tar=false,dest=OUT/oci",
        "--metadata-file=OUT/meta.json",
        "-ta:1",
    ];
    let first = place.build("f", PASSWORD, &outputs);
    let first = first.ok();
    clean(&first);
    let shown = format!("ADD {} /f", place.web.url("f"));
    let names = Steps::of(&first).names;
    assert!(names.values().any(|it| it.ends_with(&shown)), "{names:?}");
    for arguments in [
        &["history", "--no-trunc", "a:1"][..],
        &["inspect", "a:1"],
        &["plan", "CONTEXT"],
        &["plan", "--format=json", "CONTEXT"],
        &["logs"],
        &["explain"],
    ] {
        clean(&place.run(arguments[0], &arguments[1..]).ok());
    }
    let history = place.run("history", &["--no-trunc", "a:1"]).stdout;
    assert!(history.contains(&shown), "{history}");

    // The Dockerfile is attested without it.
    let meta = fs::read(dir.join("out/meta.json")).expect("metadata");
    let meta: Value = serde_json::from_slice(&meta).expect("JSON");
    let told = &meta["buildx.build.provenance"]["runDetails"]["metadata"]["buildkit_metadata"];
    let data = told["source"]["infos"][0]["data"].as_str().expect("a text");
    let text = base64::engine::general_purpose::STANDARD.decode(data);
    let text = String::from_utf8(text.expect("base64")).expect("a text");
    assert_eq!(text, format!("FROM scratch\n{shown}\n"));

    // Another password brings the same file.
    let second = place.build("f", "hunter2222", &["--progress=rawjson", "--explain"]);
    let second = second.ok();
    assert!(Steps::of(&second).reran().is_empty(), "{}", second.stderr);
    clean(&second);

    // A failure, plain; the mark stands under the address.
    let failed = place.build("missing", PASSWORD, &["--progress=plain"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    clean(&failed);
    let url = place.web.url("missing");
    let marked = format!("2 | ADD {url} /f\n  | {}", "^".repeat(url.len() + 7));
    assert!(failed.stderr.contains(&marked), "{}", failed.stderr);
    clean(&place.run("logs", &[]));
    clean(&place.run("explain", &[]));
    for kept in ["store", "out"] {
        assert_eq!(holding(&dir.join(kept), PASSWORD), Vec::<String>::new());
    }
}
