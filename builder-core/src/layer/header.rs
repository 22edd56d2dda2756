//! Fields of a tar's header, as reader and cutter take them.

use super::writer::BLOCK;

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Returns the name in the header itself; only POSIX headers have a prefix (GNU keeps times there).
pub(super) fn raw_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    if prefix.is_empty() || &header[257..263] != b"ustar\0" {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Returns a header field's number: octal, or base-256 with the first bit set.
pub(super) fn field_number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // Two's complement; the flag bit is not part of the number.
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let start: i128 = if negative { -1 } else { 0 };
        return std::iter::once(&first)
            .chain(&field[1..])
            .try_fold(start, |n, b| {
                let n = n.checked_mul(256)?.checked_add(i128::from(*b))?;
                (n.unsigned_abs() < 1 << 100).then_some(n)
            });
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0i128, |n, b| {
        matches!(b, b'0'..=b'7').then(|| n * 8 + i128::from(b - b'0'))
    })
}

/// Some old writers summed signed bytes.
pub(super) fn sum_is_right(header: &[u8; BLOCK]) -> bool {
    let Some(said) = field_number(&header[148..156]) else {
        return false;
    };
    let mut unsigned = 0i128;
    let mut signed = 0i128;
    for (i, byte) in header.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += i128::from(byte);
        signed += i128::from(byte.cast_signed());
    }
    said == unsigned || said == signed
}
