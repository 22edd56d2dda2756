//! What is attested of an image: how it was built, and what is in it; where it goes, and what it never tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{self, Ran};
use crate::outputs::{Registry, lacks, tool};

const SLSA: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";
const DPKG: &str = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n";

/// A context that installs the package `a`, and a store.
struct Bench {
    temp: TempDir,
}

impl Bench {
    fn new(dockerfile: &str) -> Self {
        let temp = fixture::temp_dir();
        let files = [
            ("context/Dockerfile", dockerfile),
            ("context/status", DPKG),
            ("context/os-release", "ID=debian\nVERSION_ID=12\n"),
        ];
        fixture::write_files(temp.path(), &files);
        Bench { temp }
    }

    fn small() -> Self {
        Bench::new(
            "FROM scratch\nARG WORD\nLABEL word=$WORD\nCOPY status /var/lib/dpkg/\nCOPY os-release /etc/\n",
        )
    }

    fn show(&self, name: &str) -> String {
        self.temp.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(fixture::program());
        command
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("BUILDX_METADATA_PROVENANCE")
            .args(["build", "--root", &self.show("store")])
            .args(arguments)
            .arg(self.show("context"));
        command
    }

    fn build(&self, arguments: &[&str]) -> Ran {
        fixture::run(&mut self.command(arguments))
    }

    /// Builds into an OCI layout of this name.
    #[track_caller]
    fn layout(&self, name: &str, arguments: &[&str]) -> Layout {
        let output = format!("type=oci,tar=false,dest={}", self.show(name));
        let arguments = [arguments, &["-o", &output]].concat();
        self.build(&arguments).ok();
        Layout::open(&self.temp.path().join(name))
    }

    fn json(&self, name: &str) -> Value {
        json(&self.temp.path().join(name))
    }
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The documents of a layout with one image.
struct Layout {
    /// Descriptors.
    image: Value,
    attestation: Option<Value>,
    manifest: Value,
    statements: Vec<Value>,
}

impl Layout {
    fn open(path: &Path) -> Self {
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            json(&path.join("blobs").join(digest.replace(':', "/")))
        };
        let top = json(&path.join("index.json"))["manifests"][0].clone();
        let index = match top["mediaType"].as_str() {
            Some(kind) if kind.contains("index") => blob(&top),
            _ => {
                return Layout {
                    image: top,
                    attestation: None,
                    manifest: Value::Null,
                    statements: Vec::new(),
                };
            }
        };
        let entries = index["manifests"].as_array().expect("entries");
        let [image, attestation] = entries.as_slice() else {
            panic!("{index:#}");
        };
        let manifest = blob(attestation);
        let layers = manifest["layers"].as_array().expect("layers").clone();
        for layer in &layers {
            let said = &layer["annotations"]["in-toto.io/predicate-type"];
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            assert_eq!(&blob(layer)["predicateType"], said);
        }
        Layout {
            image: image.clone(),
            attestation: Some(attestation.clone()),
            statements: layers.iter().map(blob).collect(),
            manifest,
        }
    }

    /// The predicate of this type.
    fn said(&self, kind: &str) -> &Value {
        let found = self
            .statements
            .iter()
            .find(|it| it["predicateType"] == kind);
        &found.unwrap_or_else(|| panic!("no {kind}"))["predicate"]
    }
}

#[test]
fn nothing_is_attested_unless_asked() {
    let bench = Bench::small();
    let layout = bench.layout("plain", &[]);
    assert_eq!(layout.attestation, None);
    let off = bench.layout("off", &["--provenance=false", "--sbom=false"]);
    assert_eq!(off.image["digest"], layout.image["digest"]);
}

#[test]
fn an_index_carries_what_is_said_of_the_image_and_the_image_stays_the_same() {
    let bench = Bench::small();
    let plain = bench.layout("plain", &["-t", "team/app:1"]);
    let flags = ["-t", "team/app:1", "--provenance=true", "--sbom=true"];
    let layout = bench.layout("attested", &flags);
    assert_eq!(layout.image["digest"], plain.image["digest"]);
    let entry = layout.attestation.as_ref().expect("an attestation");
    let annotations = &entry["annotations"];
    assert_eq!(
        annotations["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert_eq!(
        annotations["vnd.docker.reference.digest"],
        layout.image["digest"]
    );
    assert_eq!(entry["platform"]["os"], "unknown");
    assert_eq!(entry["platform"]["architecture"], "unknown");
    assert_eq!(layout.manifest["subject"], Value::Null);
    let hex = layout.image["digest"]
        .as_str()
        .expect("a digest")
        .replace("sha256:", "");
    for statement in &layout.statements {
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        let subject = &statement["subject"][0];
        let name = subject["name"].as_str().expect("a name");
        assert!(
            name.starts_with("pkg:docker/team/app@1?platform=linux%2F"),
            "{name}"
        );
        assert_eq!(subject["digest"]["sha256"], hex);
    }
    let packages = &layout.said(SPDX)["packages"];
    assert_eq!(packages[1]["name"], "a");
    let purl = &packages[1]["externalRefs"][0]["referenceLocator"];
    assert_eq!(purl, "pkg:deb/debian/a@1?arch=all&distro=debian-12");
    // All of it is in the store: what is saved from there has it too.
    let (archive, saved) = (bench.show("saved.tar"), bench.show("saved"));
    let mut save = Command::new(fixture::program());
    save.args([
        "save",
        "--root",
        &bench.show("store"),
        "--format",
        "oci-archive",
    ]);
    tool(save.args(["-o", &archive, "team/app:1"]));
    fs::create_dir(&saved).expect("mkdir");
    tool(Command::new("tar").args(["-xf", &archive, "-C", &saved]));
    let saved = Layout::open(Path::new(&saved));
    assert_eq!(saved.statements.len(), 2);
}

#[test]
fn build_args_are_told_on_request_and_secrets_never() {
    const DOCKERFILE: &str = "FROM busybox\nARG WORD\n\
        RUN --mount=type=secret,id=password,env=P test -n \"$P\"\nRUN --network=none echo $WORD\n";
    let Some(base) = fixture::base("attestations/secrets") else {
        return;
    };
    let bench = Bench::new(DOCKERFILE);
    fixture::write_files(bench.temp.path(), &[("secret", "opensesame")]);
    let context = format!("busybox=oci-layout://{}:latest", base.display());
    let secret = format!("id=password,src={}", bench.show("secret"));
    let wish = [
        "--build-context",
        &context,
        "--secret",
        &secret,
        "--build-arg",
        "WORD=told",
    ];
    for (mode, tells) in [("min", false), ("max", true)] {
        let flags = [
            &wish[..],
            &["--label", "who=me", "--provenance", &format!("mode={mode}")],
        ];
        let layout = bench.layout(mode, &flags.concat());
        let said = layout.said(SLSA);
        let text = said.to_string();
        assert!(!text.contains("opensesame"), "{text}");
        for (what, text_has) in [
            ("told", text.contains("told")),
            ("who", text.contains("label:who")),
            ("password", text.contains("password")),
            ("llb", text.contains("llbDefinition")),
        ] {
            assert_eq!(text_has, tells, "{mode}: {what} in {text}");
        }
        let definition = &said["buildDefinition"];
        let used = &definition["resolvedDependencies"][0];
        let uri = used["uri"].as_str().expect("an address");
        assert!(uri.starts_with("pkg:oci/"), "{uri}");
        assert!(
            !text.contains(&base.display().to_string()),
            "a path of this machine: {text}"
        );
        let metadata = &said["runDetails"]["metadata"];
        assert_eq!(metadata["buildkit_completeness"]["request"], tells);
        assert_eq!(metadata["buildkit_hermetic"], Value::Null);
        if tells {
            let steps = &definition["internalParameters"]["buildConfig"]["llbDefinition"];
            let networks = steps.as_array().expect("steps").iter();
            let closed = networks.filter(|it| it["op"]["Op"]["exec"]["network"] == 2);
            assert_eq!(closed.count(), 1);
            let layers = metadata["buildkit_metadata"]["layers"].as_object();
            let layers = layers.and_then(|it| it.values().next()).expect("layers");
            assert!(
                layers[0].as_array().is_some_and(|it| !it.is_empty()),
                "{layers}"
            );
        }
    }
}

#[test]
fn older_provenance_has_its_own_names() {
    let bench = Bench::small();
    let flag = "version=v0.2,builder-id=https://ci.example/1,reproducible=true";
    let layout = bench.layout("old", &["--provenance", flag]);
    let said = layout.said("https://slsa.dev/provenance/v0.2");
    assert_eq!(said["builder"]["id"], "https://ci.example/1");
    assert_eq!(said["metadata"]["reproducible"], true);
    assert_eq!(
        said["invocation"]["parameters"]["frontend"],
        "dockerfile.v0"
    );
}

#[test]
fn with_an_epoch_the_same_image_has_the_same_bill_of_materials() {
    let bench = Bench::small();
    let build = |name: &str| {
        let output = format!("type=oci,tar=false,dest={}", bench.show(name));
        let mut command = bench.command(&["--sbom=true", "--provenance=true", "-o", &output]);
        fixture::run(command.env("SOURCE_DATE_EPOCH", "1700000000")).ok();
        Layout::open(&bench.temp.path().join(name))
    };
    let (one, two) = (build("one"), build("two"));
    assert_eq!(one.image["digest"], two.image["digest"]);
    assert_eq!(one.manifest["layers"][0], two.manifest["layers"][0]);
    assert_eq!(
        one.said(SPDX)["creationInfo"]["created"],
        "2023-11-14T22:13:20Z"
    );
    // A build is told from another by its time, epoch or not.
    assert_ne!(one.manifest["layers"][1], two.manifest["layers"][1]);
}

#[test]
fn trees_of_files_have_them_as_files_about_the_files() {
    let bench = Bench::small();
    let (local, tar) = (bench.show("local"), bench.show("files.tar"));
    let outputs = ["-o", &local, "-o", &format!("type=tar,dest={tar}")];
    let flags = [&outputs[..], &["--provenance=mode=max", "--sbom=true"]].concat();
    bench.build(&flags).ok();
    let said = bench.json("local/sbom.spdx.json");
    let names: BTreeSet<&str> = said["subject"]
        .as_array()
        .expect("subjects")
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["etc/os-release", "var/lib/dpkg/status"])
    );
    assert_eq!(
        said["subject"][1]["digest"]["sha256"],
        fixture::sha256(DPKG.as_bytes())
    );
    assert_eq!(bench.json("local/provenance.json")["predicateType"], SLSA);
    let members = tool(Command::new("tar").args(["-tf", &tar]));
    for name in ["provenance.json", "sbom.spdx.json", "etc/os-release"] {
        assert!(members.lines().any(|it| it == name), "{members}");
    }
    let inline = bench.show("inline");
    bench
        .build(&["-o", &inline, "--provenance=inline-only=true"])
        .ok();
    assert!(!Path::new(&inline).join("provenance.json").exists());
    // The result's own file is not written over.
    let dockerfile = "FROM scratch\nCOPY status /provenance.json\n";
    fixture::write_files(bench.temp.path(), &[("context/Dockerfile", dockerfile)]);
    let ran = bench.build(&["-o", &bench.show("taken"), "--provenance=true"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("filename=NAME"), "{}", ran.stderr);
    bench
        .build(&["-o", &bench.show("other"), "--provenance=filename=p.json"])
        .ok();
    assert_eq!(bench.json("other/p.json")["predicateType"], SLSA);
}

#[test]
fn what_cannot_hold_them_says_so() {
    let bench = Bench::small();
    let output = format!("type=docker,dest={}", bench.show("docker.tar"));
    let ran = bench.build(&["-o", &output, "--sbom=true"]).ok();
    assert!(
        ran.stderr
            .contains("a docker archive takes one image and no attestations"),
        "{}",
        ran.stderr
    );
    let ran = bench.build(&["-o", &output]).ok();
    assert!(!ran.stderr.contains("attestations"), "{}", ran.stderr);
    let ran = bench.build(&["--sbom=generator=docker/scanner"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("generator=docker/scanner"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_database_that_cannot_be_read_is_a_warning_and_stands_in_the_document() {
    let bench = Bench::new("FROM scratch\nCOPY status /var/lib/rpm/rpmdb.sqlite\n");
    let output = format!("type=oci,tar=false,dest={}", bench.show("out"));
    let ran = bench.build(&["--sbom=true", "-o", &output]).ok();
    let expected = "/var/lib/rpm/rpmdb.sqlite: it is no SQLite database";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    let layout = Layout::open(&bench.temp.path().join("out"));
    let comment = &layout.said(SPDX)["creationInfo"]["comment"];
    assert!(
        comment.as_str().is_some_and(|it| it.contains(expected)),
        "{comment}"
    );
}

#[test]
fn scans_of_more_than_the_result_are_refused_by_name() {
    let bench = Bench::new("FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY status /\n");
    let ran = bench.build(&["--sbom=true"]);
    assert_eq!(ran.code, Some(1));
    for expected in [
        "BUILDKIT_SBOM_SCAN_STAGE is not supported",
        "Dockerfile:2",
        "--target",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    bench.build(&[]).ok();
    let off = [
        "--sbom=true",
        "--build-arg",
        "BUILDKIT_SBOM_SCAN_STAGE=false",
    ];
    bench.build(&off).ok();
}

#[test]
fn metadata_tells_how_it_was_built() {
    let bench = Bench::small();
    let file = bench.show("meta.json");
    for (mode, expected) in [
        (None, Some(false)),
        (Some("max"), Some(true)),
        (Some("disabled"), None),
    ] {
        let mut command = bench.command(&["--metadata-file", &file, "-t", "app:1"]);
        if let Some(mode) = mode {
            command.env("BUILDX_METADATA_PROVENANCE", mode);
        }
        fixture::run(&mut command).ok();
        let meta = bench.json("meta.json");
        let told = meta.get("buildx.build.provenance");
        let is_max = told.map(|it| it.to_string().contains("llbDefinition"));
        assert_eq!(is_max, expected, "{mode:?}");
        let reference = meta["buildx.build.ref"].as_str().expect("a reference");
        if let Some(told) = told {
            let id = told["runDetails"]["metadata"]["invocationId"]
                .as_str()
                .expect("an id");
            assert_eq!(reference, format!("default/default/{id}"));
        }
        assert_eq!(meta["image.name"], "docker.io/library/app:1");
        let digest = &meta["containerimage.descriptor"]["digest"];
        assert_eq!(&meta["containerimage.digest"], digest);
    }
    let platforms = [
        "--platform",
        "linux/amd64,linux/arm64",
        "--metadata-file",
        &file,
    ];
    bench.build(&platforms).ok();
    let meta = bench.json("meta.json");
    for platform in ["linux/amd64", "linux/arm64"] {
        let key = format!("buildx.build.provenance/{platform}");
        assert!(meta.get(&key).is_some(), "{meta:#}");
    }
}

#[test]
fn each_platform_has_its_own() {
    let bench = Bench::small();
    let output = format!("type=oci,tar=false,dest={}", bench.show("out"));
    let flags = [
        "--platform",
        "linux/amd64,linux/arm64",
        "--provenance=true",
        "-o",
        &output,
    ];
    bench.build(&flags).ok();
    let out = bench.temp.path().join("out");
    let top = json(&out.join("index.json"))["manifests"][0]["digest"].clone();
    let index = json(
        &out.join("blobs")
            .join(top.as_str().expect("a digest").replace(':', "/")),
    );
    let entries = index["manifests"].as_array().expect("entries");
    let of = |at: usize| &entries[at]["annotations"]["vnd.docker.reference.digest"];
    assert_eq!(entries.len(), 4);
    assert_eq!(of(2), &entries[0]["digest"]);
    assert_eq!(of(3), &entries[1]["digest"]);
}

#[test]
fn a_registry_takes_them_and_lists_them_as_referrers_on_request() {
    if lacks("attestations/registry", &["docker-registry", "skopeo"]) {
        return;
    }
    let bench = Bench::small();
    let registry = Registry::start(bench.temp.path());
    let name = format!("127.0.0.1:{}/team/app", registry.port);
    let output = format!("type=registry,name={name}:1,oci-artifact=true");
    bench
        .build(&["--sbom=true", "--provenance=true", "-o", &output])
        .ok();
    let raw = |name: &str| -> Value {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
        let text = tool(skopeo.arg(format!("docker://{name}")));
        serde_json::from_str(&text).expect("JSON")
    };
    let index = raw(&format!("{name}:1"));
    let digest = |at: usize| {
        index["manifests"][at]["digest"]
            .as_str()
            .expect("a digest")
            .to_owned()
    };
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    let manifest = raw(&format!("{name}@{}", digest(1)));
    assert_eq!(manifest["subject"]["digest"], digest(0));
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.empty.v1+json"
    );
    let kind = "application/vnd.docker.attestation.manifest.v1+json";
    assert_eq!(manifest["artifactType"], kind);
    // The registry knows no referrers: a tag stands in for the list.
    let list = raw(&format!("{name}:{}", digest(0).replace(':', "-")));
    assert_eq!(list["manifests"][0]["digest"], digest(1));
    assert_eq!(list["manifests"][0]["artifactType"], kind);
    // What is copied with all of an index has them too.
    let mut copy = Command::new(fixture::program());
    let copied = bench.show("copied");
    copy.args(["copy", "--root", &bench.show("store"), "--all"]);
    let from = format!("docker://{name}:1");
    tool(copy.args([&from, &format!("oci:{copied}:1")]));
    assert_eq!(Layout::open(Path::new(&copied)).statements.len(), 2);
    // A pull takes the image of this machine, and no attestation for one.
    let mut pull = Command::new(fixture::program());
    tool(pull.args(["pull", "--root", &bench.show("other"), &format!("{name}:1")]));
}

#[test]
fn what_is_stored_is_pushed_with_its_referrers() {
    const ONE: &str = "--platform=linux/amd64";
    if lacks("attestations/stored", &["docker-registry", "skopeo"]) {
        return;
    }
    let bench = Bench::small();
    let registry = Registry::start(bench.temp.path());
    let name = |tag: &str| format!("127.0.0.1:{}/team/{tag}", registry.port);
    let raw = |name: &str| -> Value {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
        let text = tool(skopeo.arg(format!("docker://{name}")));
        serde_json::from_str(&text).expect("JSON")
    };
    let push = |arguments: &[&str]| {
        let mut push = Command::new(fixture::program());
        push.args(["push", "--root", &bench.show("store")]);
        fixture::run(push.args(arguments)).ok()
    };
    // Kept alone; and pushed by a build, which a later push of the same does not undo.
    for (case, kind) in [("kept", "image"), ("again", "registry")] {
        let tag = name(&format!("{case}:1"));
        let output = format!("type={kind},oci-artifact=true");
        bench
            .build(&[ONE, "--provenance=true", "-t", &tag, "-o", &output])
            .ok();
        push(&[&tag]);
        let index = raw(&tag);
        let entry = |at: usize| index["manifests"][at]["digest"].as_str().expect("a digest");
        let image = raw(&format!("{}@{}", name(case), entry(0)));
        let layer = &image["layers"][0]["mediaType"];
        assert_eq!(
            layer, "application/vnd.oci.image.layer.v1.tar+gzip",
            "{case}"
        );
        let manifest = raw(&format!("{}@{}", name(case), entry(1)));
        assert_eq!(manifest["subject"]["digest"], entry(0), "{case}");
        // The registry knows no referrers: a tag stands in for the list.
        let list = raw(&name(&format!("{case}:{}", entry(0).replace(':', "-"))));
        let listed = list["manifests"].as_array().expect("a list");
        assert_eq!(listed.len(), 1, "{case}");
        assert_eq!(listed[0]["digest"], entry(1), "{case}");
        // One platform alone has none, which is said.
        let ran = push(&[ONE, &tag]);
        let said = "leaves its attestations behind (1 manifest)";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!(raw(&tag)["manifests"], Value::Null, "{case}");
        assert!(!push(&[&tag]).stderr.contains(said));
    }
    let archive = bench.show("saved.tar");
    for (format, warns) in [("docker-archive", true), ("oci-archive", false)] {
        let mut save = Command::new(fixture::program());
        save.args(["save", "--format", format, "-o", &archive, &name("kept:1")]);
        let ran = fixture::run(save.args(["--root", &bench.show("store")])).ok();
        let said = ran.stderr.contains("a docker archive takes one image");
        assert_eq!(said, warns, "{format}: {}", ran.stderr);
    }
}

#[test]
fn every_package_that_dpkg_lists_is_listed() {
    if lacks("attestations/dpkg", &["dpkg-query"]) {
        return;
    }
    let bench = Bench::new("FROM scratch\nCOPY status /var/lib/dpkg/\n");
    let status = bench.temp.path().join("context/status");
    fs::copy("/var/lib/dpkg/status", &status).expect("this machine's packages");
    let format = "-f=${Package} ${Version} ${Architecture} ${db:Status-Status}\\n";
    let text = tool(Command::new("dpkg-query").args(["-W", format]));
    let installed = text.lines().filter_map(|it| it.strip_suffix(" installed"));
    let expected: BTreeSet<String> = installed.map(str::to_owned).collect();
    assert!(expected.len() > 20, "{text}");
    let layout = bench.layout("out", &["--sbom=true"]);
    let packages = layout.said(SPDX)["packages"].as_array().expect("packages");
    let found: BTreeSet<String> = packages[1..]
        .iter()
        .map(|it| {
            let purl = it["externalRefs"][0]["referenceLocator"]
                .as_str()
                .expect("a purl");
            let (_, rest) = purl.split_once("arch=").expect("an architecture");
            let architecture = rest.split('&').next().unwrap_or(rest);
            let text = |key: &str| it[key].as_str().expect("text").to_owned();
            format!("{} {} {architecture}", text("name"), text("versionInfo"))
        })
        .collect();
    assert_eq!(found, expected);
}

/// Reads both documents as the field's own libraries do, and fails where they find a mistake.
const VALIDATE: &str = r#"
import json, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
for path in sys.argv[1:]:
    statement = json.load(open(path))
    json_format.ParseDict(statement, statement_pb2.Statement())
    predicate = statement["predicate"]
    if statement["predicateType"] == "https://spdx.dev/Document":
        document = JsonLikeDictParser().parse(predicate)
        wrong = validate_full_spdx_document(document, "SPDX-2.3")
        assert not wrong, [it.validation_message for it in wrong[:5]]
        print("spdx", len(document.packages))
    else:
        metadata = predicate["runDetails"]["metadata"]
        for key in [key for key in metadata if key.startswith("buildkit_")]:
            del metadata[key]
        found = json_format.ParseDict(predicate, provenance_pb2.Provenance())
        assert found.build_definition.build_type and found.build_definition.external_parameters
        assert found.run_details.metadata.finished_on.seconds > 0
        print("slsa")
"#;

#[test]
fn others_find_no_mistake_in_them() {
    let modules = "import spdx_tools, in_toto_attestation";
    let python = std::env::var_os("ATTESTATION_PYTHON").unwrap_or_else(|| "python3".into());
    let has = Command::new(&python).args(["-c", modules]).output();
    if !has.is_ok_and(|it| it.status.success()) {
        let needs =
            "python3, or $ATTESTATION_PYTHON, with spdx-tools and in-toto-attestation (PyPI)";
        fixture::skip("attestations/validate", needs);
        return;
    }
    let bench = Bench::new(
        "FROM scratch\nCOPY status /var/lib/dpkg/\nCOPY docs /usr/share/doc\nCOPY modules /app/node_modules\n",
    );
    let copyright = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
        License: GPL-2+ or Artistic, and public-domain\n\nLicense: Expat\n";
    let package =
        r#"{"name":"@a/b","version":"1","license":"SEE LICENSE IN x","author":"A (b) <a@b>"}"#;
    let files = [
        ("context/docs/a/copyright", copyright),
        ("context/modules/@a/b/package.json", package),
    ];
    fixture::write_files(bench.temp.path(), &files);
    if fs::copy("/var/lib/dpkg/status", bench.show("more")).is_ok() {
        let more = fs::read_to_string(bench.show("more")).expect("text");
        let both = format!("{DPKG}\n{more}");
        fs::write(bench.temp.path().join("context/status"), both).expect("write");
    }
    let flags = [
        "-o",
        &bench.show("out"),
        "--sbom=true",
        "--provenance=mode=max",
    ];
    bench.build(&flags).ok();
    let documents = ["out/sbom.spdx.json", "out/provenance.json"].map(|it| bench.show(it));
    let said = tool(
        Command::new(&python)
            .args(["-c", VALIDATE])
            .args(&documents),
    );
    assert!(said.contains("spdx") && said.contains("slsa"), "{said}");
}
