//! HEALTHCHECK: NONE, or CMD with its times.

use std::time::Duration;

use super::super::ast::Healthcheck;
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind};
use super::flags::Flags;
use super::{command, whole};

pub(super) const FLAGS: &[&str] = &[
    "interval",
    "timeout",
    "start-period",
    "start-interval",
    "retries",
];

pub(super) fn read(node: &Node, flags: &Flags) -> Result<Healthcheck, ParseError> {
    let Some((kind, rest)) = node.arguments.split_first() else {
        return Err(whole(
            node,
            ParseErrorKind::NeedsArgument {
                instruction: "HEALTHCHECK",
            },
        ));
    };
    let check = match kind.raw.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() && !node.json => Healthcheck::None,
        "NONE" => return Err(whole(node, ParseErrorKind::HealthcheckNone)),
        "CMD" if rest.is_empty() => return Err(whole(node, ParseErrorKind::HealthcheckNoCommand)),
        "CMD" => Healthcheck::Check {
            command: command::read(node.json, rest),
            interval: duration("interval", flags)?,
            timeout: duration("timeout", flags)?,
            start_period: duration("start-period", flags)?,
            start_interval: duration("start-interval", flags)?,
            retries: retries(flags)?,
        },
        _ => {
            let word = kind.raw.clone();
            return Err(ParseError::new(
                ParseErrorKind::HealthcheckType { word },
                kind.span,
            ));
        }
    };
    Ok(check)
}

fn duration(flag: &'static str, flags: &Flags) -> Result<Option<Duration>, ParseError> {
    let Some(text) = flags.text(flag) else {
        return Ok(None);
    };
    let value = text.raw.clone();
    let Some(nanos) = nanoseconds(&value) else {
        return Err(ParseError::new(
            ParseErrorKind::Duration { flag, value },
            text.span,
        ));
    };
    match u64::try_from(nanos) {
        Ok(nanos) if nanos == 0 || nanos >= 1_000_000 => Ok(Some(Duration::from_nanos(nanos))),
        _ => Err(ParseError::new(
            ParseErrorKind::ShortDuration { flag, value },
            text.span,
        )),
    }
}

fn retries(flags: &Flags) -> Result<Option<u32>, ParseError> {
    let Some(text) = flags.text("retries") else {
        return Ok(None);
    };
    match text
        .raw
        .parse::<i32>()
        .ok()
        .and_then(|count| u32::try_from(count).ok())
    {
        Some(count) => Ok(Some(count)),
        None => {
            let value = text.raw.clone();
            Err(ParseError::new(
                ParseErrorKind::Retries { value },
                text.span,
            ))
        }
    }
}

/// A duration as Go writes it, in nanoseconds: `1h30m`, `-1.5s`, `.5ms`, `0`.
fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() || total == 0 && rest.len() == text.len() {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            i128::from(whole.parse::<i64>().ok()?)
        };
        total += whole * unit;
        let mut scale = unit;
        for digit in fraction.bytes().take(18) {
            // Digits below a nanosecond are cut off, each unit's on its own, as Go does.
            total += i128::from(digit - b'0') * scale / 10;
            scale /= 10;
        }
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = after;
    }
    (text.len() > 1).then_some(())?;
    i64::try_from(total).ok().map(|nanos| sign * nanos)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1m30s", Some(90_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("-5s", Some(-5_000_000_000)),
            ("2µs", Some(2_000)),
            ("", None),
            ("5", None),
            ("-", None),
            (".s", None),
            ("5x", None),
            ("s", None),
            ("5s ", None),
            ("999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), nanos, "{text:?}");
        }
    }
}
