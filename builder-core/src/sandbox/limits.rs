//! What a step may use at most, and the words that a user says it in.

use std::fmt;
use std::str::FromStr;

use super::protocol::{During, Failure};

/// Limits of every process of a step, and of all of them together.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// In the order given; of one name the last counts.
    pub rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm`; else 64 MiB.
    pub shm_bytes: Option<u64>,
    pub cgroup: CgroupLimits,
}

impl Limits {
    /// Whether `locks` is limited, which means nothing to the kernel any more.
    pub(crate) fn limits_locks(&self) -> bool {
        let mut limits = self.rlimits.iter();
        limits.any(|it| it.name == "locks" && it.hard.is_some())
    }
}

/// One limit of a process: `nofile=1024:2048`, see getrlimit(2). `None`: no limit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rlimit {
    /// As `--ulimit` names it.
    pub name: String,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// Limits that control groups enforce. All `None`: no group is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CgroupLimits {
    pub memory_bytes: Option<u64>,
    /// Memory and swap together; -1: no limit of swap.
    pub memory_swap_bytes: Option<i64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota_us: Option<i64>,
    /// Else 100,000.
    pub cpu_period_us: Option<u64>,
    /// Relative weight, 1024 being usual.
    pub cpu_shares: Option<u64>,
    /// `0-3,7`
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// -1: no limit.
    pub pids: Option<i64>,
    /// The group in which the steps' groups are made, from the root of the hierarchy; else the builder's own.
    pub parent: Option<String>,
}

impl CgroupLimits {
    pub fn is_empty(&self) -> bool {
        *self == CgroupLimits::default()
    }

    /// Sets the processor time as a number of processors: 1.5 is a quota of 150 ms in 100 ms, and 0 no limit.
    ///
    /// # Errors
    /// Not a number with at most nine digits after the point.
    pub fn set_cpus(&mut self, text: &str) -> Result<(), LimitError> {
        let wrong = || LimitError::new(text, "a number of processors is expected, such as 1.5");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_empty() || text == "." || !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        if fraction.len() > 9 {
            return Err(LimitError::new(
                text,
                "nine digits after the point are the most",
            ));
        }
        let nanos: i64 = format!("{whole}{fraction:0<9}")
            .parse()
            .map_err(|_| wrong())?;
        if nanos == 0 {
            return Ok(());
        }
        if nanos < 10_000_000 {
            return Err(LimitError::new(text, "0.01 is the least, 0 is no limit"));
        }
        self.cpu_period_us = Some(100_000);
        self.cpu_quota_us = Some(nanos / 10_000);
        Ok(())
    }
}

/// A limit that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct LimitError {
    pub text: String,
    pub reason: String,
}

impl LimitError {
    pub(super) fn new(text: &str, reason: impl Into<String>) -> Self {
        LimitError {
            text: text.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The names of `--ulimit`, with the kernel's.
const NAMES: &[(&str, rustix::process::Resource)] = &[
    ("as", rustix::process::Resource::As),
    ("core", rustix::process::Resource::Core),
    ("cpu", rustix::process::Resource::Cpu),
    ("data", rustix::process::Resource::Data),
    ("fsize", rustix::process::Resource::Fsize),
    ("locks", rustix::process::Resource::Locks),
    ("memlock", rustix::process::Resource::Memlock),
    ("msgqueue", rustix::process::Resource::Msgqueue),
    ("nice", rustix::process::Resource::Nice),
    ("nofile", rustix::process::Resource::Nofile),
    ("nproc", rustix::process::Resource::Nproc),
    ("rss", rustix::process::Resource::Rss),
    ("rtprio", rustix::process::Resource::Rtprio),
    ("rttime", rustix::process::Resource::Rttime),
    ("sigpending", rustix::process::Resource::Sigpending),
    ("stack", rustix::process::Resource::Stack),
];

impl FromStr for Rlimit {
    type Err = LimitError;

    /// Reads `name=soft[:hard]`; -1 is no limit, and one number is both.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = |reason: &str| LimitError::new(text, reason);
        let (name, values) = text
            .split_once('=')
            .ok_or_else(|| wrong("NAME=SOFT[:HARD] is expected"))?;
        if !NAMES.iter().any(|(known, _)| *known == name) {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(LimitError::new(
                text,
                format!("unknown name `{name}`, known are {}", names.join(", ")),
            ));
        }
        let number = |text: &str| match text {
            "-1" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| wrong("a limit is a number, or -1 for none")),
        };
        let (soft, hard) = match values.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(values)?, number(values)?),
        };
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(wrong("the soft limit is above the hard one"));
        }
        Ok(Rlimit {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.values())
    }
}

impl Rlimit {
    /// `1024:2048`, as `--ulimit` has them after the name.
    pub(crate) fn values(&self) -> String {
        let shown = |limit: Option<u64>| limit.map_or("-1".to_owned(), |it| it.to_string());
        format!("{}:{}", shown(self.soft), shown(self.hard))
    }

    /// Tries whether this process may have the limit, and those that it starts.
    pub(super) fn try_out(&self) -> Result<(), Failure> {
        let Some(resource) = self.resource() else {
            return Err(Failure::reason(format!("unknown limit `{}`", self.name)));
        };
        let own = rustix::process::getrlimit(resource);
        let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        if most(self.hard) <= most(own.maximum) {
            return Ok(());
        }
        let raised = rustix::process::Rlimit {
            current: own.current,
            maximum: self.hard,
        };
        rustix::process::setrlimit(resource, raised).during(&format!(
            "set --ulimit {self}: the most is {} here",
            own.maximum
                .map_or("no limit".to_owned(), |it| it.to_string())
        ))?;
        // to lower it is always allowed
        rustix::process::setrlimit(resource, own).during("set a limit back")
    }

    pub(super) fn resource(&self) -> Option<rustix::process::Resource> {
        let mut names = NAMES.iter();
        names
            .find(|(name, _)| *name == self.name)
            .map(|(_, resource)| *resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        for (text, expected) in [
            ("nofile=1024", Ok("nofile=1024:1024")),
            ("nofile=1024:2048", Ok("nofile=1024:2048")),
            ("core=-1", Ok("core=-1:-1")),
            ("nproc=5:-1", Ok("nproc=5:-1")),
            ("nofile", Err("NAME=SOFT")),
            ("nofile=", Err("a number")),
            ("nofile=9:1", Err("above")),
            ("nofile=-1:1", Err("above")),
            ("files=1", Err("unknown name `files`, known are as, core")),
        ] {
            match (text.parse::<Rlimit>(), expected) {
                (Ok(limit), expected) => assert_eq!(Ok(limit.to_string().as_str()), expected),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                }
                (Err(error), Ok(_)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn processors() {
        for (text, expected) in [
            ("1.5", Ok(Some(150_000))),
            ("2", Ok(Some(200_000))),
            (".5", Ok(Some(50_000))),
            ("2.", Ok(Some(200_000))),
            ("0.01", Ok(Some(1_000))),
            ("0", Ok(None)),
            ("0.000", Ok(None)),
            ("0.001", Err("0.01 is the least")),
            ("0.0000000001", Err("nine digits")),
            ("", Err("such as 1.5")),
            (".", Err("such as 1.5")),
            ("-1", Err("such as 1.5")),
            ("x", Err("such as 1.5")),
        ] {
            let mut limits = CgroupLimits::default();
            let read = limits.set_cpus(text).map(|()| limits.cpu_quota_us);
            match (read, expected) {
                (Ok(quota), expected) => assert_eq!(Ok(quota), expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (Err(error), Ok(_)) => panic!("{error}"),
            }
        }
    }
}
