//! Id maps: what `/etc/subuid` grants, what newuidmap is asked for, what the kernel says is in force.

use std::fs;

/// A run of ids that mean something in two user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id as the process sees it.
    pub inside: u32,
    /// First id as the parent namespace sees it.
    pub outside: u32,
    pub count: u32,
}

/// The ranges that a subordinate id file grants to a user, by name or by number.
pub(super) fn subordinate_ranges(file: &str, user: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (owner, start, count) = (fields.next()?, fields.next()?, fields.next()?);
            let mine = owner == user || owner == number;
            let range = (start.parse().ok()?, count.parse().ok()?);
            (mine && range.1 > 0 && fields.next().is_none()).then_some(range)
        })
        .collect()
}

/// The map that gives a user root's id, and the ids after it to its subordinate ranges.
pub(super) fn map_of(id: u32, subordinate: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange {
        inside: 0,
        outside: id,
        count: 1,
    }];
    let mut inside: u32 = 1;
    for &(outside, count) in subordinate {
        let count = count.min(u32::MAX - inside);
        if count == 0 {
            break;
        }
        map.push(IdRange {
            inside,
            outside,
            count,
        });
        inside += count;
    }
    map
}

/// Where a new user's range could start: after all that the file grants.
pub(super) fn free_start(file: &str) -> u64 {
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':').skip(1);
            Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
        })
        .fold(100_000, u64::max)
}

/// A map as the kernel writes it.
pub(super) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            Some(IdRange {
                inside: fields.next()?.ok()?,
                outside: fields.next()?.ok()?,
                count: fields.next()?.ok()?,
            })
        })
        .collect()
}

/// Whether the process is in the first user namespace, where root is the machine's root.
///
/// Told by the namespace's number, which the kernel fixes: a map alone may be the same in another.
pub(super) fn in_initial_namespace() -> bool {
    const FIRST: &str = "user:[4026531837]";
    fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() == FIRST)
}

/// Whether the process is in a user namespace that knows one id only.
pub(crate) fn is_single() -> bool {
    let map = parse_map(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
    !in_initial_namespace() && matches!(map[..], [IdRange { count: 1, .. }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_number() {
        let file = "root:1:2\nann:100000:65536\n# bob:1:1\n1001:300000:10\nann:400000:5\nbob:x:1\nbob:7:0\n";
        for (user, uid, expected) in [
            ("ann", 1000, vec![(100_000, 65536), (400_000, 5)]),
            ("eve", 1001, vec![(300_000, 10)]),
            ("bob", 1002, vec![]),
            ("an", 5, vec![]),
        ] {
            assert_eq!(subordinate_ranges(file, user, uid), expected, "{user}");
        }
    }

    #[test]
    fn a_map_has_root_first_and_no_gaps_inside() {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        for (subordinate, expected) in [
            (vec![], vec![range(0, 1000, 1)]),
            (
                vec![(100_000, 65536), (400_000, 5)],
                vec![
                    range(0, 1000, 1),
                    range(1, 100_000, 65536),
                    range(65537, 400_000, 5),
                ],
            ),
        ] {
            assert_eq!(map_of(1000, &subordinate), expected);
        }
    }

    #[test]
    fn a_free_range_starts_after_all_others() {
        for (file, expected) in [
            ("", 100_000),
            ("a:100000:65536\nb:165536:65536\n", 231_072),
            ("junk\n", 100_000),
        ] {
            assert_eq!(free_start(file), expected, "{file:?}");
        }
    }

    #[test]
    fn the_kernels_map_is_read() {
        assert_eq!(
            parse_map("         0       1000          1\n         1     100000      65536\n"),
            map_of(1000, &[(100_000, 65536)])
        );
    }
}
