//! Contexts and sources that are not directories of this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{self, Ran, Steps};
use crate::web::{LAST_MODIFIED, Web};

/// Builds from scratch with `context`, the files going to `temp/out`.
fn build(temp: &Path, arguments: &[&str]) -> Command {
    let out = temp.join("out");
    let _ = fs::remove_dir_all(&out);
    let mut command = Command::new(fixture::program());
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .arg("build")
        .arg("--root")
        .arg(temp.join("store"))
        .args(["--progress", "rawjson", "-o"])
        .arg(&out)
        .args(arguments);
    command
}

/// Runs with standard input from a file.
#[track_caller]
fn with_input(command: &Command, input: &Path) -> Ran {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "input=$1; shift; exec \"$@\" < \"$input\"", "sh"])
        .arg(input)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("SOURCE_DATE_EPOCH");
    // The fixture closes standard input; the shell opens it again.
    fixture::run(&mut shell)
}

#[track_caller]
fn read(temp: &Path, path: &str) -> String {
    let path = temp.join("out").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn refused(ran: &Ran, expected: &str) {
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[track_caller]
fn shell(dir: &Path, script: &str) {
    let mut command = Command::new("sh");
    command
        .args(["-ec", script])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
        .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z");
    fixture::run(&mut command).ok();
}

fn lacks(test: &str, tool: &str) -> bool {
    if !fixture::has(tool) {
        fixture::skip(test, tool);
        return true;
    }
    false
}

#[test]
fn a_tar_is_a_context_however_it_comes() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(
        &dir.join("context"),
        &[
            ("Dockerfile", "FROM scratch\nCOPY . /all/\n"),
            ("Other", "FROM scratch\nCOPY a.txt /other.txt\n"),
            (".dockerignore", "b.txt\n"),
            ("a.txt", "a\n"),
            ("b.txt", "b\n"),
        ],
    );
    shell(
        dir,
        "tar -C context -cf plain.tar . && gzip -k plain.tar && xz -k plain.tar && zstd -q plain.tar",
    );
    let web = Web::start(dir);
    let url = web.url("plain.tar.gz");
    for name in ["plain.tar", "plain.tar.gz", "plain.tar.xz", "plain.tar.zst"] {
        let path = dir.join(name);
        let shown = path.display().to_string();
        fixture::run(&mut build(dir, &[&shown])).ok();
        assert_eq!(read(dir, "all/a.txt"), "a\n", "{name}");
        assert!(!dir.join("out/all/b.txt").exists(), "{name}: it is ignored");
        with_input(&build(dir, &["-"]), &path).ok();
        assert_eq!(read(dir, "all/a.txt"), "a\n", "{name} from standard input");
    }
    fixture::run(&mut build(dir, &[&url])).ok();
    assert_eq!(read(dir, "all/a.txt"), "a\n", "by address");
    with_input(
        &build(dir, &["-f", "Other", "-"]),
        &dir.join("plain.tar.gz"),
    )
    .ok();
    assert_eq!(read(dir, "other.txt"), "a\n", "-f means a file in the tar");
    let plain = dir.join("plain.tar").display().to_string();
    with_input(
        &build(dir, &["-f", "-", &plain]),
        &dir.join("context/Other"),
    )
    .ok();
    assert_eq!(read(dir, "other.txt"), "a\n", "a Dockerfile beside a tar");
    // The same files: all of it was there.
    let ran = fixture::run(&mut build(dir, &[&plain])).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0]);
}

#[test]
fn a_dockerfile_alone_has_no_context() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(
        dir,
        &[
            ("alone", "FROM scratch\nCOPY <<x /x\nhere\nx\n"),
            ("copies", "FROM scratch\nCOPY a /a\n"),
        ],
    );
    with_input(&build(dir, &["-"]), &dir.join("alone")).ok();
    assert_eq!(read(dir, "x"), "here\n");
    let web = Web::start(dir);
    fixture::run(&mut build(dir, &[&web.url("alone")])).ok();
    assert_eq!(read(dir, "x"), "here\n");
    let ran = with_input(&build(dir, &["-"]), &dir.join("copies"));
    refused(&ran, "`a` is not found in the build context");
    refused(&ran, "<stdin>:2");
    let ran = with_input(&build(dir, &["-f", "-", "-"]), &dir.join("alone"));
    refused(&ran, "cannot be both");
    let ran = with_input(&build(dir, &["-f", "x", "-"]), &dir.join("alone"));
    refused(&ran, "another Dockerfile is given");
    let ran = fixture::run(&mut build(dir, &[&web.url("nothing")]));
    refused(&ran, "404");
}

#[test]
fn an_archive_cannot_reach_out() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(&dir.join("context"), &[("x", "x")]);
    shell(
        dir,
        "cd context; ln -s /etc/passwd Dockerfile; tar -cf ../link.tar .; \
         rm Dockerfile; echo FROM scratch > Dockerfile; ln -s /etc/passwd .dockerignore; tar -cf ../ignore.tar .; \
         rm .dockerignore; tar -cf ../up.tar --transform 's,^x,../x,' -P Dockerfile x",
    );
    for (name, expected) in [
        ("link.tar", "leads out of the build context"),
        ("ignore.tar", "leads out of the build context"),
        ("up.tar", "up.tar"),
    ] {
        let path = dir.join(name).display().to_string();
        refused(&fixture::run(&mut build(dir, &[&path])), expected);
    }
    fs::write(dir.join("text"), "no tar").expect("write");
    let path = dir.join("text").display().to_string();
    refused(
        &fixture::run(&mut build(dir, &[&path])),
        "is not a tar archive",
    );
}

const REPOSITORY: &str = "git init -q -b main repo && cd repo && \
    git config user.email a@example.com && git config user.name a && \
    mkdir sub && printf 'FROM scratch\\nCOPY . /all/\\n' | tee Dockerfile > sub/Dockerfile && \
    echo one > a.txt && echo sub > sub/s.txt && echo '#!' > sub/run && chmod 700 sub/run && \
    git add . && git commit -qm one && git tag -a v1 -m v1 && \
    git checkout -qb side && echo side > a.txt && git commit -qam side && git checkout -q main && \
    echo two > a.txt && git commit -qam two && git rev-parse HEAD > ../head && git rev-parse v1^{} > ../v1 && \
    git clone -q --bare . ../bare.git && git -C ../bare.git update-server-info";

#[test]
fn a_repository_is_a_context() {
    if lacks("contexts/git", "git") {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    shell(dir, REPOSITORY);
    let web = Web::start(dir);
    let (file, http) = (
        format!("file://{}/bare.git", dir.display()),
        web.url("bare.git"),
    );
    let path = dir.join("bare.git").display().to_string();
    let work = dir.join("repo/.git").display().to_string();
    let commit = fs::read_to_string(dir.join("v1")).expect("v1");
    let commit = commit.trim();
    for (context, expected) in [
        (file.clone(), "two\n"),
        (path.clone(), "two\n"),
        (work, "two\n"),
        (http.clone(), "two\n"),
        (format!("{http}#side"), "side\n"),
        (format!("{file}#refs/heads/side"), "side\n"),
        (format!("{path}#v1"), "one\n"),
        (format!("{file}#{commit}"), "one\n"),
        (format!("{http}#{commit}"), "one\n"),
        (format!("{file}?branch=side"), "side\n"),
        (format!("{http}?tag=v1&checksum={commit}"), "one\n"),
    ] {
        fixture::run(&mut build(dir, &[&context])).ok();
        assert_eq!(read(dir, "all/a.txt"), expected, "{context}");
        assert!(!dir.join("out/all/.git").exists(), "{context}");
    }
    fixture::run(&mut build(dir, &[&format!("{file}#main:sub")])).ok();
    assert_eq!(read(dir, "all/s.txt"), "sub\n");
    let ran = fixture::run(&mut build(dir, &[&format!("{http}#:sub")])).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0], "the same files");
    // Its provenance says which directory of which commit it was.
    let meta = dir.join("meta.json");
    let told = format!("--metadata-file={}", meta.display());
    let (_, place) = http.split_once("://").expect("an address");
    for fragment in ["#v1:sub", "#:sub", "#v1", ""] {
        let context = format!("{http}{fragment}");
        let mut command = build(dir, &[&told, &context]);
        fixture::run(command.env("BUILDX_METADATA_PROVENANCE", "max")).ok();
        let said = fs::read(&meta).expect("metadata");
        let said: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
        let said = &said["buildx.build.provenance"]["buildDefinition"];
        assert_eq!(said["externalParameters"]["configSource"]["uri"], context);
        assert_eq!(said["resolvedDependencies"][0]["uri"], context);
        let step = format!("\"identifier\":\"git://{place}{fragment}\"");
        assert!(said.to_string().contains(&step), "{said:#}");
        assert!(!said.to_string().contains("local://context"), "{said:#}");
    }
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &file];
    fixture::run(&mut build(dir, &keep)).ok();
    shell(
        &dir.join("out/all"),
        "test \"$(git rev-parse HEAD)\" = \"$(cat ../../head)\" && git diff --exit-code",
    );
    let ran = fixture::run(&mut build(dir, &keep)).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0], "the same .git each time");
    let held = crate::prune::du_json(&dir.join("store"));
    let clones = held["items"].as_array().expect("items").iter();
    let mut clones: Vec<&str> = clones
        .filter(|it| it["kind"] == "git")
        .map(|it| it["what"].as_str().expect("what"))
        .collect();
    clones.sort_unstable();
    let work = format!("file://{}/repo/.git", dir.display());
    assert_eq!(clones, [file.as_str(), &work, &http], "one clone a remote");
    for (context, expected) in [
        (
            format!("{file}#nowhere"),
            "no branch, tag or commit `nowhere`",
        ),
        (format!("{file}#:none"), "no directory `none`"),
        (
            format!("{file}?tag=v1&checksum=0000000"),
            "0000000 is asked for",
        ),
        (web.url("none.git"), "none.git"),
        (
            "http://me:hidden@127.0.0.1:1/x.git".to_owned(),
            "127.0.0.1:1/x.git",
        ),
    ] {
        let ran = fixture::run(&mut build(dir, &[&context]));
        refused(&ran, expected);
        assert!(!ran.stderr.contains("hidden"), "{}", ran.stderr);
    }
}

#[test]
fn named_contexts_are_of_every_kind() {
    if lacks("contexts/named", "git") {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    shell(dir, REPOSITORY);
    shell(
        dir,
        "tar -czf sub.tar.gz -C repo/sub . && echo file > one.txt",
    );
    let dockerfile = "FROM scratch AS base\nCOPY here /base\nFROM alias AS from\n\
        FROM scratch\nCOPY --from=tar s.txt /tar\nCOPY --from=git a.txt /git\nCOPY --from=web s.txt /web\n\
        COPY --from=one one.txt /one\nCOPY --from=alias base /stage\nCOPY --from=from base /from\n";
    fixture::write_files(
        &dir.join("context"),
        &[("Dockerfile", dockerfile), ("here", "here\n")],
    );
    let web = Web::start(dir);
    let pairs = [
        format!("tar={}/sub.tar.gz", dir.display()),
        format!("git=file://{}/bare.git#side", dir.display()),
        format!("web={}", web.url("sub.tar.gz")),
        format!("one={}", web.url("one.txt")),
        format!("unused={}", web.url("unused")),
        "alias=target:base".to_owned(),
    ];
    let context = dir.join("context").display().to_string();
    let mut arguments = vec![context.as_str()];
    for pair in &pairs {
        arguments.extend(["--build-context", pair]);
    }
    fixture::run(&mut build(dir, &arguments)).ok();
    for (name, expected) in [
        ("tar", "sub\n"),
        ("git", "side\n"),
        ("web", "sub\n"),
        ("one", "file\n"),
        ("stage", "here\n"),
        ("from", "here\n"),
    ] {
        assert_eq!(read(dir, name), expected, "{name}");
    }
    assert!(!web.asked().iter().any(|it| it.contains("unused")));
    let wrong = ["--build-context", "alias=target:none", &context];
    refused(&fixture::run(&mut build(dir, &wrong)), "none");
}

#[test]
fn add_of_an_address_asks_once_and_downloads_what_is_new() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(
        &dir.join("www"),
        &[("f.txt", "one\n"), ("d/odd[1] name", "odd\n")],
    );
    shell(dir, "tar -czf www/t.tgz -C www f.txt");
    let web = Web::start(&dir.join("www"));
    let sum = fixture::sha256(b"one\n");
    let dockerfile = format!(
        "FROM scratch\nADD {0} /dir/\nADD --chmod=0644 {0} /file\nADD --unpack {1} /unpacked/\nADD {1} /packed/\n\
         ADD {2} /odd/\nADD --checksum=sha256:{sum} --link {0} /sum\n",
        web.url("f.txt?query"),
        web.url("t.tgz"),
        web.url("d/odd%5B1%5D%20name"),
    );
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &dockerfile)]);
    let context = dir.join("context").display().to_string();
    fixture::run(&mut build(dir, &[&context])).ok();
    for (path, mode) in [
        ("dir/f.txt", 0o600),
        ("file", 0o644),
        ("unpacked/f.txt", 0o644),
        ("odd/odd[1] name", 0o600),
        ("sum", 0o600),
        ("packed/t.tgz", 0o600),
    ] {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let file =
            fs::metadata(dir.join("out").join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(file.permissions().mode() & 0o7777, mode, "{path}");
        if path != "unpacked/f.txt" {
            assert_eq!(file.mtime() as u64, LAST_MODIFIED.1, "{path}");
        }
    }
    assert!(web.asked().iter().all(|it| it.starts_with("200")));
    let ran = fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0]);
    let asked = web.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|it| it.starts_with("304")),
        "{asked:?}"
    );
    fs::write(dir.join("www/f.txt"), "two\n").expect("write");
    fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(
        read(dir, "sum"),
        "one\n",
        "what the checksum asks for is here"
    );
    let wrong = format!(
        "FROM scratch\nADD --checksum=sha256:{} {} /x\n",
        "0".repeat(64),
        web.url("f.txt")
    );
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &wrong)]);
    refused(&fixture::run(&mut build(dir, &[&context])), "is asked for");
    fs::write(dir.join("www/f.txt"), "three\n").expect("write");
    let changed = dockerfile.lines().take(4).collect::<Vec<_>>().join("\n");
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &changed)]);
    let ran = fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(
        Steps::of(&ran).reran().len(),
        2,
        "f.txt is new; what the archive gave stays as it is"
    );
    assert_eq!(read(dir, "file"), "three\n");
    let lost = format!("FROM scratch\n\nADD {} /x\n", web.url("lost"));
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &lost)]);
    let mut command = build(dir, &[&context]);
    let ran = fixture::run(command.args(["--progress", "plain"]));
    refused(&ran, "404");
    refused(&ran, "Dockerfile:3");
}

#[test]
fn a_time_does_not_tell_that_an_address_is_unchanged() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    let www = dir.join("www");
    fixture::write_files(&www, &[("f", "two\n")]);
    let web = Web::without_etags(&www);
    let dockerfile = format!("FROM scratch\nADD {} /f\n", web.url("f"));
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &dockerfile)]);
    let context = dir.join("context").display().to_string();
    fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(read(dir, "f"), "two\n");
    // the server says the same Last-Modified of it
    fixture::write_files(&www, &[("f", "one\n")]);
    fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(read(dir, "f"), "one\n");
    let ran = fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0], "the same content");
    assert_eq!(web.asked(), ["200 /f"; 3]);
}

#[test]
fn without_the_cache_addresses_are_downloaded() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    fixture::write_files(&dir.join("www"), &[("f", "f\n"), ("g", "g\n")]);
    let web = Web::start(&dir.join("www"));
    let (f, g) = (web.url("f"), web.url("g"));
    let dockerfile = format!("FROM scratch\nADD {f} /f\nADD {g} /g\nADD {f} /again\n");
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &dockerfile)]);
    let context = dir.join("context").display().to_string();
    fixture::run(&mut build(dir, &[&context])).ok();
    web.asked();
    for (flag, expected) in [
        ("--no-cache=false", ["304 /f", "304 /g"]),
        ("--no-cache", ["200 /f", "200 /g"]),
        ("--no-cache=4", ["200 /f", "304 /g"]),
    ] {
        fixture::run(&mut build(dir, &[flag, &context])).ok();
        let mut asked = web.asked();
        asked.sort_by_key(|it| it.split(' ').next_back().map(str::to_owned));
        assert_eq!(asked, expected, "{flag}");
    }
}

#[test]
fn add_of_a_repository_takes_its_files() {
    if lacks("contexts/add-git", "git") {
        return;
    }
    let temp = fixture::temp_dir();
    let dir = temp.path();
    shell(dir, REPOSITORY);
    let web = Web::start(dir);
    let url = web.url("bare.git");
    let commit = fs::read_to_string(dir.join("v1")).expect("v1");
    let commit = commit.trim();
    let dockerfile = format!(
        "FROM scratch\nADD {url} /whole/\nADD {url}#side:sub /sub\nADD --keep-git-dir=true {url}#v1 /kept/\n\
         ADD --checksum={commit} {url}#v1 /sum/\n"
    );
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &dockerfile)]);
    let context = dir.join("context").display().to_string();
    fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(read(dir, "whole/a.txt"), "two\n");
    assert_eq!(read(dir, "sub/s.txt"), "sub\n");
    assert_eq!(read(dir, "kept/a.txt"), "one\n");
    assert_eq!(read(dir, "sum/a.txt"), "one\n");
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(dir.join("out/sub/run")).expect("run");
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o755, 981_173_106));
    shell(
        &dir.join("out/kept"),
        "git log -1 --format=%s | grep -qx one",
    );
    let ran = fixture::run(&mut build(dir, &[&context])).ok();
    assert_eq!(Steps::of(&ran).reran(), [""; 0]);
    let wrong = format!("FROM scratch\nADD --checksum=0000000 {url} /x\n");
    fixture::write_files(&dir.join("context"), &[("Dockerfile", &wrong)]);
    refused(
        &fixture::run(&mut build(dir, &[&context])),
        "0000000 is asked for",
    );
}
