//! What leaves a build: streams, names, annotations, metadata, several platforms.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{self, Ran};

fn builder(temp: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(fixture::program());
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("DOCKER_HOST")
        .arg("build")
        .arg("--root")
        .arg(temp.join("store"))
        .args(arguments)
        .arg(temp.join("context"));
    command
}

fn context(temp: &Path, dockerfile: &str) {
    fixture::write_files(
        &temp.join("context"),
        &[("Dockerfile", dockerfile), ("a.txt", "a\n")],
    );
}

#[track_caller]
fn refused(ran: &Ran, expected: &str) {
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The document that a descriptor of a layout points to.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().expect("a digest");
    json(&layout.join("blobs").join(digest.replace(':', "/")))
}

/// Runs with standard output in a file.
fn into_file(command: &Command, file: &Path) -> Ran {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "out=$1; shift; exec \"$@\" > \"$out\"", "sh"])
        .arg(file)
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("SOURCE_DATE_EPOCH");
    fixture::run(&mut shell)
}

fn members(tar: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(tar).expect("a tar"));
    let entries = archive.entries().expect("entries");
    entries
        .map(|it| {
            it.expect("entry")
                .path()
                .expect("path")
                .display()
                .to_string()
        })
        .collect()
}

#[test]
fn standard_output_takes_one_archive() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(dir, "FROM scratch\nCOPY a.txt /x/a.txt\n");
    let out = dir.join("out.tar");
    for output in ["-", "type=tar,dest=-"] {
        into_file(&builder(dir, &["-o", output]), &out).ok();
        assert_eq!(members(&out), ["x/", "x/a.txt"], "{output}");
    }
    for output in ["type=oci,dest=-", "type=docker,dest=-"] {
        into_file(&builder(dir, &["-t", "a:1", "-o", output]), &out).ok();
        assert!(members(&out).contains(&"index.json".to_owned()), "{output}");
        let file = dir.join("file.tar");
        let same = output.replace("dest=-", &format!("dest={}", file.display()));
        fixture::run(&mut builder(dir, &["-t", "a:1", "-o", &same])).ok();
        assert_eq!(fs::read(&out).ok(), fs::read(&file).ok(), "{output}");
    }
    let both = builder(dir, &["-o", "-", "-o", "type=oci,dest=-"]);
    refused(
        &into_file(&both, &out),
        "standard output can take one thing",
    );
    let quiet = builder(dir, &["-q", "-o", "-"]);
    refused(
        &into_file(&quiet, &out),
        "standard output can take one thing",
    );
}

#[test]
fn a_directory_has_the_files_extended_attributes() {
    use rustix::fs::XattrFlags;

    let temp = fixture::temp_dir();
    let temp = temp.path();
    context(temp, "FROM scratch\nCOPY . /in/\n");
    let from = temp.join("context");
    fs::create_dir(from.join("dir")).expect("mkdir");
    let note = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(from.join(path), name, value, XattrFlags::empty())
    };
    if note("a.txt", "user.note", b"one").is_err() || note("dir", "user.note", b"two").is_err() {
        return fixture::skip("exports/attributes", "a file system with user attributes");
    }
    fixture::set_mode(&from.join("a.txt"), 0o444);
    // cap_net_raw=ep, as file(8) would show it; root's to set
    let capability = [&[1, 0, 0, 2, 0, 32, 0, 0][..], &[0; 12]].concat();
    let name = "security.capability";
    let capable = note("a.txt", name, &capability).is_ok();
    let out = temp.join("out");
    let dest = out.to_str().expect("UTF-8");
    let ran = fixture::run(&mut builder(temp, &["-o", dest])).ok();
    assert!(
        !ran.stderr.contains("extended attributes"),
        "{}",
        ran.stderr
    );
    let mut wanted = vec![
        ("in/a.txt", "user.note", &b"one"[..]),
        ("in/dir", "user.note", b"two"),
    ];
    if capable {
        wanted.push(("in/a.txt", name, &capability));
    }
    for (path, name, value) in wanted {
        let mut read = [0; 64];
        let n = rustix::fs::getxattr(out.join(path), name, &mut read).unwrap_or(0);
        assert_eq!(&read[..n], value, "{path} {name}");
    }
    let mode =
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(out.join("in/a.txt")).expect("stat"));
    assert_eq!(mode & 0o7777, 0o444);
}

#[test]
fn metadata_has_buildx_keys() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(dir, "FROM scratch\nCOPY a.txt /\n");
    let (file, layout) = (dir.join("meta.json"), dir.join("layout"));
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let meta = file.display().to_string();
    let arguments = [
        "-t",
        "a:1",
        "-t",
        "b.example/c",
        "-o",
        &output,
        "--metadata-file",
        &meta,
    ];
    fixture::run(&mut builder(dir, &arguments)).ok();
    let meta = json(&file);
    let keys: Vec<&String> = meta.as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "buildx.build.provenance",
            "buildx.build.ref",
            "containerimage.config.digest",
            "containerimage.descriptor",
            "containerimage.digest",
            "image.name"
        ]
    );
    let index = json(&layout.join("index.json"));
    assert_eq!(
        meta["containerimage.digest"],
        index["manifests"][0]["digest"]
    );
    let manifest = blob(&layout, &index["manifests"][0]);
    assert_eq!(
        meta["containerimage.config.digest"],
        manifest["config"]["digest"]
    );
    let descriptor = &meta["containerimage.descriptor"];
    assert_eq!(descriptor["size"], index["manifests"][0]["size"]);
    assert_eq!(descriptor["platform"]["os"], "linux");
    assert_eq!(
        meta["image.name"],
        "docker.io/library/a:1,b.example/c:latest"
    );
    let parts: Vec<&str> = meta["buildx.build.ref"]
        .as_str()
        .expect("text")
        .split('/')
        .collect();
    assert_eq!((parts.len(), parts[2].len()), (3, 25));
}

/// The keys of `--metadata-file` that buildx documents, by what a value must be. Nothing else may be there.
fn check_metadata(case: &str, meta: &Value, expected: &[&str]) {
    let object = meta.as_object().expect("an object");
    let is_provenance = |key: &str| key.starts_with("buildx.build.provenance");
    let (told, keys): (Vec<&str>, Vec<&str>) = object
        .keys()
        .map(String::as_str)
        .partition(|key| is_provenance(key));
    assert_eq!(keys, expected, "{case}");
    // One a platform.
    assert!(!told.is_empty(), "{case}");
    let is_digest = |value: &Value| {
        let hex = value.as_str().and_then(|it| it.strip_prefix("sha256:"));
        hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    for (key, value) in object {
        let good = match key.as_str() {
            key if is_provenance(key) => value["buildDefinition"]["buildType"].is_string(),
            "buildx.build.ref" => value.as_str().is_some_and(|it| it.split('/').count() == 3),
            "containerimage.config.digest" | "containerimage.digest" => is_digest(value),
            "containerimage.descriptor" => {
                let kind = value["mediaType"].as_str().unwrap_or_default();
                let known = ["index", "manifest"].iter().any(|it| kind.contains(it));
                let annotations = value["annotations"].as_object();
                let mut texts = annotations.into_iter().flat_map(|it| it.values());
                known
                    && is_digest(&value["digest"])
                    && value["size"].as_u64().is_some_and(|it| it > 0)
                    && texts.all(Value::is_string)
                    && value["digest"] == meta["containerimage.digest"]
            }
            "image.name" => value.as_str().is_some_and(|it| {
                it.split(',')
                    .all(|name| name.contains('/') && name.contains(':'))
            }),
            _ => false,
        };
        assert!(good, "{case}: {key} is {value}");
    }
}

#[test]
fn metadata_and_image_ids_for_every_kind_of_output() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(dir, "FROM scratch\nCOPY a.txt /\n");
    let one = [
        "buildx.build.ref",
        "containerimage.config.digest",
        "containerimage.descriptor",
        "containerimage.digest",
    ];
    let named = [&one[..], &["image.name"]].concat();
    let many = [one[0], one[2], one[3]];
    let many_named = [&many[..], &["image.name"]].concat();
    let both = "--platform=linux/amd64,linux/arm64";
    let at = |output: &str| output.replace("DIR", &dir.display().to_string());
    for (case, arguments, expected) in [
        ("no output", &[][..], &one[..]),
        ("a name", &["-t", "a:1"], &named),
        ("oci", &["-o", "type=oci,dest=DIR/o.tar"], &one),
        (
            "oci, named there",
            &["-o", "type=oci,dest=DIR/o.tar,name=b:2"],
            &named,
        ),
        (
            "docker",
            &["-t", "a:1", "-o", "type=docker,dest=DIR/d.tar"],
            &named,
        ),
        ("image", &["-o", "type=image,name=c:3"], &named),
        ("local", &["-o", "DIR/files"], &one),
        ("platforms", &[both], &many),
        (
            "platforms, oci",
            &[both, "-t", "a:1", "-o", "type=oci,dest=DIR/o.tar"],
            &many_named,
        ),
    ] {
        let arguments: Vec<String> = arguments.iter().map(|it| at(it)).collect();
        let mut command = builder(dir, &[]);
        command.args(arguments).args([
            "--metadata-file",
            &at("DIR/meta.json"),
            "--iidfile",
            &at("DIR/iid"),
        ]);
        fixture::run(&mut command).ok();
        let meta = json(&dir.join("meta.json"));
        check_metadata(case, &meta, expected);
        // Of several platforms the id is the index's, as buildx has it.
        let iid = fs::read_to_string(dir.join("iid")).expect("an id");
        let id = match meta["containerimage.config.digest"].as_str() {
            Some(config) => config,
            None => meta["containerimage.digest"].as_str().unwrap_or_default(),
        };
        assert_eq!(iid, id, "{case}");
    }
}

#[test]
fn annotations_are_at_their_levels() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(dir, "FROM scratch\nCOPY a.txt /\n");
    let layout = dir.join("layout");
    let output = format!(
        "type=oci,tar=false,dest={},annotation.own=o,annotation-manifest[linux/arm64].arm=a",
        layout.display()
    );
    let arguments = [
        "--platform=linux/amd64,linux/arm64",
        "--annotation=k=m",
        "--annotation=index:k=i",
        "--annotation=manifest-descriptor[linux/amd64],index-descriptor:k=d",
        "-o",
        &output,
    ];
    fixture::run(&mut builder(dir, &arguments)).ok();
    let top = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(top["annotations"]["k"], "d");
    let index = blob(&layout, top);
    assert_eq!(index["annotations"], serde_json::json!({"k": "i"}));
    let [amd, arm] = [&index["manifests"][0], &index["manifests"][1]];
    assert_eq!(amd["annotations"]["k"], "d");
    assert_eq!(arm["annotations"], Value::Null);
    let own = serde_json::json!({"k": "m", "own": "o"});
    assert_eq!(blob(&layout, amd)["annotations"], own);
    assert_eq!(blob(&layout, arm)["annotations"]["arm"], "a");
    let ran = fixture::run(&mut builder(dir, &["--annotation", "index:k=v"]));
    refused(&ran, "there is no index");
    let ran = fixture::run(&mut builder(
        dir,
        &["--annotation", "manifest[linux/s390x]:k=v"],
    ));
    refused(&ran, "its platform is not built");
    refused(
        &fixture::run(&mut builder(dir, &["--annotation", "layer:k=v"])),
        "`layer`",
    );
}

#[test]
fn several_platforms_make_an_index() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(
        dir,
        "FROM scratch\nARG TARGETARCH\nCOPY a.txt /${TARGETARCH}/a.txt\nENV ARCH=$TARGETARCH\n",
    );
    let (layout, meta) = (dir.join("layout"), dir.join("meta.json"));
    let output = |kind: &str, name: &str| format!("type={kind},dest={}", dir.join(name).display());
    let shown = meta.display().to_string();
    let platforms = "--platform=linux/amd64,linux/arm/v7";
    let (oci, local, tar) = (
        format!("{},tar=false", output("oci", "layout")),
        output("local", "files"),
        output("tar", "files.tar"),
    );
    let arguments = [
        platforms,
        "-t",
        "many:1",
        "-o",
        &oci,
        "-o",
        &local,
        "-o",
        &tar,
        "--metadata-file",
        &shown,
    ];
    fixture::run(&mut builder(dir, &arguments)).ok();
    let top = &json(&layout.join("index.json"))["manifests"][0];
    assert_eq!(top["mediaType"], "application/vnd.oci.image.index.v1+json");
    let meta = json(&meta);
    assert_eq!(meta["containerimage.digest"], top["digest"]);
    assert_eq!(meta["containerimage.config.digest"], Value::Null);
    let index = blob(&layout, top);
    for (entry, (architecture, variant, folder)) in index["manifests"]
        .as_array()
        .expect("manifests")
        .iter()
        .zip([
            ("amd64", Value::Null, "linux_amd64"),
            ("arm", "v7".into(), "linux_arm_v7"),
        ])
    {
        assert_eq!(entry["platform"]["architecture"], architecture);
        assert_eq!(entry["platform"]["variant"], variant);
        let config = blob(&layout, &blob(&layout, entry)["config"]);
        assert_eq!(config["architecture"], architecture);
        let env = config["config"]["Env"].to_string();
        assert!(env.contains(&format!("ARCH={architecture}")), "{env}");
        let file = format!("{folder}/{architecture}/a.txt");
        assert!(dir.join("files").join(&file).exists(), "{file}");
        assert!(members(&dir.join("files.tar")).contains(&file), "{file}");
    }
    if fixture::has("skopeo") {
        for (architecture, variant) in [("amd64", None), ("arm", Some("v7"))] {
            let mut command = Command::new("skopeo");
            command.args(["inspect", "--override-arch", architecture]);
            command.args(variant.map(|it| format!("--override-variant={it}")));
            command.arg(format!("oci:{}:1", layout.display()));
            let text = fixture::run(&mut command).ok().stdout;
            let found: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(found["Architecture"], architecture);
        }
    } else {
        fixture::skip("exports/index", "skopeo");
    }
    let docker = output("docker", "d.tar");
    refused(
        &fixture::run(&mut builder(dir, &[platforms, "-o", &docker])),
        "one platform",
    );
    // The store has it by name: it is a base for each platform.
    context(dir, "FROM many:1\nCOPY a.txt /more\n");
    fixture::run(&mut builder(dir, &[platforms, "-t", "more:1"])).ok();
}

#[test]
fn an_image_without_a_name_is_found_by_its_id() {
    let temp = fixture::temp_dir();
    let dir = temp.path();
    context(dir, "FROM scratch\nCOPY a.txt /\n");
    let on = |command: &str, arguments: &[&str]| {
        let mut builder = Command::new(fixture::program());
        builder.arg(command).arg("--root").arg(dir.join("store"));
        fixture::run(builder.args(arguments))
    };
    let id = fixture::run(&mut builder(dir, &["-q"])).ok().stdout;
    let id = id.trim();
    let short = &id["sha256:".len()..][..12];
    for text in [id, short] {
        assert_eq!(
            on("inspect", &["-f", "{{.Id}}", text]).ok().stdout.trim(),
            id
        );
    }
    let archive = dir.join("saved.tar").display().to_string();
    on("save", &["-o", &archive, short]).ok();
    on("tag", &[short, "later:1"]).ok();
    // The name moves on, and the image stays to be found.
    context(dir, "FROM scratch\nCOPY a.txt /b\n");
    fixture::run(&mut builder(dir, &["-t", "later:1"])).ok();
    assert_eq!(on("inspect", &["-f", "{{.Id}}", id]).ok().stdout.trim(), id);
    assert_eq!(on("images", &["-q"]).ok().stdout.lines().count(), 1);
    on("rmi", &[id]).ok();
    refused(&on("inspect", &[id]), "there is no image");
    // Of several platforms it is the index's.
    let ran = fixture::run(&mut builder(
        dir,
        &["-q", "--platform=linux/amd64,linux/arm64"],
    ))
    .ok();
    on("tag", &[ran.stdout.trim(), "many:1"]).ok();
    let raw = on("inspect", &["--raw", "many:1"]).ok().stdout;
    assert!(raw.contains("arm64"), "{raw}");
}
