//! Which values of limits make sense: as Docker's engine, runc and the kernel take them, told before anything runs.
//!
//! | limit                  | no limit      | else                                            |
//! |------------------------|---------------|-------------------------------------------------|
//! | memory                 | 0             | from 6 MiB                                      |
//! | memory and swap        | 0 (as Docker has it), -1 | with a limit of memory, and not below it |
//! | processor time         | 0, -1         | from 1,000 µs, in a period of 1,000 to 1,000,000 |
//! | weight                 | 0             | 2 to 262,144                                    |
//! | processors, nodes      | empty         | numbers and ranges: `0-3,7`                     |
//! | processes              | 0, -1         | to 4,194,304                                    |
//! | `/dev/shm`             | 0 (64 MiB)    | any                                             |
//!
//! What a machine has, processors for example, is not known here: [`try_limits`](super::try_limits) tells.

use super::limits::{CgroupLimits, LimitError, Limits, Rlimit};

const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's largest quota.
const MOST_QUOTA_US: i64 = (1 << 44) - 1;
const PERIODS_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const WEIGHTS: std::ops::RangeInclusive<u64> = 2..=262_144;
/// The kernel's most processes, which is also the most that a group can be limited to.
const MOST_PROCESSES: i64 = 4 << 20;
/// Above any number of processors or nodes that a kernel is made for.
const MOST_NUMBER: u64 = 8_192;

impl Limits {
    /// Returns the limits without those that say "no limit".
    ///
    /// # Errors
    /// The first value that can be no limit, named by its flag.
    pub fn checked(self) -> Result<Limits, LimitError> {
        Ok(Limits {
            rlimits: last_of_each(self.rlimits),
            shm_bytes: self.shm_bytes.filter(|bytes| *bytes > 0),
            cgroup: self.cgroup.checked()?,
        })
    }
}

impl CgroupLimits {
    fn checked(self) -> Result<CgroupLimits, LimitError> {
        let memory_bytes = self.memory_bytes.filter(|bytes| *bytes > 0);
        if let Some(bytes) = memory_bytes.filter(|bytes| *bytes < LEAST_MEMORY) {
            let expected = "6m is the least, 0 is no limit";
            return Err(wrong("--memory", bytes, expected));
        }
        let cpu_quota_us = self.cpu_quota_us.filter(|quota| *quota > 0);
        if let Some(quota) = cpu_quota_us.filter(|it| !(1_000..=MOST_QUOTA_US).contains(it)) {
            let expected =
                "1000 (a millisecond) is the least, 17592186044415 the most, -1 is no limit";
            return Err(wrong("--cpu-quota", quota, expected));
        }
        let cpu_period_us = self.cpu_period_us.filter(|period| *period > 0);
        if let Some(period) = cpu_period_us.filter(|it| !PERIODS_US.contains(it)) {
            let expected = "1000 (a millisecond) to 1000000 (a second) is expected";
            return Err(wrong("--cpu-period", period, expected));
        }
        let cpu_shares = self.cpu_shares.filter(|shares| *shares > 0);
        if let Some(shares) = cpu_shares.filter(|it| !WEIGHTS.contains(it)) {
            let expected = "2 to 262144 is expected, or 0 for the usual weight";
            return Err(wrong("--cpu-shares", shares, expected));
        }
        let pids = self.pids.filter(|pids| *pids > 0);
        if let Some(pids) = pids.filter(|it| *it > MOST_PROCESSES) {
            let expected = "4194304 is the most, -1 is no limit";
            return Err(wrong("--pids-limit", pids, expected));
        }
        Ok(CgroupLimits {
            memory_bytes,
            memory_swap_bytes: swap(memory_bytes, self.memory_swap_bytes)?,
            cpu_quota_us,
            cpu_period_us,
            cpu_shares,
            cpuset_cpus: numbers("--cpuset-cpus", self.cpuset_cpus)?,
            cpuset_mems: numbers("--cpuset-mems", self.cpuset_mems)?,
            pids,
            parent: self.parent,
        })
    }
}

/// One that would be lowered first might not be raised again.
fn last_of_each(limits: Vec<Rlimit>) -> Vec<Rlimit> {
    let mut last: Vec<Rlimit> = Vec::new();
    for limit in limits {
        last.retain(|it| it.name != limit.name);
        last.push(limit);
    }
    last
}

fn wrong(flag: &str, value: impl std::fmt::Display, expected: &str) -> LimitError {
    LimitError::new(&format!("{flag}={value}"), expected)
}

fn swap(memory: Option<u64>, total: Option<i64>) -> Result<Option<i64>, LimitError> {
    let Some(total) = total.filter(|total| *total != 0) else {
        return Ok(None);
    };
    match (memory, u64::try_from(total)) {
        // none of swap, where memory has none, is what there is without a flag
        (None, Err(_)) => Ok(None),
        (None, Ok(_)) => Err(wrong(
            "--memory-swap",
            total,
            "it is memory and swap together: --memory must be set as well",
        )),
        (Some(memory), Ok(both)) if both < memory => Err(wrong(
            "--memory-swap",
            total,
            "it is memory and swap together: it cannot be less than --memory",
        )),
        (Some(_), Err(_)) => Ok(Some(-1)),
        (Some(_), Ok(_)) => Ok(Some(total)),
    }
}

/// Reads `0-3,7` and returns it as it is.
fn numbers(flag: &str, list: Option<String>) -> Result<Option<String>, LimitError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().filter(|it: &u64| *it < MOST_NUMBER),
        false => None,
    };
    let part = |text: &str| match text.split_once('-') {
        Some((first, last)) => {
            Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
        }
        None => number(text).map(|it| (it, it)),
    };
    match list.split(',').all(|text| part(text).is_some()) {
        true => Ok(Some(list)),
        false => Err(wrong(
            flag,
            list,
            "numbers and ranges are expected, such as 0-3,7",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit set alone, and what is left of it: `Ok(false)` where it is none.
    #[test]
    fn values() {
        const M: u64 = 1 << 20;
        let limits = |set: &dyn Fn(&mut CgroupLimits)| {
            let mut limits = Limits::default();
            set(&mut limits.cgroup);
            match limits.checked() {
                Ok(limits) => Ok(!limits.cgroup.is_empty()),
                Err(error) => Err(error.to_string()),
            }
        };
        type Row<T> = (T, Result<bool, &'static str>);
        fn held<T: std::fmt::Debug + Clone>(
            flag: &str,
            rows: &[Row<T>],
            read: &dyn Fn(T) -> Result<bool, String>,
        ) {
            for (value, expected) in rows {
                match (read(value.clone()), expected) {
                    (Ok(read), Ok(expected)) => assert_eq!(read, *expected, "{flag} {value:?}"),
                    (Err(error), Err(part)) => {
                        assert!(error.contains(part), "{flag} {value:?}: {error}");
                        assert!(error.contains(flag), "{flag} {value:?}: {error}");
                    }
                    (read, expected) => panic!("{flag} {value:?}: {read:?}, not {expected:?}"),
                }
            }
        }
        let rows = [
            (0, Ok(false)),
            (1, Err("6m is the least")),
            (6 * M - 1, Err("6m")),
            (6 * M, Ok(true)),
        ];
        held("--memory", &rows, &|value| {
            limits(&|it| it.memory_bytes = Some(value))
        });
        let rows = [
            ((None, 0), Ok(false)),
            ((None, -1), Ok(false)),
            ((None, 1 << 30), Err("--memory must be set")),
            ((Some(8 * M), -1), Ok(true)),
            ((Some(8 * M), 8 << 20), Ok(true)),
            ((Some(8 * M), 7 << 20), Err("less than --memory")),
            ((Some(0), 7 << 20), Err("must be set")),
        ];
        held("--memory-swap", &rows, &|(memory, swap)| {
            limits(&|it| (it.memory_bytes, it.memory_swap_bytes) = (memory, Some(swap)))
        });
        let rows = [
            (0, Ok(false)),
            (-1, Ok(false)),
            (-5, Ok(false)),
            (999, Err("1000")),
            (1000, Ok(true)),
            (i64::MAX, Err("the most")),
        ];
        held("--cpu-quota", &rows, &|value| {
            limits(&|it| it.cpu_quota_us = Some(value))
        });
        let rows = [
            (0, Ok(false)),
            (999, Err("1000 (")),
            (1000, Ok(true)),
            (1_000_000, Ok(true)),
            (1_000_001, Err("1000000")),
        ];
        held("--cpu-period", &rows, &|value| {
            limits(&|it| it.cpu_period_us = Some(value))
        });
        let rows = [
            (0, Ok(false)),
            (1, Err("2 to 262144")),
            (2, Ok(true)),
            (262_144, Ok(true)),
            (262_145, Err("262144")),
        ];
        held("--cpu-shares", &rows, &|value| {
            limits(&|it| it.cpu_shares = Some(value))
        });
        let rows = [
            (0, Ok(false)),
            (-1, Ok(false)),
            (1, Ok(true)),
            (4_194_304, Ok(true)),
            (4_194_305, Err("4194304 is the most")),
        ];
        held("--pids-limit", &rows, &|value| {
            limits(&|it| it.pids = Some(value))
        });
        let rows = [
            ("", Ok(false)),
            ("0", Ok(true)),
            ("0-3,7", Ok(true)),
            ("1,1", Ok(true)),
            ("a", Err("such as 0-3,7")),
            ("3-1", Err("0-3,7")),
            ("0,", Err("0-3,7")),
            ("0-", Err("0-3,7")),
            ("-1", Err("0-3,7")),
            ("+1", Err("0-3,7")),
            (" 1", Err("0-3,7")),
            ("0-3:1/2", Err("0-3,7")),
            ("9999", Err("0-3,7")),
        ];
        held("--cpuset-cpus", &rows, &|value| {
            limits(&|it| it.cpuset_cpus = Some(value.to_owned()))
        });
        held("--cpuset-mems", &rows, &|value| {
            limits(&|it| it.cpuset_mems = Some(value.to_owned()))
        });
    }

    #[test]
    fn of_limits_of_one_name_the_last_counts() {
        let rlimits = ["nofile=9", "core=1", "nofile=10:20"].map(|it| it.parse().unwrap());
        let limits = Limits {
            rlimits: rlimits.to_vec(),
            ..Limits::default()
        };
        let left: Vec<String> = limits
            .checked()
            .unwrap()
            .rlimits
            .iter()
            .map(Rlimit::to_string)
            .collect();
        assert_eq!(left, ["core=1:1", "nofile=10:20"]);
    }

    #[test]
    fn no_size_of_shared_memory_is_the_usual_one() {
        for (bytes, expected) in [(None, None), (Some(0), None), (Some(1), Some(1))] {
            let limits = Limits {
                shm_bytes: bytes,
                ..Limits::default()
            };
            assert_eq!(limits.checked().unwrap().shm_bytes, expected);
        }
    }
}
