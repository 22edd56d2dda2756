//! Who builds: root, and an ordinary user with subordinate ids; each on the best rung, or on every one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture;

/// A way of running steps, and what takes the better ones away.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    name: &'static str,
    /// Empty: what `builder` takes by itself.
    isolation: &'static str,
    /// Whose it is; `None`: everybody's.
    of_root: Option<bool>,
    /// The home is on an overlay, on which no other can be mounted.
    on_overlay: bool,
}

const WAYS: &[Way] = &[
    way("overlay", None),
    way("copied", None),
    way("single-id", Some(false)),
    Way {
        name: "single-id and copied",
        on_overlay: true,
        ..way("single-id", Some(false))
    },
    way("chroot", Some(true)),
];

const fn way(isolation: &'static str, of_root: Option<bool>) -> Way {
    Way {
        name: isolation,
        isolation,
        of_root,
        on_overlay: false,
    }
}

impl Way {
    fn is_for(self, root: bool) -> bool {
        // the overlay of a home is mounted by root
        self.of_root.is_none_or(|it| it == root) && (!self.on_overlay || fixture::is_root())
    }
}

/// What Docker gives to a container's root.
pub(crate) const CAPABILITIES: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
     +net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap";

/// Somebody who runs the command.
#[derive(Debug)]
pub(crate) struct Who {
    /// For messages: `tester, copied`.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    ids: Option<(u32, u32)>,
    way: Way,
    /// A directory that is this one's own.
    pub(crate) home: PathBuf,
}

impl Who {
    /// `builder build` with the base image and a store in the home.
    pub(crate) fn build(&self, base: &Path) -> Command {
        let mut command = self.command(&self.program);
        command
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.home)
            .current_dir(&self.home);
        for name in ["XDG_DATA_HOME", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        command.arg("build").arg("--root").arg(self.store());
        if !self.way.isolation.is_empty() {
            command.arg(format!("--isolation={}", self.way.isolation));
        }
        command
            .arg("--build-context")
            .arg(format!("busybox=oci-layout://{}:latest", base.display()));
        command
    }

    /// Any program, run by this one.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.way.on_overlay {
            let [lower, work] = ["lower", "work"].map(|name| self.home.with_extension(name));
            // the home's own directory is the upper one: what is written there is seen from outside, too
            let script = "mkdir -p \"$1\" \"$2\"; \
                 mount -t overlay -o \"lowerdir=$1,upperdir=$3,workdir=$2\" overlay \"$3\"; \
                 shift 3; cd \"$PWD\"; exec \"$@\"";
            words.extend(
                ["unshare", "--mount", "--propagation=private", "sh", "-ec"].map(Into::into),
            );
            words.extend([script.into(), "sh".into(), lower.into(), work.into()]);
            words.push(self.home.clone().into());
        }
        if let Some((uid, gid)) = self.ids {
            words.push("setpriv".into());
            words.extend([format!("--reuid={uid}"), format!("--regid={gid}")].map(Into::into));
            words.extend(["--clear-groups", "--inh-caps=-all", "--"].map(Into::into));
        } else if self.is_confined() {
            words.push("setpriv".into());
            words.push(format!("--bounding-set={CAPABILITIES}").into());
            words.extend(["--inh-caps=-all", "--"].map(Into::into));
        }
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Without namespaces and mounts, as root in a default container.
    pub(crate) fn is_confined(&self) -> bool {
        self.way.isolation == "chroot"
    }

    /// Steps have overlays, not copies.
    pub(crate) fn is_on_overlays(&self) -> bool {
        !self.way.on_overlay && !matches!(self.way.isolation, "copied" | "chroot")
    }

    /// The rung; empty: the best.
    pub(crate) fn rung(&self) -> &'static str {
        self.way.isolation
    }

    /// What this machine, or this test, needs for this one to build.
    fn lacks(&self) -> Option<String> {
        let tools: &[&str] = match (self.way.on_overlay, self.is_confined()) {
            (true, _) => &["unshare", "mount"],
            (_, true) => &["setpriv"],
            _ => &[],
        };
        if let Some(tool) = tools.iter().find(|tool| !fixture::has(tool)) {
            return Some((*tool).to_owned());
        }
        if self.way.isolation.is_empty() {
            return None;
        }
        let mut doctor = self.command(&self.program);
        doctor.args(["doctor", "--format=json", "--root"]);
        doctor.arg(&self.home).current_dir(&self.home);
        doctor.env("HOME", &self.home);
        let said = fixture::run(&mut doctor);
        let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let others = said["others"].as_array().into_iter().flatten();
        let mut rungs = others.chain([&said["rung"]]);
        match rungs.any(|rung| rung == self.way.isolation) {
            true => None,
            false => Some(format!(
                "a machine that gives `{}` (builder doctor)",
                self.way.isolation
            )),
        }
    }

    /// Not root.
    pub(crate) fn is_ordinary(&self) -> bool {
        self.ids.is_some()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// Makes a directory and all in it this one's own.
    pub(crate) fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            let done = Command::new("chown")
                .args(["-hR", &format!("{uid}:{gid}")])
                .arg(path)
                .status();
            assert!(done.is_ok_and(|it| it.success()), "chown");
        }
    }
}

/// An ordinary user of this machine that has subordinate ids: name, uid, gid.
pub(crate) fn ordinary_user() -> Option<(String, u32, u32)> {
    let subuid = fs::read_to_string("/etc/subuid").ok()?;
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let enough = |name: &str| {
        subuid.lines().any(|line| {
            let mut parts = line.split(':');
            parts.next() == Some(name)
                && parts
                    .nth(1)
                    .and_then(|n| n.parse().ok())
                    .is_some_and(|n: u64| n >= 65_536)
        })
    };
    passwd.lines().find_map(|line| {
        let parts: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (parts.get(2)?.parse().ok()?, parts.get(3)?.parse().ok()?);
        (uid != 0 && enough(parts[0])).then(|| (parts[0].to_owned(), uid, gid))
    })
}

/// Everybody who can build here, with homes in `temp`; who cannot is said on stderr.
pub(crate) fn everybody(test: &str, temp: &Path) -> Vec<Who> {
    let rungs = named_rungs();
    let ways: Vec<Way> = match rungs.is_empty() {
        true => vec![Way::default()],
        false => WAYS
            .iter()
            .filter(|way| rungs.iter().any(|rung| rung == way.isolation))
            .copied()
            .collect(),
    };
    people(test, temp, &ways)
}

/// Everybody on every rung that this machine gives; `ISOLATION` names fewer. A rung that is not to be had is said on stderr.
pub(crate) fn on_every_rung(test: &str, temp: &Path) -> Vec<Who> {
    let rungs = named_rungs();
    let wanted = |way: &&Way| rungs.is_empty() || rungs.iter().any(|rung| rung == way.isolation);
    let ways: Vec<Way> = WAYS.iter().filter(wanted).copied().collect();
    people(test, temp, &ways)
}

fn named_rungs() -> Vec<String> {
    let list = std::env::var("ISOLATION").unwrap_or_default();
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn people(test: &str, temp: &Path, ways: &[Way]) -> Vec<Who> {
    let program = temp.join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    fixture::set_mode(&program, 0o755);
    let me = if fixture::is_root() {
        "root"
    } else {
        "whoever runs the tests"
    };
    let mut people = vec![(me.to_owned(), None)];
    match ordinary_user() {
        _ if !fixture::is_root() => fixture::skip(test, "root, to become an ordinary user as well"),
        None => fixture::skip(test, "an ordinary user with 65536 ids in /etc/subuid"),
        Some(_) if !fixture::has("newuidmap") || !fixture::has("setpriv") => {
            fixture::skip(test, "newuidmap and setpriv");
        }
        Some((name, uid, gid)) => people.push((name, Some((uid, gid)))),
    }
    let mut all = Vec::new();
    for (name, ids) in people {
        let is_root = ids.is_none() && fixture::is_root();
        for way in ways.iter().filter(|way| way.is_for(is_root)) {
            let home = temp.join(format!("home{}", all.len()));
            fs::create_dir(&home).expect("mkdir");
            let who = Who {
                name: match way.name {
                    "" => name.clone(),
                    way => format!("{name}, {way}"),
                },
                program: program.clone(),
                ids,
                way: *way,
                home,
            };
            who.give(&who.home);
            match who.lacks() {
                None => all.push(who),
                Some(what) => {
                    fs::remove_dir(&who.home).expect("remove the home");
                    fixture::skip(&format!("{test}: {}", who.name), &what);
                }
            }
        }
    }
    all
}
