//! A file that is edited while a RUN has its context mounted: this build goes on with what it read, the next one is not told so.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::fixture::{self, Steps};

/// The step reads until the file is another, or for two seconds.
const DOCKERFILE: &str = "FROM busybox\n\
    RUN --mount=type=bind,FROM,target=/m echo ready; n=0; until grep -q B /m/f || [ $n = 20 ]; do n=$((n+1)); sleep 0.1; done; \
    cat /m/f > /out\n\
    RUN cat /out > /child\nCOPY other /other\n";

#[test]
fn an_edit_while_a_context_is_mounted_is_in_no_cache() {
    let Some(base) = fixture::base("astray") else {
        return;
    };
    for (case, from, flags, edited) in [
        ("the context", "source=.", &[][..], "context/f"),
        ("a named one", "from=named", &["--build-context"], "named/f"),
    ] {
        let temp = fixture::temp_dir();
        let path = |name: &str| temp.path().join(name);
        let dockerfile = DOCKERFILE.replace("FROM,", &format!("{from},"));
        fixture::write_files(
            &path("context"),
            &[("Dockerfile", &dockerfile), ("f", "A\n"), ("other", "")],
        );
        fixture::write_files(&path("named"), &[("f", "A\n")]);
        let command = |store: &str| {
            let mut command = fixture::build(base, &path(store));
            command.args(flags);
            if !flags.is_empty() {
                command.arg(format!("named={}", path("named").display()));
            }
            command
                .arg("-o")
                .arg(path("out"))
                .arg("--progress=plain")
                .arg(path("context"));
            command
        };
        let mut child = command("store")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let mut told = String::new();
        for line in BufReader::new(child.stderr.take().expect("stderr")).lines() {
            let line = line.expect("a line");
            if line.ends_with("ready") && !line.contains("echo") {
                fs::write(path(edited), "B\n").expect("write");
            }
            told += &line;
            told.push('\n');
        }
        assert!(child.wait().expect("wait").success(), "{case}: {told}");
        assert!(
            told.contains("`f` changed while this step"),
            "{case}: {told}"
        );
        let read = |name: &str| fs::read_to_string(path("out").join(name)).expect(name);
        assert_eq!(
            (read("out"), read("child")),
            ("B\n".to_owned(), "B\n".to_owned())
        );

        fs::write(path(edited), "A\n").expect("write");
        fs::remove_dir_all(path("out")).expect("remove");
        let mut again = command("store");
        let ran = fixture::run(again.arg("--progress=rawjson")).ok();
        assert_eq!(Steps::of(&ran).reran().len(), 2, "{case}");
        assert_eq!(
            (read("out"), read("child")),
            ("A\n".to_owned(), "A\n".to_owned())
        );
        let mut again = command("store");
        let ran = fixture::run(again.arg("--progress=rawjson")).ok();
        assert_eq!(Steps::of(&ran).reran(), [""; 0], "{case}");
    }
}
