//! A base image from the machine's static busybox, the `builder` command, and what both leave behind.
//!
//! The base is an OCI layout with two tags: `latest` and `onbuild` (the same tree; its config has
//! `ONBUILD` triggers). It is made once a test process and holds, besides busybox and its applets, the
//! few files that the cases of `testdata/build/` copy over, remove and link to: see [`base_tree`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// All files of the base have this time; older than any context file.
const BASE_MTIME: u64 = 1_600_000_000;
/// What one run of the command may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(300);

/// Says on stderr, past the test harness's capture, what is left out and why.
pub(crate) fn skip(test: &str, needs: &str) {
    let line = format!("skipped: {test}: needs {needs}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a program of this name is on the `PATH`.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin".into(), "/sbin".into()]);
    dirs.iter().any(|dir| dir.join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `id` can be given to a file here.
pub(crate) fn maps_id(id: u64) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_root()
        && map.lines().any(|line| {
            let n: Vec<u64> = line
                .split_whitespace()
                .filter_map(|w| w.parse().ok())
                .collect();
            n.len() == 3 && n[0] <= id && id < n[0] + n[2]
        })
}

/// Whether control groups can be made that limit memory, processors and processes.
pub(crate) fn has_cgroups() -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let unified = fs::read_to_string(root.join("cgroup.subtree_control"));
    let controllers = ["memory", "cpu", "cpuset", "pids"];
    let own = |name: &str| root.join(name).join("cgroup.procs").is_file();
    is_root()
        && controllers.iter().all(|name| match &unified {
            Ok(given) => given.split_whitespace().any(|it| it == *name),
            Err(_) => own(name),
        })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A temporary directory that other users can enter.
pub(crate) fn temp_dir() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("builder-it-")
        .tempdir()
        .expect("a temporary directory");
    set_mode(dir.path(), 0o755);
    dir
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// The repository's `testdata/build`.
pub(crate) fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/build")
}

/// The base image's layout; `None`, with a line on stderr, where there is no static busybox.
pub(crate) fn base(test: &str) -> Option<&'static Path> {
    static BASE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = BASE.get_or_init(|| {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .filter_map(|path| fs::read(path).ok())
            .find(|bytes| {
                !bytes[..bytes.len().min(4096)]
                    .windows(8)
                    .any(|w| w == b"ld-linux")
            })?;
        let list = Command::new("busybox").arg("--list-full").output().ok()?;
        // Shared by all tests of this process, so it outlives each of them; the next process removes it.
        const PREFIX: &str = "builder-it-base-";
        for entry in fs::read_dir(std::env::temp_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(PREFIX);
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).expect("mkdir");
        set_mode(&dir, 0o755);
        write_base(&dir, &busybox, &String::from_utf8_lossy(&list.stdout));
        Some(dir)
    });
    if made.is_none() {
        skip(
            test,
            "/bin/busybox, statically linked (Debian package busybox-static)",
        );
    }
    made.as_deref()
}

/// The base's small files and directories: path, mode, uid, gid, content (`None`: a directory).
fn base_tree() -> Vec<(&'static str, u32, u64, u64, Option<&'static str>)> {
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        bin:x:1:1:bin:/bin:/bin/false\n\
        daemon:x:2:2:daemon:/usr/sbin:/bin/false\n\
        www-data:x:33:33:www-data:/var/www:/bin/false\n\
        app:x:1000:1000:app:/home/app:/bin/sh\n\
        nobody:x:65534:65534:nobody:/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nbin:x:1:\ndaemon:x:2:\nwww-data:x:33:\n\
        app:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n";
    vec![
        ("bin", 0o755, 0, 0, None),
        ("data", 0o755, 0, 0, None),
        ("data/keep.txt", 0o644, 0, 0, Some("keep\n")),
        ("dev", 0o755, 0, 0, None),
        ("etc", 0o755, 0, 0, None),
        ("etc/group", 0o644, 0, 0, Some(GROUP)),
        ("etc/hosts", 0o644, 0, 0, Some("127.0.0.1 base-hosts\n")),
        ("etc/passwd", 0o644, 0, 0, Some(PASSWD)),
        ("home", 0o755, 0, 0, None),
        ("home/app", 0o755, 1000, 1000, None),
        ("opt", 0o755, 0, 0, None),
        ("opt/tree", 0o755, 0, 0, None),
        ("opt/tree/a.txt", 0o644, 0, 0, Some("a\n")),
        ("opt/tree/b.txt", 0o644, 0, 0, Some("b\n")),
        ("opt/tree/sub", 0o755, 0, 0, None),
        ("opt/tree/sub/c.txt", 0o644, 0, 0, Some("c\n")),
        ("proc", 0o755, 0, 0, None),
        ("root", 0o700, 0, 0, None),
        ("sbin", 0o755, 0, 0, None),
        ("sys", 0o755, 0, 0, None),
        ("tmp", 0o1777, 0, 0, None),
        ("usr", 0o755, 0, 0, None),
        ("usr/bin", 0o755, 0, 0, None),
        ("usr/sbin", 0o755, 0, 0, None),
        ("var", 0o755, 0, 0, None),
        ("var/tmp", 0o1777, 0, 0, None),
    ]
}

/// The base's symlinks, besides the applets.
const BASE_LINKS: [(&str, &str); 3] = [
    ("abs-link", "/data"),
    ("rel-link", "data"),
    ("out-link", "../../data"),
];

fn write_base(dir: &Path, busybox: &[u8], applets: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, mode, uid, gid, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(size);
        header.set_mtime(BASE_MTIME);
        header
    };
    for (path, mode, uid, gid, content) in base_tree() {
        let bytes = content.unwrap_or_default().as_bytes();
        let kind = if content.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        };
        let mut header = header(kind, mode, uid, gid, bytes.len() as u64);
        tar.append_data(&mut header, path, bytes)
            .expect("base entry");
    }
    let mut binary = header(tar::EntryType::Regular, 0o755, 0, 0, busybox.len() as u64);
    tar.append_data(&mut binary, "bin/busybox", busybox)
        .expect("base entry");
    let mut links: BTreeMap<String, &str> = BASE_LINKS
        .iter()
        .map(|(name, target)| ((*name).to_owned(), *target))
        .collect();
    for applet in applets.lines().filter(|a| !a.ends_with("/busybox")) {
        let known = ["bin/", "sbin/", "usr/bin/", "usr/sbin/"]
            .iter()
            .any(|d| applet.starts_with(d));
        if known {
            links.insert(applet.to_owned(), "/bin/busybox");
        }
    }
    for (name, target) in &links {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0, 0, 0);
        tar.append_link(&mut header, name, target)
            .expect("base link");
    }
    let layer = tar.into_inner().expect("base layer");

    fs::create_dir_all(dir.join("blobs/sha256")).expect("layout");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("layout");
    let put = |bytes: &[u8]| {
        let hex = sha256(bytes);
        fs::write(dir.join("blobs/sha256").join(&hex), bytes).expect("blob");
        (format!("sha256:{hex}"), bytes.len())
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).expect("gzip");
    let (blob, size) = put(&gzip.finish().expect("gzip"));
    let triggers = json!([
        "ENV ONBUILT=yes",
        "COPY onbuild.txt /onbuild/",
        "RUN echo \"ran $ONBUILT\" > /onbuild/ran"
    ]);
    let mut manifests = Vec::new();
    for (tag, onbuild) in [("latest", Value::Null), ("onbuild", triggers)] {
        let mut run = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "BASE=yes"],
            "Cmd": ["sh"],
            "Labels": {"base": "busybox"},
        });
        if !onbuild.is_null() {
            run["OnBuild"] = onbuild;
        }
        let config = json!({
            "created": "2020-09-13T12:26:40Z",
            "architecture": ARCH,
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
            "history": [{"created": "2020-09-13T12:26:40Z", "created_by": "base"}],
        });
        let (config, config_size) = put(config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob, "size": size}],
        });
        let (manifest, manifest_size) = put(manifest.to_string().as_bytes());
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest,
            "size": manifest_size,
            "annotations": {"org.opencontainers.image.ref.name": tag},
            "platform": {"architecture": ARCH, "os": "linux"},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    fs::write(dir.join("index.json"), index.to_string()).expect("layout");
}

const ARCH: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The events of `--progress=rawjson`; other lines of stderr are passed over.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stderr
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "builder failed\nstdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// What the events say about the steps that the Dockerfile's author wrote.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// Instruction text (`RUN make`) by vertex, in Dockerfile order; `FROM` is not a step.
    pub(crate) names: BTreeMap<u64, String>,
    pub(crate) started: Vec<u64>,
    pub(crate) cached: Vec<u64>,
    pub(crate) warnings: Vec<String>,
}

impl Steps {
    pub(crate) fn of(ran: &Ran) -> Self {
        let mut steps = Self::default();
        for event in ran.events() {
            let vertex = event["vertex"].as_u64();
            match event["event"].as_str() {
                Some("planned") => {
                    for info in event["vertices"].as_array().into_iter().flatten() {
                        let name = info["name"].as_str().unwrap_or_default();
                        let step = name
                            .split_once("] ")
                            .map_or(name, |(_, step)| step)
                            .to_owned();
                        // `[internal]`, or `[linux/arm64 internal]` of several platforms
                        let head = name.split_once(']').map_or("", |(head, _)| head);
                        let internal = head.ends_with("internal")
                            || name.starts_with("[context ")
                            || name.starts_with("exporting cache ")
                            || step.starts_with("FROM ");
                        if !internal && let Some(id) = info["id"].as_u64() {
                            steps.names.insert(id, step);
                        }
                    }
                }
                Some("started") => steps.started.extend(vertex),
                Some("cached") => steps.cached.extend(vertex),
                Some("cache_failed") => {
                    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    let told =
                        format!("the cache {} is not written: {}", text("to"), text("error"));
                    steps.warnings.push(told);
                }
                Some("warning") => {
                    steps
                        .warnings
                        .push(event["message"].as_str().unwrap_or_default().to_owned());
                }
                _ => {}
            }
        }
        steps
    }

    /// The steps that were not found in the cache, as the Dockerfile words them.
    pub(crate) fn reran(&self) -> Vec<&str> {
        let cached = |id: &u64| self.cached.contains(id);
        self.names
            .iter()
            .filter(|(id, _)| !cached(id))
            .map(|(_, name)| name.as_str())
            .collect()
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("BUILDER").map_or_else(|| env!("CARGO_BIN_EXE_builder").into(), PathBuf::from)
}

/// `builder build` with the base image and a store; add what else the test needs.
pub(crate) fn build(base: &Path, store: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("build").arg("--root").arg(store);
    for (name, tag) in [("busybox", "latest"), ("busybox:onbuild", "onbuild")] {
        command
            .arg("--build-context")
            .arg(format!("{name}=oci-layout://{}:{tag}", base.display()));
    }
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs to the end; a run that hangs is killed and fails the test.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
    let reader = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(Box::new(child.stdout.take().expect("piped")));
    let stderr = reader(Box::new(child.stderr.take().expect("piped")));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > HUNG {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "{command:?} still ran after {HUNG:?}\nstderr: {}",
                stderr.join().unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran {
        code: status.code(),
        stdout: stdout.join().expect("reader"),
        stderr: stderr.join().expect("reader"),
    }
}

/// Copies a context with modes that do not depend on a checkout's umask.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(to).expect("mkdir");
    set_mode(to, 0o755);
    for entry in fs::read_dir(from).expect("a readable context") {
        let entry = entry.expect("entry");
        let (kind, target) = (entry.file_type().expect("type"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).expect("readlink");
            std::os::unix::fs::symlink(link, target).expect("symlink");
        } else {
            fs::copy(entry.path(), &target).expect("copy");
            let executable = entry.metadata().expect("stat").permissions().mode() & 0o100 != 0;
            set_mode(&target, if executable { 0o755 } else { 0o644 });
        }
    }
}

/// Writes a small context: `(path, content)`.
pub(crate) fn write_files(dir: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, content).expect("write");
    }
}

/// Waits until the clock shows another second, which is what a time in a layer tells apart.
pub(crate) fn another_second() {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).expect("now");
    let rest = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
    std::thread::sleep(rest + Duration::from_millis(10));
}
