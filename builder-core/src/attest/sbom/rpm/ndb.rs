//! RPM's own database (`ndb`): slots of 16 bytes lead to blobs, in blocks of 16 bytes; numbers are little-endian.

use super::bytes::{little32, part};

const MAGIC: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
const PAGE: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK: usize = 16;
/// The header takes the place of the first slots.
const FIRST_SLOT: usize = 2;

pub(super) fn headers(bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if !bytes.starts_with(MAGIC) {
        return Err("it is no ndb database of RPM");
    }
    if little32(bytes, 4) != Some(0) {
        return Err("it is an ndb database of a version that is not known");
    }
    let broken = "the ndb database is broken";
    let pages = little32(bytes, 12).ok_or(broken)?;
    let slots = pages.checked_mul(PAGE).ok_or(broken)?;
    let slots = part(bytes, 0, slots).ok_or(broken)?;
    let mut found = Vec::new();
    let mut left = bytes.len();
    for slot in slots.chunks_exact(SLOT_BYTES).skip(FIRST_SLOT) {
        if !slot.starts_with(SLOT) {
            return Err(broken);
        }
        // Free where it leads nowhere.
        let Some(block @ 1..) = little32(slot, 8) else {
            continue;
        };
        let at = block.checked_mul(BLOCK).ok_or(broken)?;
        let head = part(bytes, at, 16).ok_or(broken)?;
        if !head.starts_with(BLOB) || little32(head, 4) != little32(slot, 4) {
            return Err(broken);
        }
        let size = little32(head, 12).ok_or(broken)?;
        // Slots that share a blob would make much of little.
        left = left.checked_sub(size).ok_or(broken)?;
        found.push(part(bytes, at + 16, size).ok_or(broken)?.to_vec());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_found() {
        let mut whole = vec![0; PAGE];
        whole[..4].copy_from_slice(MAGIC);
        whole[12] = 1;
        for (at, slot) in whole
            .chunks_exact_mut(SLOT_BYTES)
            .enumerate()
            .skip(FIRST_SLOT)
        {
            slot[..4].copy_from_slice(SLOT);
            if at == 5 {
                slot[4] = 7;
                slot[8..12].copy_from_slice(&256_u32.to_le_bytes());
            }
        }
        whole.extend(BLOB);
        for number in [7_u32, 1, 5] {
            whole.extend(number.to_le_bytes());
        }
        whole.extend(b"hello");
        assert_eq!(headers(&whole), Ok(vec![b"hello".to_vec()]));
        for length in 0..whole.len() {
            assert!(headers(&whole[..length]).is_err(), "{length}");
        }
        whole[4 + PAGE] = 8;
        assert!(headers(&whole).is_err());
    }
}
