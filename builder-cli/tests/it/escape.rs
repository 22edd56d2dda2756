//! Attempts of a step to get out, each a RUN, each refused for the right reason.
//!
//! [`ATTEMPTS`] is the table. An attempt writes lines to its standard output: `refused WHY what` or `ESCAPED what`; a
//! line that says anything else, no line at all, or a reason that is not among those expected fails the test.
//! The system calls are in `escape/probe.c`. The table runs on every rung; `ISOLATION=overlay,copied` on those alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture;
use crate::users::{Who, on_every_rung};

struct Attempt {
    /// What [`BY_CHROOT`] goes by, too.
    name: &'static str,
    /// Options of the RUN.
    options: &'static str,
    script: &'static str,
    /// The reasons that are right.
    refusals: &'static [&'static str],
}

impl Attempt {
    /// Without namespaces `--network=none` is an error: `rungs.rs` has it.
    fn is_to_be_had(&self, rung: &str) -> bool {
        rung != "chroot" || !self.options.contains("--network=none")
    }
}

const fn probe(
    name: &'static str,
    script: &'static str,
    refusals: &'static [&'static str],
) -> Attempt {
    Attempt {
        name,
        options: "",
        script,
        refusals,
    }
}

/// No permission, or the kernel has no such thing.
const DENIED: &[&str] = &["EPERM", "EACCES", "ENOSYS"];

const ATTEMPTS: &[Attempt] = &[
    probe(
        "writing to /proc",
        "/probe proc-sys",
        &["EROFS", "EACCES", "EPERM"],
    ),
    probe(
        "writing to /sys",
        "/probe sys",
        &["EROFS", "EACCES", "EPERM"],
    ),
    Attempt {
        name: "devices by number",
        options: "--mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch \
                  --mount=type=bind,from=busybox,target=/other,rw",
        script: "/probe devices",
        refusals: &["EACCES", "EPERM"],
    },
    probe("mounting", "/probe mounts", DENIED),
    probe(
        "the step's init",
        "/probe first-process",
        &["EPERM", "EACCES", "ENOSYS", "ENOENT"],
    ),
    probe("keyrings", "/probe keys", DENIED),
    // setns to a namespace of its own kind needs a right that the step has not; a thread's own user namespace is EINVAL.
    probe(
        "namespaces",
        "/probe namespaces",
        &["EPERM", "EACCES", "ENOSYS"],
    ),
    probe("the kernel", "/probe kernel", DENIED),
    probe(
        "the terminal",
        "/probe terminal",
        &["ENOTTY", "ENXIO", "ENOENT", "EINVAL"],
    ),
    probe("inherited descriptors", "/probe descriptors", &["NONE"]),
    probe(
        "out of a chroot",
        "/probe chroot $STORE/oci-layout",
        &["ENOENT", "EXDEV"],
    ),
    Attempt {
        name: "an abstract socket of the host",
        options: "--network=none",
        script: "/probe abstract-socket $SOCKET",
        refusals: &["ECONNREFUSED"],
    },
    probe(
        "the running program",
        "/probe own-program",
        &["EXDEV", "ETXTBSY"],
    ),
    probe(
        "masked paths",
        "for f in kcore keys timer_list sched_debug interrupts latency_stats; do \
           if [ \"$(head -c 64 /proc/$f 2>/dev/null | wc -c)\" = 0 ]; then echo refused EMPTY $f; else echo ESCAPED $f; fi; \
         done; \
         for d in acpi asound scsi; do \
           if [ -z \"$(ls -A /proc/$d 2>/dev/null)\" ]; then echo refused EMPTY $d; else echo ESCAPED $d; fi; \
         done; \
         if [ -z \"$(ls -A /sys/firmware 2>/dev/null)\" ]; then echo refused EMPTY firmware; else echo ESCAPED firmware; fi",
        &["EMPTY"],
    ),
    probe(
        "the kernel's log",
        "if dmesg 2>/dev/null | grep -q .; then echo ESCAPED dmesg; else echo refused EMPTY dmesg; fi; \
         if [ -e /dev/kmsg ]; then echo ESCAPED kmsg; else echo refused ENOENT kmsg; fi",
        &["EMPTY", "ENOENT"],
    ),
    probe(
        "cgroups",
        "if find /sys/fs/cgroup -mindepth 1 | grep -q .; then echo ESCAPED cgroup files; else echo refused EMPTY cgroups; fi; \
         if find / -xdev -name release_agent | grep -q .; then echo ESCAPED release_agent; else echo refused EMPTY release_agent; fi",
        &["EMPTY"],
    ),
    probe(
        "processes of the host",
        "n=$(ls -d /proc/[0-9]* | wc -l); if [ $n -gt 8 ]; then echo ESCAPED $n processes; else echo refused FEW $n; fi; \
         if cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q -e '[-]-root'; \
           then echo ESCAPED the builder; else echo refused NONE builder; fi",
        &["FEW", "NONE"],
    ),
    probe(
        "the builder's environment",
        // In two parts: the step's own command line must not be what is found.
        "if cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -q 'SENTINEL''_IN_ENVIRONMENT'; \
           then echo ESCAPED environment; else echo refused NONE environment; fi; \
         if cat /proc/[0-9]*/root/proc/1/environ 2>/dev/null | grep -q 'SENTINEL''_IN'; \
           then echo ESCAPED roots; else echo refused NONE roots; fi",
        &["NONE"],
    ),
    probe(
        "the store and the credentials",
        "for p in $STORE $HOST /proc/1/root$STORE /proc/self/root$STORE /../../..$STORE /proc/1/cwd/store; do \
           if ls -d $p >/dev/null 2>&1; then echo ESCAPED $p; else echo refused ENOENT $p; fi; \
         done; \
         if grep -rsq 'SENTINEL''_IN_FILE' /bin /etc /home /opt /root /run /tmp /usr /var /dev/shm /mnt /media /srv; \
           then echo ESCAPED content; else echo refused NONE content; fi",
        &["ENOENT", "NONE"],
    ),
    // The default network is the host's; a step's own shows the loopback alone.
    Attempt {
        name: "interfaces of the host",
        options: "--network=none",
        script: "if [ \"$(ls /sys/class/net)\" = lo ]; then echo refused NONE interfaces; else echo ESCAPED $(ls /sys/class/net); fi",
        refusals: &["NONE"],
    },
    // Links of the image, made by an earlier step: targets are looked up inside the root.
    Attempt {
        name: "mounts through links",
        options: "--mount=type=tmpfs,target=/up/one --mount=type=tmpfs,target=/out/../host-link/two \
                  --mount=type=secret,id=s,target=/up/three/secret",
        script: "if [ -d /one ] && [ -f /three/secret ]; then echo refused INSIDE; else echo ESCAPED or lost; fi; \
                 echo x > /up/one/file; echo x > $HOST/two/file; \
                 if [ -f $HOST/two/file ]; then echo refused INSIDE; else echo ESCAPED or lost; fi",
        refusals: &["INSIDE"],
    },
];

/// What is right besides where a step has no mounts, and no filter but that of the container that it is in: reasons, or a
/// whole line of what the kernel lets it have there.
const BY_CHROOT: &[(&str, &[&str])] = &[
    ("writing to /proc", &["ENOENT"]),
    ("writing to /sys", &["ENOENT"]),
    ("mounting", &["ENOENT"]),
    (
        "keyrings",
        &[
            // one of its own: the builder's is left before
            "ESCAPED keyctl get",
            "ESCAPED keyctl join",
            "ESCAPED add_key",
            "ESCAPED request_key",
        ],
    ),
    (
        "the kernel",
        &["EINVAL", "ENOENT", "ESCAPED io_uring_setup"],
    ),
    ("out of a chroot", &["EPERM"]),
    ("the running program", &["ENOENT"]),
];

/// What the host has and no step may find.
struct Host {
    _listener: UnixListener,
    socket: String,
    directory: PathBuf,
}

impl Host {
    fn new(temp: &Path) -> Self {
        let socket = format!("escape-{}", temp.display()).replace('/', "-");
        let address = SocketAddr::from_abstract_name(&socket).expect("a name");
        let directory = temp.join("host");
        fs::create_dir(&directory).expect("mkdir");
        fixture::set_mode(&directory, 0o777);
        fs::write(
            directory.join("config.json"),
            r#"{"auths":{},"x":"SENTINEL_IN_FILE"}"#,
        )
        .expect("write");
        Host {
            _listener: UnixListener::bind_addr(&address).expect("an abstract socket"),
            socket,
            directory,
        }
    }

    /// Nothing was put there and nothing taken.
    fn check(&self, who: &Who) {
        let names: Vec<_> = fs::read_dir(&self.directory)
            .expect("the host's directory")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["config.json"], "{}", who.name);
    }
}

fn dockerfile(socket: &str, rung: &str) -> String {
    let mut text = format!(
        "FROM busybox AS attempts\nCOPY probe /probe\nARG STORE HOST SOCKET={socket}\n\
         RUN mkdir /out /tmp/d && ln -s / /root-link && ln -s ../../../../../.. /up && ln -s $HOST /host-link\n"
    );
    for (nth, attempt) in ATTEMPTS.iter().enumerate() {
        if !attempt.is_to_be_had(rung) {
            continue;
        }
        // Files rather than events: what a step says after it was killed is not lost.
        text += &format!(
            "RUN {} {{ {}; }} > /out/{nth} 2>> /out/{nth}.err; true\n",
            attempt.options,
            attempt.script.trim_end_matches(';')
        );
    }
    text + "FROM scratch\nCOPY --from=attempts /out /\n"
}

/// Compiles the probes; `None`, with a line on stderr, where there is no compiler.
fn compile(temp: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/escape/probe.c");
    let program = temp.join("probe");
    let done = Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    if done.is_ok_and(|it| it.success()) {
        fixture::set_mode(&program, 0o755);
        return Some(program);
    }
    fixture::skip(
        "escape",
        "a C compiler and a static C library (Debian packages gcc, libc6-dev)",
    );
    None
}

fn judge(attempt: &Attempt, more: &[&str], out: &str, err: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in out.lines().filter(|line| !more.contains(line)) {
        let reason = line
            .strip_prefix("refused ")
            .and_then(|rest| rest.split(' ').next());
        let right = |reason| attempt.refusals.contains(&reason) || more.contains(&reason);
        if !reason.is_some_and(right) {
            wrong.push(format!("{}: {line}", attempt.name));
        }
    }
    if out.lines().next().is_none() {
        wrong.push(format!("{}: said nothing\n{err}", attempt.name));
    }
    wrong
}

#[test]
fn every_attempt_is_refused() {
    let Some(base) = fixture::base("escape") else {
        return;
    };
    let temp = fixture::temp_dir();
    let Some(probe) = compile(temp.path()) else {
        return;
    };
    let host = Host::new(temp.path());
    for who in on_every_rung("escape", temp.path()) {
        let context = who.home.join("context");
        fixture::write_files(
            &context,
            &[("Dockerfile", &dockerfile(&host.socket, who.rung()))],
        );
        fs::copy(&probe, context.join("probe")).expect("copy");
        fs::write(who.home.join("secret"), "s").expect("write");
        let out = who.home.join("out");
        let mut command = who.build(base);
        command
            .env("SENTINEL_NAME", "SENTINEL_IN_ENVIRONMENT")
            .env("DOCKER_CONFIG", &host.directory)
            .arg("--build-arg")
            .arg(format!("STORE={}", who.store().display()))
            .arg("--build-arg")
            .arg(format!("HOST={}", host.directory.display()))
            .args(["--secret", "id=s,src=secret", "--output"])
            .arg(&out)
            .arg(&context);
        who.give(&who.home);
        fixture::run(&mut command).ok();
        let mut wrong = Vec::new();
        for (nth, attempt) in ATTEMPTS.iter().enumerate() {
            if !attempt.is_to_be_had(who.rung()) {
                continue;
            }
            let read = |name: String| fs::read_to_string(out.join(name)).unwrap_or_default();
            let more = BY_CHROOT
                .iter()
                .find(|(name, _)| *name == attempt.name && who.is_confined())
                .map_or(&[][..], |(_, more)| more);
            wrong.extend(judge(
                attempt,
                more,
                &read(nth.to_string()),
                &read(format!("{nth}.err")),
            ));
        }
        assert!(wrong.is_empty(), "{}:\n{}", who.name, wrong.join("\n"));
        host.check(&who);
    }
}

/// What leads out of the root by name: each is refused with words like these, or (`None`) ends inside.
const PATHS: &[(&str, &str, Option<&str>)] = &[
    ("COPY through an absolute link", "COPY f /host-link/f", None),
    ("COPY through a link upwards", "COPY f /up/HOST/f", None),
    ("COPY to `..`", "COPY f /../../..HOST/f", None),
    (
        "WORKDIR through a link",
        "WORKDIR /host-link/w\nRUN echo x > f",
        None,
    ),
    (
        "WORKDIR upwards",
        "WORKDIR /../../..HOST/w\nRUN echo x > f",
        None,
    ),
    (
        "RUN in a linked WORKDIR",
        "WORKDIR /up/HOST\nRUN echo x > f",
        None,
    ),
    (
        "a cache mount on a link",
        "RUN --mount=type=cache,target=/host-link/c echo x > /host-link/c/f",
        None,
    ),
    (
        "a mount point made in /proc by a link",
        "RUN ln -s /proc/self/task /to-proc\nRUN --mount=type=tmpfs,target=/to-proc/new true",
        Some("make the mount point"),
    ),
    (
        "a mount on the root",
        "RUN --mount=type=tmpfs,target=/ true",
        Some("target"),
    ),
    (
        "a mount on the root by a link",
        "RUN --mount=type=tmpfs,target=/up true",
        Some("mount"),
    ),
    (
        "a bind of the context upwards",
        "RUN --mount=type=bind,source=../../../..HOST,target=/m test ! -e /m/config.json",
        Some("not found in the build context"),
    ),
    (
        "a bind of a link that leads out",
        "RUN --mount=type=bind,source=out,target=/m test ! -e /m/config.json",
        Some("out"),
    ),
    (
        "a bind of an image's link that leads out",
        "RUN --mount=type=bind,from=links,source=/host-link,target=/m true",
        Some("host-link"),
    ),
    (
        "COPY --from a link that leads out",
        "COPY --from=links /host-link/config.json /x",
        Some("not found"),
    ),
    (
        "COPY of a link that leads out",
        "COPY out/config.json /x",
        Some("not found in the build context"),
    ),
    (
        "COPY upwards",
        "COPY ../../../../HOST/config.json /x",
        Some("not found in the build context"),
    ),
    (
        "the builder's own program by a link of the image",
        "RUN ln -s /proc/self/exe /again\nRUN [\"/again\", \"--version\"]",
        Some("exited with code 126"),
    ),
    (
        "the builder's own program",
        "RUN [\"/proc/self/exe\", \"--version\"]",
        Some("exited with code 126"),
    ),
];

/// What the same says where a step has no /proc: a directory of the image's is there.
const PATHS_BY_CHROOT: &[(&str, Option<&str>)] = &[
    ("a mount point made in /proc by a link", None),
    (
        "the builder's own program by a link of the image",
        Some("exited with code 127"),
    ),
    ("the builder's own program", Some("exited with code 127")),
];

#[test]
fn no_path_leads_out() {
    let Some(base) = fixture::base("escape") else {
        return;
    };
    let temp = fixture::temp_dir();
    let host = Host::new(temp.path());
    let place = host.directory.display().to_string();
    for who in on_every_rung("escape", temp.path()) {
        let context = who.home.join("context");
        fixture::write_files(&context, &[("f", "from the context\n")]);
        std::os::unix::fs::symlink(&host.directory, context.join("out")).expect("symlink");
        who.give(&context);
        let mut wrong: BTreeMap<&str, String> = BTreeMap::new();
        for (name, text, refusal) in PATHS {
            let refusal = PATHS_BY_CHROOT
                .iter()
                .find(|other| other.0 == *name && who.is_confined())
                .map_or(refusal, |other| &other.1);
            let text = text.replace("HOST", &place);
            let text = format!(
                "FROM busybox AS links\nRUN ln -s ../../../../../.. /up && ln -s {place} /host-link && mkdir -p {place}\n\
                 FROM links\n{text}\n"
            );
            let text = if refusal.is_some() {
                // Nothing of the host's name in the image: what is found would be the host's.
                text.replace(&format!(" && mkdir -p {place}"), "")
            } else {
                text
            };
            fs::write(context.join("Dockerfile"), text).expect("write");
            let mut command = who.build(base);
            command.env("DOCKER_CONFIG", &host.directory).arg(&context);
            let ran = fixture::run(&mut command);
            let right = match refusal {
                None => ran.code == Some(0),
                Some(why) => ran.code != Some(0) && ran.stderr.contains(why),
            };
            if !right || ran.stderr.contains("SENTINEL_IN_FILE") {
                wrong.insert(name, format!("code {:?}\n{}", ran.code, ran.stderr));
            }
            host.check(&who);
        }
        assert!(
            wrong.is_empty(),
            "{}:\n{}",
            who.name,
            wrong
                .iter()
                .map(|(name, text)| format!("── {name} ──\n{text}"))
                .collect::<String>()
        );
    }
}
