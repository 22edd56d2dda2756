//! Who builds: root, and an ordinary user with subordinate ids; each on every rung that `ISOLATION` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture;

/// Somebody who runs the command.
#[derive(Debug)]
pub(crate) struct Who {
    /// For messages: `tester, --isolation=copied`.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    ids: Option<(u32, u32)>,
    isolation: Option<String>,
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
        if let Some(rung) = &self.isolation {
            command.arg(format!("--isolation={rung}"));
        }
        command
            .arg("--build-context")
            .arg(format!("busybox=oci-layout://{}:latest", base.display()));
        command
    }

    /// Any program, run by this one.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some((uid, gid)) = self.ids else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={uid}"));
        command.arg(format!("--regid={gid}"));
        command.args(["--clear-groups", "--inh-caps=-all", "--"]);
        command.arg(program);
        command
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
    let program = temp.join("builder");
    fs::copy(fixture::program(), &program).expect("copy the program");
    fixture::set_mode(&program, 0o755);
    let mut people = vec![("whoever runs the tests".to_owned(), None)];
    match ordinary_user() {
        _ if !fixture::is_root() => fixture::skip(test, "root, to become an ordinary user as well"),
        None => fixture::skip(test, "an ordinary user with 65536 ids in /etc/subuid"),
        Some(_) if !fixture::has("newuidmap") || !fixture::has("setpriv") => {
            fixture::skip(test, "newuidmap and setpriv");
        }
        Some((name, uid, gid)) => people.push((name, Some((uid, gid)))),
    }
    let rungs = std::env::var("ISOLATION").unwrap_or_default();
    let rungs: Vec<Option<String>> = match rungs.as_str() {
        "" => vec![None],
        list => list.split(',').map(|rung| Some(rung.to_owned())).collect(),
    };
    let mut all = Vec::new();
    for (name, ids) in people {
        for isolation in &rungs {
            let home = temp.join(format!("home{}", all.len()));
            fs::create_dir(&home).expect("mkdir");
            let who = Who {
                name: match isolation {
                    Some(rung) => format!("{name}, --isolation={rung}"),
                    None => name.clone(),
                },
                program: program.clone(),
                ids,
                isolation: isolation.clone(),
                home,
            };
            who.give(&who.home);
            all.push(who);
        }
    }
    all
}
