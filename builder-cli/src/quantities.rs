//! Amounts and durations as Docker and Go write them: `10GB` (of 1024s, as Docker counts here), `1h30m`; and `7d`.

use std::time::Duration;

/// Reads an amount of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = lower.split_at(digits.unwrap_or(lower.len()));
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(format!("`{text}` is no amount: 500MB or 10GB is expected")),
    };
    let wrong = || format!("`{text}` is no amount: 500MB or 10GB is expected");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    match number.parse::<f64>() {
        Ok(number) if number * (factor as f64) < u64::MAX as f64 => {
            Ok((number * factor as f64) as u64)
        }
        _ => Err(wrong()),
    }
}

/// Reads a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: 30m, 24h, 1h30m or 7d is expected");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.ok_or_else(wrong)?);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let units = [
            ("ms", 0.001),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
            ("d", 86_400.0),
            ("w", 604_800.0),
        ];
        let unit = units.iter().find(|(unit, _)| after.starts_with(unit));
        let (unit, factor) = unit.ok_or_else(wrong)?;
        seconds += number * factor;
        rest = &after[unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("10GB", Some(10 << 30)),
            ("1.5 g", Some(3 << 29)),
            ("2kib", Some(2048)),
            ("", None),
            ("GB", None),
            ("10 apples", None),
            ("-1", None),
            ("64MB", Some(64 << 20)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("99999999t", None),
            ("99999999.5t", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("24h", Some(86_400)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("1500ms", Some(1)),
            ("", None),
            ("5", None),
            ("h", None),
            ("1x", None),
        ] {
            assert_eq!(
                duration(text).ok().map(|it| it.as_secs()),
                expected,
                "{text}"
            );
        }
    }
}
