//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts itself. Values are bytes and may hold line feeds.

use std::collections::BTreeMap;

/// Prefix of extended attributes, as Go, GNU tar and BSD tar write them.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// BSD tar's own form: the value is base64.
pub(super) const XATTR_BASE64: &[u8] = b"LIBARCHIVE.xattr.";

/// Appends `records`, in key order.
pub(super) fn encode(records: &BTreeMap<Vec<u8>, Vec<u8>>, out: &mut Vec<u8>) {
    for (key, value) in records {
        let rest = key.len() + value.len() + 3; // space, `=`, line feed
        let mut total = rest + 1;
        while rest + digits(total) != total {
            total = rest + digits(total);
        }
        out.extend_from_slice(total.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
}

fn digits(n: usize) -> usize {
    n.to_string().len()
}

/// A key and its value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits `data` into records, in the order they stand.
pub(super) fn decode(mut data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    while !data.is_empty() {
        if data.iter().all(|b| *b == 0) {
            break; // some writers pad with NUL inside the counted size
        }
        let space = data
            .iter()
            .take(20)
            .position(|b| *b == b' ')
            .ok_or("PAX record without a length")?;
        let length = number(&data[..space]).ok_or("PAX record with a bad length")?;
        let length = usize::try_from(length).map_err(|_| "PAX record with a bad length")?;
        if length <= space + 1 || length > data.len() {
            return Err("PAX record whose length leaves its header");
        }
        let (record, rest) = data.split_at(length);
        let record = record[space + 1..]
            .strip_suffix(b"\n")
            .ok_or("PAX record without its line feed")?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or("PAX record without `=`")?;
        if equals == 0 {
            return Err("PAX record without a key");
        }
        records.push((&record[..equals], &record[equals + 1..]));
        data = rest;
    }
    Ok(records)
}

/// Reads a decimal number: digits only.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads a time, `[-]SECONDS[.FRACTION]`, and rounds it down to whole seconds.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match negative {
        false => whole,
        true if fraction.iter().any(|b| *b != b'0') => -whole - 1,
        true => -whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for size in [0, 1, 5, 85, 86, 87, 88, 89, 90, 985, 986, 987, 988, 989] {
            let records = BTreeMap::from([(b"k".to_vec(), vec![b'\n'; size])]);
            let mut out = Vec::new();
            encode(&records, &mut out);
            let back = decode(&out).expect("own records");
            assert_eq!(back, [(&b"k"[..], &vec![b'\n'; size][..])], "{size}");
        }
    }

    #[test]
    fn refuses_records_that_contradict_themselves() {
        for (data, why) in [
            (&b"99 a=b\n"[..], "leaves its header"),
            (b"6 a=bc\n", "line feed"),
            (b"5 ab\n", "="),
            (b"5 =b\n", "key"),
            (b"x a=b\n", "bad length"),
            (b"3 \n", "="),
            (b"2 a=b\n", "leaves"),
            (b"18446744073709551616 a=b\n", "length"),
        ] {
            let error = decode(data).expect_err("must be refused");
            assert!(error.contains(why), "{}: {error}", data.escape_ascii());
        }
    }

    #[test]
    fn times_round_down() {
        for (text, seconds_) in [
            ("0", Some(0)),
            ("12.999", Some(12)),
            ("-1.5", Some(-2)),
            ("-1.0", Some(-1)),
            ("1e3", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), seconds_, "{text}");
        }
    }
}
