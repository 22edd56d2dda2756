//! Inside a container that allows no namespaces: root runs steps by chroot, anybody else builds all but RUN.
//!
//! Twice: in a process that was brought into the same position, which needs only util-linux, and in a real container of
//! Docker's engine with its default capabilities and filter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Engine;
use crate::fixture;
use crate::tree::Image;
use crate::users::CAPABILITIES;

const DOCKERFILE: &str = "FROM busybox\n\
    RUN --mount=type=cache,target=/c --mount=type=secret,id=s \\\n\
        id -u > /who; cat /run/secrets/s > /dev/null && echo kept >> /c/n && cp /c/n /n\n\
    RUN (setsid sleep 876543 &) ; chown 7:8 /who && mkdir /srv && ln /who /srv/link && rm /data/keep.txt\n\
    USER app\n\
    RUN id -un > /tmp/me && ! chroot / true && ! mknod /tmp/x c 1 3\n";

/// A directory that all of it happens in.
struct Place {
    temp: tempfile::TempDir,
    base: &'static Path,
}

impl Place {
    fn new(base: &'static Path) -> Self {
        let temp = fixture::temp_dir();
        let path = temp.path();
        fs::copy(fixture::program(), path.join("builder")).expect("copy the program");
        fixture::set_mode(&path.join("builder"), 0o755);
        fixture::set_mode(path, 0o755);
        fs::create_dir(path.join("context")).expect("mkdir");
        fs::write(path.join("context/Dockerfile"), DOCKERFILE).expect("write");
        fs::write(
            path.join("context/Copy"),
            "FROM scratch\nCOPY Copy /\nLABEL a=b\n",
        )
        .expect("write");
        fs::write(path.join("secret"), "hidden").expect("write");
        fs::write(path.join("auth.json"), "{}").expect("write");
        fixture::copy_tree(base, &path.join("base"));
        Place { temp, base }
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The arguments of a build in `at`, where this directory is seen from inside.
    fn arguments(&self, at: &Path, store: &Path, more: &[&str]) -> Vec<String> {
        let at = at.display();
        let mut all: Vec<String> = ["build", "--progress=plain", "--root"]
            .map(str::to_owned)
            .into();
        all.push(store.display().to_string());
        all.push(format!(
            "--build-context=busybox=oci-layout://{at}/base:latest"
        ));
        all.push(format!("--secret=id=s,src={at}/secret"));
        all.push(format!("--authfile={at}/auth.json"));
        all.extend(more.iter().map(|one| (*one).to_owned()));
        all.push(format!("{at}/context"));
        all
    }

    /// Builds as root on the best rung, to compare with.
    fn expected(&self) -> PathBuf {
        let out = self.path().join("expected");
        let to = format!("--output=type=oci,tar=false,dest={}", out.display());
        let mut command = Command::new(self.path().join("builder"));
        command.args(self.arguments(self.path(), &self.path().join("expected-store"), &[&to]));
        let done = fixture::run(command.env("SOURCE_DATE_EPOCH", "1700000000"));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        out
    }

    fn compare(&self, expected: &Path, found: &Path) {
        let (one, two) = (Image::open(expected, None), Image::open(found, None));
        let base = Image::open(self.base, Some("latest"));
        assert_eq!(
            one.changes_above(Some(&base)),
            two.changes_above(Some(&base))
        );
        assert_eq!(one.diff_ids(), two.diff_ids());
    }
}

fn no_sleeper_is_left() {
    let left = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .any(|entry| {
            fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"876543"))
        });
    assert!(!left, "a step's daemon outlives it");
}

/// What holds wherever namespaces are refused; `run` runs the program as a user, with arguments, in that place.
fn holds(place: &Place, at: &Path, run: &dyn Fn(u32, &[String]) -> fixture::Ran) {
    let expected = place.expected();
    let out = place.path().join("out");
    fs::create_dir(&out).expect("mkdir");
    fixture::set_mode(&out, 0o777);
    let to = |name: &str| {
        let dest = at.join("out").join(name);
        format!("--output=type=oci,tar=false,dest={}", dest.display())
    };
    let store = at.join("out/store");
    let done = run(0, &place.arguments(at, &store, &[&to("root")]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("isolation: chroot ("),
        "{}",
        done.stderr
    );
    place.compare(&expected, &out.join("root"));
    no_sleeper_is_left();
    let done = run(0, &["doctor".to_owned(), "--format=json".to_owned()]);
    assert!(
        done.stdout.contains("\"rung\": \"chroot\""),
        "{}",
        done.stdout
    );

    let store = at.join("out/user-store");
    let done = run(1000, &place.arguments(at, &store, &[]));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("no RUN can be run here"),
        "{}",
        done.stderr
    );
    let file = format!("--file={}/context/Copy", at.display());
    let done = run(1000, &place.arguments(at, &store, &[&file, &to("user")]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn where_namespaces_are_refused() {
    const NAME: &str = "a process without namespaces";
    let Some(base) = fixture::base(NAME) else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip(NAME, "to be run by root, which then gives rights up");
    }
    for tool in ["setpriv", "unshare", "chroot", "mount"] {
        if !fixture::has(tool) {
            return fixture::skip(NAME, tool);
        }
    }
    let place = Place::new(base);
    // The kernel refuses user namespaces to whom was put into a chroot.
    let script = "mount --rbind / \"$1\"; shift; root=$1; uid=$2; caps=$3; shift 3; \
         exec chroot \"$root\" setpriv --reuid=$uid --regid=$uid --clear-groups --bounding-set=$caps --inh-caps=-all \"$@\"";
    let root = place.path().join("rbind");
    fs::create_dir(&root).expect("mkdir");
    let run = |uid: u32, arguments: &[String]| {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation=private",
            "sh",
            "-ec",
            script,
            "sh",
        ]);
        command.arg(&root).arg(&root).arg(uid.to_string());
        command.arg(CAPABILITIES).arg(place.path().join("builder"));
        command.args(arguments).current_dir("/");
        command.env("HOME", place.path());
        fixture::run(command.env("SOURCE_DATE_EPOCH", "1700000000"))
    };
    holds(&place, place.path(), &run);
}

#[test]
fn in_a_default_container() {
    const NAME: &str = "a container of Docker's engine";
    let Some(base) = fixture::base(NAME) else {
        return;
    };
    if !fixture::is_root() {
        return fixture::skip(NAME, "to be run by root, who can start the engine");
    }
    for tool in ["dockerd", "docker"] {
        if !fixture::has(tool) {
            return fixture::skip(NAME, tool);
        }
    }
    let temp = fixture::temp_dir();
    let engine = match Engine::docker_in(temp.path()) {
        Ok(engine) => engine,
        Err(why) => return fixture::skip(NAME, &format!("an engine that starts: {why}")),
    };
    let place = Place::new(base);
    // An image of empty directories: the machine's own programs are mounted into it.
    let empty = place.path().join("empty");
    for name in ["bin", "lib", "lib64", "usr", "tmp", "etc"] {
        fs::create_dir_all(empty.join(name)).expect("mkdir");
    }
    let tar = place.path().join("empty.tar");
    let packed = Command::new("tar")
        .args([
            "-cf".as_ref(),
            tar.as_os_str(),
            "-C".as_ref(),
            empty.as_os_str(),
            ".".as_ref(),
        ])
        .status();
    assert!(packed.is_ok_and(|it| it.success()), "tar");
    let imported = fixture::run(engine.docker().arg("import").arg(&tar).arg("empty:1"));
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let run = |uid: u32, arguments: &[String]| {
        let mut command = engine.docker();
        command.args([
            "run",
            "--rm",
            "--network=host",
            "--env=SOURCE_DATE_EPOCH=1700000000",
        ]);
        command.arg(format!("--user={uid}:{uid}"));
        for name in ["/bin", "/lib", "/lib64", "/usr"] {
            if Path::new(name).exists() {
                command.arg(format!("--volume={name}:{name}:ro"));
            }
        }
        command.arg(format!("--volume={}:/place", place.path().display()));
        command.args(["empty:1", "/place/builder"]).args(arguments);
        fixture::run(&mut command)
    };
    holds(&place, Path::new("/place"), &run);
}
