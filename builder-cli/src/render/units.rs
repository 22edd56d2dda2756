//! Sizes and times for people, in Docker's words.

/// `7.38MB`: three digits, powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = match value {
        _ if unit == 0 => format!("{value}"),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

/// `2 weeks ago`.
pub(crate) fn since(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    let text = match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        HOUR..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        _ => match seconds / DAY {
            days @ ..14 => format!("{days} days"),
            days @ ..60 => format!("{} weeks", days / 7),
            days @ ..730 => format!("{} months", days / 30),
            days => format!("{} years", days / 365),
        },
    };
    format!("{text} ago")
}

/// `2024-01-02 03:04:05 +0000 UTC`.
pub(crate) fn at(seconds: i64) -> String {
    let text = builder_core::image::time::rfc3339(seconds);
    match text.trim_end_matches('Z').split_once('T') {
        Some((date, time)) => format!("{date} {time} +0000 UTC"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234, "1.23kB"),
            (7_378_000, "7.38MB"),
            (12_340_000, "12.3MB"),
            (999_600, "1MB"),
            (123_400_000_000, "123GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn times() {
        for (seconds, expected) in [
            (-5, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (600, "10 minutes ago"),
            (4000, "About an hour ago"),
            (90_000, "25 hours ago"),
            (86_400 * 13, "13 days ago"),
            (86_400 * 20, "2 weeks ago"),
            (86_400 * 100, "3 months ago"),
            (86_400 * 900, "2 years ago"),
        ] {
            assert_eq!(since(seconds), expected, "{seconds}");
        }
        assert_eq!(at(0), "1970-01-01 00:00:00 +0000 UTC");
    }
}
