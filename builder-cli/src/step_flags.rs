//! Flags of `builder build` that are about every RUN: what it may use, reach and take.

#![allow(rustdoc::broken_intra_doc_links)] // brackets in help texts: what may be left out

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use builder_core::Build;
use builder_core::sandbox::{Limits, Rlimit};
use builder_core::solve::Entitlement;

use crate::exit::Failure;
use crate::quantities;

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Steps")]
pub(crate) struct StepFlags {
    /// Line of /etc/hosts; `host-gateway` is this machine
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// What steps may ask for: security.insecure, device[=NAME]; network.host is theirs anyway
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// Directory of CDI specs, for RUN --device; may be repeated, the last wins [default: /etc/cdi, /var/run/cdi]
    #[arg(long, value_name = "DIR")]
    cdi_spec_dir: Vec<PathBuf>,
    /// Limit of every process: nofile=1024[:2048], -1 for none
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Memory of a step: 512m, 2g
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory and swap together; -1 for no limit of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Processors of a step: 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Microseconds of processor time in a period; -1 for no limit
    #[arg(
        long,
        value_name = "US",
        allow_hyphen_values = true,
        conflicts_with = "cpus"
    )]
    cpu_quota: Option<i64>,
    /// A period, in microseconds
    #[arg(long, value_name = "US", conflicts_with = "cpus")]
    cpu_period: Option<u64>,
    /// Weight beside other groups; 1024 is usual
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Processors that a step may run on: 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that a step may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Processes and threads of a step; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Control group in which those of the steps are made
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// How long one RUN may take: 90s, 10m, 1h30m
    #[arg(long, value_name = "DURATION")]
    step_timeout: Option<String>,
    /// How long the whole build may take
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
}

impl StepFlags {
    /// Translates them all.
    pub(crate) fn apply(self, mut build: Build) -> Result<Build, Failure> {
        for text in &self.add_host {
            let (name, ip) = host(text)?;
            build = build.add_host(name, ip);
        }
        for text in &self.allow {
            let entitlement: Entitlement = text
                .parse()
                .map_err(|error| Failure::usage(format!("--allow: {error}")))?;
            build = build.allow(entitlement);
        }
        for directory in &self.cdi_spec_dir {
            build = build.device_dir(directory);
        }
        if let Some(text) = &self.step_timeout {
            build = build.step_timeout(duration("--step-timeout", text)?);
        }
        if let Some(text) = &self.timeout {
            build = build.timeout(duration("--timeout", text)?);
        }
        Ok(build.limits(self.limits()?))
    }

    fn limits(self) -> Result<Limits, Failure> {
        let mut limits = Limits::default();
        for text in &self.ulimit {
            let limit: Rlimit = text
                .parse()
                .map_err(|error| Failure::usage(format!("--ulimit {error}")))?;
            limits.rlimits.push(limit);
        }
        let size =
            |flag: &str, text: Option<&String>| text.map(|text| bytes(flag, text)).transpose();
        limits.shm_bytes = size("--shm-size", self.shm_size.as_ref())?;
        let group = &mut limits.cgroup;
        group.memory_bytes = size("--memory", self.memory.as_ref())?;
        group.memory_swap_bytes = match self.memory_swap.as_deref() {
            Some("-1") => Some(-1),
            Some(text) => i64::try_from(bytes("--memory-swap", text)?).ok(),
            None => None,
        };
        if let Some(text) = &self.cpus {
            let set = group.set_cpus(text);
            set.map_err(|error| Failure::usage(format!("--cpus {error}")))?;
        }
        group.cpu_quota_us = group.cpu_quota_us.or(self.cpu_quota);
        group.cpu_period_us = group.cpu_period_us.or(self.cpu_period);
        group.cpu_shares = self.cpu_shares;
        group.cpuset_cpus = self.cpuset_cpus;
        group.cpuset_mems = self.cpuset_mems;
        group.pids = self.pids_limit;
        group.parent = self.cgroup_parent.filter(|it| !it.is_empty());
        if let Some(parent) = &group.parent
            && parent.split('/').any(|part| part == "..")
        {
            return Err(Failure::usage(format!(
                "--cgroup-parent {parent}: the path of a control group has no `..`"
            )));
        }
        let checked = limits.checked();
        checked.map_err(|error| Failure::usage(error.to_string()))
    }
}

/// Reads `name:ip` or `name=ip`; the address may stand in brackets.
fn host(text: &str) -> Result<(String, IpAddr), Failure> {
    let wrong = |why: &str| Failure::usage(format!("--add-host {text}: {why}"));
    let (name, ip) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| wrong("NAME:IP is expected"))?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong("the name is empty or has blanks in it"));
    }
    let bare = ip.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = match ip {
        // steps are in this machine's own network
        "host-gateway" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => bare
            .unwrap_or(ip)
            .parse()
            .map_err(|_| wrong(&format!("`{ip}` is no address")))?,
    };
    Ok((name.to_owned(), ip))
}

/// Reads `512m`, `1.5g`, `1024`.
fn bytes(flag: &str, text: &str) -> Result<u64, Failure> {
    let read = quantities::bytes(text).ok();
    read.filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| {
            Failure::usage(format!(
                "{flag} {text}: a number of bytes is expected, such as 512m or 2g, or 0 for the default"
            ))
        })
}

/// Reads `90s`, `1h30m`, `500ms`; a number alone is seconds.
fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let alone = text.parse().ok().map(Duration::from_secs);
    let read = alone.or_else(|| quantities::duration(text).ok());
    read.filter(|it| !it.is_zero() && *it < Duration::from_secs(10 * 365 * 86_400))
        .ok_or_else(|| {
            Failure::usage(format!(
                "{flag} {text}: a duration is expected, such as 90s, 10m or 1h30m"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("a:1.2.3.4", Some("1.2.3.4")),
            ("a=1.2.3.4", Some("1.2.3.4")),
            ("a:::1", Some("::1")),
            ("a:[::1]", Some("::1")),
            ("a=fe80::1", Some("fe80::1")),
            ("a:host-gateway", Some("127.0.0.1")),
            ("a", None),
            (":1.2.3.4", None),
            ("a:b", None),
        ] {
            let read = host(text).ok().map(|(name, ip)| {
                assert_eq!(name, "a");
                ip.to_string()
            });
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("512m", Some(512 << 20)),
            ("2g", Some(2 << 30)),
            ("64MB", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("0", Some(0)),
            ("m", None),
            ("", None),
            ("9223372036854775808", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(bytes("--memory", text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn limits() {
        use clap::Parser;

        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            steps: StepFlags,
        }
        let read = |line: &str| {
            let line = format!("builder {line}");
            let line = Line::try_parse_from(line.split_whitespace());
            let line = line.map_err(|error| error.to_string())?;
            line.steps.limits().map_err(|error| format!("{error:?}"))
        };
        let none = "--memory=0 --memory-swap=-1 --shm-size=0 --cpus=0 --cpu-shares=0 --cpuset-cpus= --cpuset-mems= \
                    --pids-limit=-1 --cgroup-parent=";
        assert_eq!(read(none), Ok(Limits::default()));
        assert_eq!(read("--cpu-quota -1 --cpu-period=0"), Ok(Limits::default()));
        for (line, parts) in [
            ("-m -1", ["--memory -1", "512m"]),
            ("-m 1m", ["--memory=1048576", "6m is the least"]),
            (
                "-m 8m --memory-swap 7m",
                ["--memory-swap", "less than --memory"],
            ),
            (
                "--memory-swap 7m",
                ["--memory-swap", "--memory must be set"],
            ),
            ("--memory-swap=-2", ["--memory-swap -2", "512m"]),
            ("--shm-size=x", ["--shm-size x", "512m"]),
            ("--cpus=0.001", ["--cpus", "0.01 is the least"]),
            ("--cpu-quota=5", ["--cpu-quota=5", "1000"]),
            ("--cpu-period=5", ["--cpu-period=5", "1000000"]),
            ("--cpu-period=-5", ["--cpu-period", "invalid"]),
            ("--cpu-shares=1", ["--cpu-shares=1", "262144"]),
            ("--cpu-shares=-1", ["--cpu-shares", "invalid"]),
            ("--cpuset-cpus=a", ["--cpuset-cpus=a", "0-3,7"]),
            ("--cpuset-mems=x", ["--cpuset-mems=x", "0-3,7"]),
            (
                "--pids-limit=99999999",
                ["--pids-limit=99999999", "4194304"],
            ),
            ("--ulimit=nofile", ["--ulimit `nofile`", "NAME=SOFT"]),
            (
                "--ulimit=nofile=-2",
                ["--ulimit `nofile=-2`", "-1 for none"],
            ),
        ] {
            match read(line) {
                Ok(limits) => panic!("{line}: {limits:?}"),
                Err(error) => {
                    assert!(
                        parts.iter().all(|part| error.contains(part)),
                        "{line}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1.5m", Some(90_000)),
            ("0s", None),
            ("1d", Some(86_400_000)),
            ("4000d", None),
            ("", None),
            ("s", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration("--timeout", text).ok(), expected, "{text}");
        }
    }
}
