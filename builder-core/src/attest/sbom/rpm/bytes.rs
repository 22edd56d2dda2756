//! Numbers at places that may not be there.

/// Returns `size` bytes from `at` on.
pub(super) fn part(bytes: &[u8], at: usize, size: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(size)?)
}

pub(super) fn big16(bytes: &[u8], at: usize) -> Option<usize> {
    let found = part(bytes, at, 2)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(found)))
}

pub(super) fn big32(bytes: &[u8], at: usize) -> Option<usize> {
    let found = part(bytes, at, 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(found)).ok()
}

pub(super) fn little16(bytes: &[u8], at: usize) -> Option<usize> {
    let found = part(bytes, at, 2)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(found)))
}

pub(super) fn little32(bytes: &[u8], at: usize) -> Option<usize> {
    let found = part(bytes, at, 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(found)).ok()
}
