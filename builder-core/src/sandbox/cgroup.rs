//! Control groups of steps: one group a step in each hierarchy that a limit needs, gone when the step is.
//!
//! [`plan`] says where, and which files get which values. [`Groups::make`] carries that out; a limit that cannot be set is
//! an error. A step's first process joins its groups itself, before anything else, and then enters a cgroup
//! namespace: the step sees no path of the host's.
//!
//! What `--cgroup-parent` names and is not there is made, as [`Parents`], and goes away with the helper, unless others are in
//! it by then.
//!
//! A group of version 2 that has processes of its own can give no controllers to groups inside it: then the step's
//! group is made beside the builder's, where the group above gives them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use super::cgroup_plan::{Group, Write, machine, plan, words};
use super::error::SandboxError;
use super::limits::{CgroupLimits, Limits, Rlimit};
use super::protocol::{During, Failure};

/// Tries whether steps may have the limits here: makes what a step would get, and removes it.
///
/// # Errors
/// The first limit that cannot be set, and why.
pub fn try_limits(limits: &Limits) -> Result<(), SandboxError> {
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let tried = || -> Result<(), Failure> {
        limits.rlimits.iter().try_for_each(Rlimit::try_out)?;
        let mut parents = Parents::default();
        let id = TRIED.fetch_add(1, Ordering::Relaxed);
        Groups::make(&limits.cgroup, id, &mut parents).map(drop)
    };
    Ok(tried()?)
}

/// The groups of a step.
#[derive(Debug, Default)]
pub(super) struct Groups {
    directories: Vec<PathBuf>,
    /// Files to which a process that joins writes.
    pub(super) joins: Vec<OwnedFd>,
}

const PREFIX: &str = "builder-";

impl Groups {
    /// Makes the groups of step `id`, and the `parents` that they lack, and sets its limits.
    pub(super) fn make(
        limits: &CgroupLimits,
        id: u64,
        parents: &mut Parents,
    ) -> Result<Groups, Failure> {
        let mut groups = Groups::default();
        if limits.is_empty() {
            return Ok(groups);
        }
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let mut machine = machine(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        if let Some(unified) = &machine.unified {
            let controllers = fs::read_to_string(unified.mount.join("cgroup.controllers"));
            machine.unified_controllers = words(&controllers.unwrap_or_default());
        }
        let name = format!(
            "{PREFIX}{}-{id}",
            rustix::process::getpid().as_raw_nonzero()
        );
        for group in plan(limits, &machine)? {
            // what is made so far goes away with `groups`, should this one fail
            groups.one(&group, &name, parents)?;
        }
        if groups.directories.is_empty() {
            return Err(Failure::reason(
                "--cgroup-parent: no control groups are mounted here",
            ));
        }
        Ok(groups)
    }

    fn one(&mut self, group: &Group, name: &str, parents: &mut Parents) -> Result<(), Failure> {
        let mut refused = None;
        for base in &group.bases {
            match made(group, base, name, parents) {
                Ok(directory) => {
                    self.directories.push(directory.clone());
                    return self.fill(group, &directory);
                }
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
        Err(refused.unwrap_or_else(|| Failure::reason("a control group without a place")))
    }

    fn fill(&mut self, group: &Group, directory: &Path) -> Result<(), Failure> {
        let old_cpuset = !group.unified && group.controllers.contains(&"cpuset");
        for file in CPUSET_FILES.iter().filter(|_| old_cpuset) {
            // empty in a new group, and then nobody may join it
            inherit(directory, file).during_at("set up the control group", directory)?;
        }
        for Write {
            file,
            value,
            optional,
            flag,
        } in &group.writes
        {
            let Err(error) = fs::write(directory.join(file), value) else {
                continue;
            };
            if *optional {
                continue;
            }
            if let Some(there) = available(directory, file) {
                return Err(Failure::reason(format!(
                    "{flag}={value}: not all of them are to be had here, but {there}"
                )));
            }
            let doing = format!("set {flag}: write {value} to");
            return Err(error).during_at(&doing, directory.join(file));
        }
        let procs = directory.join("cgroup.procs");
        let join = rustix::fs::open(&procs, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .during_at("open", &procs)?;
        self.joins.push(join);
        Ok(())
    }
}

/// What there is of what the file lists, in the group above.
fn available(directory: &Path, file: &str) -> Option<String> {
    let above = directory.parent().filter(|_| file.starts_with("cpuset."))?;
    let read = |name: &str| fs::read_to_string(above.join(name)).ok();
    let list = read(&format!("{file}.effective")).or_else(|| read(file))?;
    Some(list.trim().to_owned())
}

impl Drop for Groups {
    fn drop(&mut self) {
        for directory in self.directories.drain(..) {
            // the step's processes are gone, and reaped: nothing holds it. If something does, a later step removes it
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Groups that were made for those of steps to be in, outer ones first; dropped, those that are empty go.
#[derive(Debug, Default)]
pub(super) struct Parents(Vec<PathBuf>);

impl Parents {
    /// Makes `base`, and what is missing between it and `mount`.
    fn make(&mut self, group: &Group, base: &Path) -> Result<(), Failure> {
        let cpuset = !group.unified && group.controllers.contains(&"cpuset");
        for level in levels(&group.mount, base).into_iter().skip(1) {
            match fs::create_dir(level) {
                Ok(()) => self.0.push(level.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.during_at("make the control group", level)?,
            }
            for file in CPUSET_FILES.iter().filter(|_| cpuset) {
                // empty in a new group, and then nobody may join those inside
                inherit(level, file).during_at("set up the control group", level)?;
            }
        }
        Ok(())
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for directory in self.0.drain(..).rev() {
            // of another build too, by now: it is not empty then
            let _ = fs::remove_dir(directory);
        }
    }
}

/// From the root of the hierarchy down to `base`.
fn levels<'a>(mount: &Path, base: &'a Path) -> Vec<&'a Path> {
    let up = base.ancestors().take_while(|path| path.starts_with(mount));
    let mut levels: Vec<&Path> = up.collect();
    levels.reverse();
    levels
}

const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// How often a parent that another build has just removed is made again.
const ATTEMPTS: usize = 8;

/// Makes the group's directory in `base`, with its controllers.
fn made(group: &Group, base: &Path, name: &str, parents: &mut Parents) -> Result<PathBuf, Failure> {
    let directory = base.join(name);
    for attempt in 1.. {
        if group.make_base {
            parents.make(group, base)?;
        }
        sweep(base);
        if group.unified {
            // above what was given there is nothing to be set: it is somebody else's
            let given = match group.make_base {
                true => levels(&group.mount, base),
                false => vec![base],
            };
            for level in given {
                give(level, &group.controllers)?;
            }
        }
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && group.make_base
                    && attempt < ATTEMPTS => {}
            other => {
                other.during_at("make the control group", &directory)?;
                break;
            }
        }
    }
    Ok(directory)
}

/// Has the groups inside `directory` get the controllers.
fn give(directory: &Path, controllers: &[&str]) -> Result<(), Failure> {
    let file = directory.join("cgroup.subtree_control");
    let given = words(&fs::read_to_string(&file).unwrap_or_default());
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| !given.iter().any(|it| it == *controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::write(&file, missing.join(" ")).during_at(
        "give a control group its controllers (--cgroup-parent names a group without processes): write to",
        file,
    )
}

fn inherit(directory: &Path, file: &str) -> io::Result<()> {
    let own = directory.join(file);
    if !fs::read_to_string(&own)?.trim().is_empty() {
        return Ok(());
    }
    match directory.parent() {
        Some(parent) => fs::write(own, fs::read_to_string(parent.join(file))?),
        None => Ok(()),
    }
}

/// Removes groups of helpers that were killed.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
