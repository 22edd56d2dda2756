//! Which control groups a step's limits need, and with which values: from what the machine has (version 1, version 2, or
//! both side by side). Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::limits::CgroupLimits;
use super::protocol::Failure;

/// Where a hierarchy is mounted, and where the builder is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    pub(super) own: PathBuf,
}

/// What the machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Version 1, by controller.
    pub(super) old: BTreeMap<String, Hierarchy>,
    pub(super) unified: Option<Hierarchy>,
    /// Controllers of the unified hierarchy's root.
    pub(super) unified_controllers: Vec<String>,
}

/// One group to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) mount: PathBuf,
    /// Directories in which the group may be made, best first.
    pub(super) bases: Vec<PathBuf>,
    /// The base may be missing, and is made.
    pub(super) make_base: bool,
    pub(super) unified: bool,
    pub(super) controllers: Vec<&'static str>,
    pub(super) writes: Vec<Write>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Not asked for by name: a kernel without the file does without.
    pub(super) optional: bool,
    /// The flag, for messages.
    pub(super) flag: &'static str,
}

pub(super) const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuset", "pids"];

/// Which groups the limits need.
pub(super) fn plan(limits: &CgroupLimits, machine: &Machine) -> Result<Vec<Group>, Failure> {
    let mut groups: Vec<Group> = Vec::new();
    for controller in CONTROLLERS {
        let asked = flag_of(limits, controller);
        if asked.is_none() && limits.parent.is_none() {
            continue;
        }
        let in_unified = machine
            .unified_controllers
            .iter()
            .any(|it| it == controller);
        let (hierarchy, unified) = match (machine.old.get(controller), &machine.unified) {
            (Some(old), _) => (old, false),
            (None, Some(unified)) if in_unified => (unified, true),
            _ => match asked {
                Some(flag) => {
                    return Err(Failure::reason(format!(
                        "{flag} needs the control group controller `{controller}`, which is not mounted here"
                    )));
                }
                None => continue,
            },
        };
        let writes = match unified {
            true => new_files(limits, controller),
            false => old_files(limits, controller),
        };
        let same = |group: &&mut Group| group.mount == hierarchy.mount;
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.controllers.push(controller);
                group.writes.extend(writes);
            }
            None => groups.push(Group {
                mount: hierarchy.mount.clone(),
                bases: bases(hierarchy, limits.parent.as_deref(), unified),
                make_base: limits.parent.is_some(),
                unified,
                controllers: vec![controller],
                writes,
            }),
        }
    }
    Ok(groups)
}

fn bases(hierarchy: &Hierarchy, parent: Option<&str>, unified: bool) -> Vec<PathBuf> {
    if let Some(parent) = parent {
        return vec![hierarchy.mount.join(parent.trim_start_matches('/'))];
    }
    let own = hierarchy.own.ancestors();
    own.take_while(|path| path.starts_with(&hierarchy.mount))
        .take(if unified { usize::MAX } else { 1 })
        .map(Path::to_owned)
        .collect()
}

/// The first flag that asks something of the controller.
fn flag_of(limits: &CgroupLimits, controller: &str) -> Option<&'static str> {
    let given = |is: bool, flag| is.then_some(flag);
    match controller {
        "memory" => given(limits.memory_bytes.is_some(), "--memory")
            .or_else(|| given(limits.memory_swap_bytes.is_some(), "--memory-swap")),
        "cpu" => given(limits.cpu_quota_us.is_some(), "--cpu-quota")
            .or_else(|| given(limits.cpu_period_us.is_some(), "--cpu-period"))
            .or_else(|| given(limits.cpu_shares.is_some(), "--cpu-shares")),
        "cpuset" => given(limits.cpuset_cpus.is_some(), "--cpuset-cpus")
            .or_else(|| given(limits.cpuset_mems.is_some(), "--cpuset-mems")),
        _ => given(limits.pids.is_some(), "--pids-limit"),
    }
}

pub(super) struct Writes(Vec<Write>);

impl Writes {
    fn put(&mut self, file: &'static str, flag: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.push(Write {
                file,
                value: value.to_string(),
                optional: false,
                flag,
            });
        }
    }
}

fn max_or(value: i64) -> String {
    match value {
        ..=-1 => "max".to_owned(),
        value => value.to_string(),
    }
}

/// Docker's default: as much swap again as memory.
fn twice(limits: &CgroupLimits) -> Option<i64> {
    let memory = i64::try_from(limits.memory_bytes?).ok()?;
    limits
        .memory_swap_bytes
        .is_none()
        .then(|| memory.saturating_mul(2))
}

fn old_files(limits: &CgroupLimits, controller: &str) -> Vec<Write> {
    let mut out = Writes(Vec::new());
    match controller {
        "memory" => {
            out.put("memory.limit_in_bytes", "--memory", limits.memory_bytes);
            let (file, swap) = ("memory.memsw.limit_in_bytes", limits.memory_swap_bytes);
            out.put(file, "--memory-swap", swap);
            if let Some(twice) = twice(limits) {
                out.put(file, "--memory", Some(twice));
                out.0.iter_mut().skip(1).for_each(|it| it.optional = true);
            }
        }
        "cpu" => {
            out.put("cpu.cfs_period_us", "--cpu-period", limits.cpu_period_us);
            out.put("cpu.cfs_quota_us", "--cpu-quota", limits.cpu_quota_us);
            out.put("cpu.shares", "--cpu-shares", limits.cpu_shares);
        }
        "cpuset" => {
            out.put("cpuset.cpus", "--cpuset-cpus", limits.cpuset_cpus.as_ref());
            out.put("cpuset.mems", "--cpuset-mems", limits.cpuset_mems.as_ref());
        }
        _ => out.put("pids.max", "--pids-limit", limits.pids.map(max_or)),
    }
    out.0
}

fn new_files(limits: &CgroupLimits, controller: &str) -> Vec<Write> {
    let mut out = Writes(Vec::new());
    match controller {
        "memory" => {
            out.put("memory.max", "--memory", limits.memory_bytes);
            let memory = limits.memory_bytes.and_then(|it| i64::try_from(it).ok());
            // version 2 counts swap alone
            let swap = |total: i64| match total {
                ..=-1 => "max".to_owned(),
                total => (total - memory.unwrap_or(0)).max(0).to_string(),
            };
            let file = "memory.swap.max";
            out.put(file, "--memory-swap", limits.memory_swap_bytes.map(swap));
            if let Some(twice) = twice(limits) {
                out.put(file, "--memory", Some(swap(twice)));
                out.0.iter_mut().skip(1).for_each(|it| it.optional = true);
            }
        }
        "cpu" => {
            if limits.cpu_quota_us.is_some() || limits.cpu_period_us.is_some() {
                let quota = max_or(limits.cpu_quota_us.unwrap_or(-1));
                let period = limits.cpu_period_us.unwrap_or(100_000);
                out.put("cpu.max", "--cpu-quota", Some(format!("{quota} {period}")));
            }
            // 2…262144 becomes 1…10000, as runtimes have it
            let weight = |shares: u64| 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
            out.put("cpu.weight", "--cpu-shares", limits.cpu_shares.map(weight));
        }
        "cpuset" => {
            out.put("cpuset.cpus", "--cpuset-cpus", limits.cpuset_cpus.as_ref());
            out.put("cpuset.mems", "--cpuset-mems", limits.cpuset_mems.as_ref());
        }
        _ => out.put("pids.max", "--pids-limit", limits.pids.map(max_or)),
    }
    out.0
}

/// Reads what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
pub(super) fn machine(mountinfo: &str, own: &str) -> Machine {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(names), Some(path)) = (fields.next(), fields.next()) {
            for name in names.split(',') {
                paths.insert(name.to_owned(), path.to_owned());
            }
        }
    }
    let mut out = Machine::default();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let (Some(root), Some(mount)) = (before.get(3), before.get(4)) else {
            continue;
        };
        let hierarchy = |name: &str| {
            let path = paths.get(name).map_or("/", String::as_str);
            // outside what is mounted here: the mount's own root is the nearest
            let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            let plain = inside
                .components()
                .all(|it| matches!(it, std::path::Component::Normal(_)));
            let mount = PathBuf::from(mount.replace("\\040", " "));
            Hierarchy {
                own: match plain {
                    true => mount.join(inside),
                    false => mount.clone(),
                },
                mount,
            }
        };
        match (after.first(), after.get(2)) {
            (Some(&"cgroup2"), _) => out.unified = Some(hierarchy("")),
            (Some(&"cgroup"), Some(options)) => {
                for name in options.split(',').filter(|it| CONTROLLERS.contains(it)) {
                    out.old.insert(name.to_owned(), hierarchy(name));
                }
            }
            _ => {}
        }
    }
    out
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "\
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 /docker/x /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 30 0:39 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
    const OLD_OWN: &str = "4:memory:/a/b\n3:cpu,cpuacct:/docker/x/y\n2:pids:/..\n0::/";
    const NEW: &str = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";

    fn shown(limits: &CgroupLimits, machine: &Machine) -> String {
        match plan(limits, machine) {
            Err(failure) => failure.to_string(),
            Ok(groups) => groups
                .iter()
                .map(|group| {
                    let writes: Vec<String> = group
                        .writes
                        .iter()
                        .map(|it| format!("{}={}", it.file, it.value))
                        .collect();
                    format!("{} {}", group.bases[0].display(), writes.join(" "))
                })
                .collect::<Vec<_>>()
                .join("; "),
        }
    }

    #[test]
    fn limits_become_files_of_either_version() {
        let old = machine(OLD, OLD_OWN);
        let mut new = machine(NEW, "0::/user.slice/u.scope");
        new.unified_controllers = words("cpuset cpu memory pids");
        let none = CgroupLimits::default;
        for (limits, in_old, in_new) in [
            (
                CgroupLimits {
                    memory_bytes: Some(100),
                    ..none()
                },
                "/sys/fs/cgroup/memory/a/b memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=200",
                "/sys/fs/cgroup/user.slice/u.scope memory.max=100 memory.swap.max=100",
            ),
            (
                CgroupLimits {
                    memory_bytes: Some(100),
                    memory_swap_bytes: Some(-1),
                    ..none()
                },
                "/sys/fs/cgroup/memory/a/b memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=-1",
                "/sys/fs/cgroup/user.slice/u.scope memory.max=100 memory.swap.max=max",
            ),
            (
                CgroupLimits {
                    cpu_quota_us: Some(50_000),
                    cpu_shares: Some(1024),
                    ..none()
                },
                "/sys/fs/cgroup/cpu/y cpu.cfs_quota_us=50000 cpu.shares=1024",
                "/sys/fs/cgroup/user.slice/u.scope cpu.max=50000 100000 cpu.weight=39",
            ),
            (
                CgroupLimits {
                    pids: Some(7),
                    parent: Some("/p".to_owned()),
                    ..none()
                },
                "/sys/fs/cgroup/memory/p ; /sys/fs/cgroup/cpu/p ; /sys/fs/cgroup/pids/p pids.max=7",
                "/sys/fs/cgroup/p pids.max=7",
            ),
            (
                CgroupLimits {
                    cpuset_cpus: Some("0".to_owned()),
                    ..none()
                },
                "--cpuset-cpus needs the control group controller `cpuset`, which is not mounted here",
                "/sys/fs/cgroup/user.slice/u.scope cpuset.cpus=0",
            ),
        ] {
            assert_eq!(shown(&limits, &old), in_old);
            assert_eq!(shown(&limits, &new), in_new);
        }
    }

    #[test]
    fn a_group_with_processes_is_no_base_so_those_above_are_tried() {
        let new = machine(NEW, "0::/user.slice/u.scope");
        let unified = new.unified.expect("a unified hierarchy");
        let places = ["user.slice/u.scope", "user.slice", ""];
        let expected = places.map(|it| Path::new("/sys/fs/cgroup").join(it));
        assert_eq!(bases(&unified, None, true), expected);
    }
}
