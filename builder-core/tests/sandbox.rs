//! Runs steps for real: as root, and again as an ordinary user with subordinate ids.
//!
//! Its own `main`, since a sandbox wants `init_if_child` before any thread exists, and a user namespace `enter`.
//! What the machine lacks is named, one line a feature.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use builder_core::sandbox::{
    self, Exit, Helper, HelperPath, Mount, MountSource, Network, Root, SandboxError, Security,
    Spec, User,
};

const BUSYBOX: &str = "/bin/busybox";
const AS_USER: &str = "--as-ordinary-user";
/// Runs the tests named after it in a process that is root and never calls `enter`.
const NOT_ENTERED: &str = "--not-entered";
/// Starts a step that never ends, over the directory named after it, and waits.
const VICTIM: &str = "--victim";

type Test = (&'static str, fn(&Bench));

const TESTS: &[Test] = &[
    ("exit_codes_are_the_commands", exit_codes_are_the_commands),
    ("a_signal_is_told_as_one", a_signal_is_told_as_one),
    (
        "failed_execs_are_the_commands_failure",
        failed_execs_are_the_commands_failure,
    ),
    (
        "setup_errors_name_call_and_path",
        setup_errors_name_call_and_path,
    ),
    ("streams_are_apart", streams_are_apart),
    ("the_environment_is_the_specs", the_environment_is_the_specs),
    (
        "the_working_directory_is_made",
        the_working_directory_is_made,
    ),
    ("user_and_groups_are_switched", user_and_groups_are_switched),
    (
        "another_user_can_write_to_dev_stdout",
        another_user_can_write_to_dev_stdout,
    ),
    ("the_host_name_is_the_specs", the_host_name_is_the_specs),
    ("umask_session_and_stdin", umask_session_and_stdin),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("paths_are_masked_and_sealed", paths_are_masked_and_sealed),
    (
        "nothing_of_the_host_is_reachable",
        nothing_of_the_host_is_reachable,
    ),
    ("devices_are_there", devices_are_there),
    (
        "capabilities_and_filter_are_dockers",
        capabilities_and_filter_are_dockers,
    ),
    (
        "insecure_steps_have_all_rights",
        insecure_steps_have_all_rights,
    ),
    (
        "mount_and_unshare_are_refused",
        mount_and_unshare_are_refused,
    ),
    ("no_network_is_loopback_only", no_network_is_loopback_only),
    ("binds_are_writable_or_not", binds_are_writable_or_not),
    ("tmpfs_has_its_size", tmpfs_has_its_size),
    ("bytes_are_a_file", bytes_are_a_file),
    (
        "overlay_mounts_throw_writes_away",
        overlay_mounts_throw_writes_away,
    ),
    (
        "nothing_stays_in_the_upper_directory",
        nothing_stays_in_the_upper_directory,
    ),
    (
        "hidden_mount_points_leave_nothing",
        hidden_mount_points_leave_nothing,
    ),
    (
        "links_of_the_image_stay_inside",
        links_of_the_image_stay_inside,
    ),
    (
        "changes_are_in_the_upper_directory",
        changes_are_in_the_upper_directory,
    ),
    (
        "lower_directories_can_be_removed_and_renamed",
        lower_directories_can_be_removed_and_renamed,
    ),
    ("a_plain_directory_is_a_root", a_plain_directory_is_a_root),
    ("long_paths_and_many_layers", long_paths_and_many_layers),
    (
        "resolv_conf_and_hosts_are_the_specs",
        resolv_conf_and_hosts_are_the_specs,
    ),
    ("orphans_are_reaped", orphans_are_reaped),
    ("a_step_can_be_killed", a_step_can_be_killed),
    (
        "a_dropped_helper_ends_its_steps",
        a_dropped_helper_ends_its_steps,
    ),
    ("a_dropped_step_is_killed", a_dropped_step_is_killed),
    ("steps_die_with_the_builder", steps_die_with_the_builder),
    (
        "a_root_process_need_not_enter",
        a_root_process_need_not_enter,
    ),
    ("output_to_dev_null", output_to_dev_null),
    ("eight_at_once", eight_at_once),
    (
        "a_program_that_is_no_helper_is_named",
        a_program_that_is_no_helper_is_named,
    ),
    (
        "the_size_of_the_builder_does_not_matter",
        the_size_of_the_builder_does_not_matter,
    ),
    (
        "the_program_cannot_be_written_by_a_step",
        the_program_cannot_be_written_by_a_step,
    ),
    ("nothing_is_left_over", nothing_is_left_over),
];

fn main() -> ExitCode {
    sandbox::init_if_child();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let as_user = args.iter().any(|arg| arg == AS_USER);
    let filter = args
        .iter()
        .find(|arg| !arg.starts_with('-'))
        .cloned()
        .unwrap_or_default();
    if args.iter().any(|arg| arg == "--list") {
        say(&TESTS
            .iter()
            .map(|(name, _)| format!("{name}: test\n"))
            .collect::<String>());
        return ExitCode::SUCCESS;
    }
    if let [VICTIM, place] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        be_a_victim(place.into());
    }
    let began = Instant::now();
    if !Path::new(BUSYBOX).exists() {
        say(&format!(
            "skipped: {BUSYBOX} (package busybox-static) is missing\n"
        ));
        return closing(0, 0, began);
    }
    let root = rustix::process::geteuid().is_root();
    if args.iter().any(|arg| arg == NOT_ENTERED) {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (passed, failed) = run_tests(scratch.path(), false, &filter, "as root, not entered");
        return closing(passed, failed, began);
    }
    let standing = match sandbox::enter() {
        Ok(standing) => standing,
        Err(error) => {
            say(&format!("skipped: namespaces are not to be had: {error}\n"));
            return closing(0, 0, began);
        }
    };
    let place = if as_user {
        "as an ordinary user"
    } else {
        "as the caller"
    };
    let scratch = tempfile::tempdir().expect("a temporary directory");
    match sandbox::probe_overlay(scratch.path(), standing.rootless) {
        Ok(None) => {}
        Ok(Some(failure)) => {
            say(&format!(
                "skipped: overlayfs cannot be mounted: {failure}\n"
            ));
            return closing(0, 0, began);
        }
        Err(error) => {
            say(&format!("skipped: {error}\n"));
            return closing(0, 0, began);
        }
    }
    let (mut passed, mut failed) = run_tests(scratch.path(), standing.rootless, &filter, place);
    if as_user {
        return closing(passed, failed, began);
    }
    if root && !standing.rootless {
        match again_as_user(&filter) {
            Ok((more, bad)) => {
                passed += more;
                failed += bad;
            }
            Err(missing) => say(&format!(
                "skipped: the tests as an ordinary user: {missing}\n"
            )),
        }
    }
    closing(passed, failed, began)
}

fn run_tests(scratch: &Path, rootless: bool, filter: &str, place: &str) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(filter)) {
        let bench = Bench::new(scratch.join(name), rootless);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&bench)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        say(&format!("test {name} ({place}) ... {word}\n"));
        if result.is_ok() {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    (passed, failed)
}

fn be_a_victim(place: PathBuf) -> ! {
    let rootless = !fs::read_link("/proc/self/ns/user")
        .is_ok_and(|link| link.as_os_str() == "user:[4026531837]");
    let bench = Bench::new(place, rootless);
    let spec = bench.spec("a", &["sh", "-c", "echo started; sleep 60 & sleep 60"]);
    let stdout =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).expect("standard output");
    let running = bench.helper.run(spec, stdout, null()).expect("starts");
    panic!("the step ended: {:?}", running.wait());
}

#[expect(clippy::print_stdout, reason = "a test harness prints")]
fn say(text: &str) {
    print!("{text}");
}

fn closing(passed: usize, failed: usize, began: Instant) -> ExitCode {
    let result = if failed == 0 { "ok" } else { "FAILED" };
    say(&format!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s\n",
        began.elapsed().as_secs_f64()
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs this program again as the first user that has subordinate ids and a home directory.
fn again_as_user(filter: &str) -> Result<(usize, usize), String> {
    let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (uid, gid, home) = passwd
        .lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let listed = subuid
                .lines()
                .any(|range| range.split(':').next() == fields.first().copied());
            let id = |index: usize| fields.get(index)?.parse::<u32>().ok();
            let home = PathBuf::from(fields.get(5)?);
            (listed && id(2)? != 0 && home.is_dir()).then_some((id(2)?, id(3)?, home))
        })
        .ok_or("no user of /etc/passwd has a line in /etc/subuid and a home directory")?;
    // a copy where that user can reach it
    let place = tempfile::tempdir_in(&home).map_err(|error| error.to_string())?;
    let program = place.path().join("sandbox-tests");
    fs::copy("/proc/self/exe", &program).map_err(|error| error.to_string())?;
    for path in [place.path(), &program] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new(&program);
    command
        .arg(AS_USER)
        .env("TMPDIR", place.path())
        .current_dir(place.path());
    if !filter.is_empty() {
        command.arg(filter);
    }
    let output = command
        .uid(uid)
        .gid(gid)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (tests, result) = text
        .split_once("\ntest result:")
        .ok_or("it printed no result")?;
    say(tests);
    say("\n");
    let number = |before: &str| -> usize {
        result
            .split(';')
            .chain(result.split(". "))
            .find_map(|part| {
                part.trim()
                    .strip_suffix(before)?
                    .trim()
                    .rsplit(' ')
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(0)
    };
    let failed = number("failed");
    Ok((
        number("passed"),
        if output.status.success() {
            failed
        } else {
            failed.max(1)
        },
    ))
}

/// A place for one test: a helper, and a lower directory with busybox in it.
struct Bench {
    helper: Helper,
    place: PathBuf,
    lower: PathBuf,
    rootless: bool,
}

struct Done {
    exit: Exit,
    out: String,
    err: String,
}

impl Bench {
    fn new(place: PathBuf, rootless: bool) -> Self {
        let lower = place.join("lower");
        fs::create_dir_all(lower.join("bin")).expect("a lower directory");
        fs::copy(BUSYBOX, lower.join("bin/busybox")).expect("busybox");
        for name in [
            "sh", "true", "cat", "echo", "id", "ls", "sleep", "mount", "unshare",
        ] {
            symlink("busybox", lower.join("bin").join(name)).expect("an applet");
        }
        let helper = Helper::start(HelperPath::Current).expect("a helper");
        Self {
            helper,
            place,
            lower,
            rootless,
        }
    }

    /// An overlay over the lower directory, with a new upper one.
    fn root(&self, name: &str) -> (Root, PathBuf) {
        let (upper, work) = (
            self.place.join(name).join("upper"),
            self.place.join(name).join("work"),
        );
        fs::create_dir_all(&upper).expect("an upper directory");
        fs::create_dir_all(&work).expect("a work directory");
        let root = Root::Overlay {
            lowers: vec![self.lower.clone()],
            upper: upper.clone(),
            work,
            userxattr: self.rootless,
            stubs: Some(self.place.clone()),
        };
        (root, upper)
    }

    fn spec(&self, name: &str, args: &[&str]) -> Spec {
        Spec {
            root: self.root(name).0,
            args: args.iter().map(OsString::from).collect(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            user: User::default(),
            hostname: "buildhost".into(),
            mounts: Vec::new(),
            network: Network::Host,
            security: Security::Sandbox,
            limits: builder_core::sandbox::Limits::default(),
            terminal: false,
            resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
            hosts: b"127.0.0.1 localhost\n".to_vec(),
        }
    }

    fn shell(&self, name: &str, script: &str) -> Spec {
        self.spec(
            name,
            &[
                "sh",
                "-c",
                &format!("busybox --install -s /bin 2>/dev/null; {script}"),
            ],
        )
    }

    fn run(&self, spec: Spec) -> Result<Done, SandboxError> {
        let (mut out, out_end) = pipe();
        let (mut err, err_end) = pipe();
        let running = self.helper.run(spec, out_end, err_end)?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).expect("standard error");
            text
        });
        let mut text = String::new();
        out.read_to_string(&mut text).expect("standard output");
        let err = reader.join().expect("a reader");
        Ok(Done {
            exit: running.wait()?,
            out: text,
            err,
        })
    }

    fn out(&self, spec: Spec) -> String {
        let done = self.run(spec).expect("the step runs");
        assert_eq!(
            done.exit,
            Exit::Code(0),
            "out {:?}, err {:?}",
            done.out,
            done.err
        );
        done.out
    }
}

fn pipe() -> (fs::File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    (fs::File::from(read), write)
}

fn null() -> OwnedFd {
    fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .expect("/dev/null")
        .into()
}

fn listing(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = walkdir::WalkDir::new(directory)
        .min_depth(1)
        .into_iter()
        .map(|entry| {
            let entry = entry.expect("an entry");
            entry
                .path()
                .strip_prefix(directory)
                .expect("inside")
                .display()
                .to_string()
        })
        .collect();
    names.sort();
    names
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Bind(source.to_owned()),
        read_only,
    }
}

fn exit_codes_are_the_commands(bench: &Bench) {
    for code in [0, 1, 7, 125, 126, 127, 255] {
        let done = bench
            .run(bench.spec(&code.to_string(), &["sh", "-c", &format!("exit {code}")]))
            .expect("runs");
        assert_eq!(done.exit, Exit::Code(code));
    }
}

fn a_signal_is_told_as_one(bench: &Bench) {
    for signal in [6, 9, 13, 15] {
        let spec = bench.spec(
            &signal.to_string(),
            &["sh", "-c", &format!("kill -{signal} $$")],
        );
        assert_eq!(bench.run(spec).expect("runs").exit, Exit::Signal(signal));
    }
}

fn failed_execs_are_the_commands_failure(bench: &Bench) {
    fs::write(bench.lower.join("text"), "x").expect("a file");
    fs::set_permissions(bench.lower.join("text"), fs::Permissions::from_mode(0o755))
        .expect("a mode");
    fs::write(bench.lower.join("lost"), "#!/no/such\n").expect("a file");
    fs::set_permissions(bench.lower.join("lost"), fs::Permissions::from_mode(0o755))
        .expect("a mode");
    for (index, (program, code, text)) in [
        (
            "/bin/foo",
            127,
            "exec: \"/bin/foo\": no such file or directory\n",
        ),
        (
            "foo",
            127,
            "exec: \"foo\": executable file not found in $PATH\n",
        ),
        ("/bin", 126, "exec: \"/bin\": permission denied\n"),
        ("/text", 126, "exec: \"/text\": exec format error\n"),
        ("/lost", 127, "exec: \"/lost\": no such file or directory\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let done = bench
            .run(bench.spec(&index.to_string(), &[program]))
            .expect("runs");
        assert_eq!(
            (done.exit, done.err.as_str()),
            (Exit::Code(code), text),
            "{program}"
        );
    }
}

fn setup_errors_name_call_and_path(bench: &Bench) {
    let mut missing = bench.spec("a", &["true"]);
    missing.mounts = vec![bind(Path::new("/no/such/source"), "/x", false)];
    let mut root = bench.spec("b", &["true"]);
    root.root = Root::Overlay {
        lowers: vec!["/no/such/lower".into()],
        upper: bench.place.join("b/upper"),
        work: bench.place.join("b/work"),
        userxattr: bench.rootless,
        stubs: None,
    };
    let mut relative = bench.spec("c", &["true"]);
    relative.cwd = "x".into();
    let empty = bench.spec("d", &[]);
    let mut unmapped = bench.spec("e", &["true"]);
    unmapped.user.uid = u32::MAX;
    for (spec, expected) in [
        (missing, "/no/such/source: No such file or directory"),
        (root, "/no/such/lower: No such file or directory"),
        (relative, "the path `x` is not absolute"),
        (empty, "no program to run"),
        (unmapped, "4294967295 is no user or group id"),
    ] {
        match bench.run(spec) {
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            Ok(done) => panic!("{expected}: {:?}", done.exit),
        }
    }
}

fn streams_are_apart(bench: &Bench) {
    let done = bench
        .run(bench.spec("a", &["sh", "-c", "echo out; echo err >&2"]))
        .expect("runs");
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
}

fn the_environment_is_the_specs(bench: &Bench) {
    let mut spec = bench.spec("a", &["/bin/busybox", "env"]);
    spec.env = vec!["B=2".into(), "A=x y\nz".into()];
    assert_eq!(bench.out(spec), "B=2\nA=x y\nz\n");
}

fn the_working_directory_is_made(bench: &Bench) {
    let mut spec = bench.shell("a", "pwd; stat -c '%a %u:%g' /new /new/deep");
    spec.cwd = "/new/deep".into();
    assert_eq!(bench.out(spec), "/new/deep\n755 0:0\n755 0:0\n");
    assert!(bench.place.join("a/upper/new/deep").is_dir());
}

fn user_and_groups_are_switched(bench: &Bench) {
    let mut spec = bench.spec(
        "a",
        &[
            "sh",
            "-c",
            "id -u; id -g; id -G; busybox grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status",
        ],
    );
    spec.user = User {
        uid: 1000,
        gid: 1001,
        groups: vec![7, 8],
    };
    let out = bench.out(spec);
    assert_eq!(
        out,
        "1000\n1001\n1001 7 8\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"
    );
    let groups = bench.out(bench.spec("b", &["id", "-G"]));
    assert_eq!(groups, "0\n", "none of the builder's");
}

fn another_user_can_write_to_dev_stdout(bench: &Bench) {
    let mut spec = bench.spec(
        "a",
        &["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"],
    );
    spec.user.uid = 1000;
    let done = bench.run(spec).expect("runs");
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
}

fn the_host_name_is_the_specs(bench: &Bench) {
    assert_eq!(
        bench.out(bench.spec("a", &["busybox", "hostname"])),
        "buildhost\n"
    );
}

fn umask_session_and_stdin(bench: &Bench) {
    let out = bench.out(bench.spec(
        "a",
        &[
            "sh",
            "-c",
            "umask; cat; busybox ps -o pid,sid,args | busybox grep -c '^ *2 *2 sh'; echo $$",
        ],
    ));
    assert_eq!(out, "0022\n1\n2\n");
}

fn no_descriptor_leaks(bench: &Bench) {
    let out = bench.out(bench.spec(
        "a",
        &["sh", "-c", "ls /proc/self/fd | busybox tr '\\n' ' '"],
    ));
    assert_eq!(out, "0 1 2 3 ", "3 is the listing's own");
    let ignored = bench.out(bench.spec(
        "b",
        &["busybox", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"],
    ));
    assert_eq!(
        ignored,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

fn paths_are_masked_and_sealed(bench: &Bench) {
    let script = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null; ls /proc/acpi /sys/firmware 2>/dev/null | \
                  busybox grep -v ':$' | busybox grep .; \
                  for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper /proc/irq/x; do \
                  (echo x > $f) 2>/dev/null && echo wrote $f; done; echo done";
    assert_eq!(bench.out(bench.shell("a", script)), "done\n");
    let groups = bench.out(bench.spec("b", &["sh", "-c", "ls /sys/fs/cgroup | busybox wc -l"]));
    assert_eq!(groups, "0\n", "the builder's cgroups");
}

fn nothing_of_the_host_is_reachable(bench: &Bench) {
    let mut spec = bench.shell(
        "a",
        "ls -a / > /1; ls -a /.. > /2; ls -a /proc/1/cwd/../.. 2>/dev/null; cmp /1 /2; \
         cut -d ' ' -f 5 /proc/self/mountinfo | grep -c '^/$'; grep -cE ' /(home|root|mnt|tmp) ' /proc/self/mountinfo",
    );
    let [source, upper, work] =
        ["source", "mount-upper", "mount-work"].map(|name| bench.place.join(name));
    for path in [&source, &upper, &work] {
        fs::create_dir_all(path).expect("a directory");
    }
    spec.mounts = vec![Mount {
        target: "/from".into(),
        source: MountSource::Overlay {
            lowers: vec![source],
            upper,
            work,
            subpath: "/".into(),
            userxattr: bench.rootless,
        },
        read_only: true,
    }];
    let done = bench.run(spec).expect("runs");
    // both lists hold what is made while they are written
    assert!(done.out.ends_with("1\n0\n"), "{} {}", done.out, done.err);
    let mut plain = bench.spec(
        "b",
        &[
            "sh",
            "-c",
            "cd /; cd ..; cd ../..; ls -d bin/busybox home 2>/dev/null; echo done",
        ],
    );
    plain.root = Root::Directory(bench.lower.clone());
    assert_eq!(bench.out(plain), "bin/busybox\ndone\n");
}

fn devices_are_there(bench: &Bench) {
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d && test $(stat -c %a /dev/$d) = 666 || echo $d; done; \
                  echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; \
                  for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
                  stat -c '%a %F' /dev /dev/shm /dev/pts; echo y > /dev/shm/x; test -c /dev/pts/ptmx; \
                  mount | grep -cE ' on /dev/(pts|shm|mqueue) '";
    assert_eq!(
        bench.out(bench.shell("a", script)),
        "4\n4\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n\
         755 directory\n1777 directory\n755 directory\n3\n"
    );
}

fn capabilities_and_filter_are_dockers(bench: &Bench) {
    let out = bench.out(bench.spec(
        "a",
        &[
            "busybox",
            "grep",
            "-E",
            "^(Cap|Seccomp:|NoNewPrivs)",
            "/proc/self/status",
        ],
    ));
    assert_eq!(
        out,
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
}

fn insecure_steps_have_all_rights(bench: &Bench) {
    let mut spec = bench.shell(
        "a",
        "grep ^Seccomp: /proc/self/status; mkdir /m; mount -t tmpfs none /m && echo mounted",
    );
    spec.security = Security::Insecure;
    assert_eq!(bench.out(spec), "Seccomp:\t0\nmounted\n");
}

fn mount_and_unshare_are_refused(bench: &Bench) {
    for (index, args) in [
        &["mount", "-t", "tmpfs", "none", "/bin"][..],
        &["unshare", "-m", "true"],
        &["unshare", "-U", "true"],
        &["busybox", "umount", "/proc"],
        &["busybox", "nsenter", "-t", "1", "-m", "true"],
        &["cat", "/proc/1/environ"],
        &["ls", "/proc/1/root/"],
    ]
    .into_iter()
    .enumerate()
    {
        let done = bench
            .run(bench.spec(&index.to_string(), args))
            .expect("runs");
        assert_ne!(done.exit, Exit::Code(0), "{args:?}");
        let refused = ["not permitted", "denied"]
            .iter()
            .any(|text| done.err.contains(text));
        assert!(refused, "{args:?}: {}", done.err);
    }
}

fn no_network_is_loopback_only(bench: &Bench) {
    let mut spec = bench.shell("a", "ls /sys/class/net; ip link show lo | grep -o LOWER_UP; ping -c 1 -w 1 127.0.0.1 >/dev/null && echo up");
    spec.network = Network::None;
    assert_eq!(bench.out(spec), "lo\nLOWER_UP\nup\n");
}

fn binds_are_writable_or_not(bench: &Bench) {
    let (one, two) = (bench.place.join("one"), bench.place.join("two"));
    fs::create_dir_all(one.join("sub")).expect("a directory");
    fs::create_dir_all(&two).expect("a directory");
    fs::write(one.join("file"), "content").expect("a file");
    let mut spec = bench.shell(
        "a",
        "cat /ro/file; (echo x > /ro/new) 2>/dev/null && echo wrote; (echo x > /one) 2>/dev/null && echo wrote; echo y > /deep/er/rw/new; cat /one",
    );
    spec.mounts = vec![
        bind(&one, "/ro", true),
        bind(&two, "/deep/er/rw", false),
        bind(&one.join("file"), "/one", true),
    ];
    assert_eq!(bench.out(spec), "contentcontent");
    assert_eq!(fs::read_to_string(two.join("new")).expect("written"), "y\n");
    assert_eq!(listing(&one), ["file", "sub"]);
}

fn tmpfs_has_its_size(bench: &Bench) {
    let mut spec = bench.shell(
        "a",
        "stat -c %a /t; dd if=/dev/zero of=/t/x bs=1k count=2048 2>/dev/null; stat -c %s /t/x",
    );
    spec.mounts = vec![Mount {
        target: "/t".into(),
        source: MountSource::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: 0o1770,
        },
        read_only: false,
    }];
    assert_eq!(bench.out(spec), "1770\n1048576\n");
}

fn bytes_are_a_file(bench: &Bench) {
    let mut spec = bench.shell("a", "stat -c '%a %u:%g %s' /run/secrets/key; cat /run/secrets/key; (echo x > /run/secrets/key) 2>/dev/null || echo refused");
    spec.mounts = vec![Mount {
        target: "/run/secrets/key".into(),
        source: MountSource::Bytes {
            bytes: b"secret\n".to_vec(),
            mode: 0o400,
            uid: 5,
            gid: 6,
            no_exec: true,
        },
        read_only: true,
    }];
    assert_eq!(bench.out(spec), "400 5:6 7\nsecret\nrefused\n");
    let upper = bench.place.join("a/upper");
    assert!(!upper.join("run").exists(), "{:?}", listing(&upper));
}

fn overlay_mounts_throw_writes_away(bench: &Bench) {
    let [source, upper, work] =
        ["source", "mount-upper", "mount-work"].map(|name| bench.place.join(name));
    for path in [&source.join("sub"), &upper, &work] {
        fs::create_dir_all(path).expect("a directory");
    }
    fs::write(source.join("sub/file"), "content\n").expect("a file");
    let mount = |subpath: &str, upper: &Path, work: &Path| Mount {
        target: "/from".into(),
        source: MountSource::Overlay {
            lowers: vec![source.clone()],
            upper: upper.to_owned(),
            work: work.to_owned(),
            subpath: subpath.into(),
            userxattr: bench.rootless,
        },
        read_only: false,
    };
    let mut spec = bench.shell(
        "a",
        "cat /from/file; echo x >> /from/file; echo y > /from/new; ls /from",
    );
    spec.mounts = vec![mount("/sub", &upper, &work)];
    assert_eq!(bench.out(spec), "content\nfile\nnew\n");
    assert_eq!(listing(&source), ["sub", "sub/file"]);
    assert_eq!(
        fs::read_to_string(source.join("sub/file")).expect("kept"),
        "content\n"
    );
    assert_eq!(listing(&upper), ["sub", "sub/file", "sub/new"]);
    let mut file = bench.shell("b", "cat /from");
    let [upper, work] = ["mount-upper-2", "mount-work-2"].map(|name| bench.place.join(name));
    fs::create_dir_all(&upper).expect("a directory");
    fs::create_dir_all(&work).expect("a directory");
    file.mounts = vec![mount("sub/file", &upper, &work)];
    assert_eq!(bench.out(file), "content\n");
}

fn nothing_stays_in_the_upper_directory(bench: &Bench) {
    let host = bench.place.join("host");
    fs::create_dir_all(&host).expect("a directory");
    let modified = |path: &Path| {
        fs::metadata(path)
            .map(|meta| (meta.mtime(), meta.mtime_nsec()))
            .expect("metadata")
    };
    for (index, etc) in [false, true].into_iter().enumerate() {
        if etc {
            fs::create_dir_all(bench.lower.join("etc")).expect("a directory");
        }
        let mut spec = bench.spec(&format!("plain-{index}"), &["true"]);
        let upper = bench.place.join(format!("plain-{index}/upper"));
        let before = modified(&upper);
        bench.out(spec);
        assert_eq!(listing(&upper), Vec::<String>::new(), "etc {etc}");
        assert_eq!(modified(&upper), before, "etc {etc}");
        spec = bench.spec(&format!("mounts-{index}"), &["true"]);
        spec.mounts = vec![
            bind(&host, "/a/b/c", false),
            bind(Path::new(BUSYBOX), "/etc/deep/file", true),
            bind(&host, "/etc/deep/dir", true),
            bind(&host, "/bin/dir", false),
        ];
        bench.out(spec);
        assert_eq!(
            listing(&bench.place.join(format!("mounts-{index}/upper"))),
            Vec::<String>::new(),
            "etc {etc}"
        );
        assert!(
            !bench
                .place
                .join(format!("mounts-{index}/work.stub"))
                .exists()
        );
    }
    assert_eq!(listing(&host), Vec::<String>::new());
}

fn hidden_mount_points_leave_nothing(bench: &Bench) {
    let lower = &bench.lower;
    fs::create_dir_all(lower.join("etc")).expect("a directory");
    fs::create_dir_all(lower.join("run")).expect("a directory");
    symlink(
        "../run/systemd/resolve/stub.conf",
        lower.join("etc/resolv.conf"),
    )
    .expect("a link");
    let hide = |path: &Path| {
        let name = if bench.rootless {
            "user.overlay.opaque"
        } else {
            "trusted.overlay.opaque"
        };
        rustix::fs::setxattr(path, name, b"y", rustix::fs::XattrFlags::empty())
            .expect("an attribute");
    };
    hide(&lower.join("etc"));
    fs::create_dir_all(lower.join("data/keep")).expect("a directory");
    hide(&lower.join("data"));
    // whether an opaque directory of the only lower layer hides the stub below it is for this to show
    let mut spec = bench.spec("a", &["sh", "-c", "cat /etc/resolv.conf /run/systemd/resolve/stub.conf; busybox touch -d '2001-02-03 04:05:06' /etc/hosts; ls /data"]);
    spec.mounts = vec![bind(Path::new(BUSYBOX), "/data/x/y", true)];
    assert_eq!(
        bench.out(spec),
        "nameserver 192.0.2.1\nnameserver 192.0.2.1\nkeep\nx\n"
    );
    assert_eq!(listing(&bench.place.join("a/upper")), Vec::<String>::new());

    // what the command did beside the mount points stays
    let mut spec = bench.spec(
        "b",
        &[
            "sh",
            "-c",
            "echo x > /run/systemd/resolve/mine; echo y > /data/z; busybox chmod 700 /etc",
        ],
    );
    spec.mounts = vec![bind(Path::new(BUSYBOX), "/data/x/y", true)];
    bench.out(spec);
    assert_eq!(
        listing(&bench.place.join("b/upper")),
        [
            "data",
            "data/z",
            "etc",
            "run",
            "run/systemd",
            "run/systemd/resolve",
            "run/systemd/resolve/mine"
        ]
    );
}

fn links_of_the_image_stay_inside(bench: &Bench) {
    let outside = bench.place.join("outside");
    fs::create_dir_all(&outside).expect("a directory");
    symlink(&outside, bench.lower.join("absolute")).expect("a link");
    symlink("../../../../../../../../../../..", bench.lower.join("up")).expect("a link");
    let mut spec = bench.shell("a", "cat /absolute/secret; cat /up/top; pwd -P");
    let bytes = |target: &str| Mount {
        target: target.into(),
        source: MountSource::Bytes {
            bytes: format!("{target}\n").into_bytes(),
            mode: 0o444,
            uid: 0,
            gid: 0,
            no_exec: true,
        },
        read_only: false,
    };
    spec.mounts = vec![bytes("/absolute/secret"), bytes("/up/top")];
    spec.cwd = "/absolute/work".into();
    let out = bench.out(spec);
    assert_eq!(
        out,
        format!("/absolute/secret\n/up/top\n{}/work\n", outside.display())
    );
    assert_eq!(listing(&outside), Vec::<String>::new());
    assert!(!Path::new("/top").exists());
}

fn changes_are_in_the_upper_directory(bench: &Bench) {
    fs::write(bench.lower.join("gone"), "").expect("a file");
    bench.out(bench.spec(
        "a",
        &[
            "sh",
            "-c",
            "echo new > /new; busybox rm /gone; busybox chown 5:6 /new; echo x >> /etc/hosts",
        ],
    ));
    let upper = bench.place.join("a/upper");
    assert_eq!(listing(&upper), ["gone", "new"]);
    let new = fs::metadata(upper.join("new")).expect("the file");
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o777), (5, 6, 0o644));
    assert_eq!(
        fs::symlink_metadata(upper.join("gone"))
            .expect("a whiteout")
            .rdev(),
        0
    );
}

fn lower_directories_can_be_removed_and_renamed(bench: &Bench) {
    for name in ["one/in", "two/in"] {
        fs::create_dir_all(bench.lower.join(name)).expect("a directory");
        fs::write(bench.lower.join(name).join("file"), "x").expect("a file");
    }
    let script = "rm -rf /one && mkdir /one && ls /one; mv /two /three && ls /three /three/in; ls -d /two 2>/dev/null; echo done";
    assert_eq!(
        bench.out(bench.shell("a", script)),
        "/three:\nin\n\n/three/in:\nfile\ndone\n"
    );
}

fn a_plain_directory_is_a_root(bench: &Bench) {
    let before = listing(&bench.lower);
    let mut spec = bench.spec(
        "a",
        &[
            "sh",
            "-c",
            "cat /etc/resolv.conf; test -c /dev/null && echo dev",
        ],
    );
    spec.root = Root::Directory(bench.lower.clone());
    spec.mounts = vec![bind(Path::new(BUSYBOX), "/x/y", true)];
    assert_eq!(bench.out(spec), "nameserver 192.0.2.1\ndev\n");
    assert_eq!(listing(&bench.lower), before);
}

fn long_paths_and_many_layers(bench: &Bench) {
    let long = bench.place.join("l".repeat(200)).join("m".repeat(200));
    let mut lowers = Vec::new();
    for index in 0..60 {
        let layer = long.join(format!("{index}:,x"));
        fs::create_dir_all(&layer).expect("a layer");
        fs::write(layer.join(format!("f{index}")), "").expect("a file");
        lowers.push(layer);
    }
    lowers.push(bench.lower.clone());
    let mut spec = bench.spec("a", &["sh", "-c", "ls -d /f* | busybox wc -l"]);
    let (upper, work) = (long.join("upper"), long.join("work"));
    fs::create_dir_all(&upper).expect("a directory");
    fs::create_dir_all(&work).expect("a directory");
    spec.root = Root::Overlay {
        lowers,
        upper,
        work,
        userxattr: bench.rootless,
        stubs: None,
    };
    assert_eq!(bench.out(spec), "60\n");
}

fn resolv_conf_and_hosts_are_the_specs(bench: &Bench) {
    let out = bench.out(bench.spec("a", &["sh", "-c", "cat /etc/resolv.conf /etc/hosts; echo more >> /etc/hosts; busybox tail -n 1 /etc/hosts"]));
    assert_eq!(out, "nameserver 192.0.2.1\n127.0.0.1 localhost\nmore\n");
}

fn orphans_are_reaped(bench: &Bench) {
    let script = "i=0; while [ $i -lt 200 ]; do (busybox true & ) ; i=$((i+1)); done; sleep 0.2; \
                  busybox ps -o stat | busybox grep -c Z";
    let done = bench
        .run(bench.spec("a", &["sh", "-c", script]))
        .expect("runs");
    assert_eq!(done.out, "0\n");
    // an orphan that goes on does not keep the step
    let began = Instant::now();
    bench.out(bench.spec("b", &["sh", "-c", "(sleep 60 &) ; true"]));
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

fn a_step_can_be_killed(bench: &Bench) {
    let running = bench
        .helper
        .run(
            bench.spec(
                "a",
                &["sh", "-c", "busybox trap '' TERM; sleep 60 & sleep 60"],
            ),
            null(),
            null(),
        )
        .expect("starts");
    let killer = running.killer();
    let waiter = std::thread::spawn(move || running.wait());
    std::thread::sleep(Duration::from_millis(100));
    killer.clone().kill();
    assert_eq!(
        waiter.join().expect("a waiter").expect("an end"),
        Exit::Signal(9)
    );
    killer.kill();
    bench.out(bench.spec("b", &["true"]));
}

fn a_dropped_step_is_killed(bench: &Bench) {
    let (mut out, out_end) = pipe();
    let running = bench
        .helper
        .run(
            bench.spec("a", &["sh", "-c", "echo started; sleep 60 & sleep 60"]),
            out_end,
            null(),
        )
        .expect("starts");
    let mut first = [0; 8];
    out.read_exact(&mut first).expect("its first word");
    let began = Instant::now();
    drop(running);
    out.read_to_end(&mut Vec::new()).expect("the end");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

fn a_dropped_helper_ends_its_steps(bench: &Bench) {
    let helper = Helper::start(HelperPath::Current).expect("a helper");
    let (mut out, out_end) = pipe();
    let running = helper
        .run(
            bench.spec("a", &["sh", "-c", "echo started; sleep 60 & sleep 60"]),
            out_end,
            null(),
        )
        .expect("starts");
    let mut first = [0; 8];
    out.read_exact(&mut first).expect("its first word");
    drop(helper);
    // the pipe ends when the last process that holds it does
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the end");
    assert!(matches!(running.wait(), Err(SandboxError::HelperGone)));
}

fn steps_die_with_the_builder(bench: &Bench) {
    let mut victim = Command::new("/proc/self/exe")
        .args([VICTIM.as_ref(), bench.place.join("victim").as_os_str()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a victim");
    let mut out = victim.stdout.take().expect("its output");
    let mut first = [0; 8];
    out.read_exact(&mut first).expect("the step's first word");
    victim.kill().expect("a kill");
    let began = Instant::now();
    // the pipe ends when the last process of the step is gone
    out.read_to_end(&mut Vec::new()).expect("the end");
    victim.wait().expect("a dead victim");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

fn a_root_process_need_not_enter(bench: &Bench) {
    if bench.rootless {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let before = mounts();
    let output = Command::new("/proc/self/exe")
        .current_dir("/")
        .args([NOT_ENTERED, "stays_in_the_upper"])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed; 0 failed"), "{text}");
    assert_eq!(mounts(), before);
}

fn output_to_dev_null(bench: &Bench) {
    let spec = bench.spec(
        "a",
        &[
            "sh",
            "-c",
            "echo out && echo err >&2 && echo more > /dev/stdout",
        ],
    );
    let exit = bench
        .helper
        .run(spec, null(), null())
        .expect("starts")
        .wait()
        .expect("ends");
    assert_eq!(exit, Exit::Code(0));
}

/// A step's first process is the builder's program: who gets at its `/proc/…/exe` must find a read-only mount.
fn the_program_cannot_be_written_by_a_step(bench: &Bench) {
    bench.run(bench.spec("a", &["true"])).expect("runs");
    let mine = format!("PPid:\t{}\n", std::process::id());
    let mut helpers = 0;
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
        if !read("status").contains(&mine) || !read("cmdline").contains("__builder-sandbox") {
            continue;
        }
        helpers += 1;
        let mount = rustix::fs::statvfs(process.path().join("exe")).expect("statvfs");
        assert!(
            mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            "{}",
            process.path().display()
        );
    }
    assert!(helpers > 0, "no helper was found");
}

fn eight_at_once(bench: &Bench) {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|index| {
                scope.spawn(move || {
                    let script = format!("sleep 0.2; echo {index} > /own; cat /own");
                    bench.out(bench.spec(&format!("step-{index}"), &["sh", "-c", &script]))
                })
            })
            .collect();
        for (index, one) in all.into_iter().enumerate() {
            assert_eq!(one.join().expect("a step"), format!("{index}\n"));
        }
    });
}

fn a_program_that_is_no_helper_is_named(_bench: &Bench) {
    for (path, expected) in [
        (
            "/no/such/program",
            "cannot start the sandbox helper /no/such/program",
        ),
        ("/bin/true", "the sandbox helper /bin/true did not answer"),
    ] {
        let error = Helper::start(HelperPath::Path(path.into()))
            .expect_err(path)
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn the_size_of_the_builder_does_not_matter(bench: &Bench) {
    let median = |name: &str| {
        let mut times: Vec<Duration> = (0..100)
            .map(|index| {
                let spec = bench.spec(&format!("{name}-{index}"), &["/bin/true"]);
                let began = Instant::now();
                let exit = bench
                    .helper
                    .run(spec, null(), null())
                    .expect("starts")
                    .wait()
                    .expect("ends");
                assert_eq!(exit, Exit::Code(0));
                began.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let small = median("small");
    let big = vec![1u8; 300 << 20];
    let large = median("large");
    assert_eq!(
        big.iter()
            .step_by(4096)
            .map(|byte| usize::from(*byte))
            .sum::<usize>(),
        (300 << 20) / 4096
    );
    say(&format!(
        "median of 100 `/bin/true` steps: {small:?}; with 300 MB in the builder: {large:?}\n"
    ));
}

fn nothing_is_left_over(bench: &Bench) {
    for index in 0..5 {
        bench.out(bench.spec(&format!("a-{index}"), &["sh", "-c", "(sleep 60 &); true"]));
    }
    let me = std::process::id().to_string();
    let parent = |pid: &str| -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(
            stat.rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .to_owned(),
        )
    };
    let children = |of: &str| -> Vec<String> {
        fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|pid| parent(pid).as_deref() == Some(of))
            .collect()
    };
    let helpers = children(&me);
    assert_eq!(helpers.len(), 1, "helpers and zombies");
    // what a step's namespaces take to go is not waited for by the step
    let gone = Instant::now() + Duration::from_secs(20);
    let left = loop {
        let left = children(&helpers[0]);
        if left.len() <= 1 || Instant::now() > gone {
            break left;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // the process that waits for the next step has no child, and is no zombie
    assert_eq!(left.len(), 1, "steps and zombies: {left:?}");
    assert!(children(&left[0]).is_empty());
    let stat = fs::read_to_string(format!("/proc/{}/stat", left[0])).expect("stat");
    assert!(!stat.contains(") Z "), "{stat}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains("overlay-probe") && !mounts.contains("nothing_is_left_over"));
}
