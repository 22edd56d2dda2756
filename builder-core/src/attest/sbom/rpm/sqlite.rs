//! SQLite's file format (sqlite.org/fileformat2.html), as far as the table `Packages` goes: a tree of pages, its rows in
//! the leaves, what is long going on in a chain of pages.

use super::bytes::{big16, big32, part};

const MAGIC: &[u8] = b"SQLite format 3\0";
const BROKEN: &str = "the SQLite database is broken";
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// The page of the list of tables, behind the file's header.
const SCHEMA: usize = 1;
const FILE_HEADER: usize = 100;

struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Of a page, without what extensions keep at its end.
    usable: usize,
}

/// Returns the rows of the table `Packages`: headers of packages.
pub(super) fn headers(bytes: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if !bytes.starts_with(MAGIC) {
        return Err("it is no SQLite database");
    }
    let page_size = match big16(bytes, 16) {
        Some(1) => 65536,
        Some(size) if size.is_power_of_two() && size >= 512 => size,
        _ => return Err(BROKEN),
    };
    let reserved = usize::from(*bytes.get(20).ok_or(BROKEN)?);
    let database = Database {
        bytes,
        page_size,
        usable: page_size - reserved,
    };
    if database.usable < 480 {
        return Err(BROKEN);
    }
    let tables = database.rows(SCHEMA).ok_or(BROKEN)?;
    let root = tables.iter().find_map(|row| {
        let columns = columns(row)?;
        let is_packages = *columns.first()? == b"table" && *columns.get(1)? == b"Packages";
        is_packages.then(|| number(columns.get(3)?))
    });
    let root = root.ok_or("it has no table of packages")?;
    let rows = root.and_then(|root| database.rows(root)).ok_or(BROKEN)?;
    let blobs = rows.iter().map(|row| {
        let columns = columns(row)?;
        // The first is the row's own number.
        Some((*columns.get(1)?).to_vec())
    });
    blobs.collect::<Option<_>>().ok_or(BROKEN)
}

impl<'a> Database<'a> {
    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let at = number.checked_sub(1)?.checked_mul(self.page_size)?;
        part(self.bytes, at, self.page_size)
    }

    /// Returns the rows below a page. No page counts twice, so that a circle is an end.
    fn rows(&self, root: usize) -> Option<Vec<Vec<u8>>> {
        let mut left = self.bytes.len() / self.page_size;
        let mut ahead = vec![root];
        let mut rows = Vec::new();
        while let Some(number) = ahead.pop() {
            left = left.checked_sub(1)?;
            let page = self.page(number)?;
            let start = if number == SCHEMA { FILE_HEADER } else { 0 };
            let kind = *page.get(start)?;
            let cells = big16(page, start + 3)?;
            let head = match kind {
                INTERIOR => 12,
                LEAF => 8,
                _ => return None,
            };
            let mut children = Vec::new();
            for cell in 0..cells {
                let at = big16(page, start + head + 2 * cell)?;
                match kind {
                    INTERIOR => children.push(big32(page, at)?),
                    _ => rows.push(self.row(page, at, &mut left)?),
                }
            }
            if kind == INTERIOR {
                children.push(big32(page, start + 8)?);
            }
            ahead.extend(children.into_iter().rev());
        }
        Some(rows)
    }

    fn row(&self, page: &[u8], at: usize, left: &mut usize) -> Option<Vec<u8>> {
        let (size, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let size = usize::try_from(size).ok()?;
        if size > self.bytes.len() {
            return None;
        }
        let (most, least) = (self.usable - 35, (self.usable - 12) * 32 / 255 - 23);
        let here = match size <= most {
            true => size,
            false => match least + (size - least) % (self.usable - 4) {
                fits if fits <= most => fits,
                _ => least,
            },
        };
        let mut row = part(page, at, here)?.to_vec();
        if here == size {
            return Some(row);
        }
        let mut next = big32(page, at + here)?;
        while row.len() < size {
            *left = left.checked_sub(1)?;
            let page = self.page(next)?;
            next = big32(page, 0)?;
            let more = (size - row.len()).min(self.usable - 4);
            row.extend(part(page, 4, more)?);
        }
        Some(row)
    }
}

/// Splits a row into its columns' bytes.
fn columns(row: &[u8]) -> Option<Vec<&[u8]>> {
    let (head, mut at) = varint(row, 0)?;
    let head = usize::try_from(head).ok()?;
    let mut value = head;
    let mut columns = Vec::new();
    while at < head {
        let (kind, next) = varint(row, at)?;
        at = next;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let size = usize::try_from(size).ok()?;
        columns.push(part(row, value, size)?);
        value += size;
    }
    Some(columns)
}

fn number(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.iter();
    (bytes.len() <= 4).then(|| digits.fold(0, |sum, &digit| sum << 8 | usize::from(digit)))
}

/// Reads a number of one to nine bytes, and returns where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for step in 0..9 {
        let byte = *bytes.get(at.checked_add(step)?)?;
        if step == 8 {
            return Some((value << 8 | u64::from(byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + step + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_to_nine_bytes() {
        for (bytes, expected) in [
            (&[0x7f][..], Some((0x7f, 1))),
            (&[0x81, 0x00], Some((0x80, 2))),
            (&[0xff; 9], Some((u64::MAX, 9))),
            (&[0x80, 0x80], None),
            (&[], None),
        ] {
            assert_eq!(varint(bytes, 0), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused() {
        assert!(headers(b"").is_err());
        assert!(headers(&[MAGIC, &[0xff; 600]].concat()).is_err());
        let mut circle = vec![0; 1024];
        circle[..16].copy_from_slice(MAGIC);
        circle[16..18].copy_from_slice(&[2, 0]);
        // An inner page that leads to itself.
        circle[FILE_HEADER] = INTERIOR;
        circle[FILE_HEADER + 11] = 1;
        assert_eq!(headers(&circle), Err(BROKEN));
    }
}
