//! Berkeley DB's hash tables, as far as reading every value goes: pages with keys and values in turn, what is long in a
//! chain of overflow pages. Numbers are in the byte order of the machine that wrote them.

use super::bytes::{big16, big32, little16, little32, part};

const BROKEN: &str = "the Berkeley database is broken";
const MAGIC: usize = 0x06_1561;
const HASH_META: u8 = 8;
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
const PAGE_HEADER: usize = 26;
/// Kinds of items on a page.
const INLINE: u8 = 1;
const OFF_PAGE: u8 = 3;
/// Of the first record, which counts packages, and of what is no header otherwise.
const MIN_HEADER: usize = 16;

struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    is_little: bool,
}

pub(super) fn headers(bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let is_little = match (little32(bytes, 12), big32(bytes, 12)) {
        (Some(MAGIC), _) => true,
        (_, Some(MAGIC)) => false,
        _ => return Err("it is no hash table of Berkeley DB"),
    };
    if bytes.get(25) != Some(&HASH_META) {
        return Err(BROKEN);
    }
    let mut database = Database {
        bytes,
        page_size: 0,
        is_little,
    };
    let size = database.word(bytes, 20).ok_or(BROKEN)?;
    if !size.is_power_of_two() || !(512..=65536).contains(&size) {
        return Err(BROKEN);
    }
    database.page_size = size;
    database.values().ok_or(BROKEN)
}

impl<'a> Database<'a> {
    fn word(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self.is_little {
            true => little32(bytes, at),
            false => big32(bytes, at),
        }
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self.is_little {
            true => little16(bytes, at),
            false => big16(bytes, at),
        }
    }

    fn page(&self, number: usize) -> Option<&'a [u8]> {
        part(
            self.bytes,
            number.checked_mul(self.page_size)?,
            self.page_size,
        )
    }

    fn values(&self) -> Option<Vec<Vec<u8>>> {
        let pages = self.bytes.len() / self.page_size;
        let mut left = self.bytes.len();
        let mut found = Vec::new();
        // A table that is whole has all of its pages in the file.
        let last = self.word(self.bytes, 32)?;
        if last >= pages {
            return None;
        }
        for number in 1..=last {
            let page = self.page(number)?;
            if !matches!(page[25], HASH | HASH_UNSORTED) {
                continue;
            }
            let entries = self.half(page, 20)?;
            for entry in (1..entries).step_by(2) {
                let place = |entry: usize| self.half(page, PAGE_HEADER + 2 * entry);
                let (at, end) = (place(entry)?, place(entry - 1)?);
                let value = match *page.get(at)? {
                    INLINE => page.get(at + 1..end)?.to_vec(),
                    OFF_PAGE => {
                        let size = self.word(page, at + 8)?;
                        left = left.checked_sub(size)?;
                        self.chain(self.word(page, at + 4)?, size)?
                    }
                    _ => return None,
                };
                if value.len() >= MIN_HEADER {
                    found.push(value);
                }
            }
        }
        Some(found)
    }

    fn chain(&self, mut number: usize, size: usize) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        while value.len() < size {
            let page = self.page(number)?;
            let here = self.half(page, 22)?;
            if page[25] != OVERFLOW || here == 0 {
                return None;
            }
            value.extend(part(page, PAGE_HEADER, here)?);
            number = self.word(page, 16)?;
        }
        (value.len() == size).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(headers(b"").is_err());
        assert!(headers(&[0; 600]).is_err());
        let mut meta = vec![0; 1024];
        meta[12..16].copy_from_slice(&0x06_1561_u32.to_le_bytes());
        meta[20..24].copy_from_slice(&512_u32.to_le_bytes());
        meta[25] = HASH_META;
        meta[32] = 1;
        assert_eq!(headers(&meta), Ok(Vec::new()));
        // A chain that leads to itself.
        meta[512 + 25] = HASH;
        meta[512 + 20] = 2;
        meta[512 + PAGE_HEADER..][..4].copy_from_slice(&[0xf0, 1, 0xe0, 1]);
        meta[512 + 0x1e0] = OFF_PAGE;
        meta[512 + 0x1e4] = 1;
        meta[512 + 0x1e8] = 100;
        assert_eq!(headers(&meta), Err(BROKEN));
        meta[32] = 9;
        assert_eq!(headers(&meta), Err(BROKEN));
    }
}
