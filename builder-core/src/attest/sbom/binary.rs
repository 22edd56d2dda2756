//! Programs that name their parts: the sections of ELF files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::files::Files;
use super::package::Package;
use super::{cargo, go};
use crate::context::Node;

/// Smaller than any program that carries a list.
const MIN_BYTES: u64 = 512;
/// Far more than a list has, packed; Go's text is as long as its modules are many.
const MAX_SECTION_BYTES: u64 = 16 << 20;
const MAX_SECTIONS: u64 = 20_000;
const MAX_NAMES_BYTES: u64 = 1 << 20;

pub(super) fn packages(files: &mut Files<'_>, path: &str, node: &Node) -> Vec<Package> {
    let is_program = node.mode & 0o111 != 0 || path.ends_with(".so") || path.contains(".so.");
    if !is_program || node.stamp.size < MIN_BYTES {
        return Vec::new();
    }
    let file = match files.tree.open(node) {
        Ok(file) => file,
        Err(error) => {
            files.warn(path, &error.to_string());
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (name, section) in lists(&file).unwrap_or_default() {
        match name {
            List::Cargo => match cargo::audited(&section, path) {
                Ok(packages) => found.extend(packages),
                Err(why) => files.warn(path, &why),
            },
            List::Go => found.extend(go::modules(&section, path)),
        }
    }
    found
}

/// Which list a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Cargo,
    Go,
}

/// What of an ELF file says where its sections are.
struct Elf<'a> {
    file: &'a File,
    is_64: bool,
    is_little: bool,
}

impl Elf<'_> {
    fn number(&self, bytes: &[u8], at: usize, width: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(width)?)?;
        let digits: Box<dyn Iterator<Item = &u8>> = match self.is_little {
            true => Box::new(field.iter().rev()),
            false => Box::new(field.iter()),
        };
        Some(digits.fold(0, |sum, &digit| sum << 8 | u64::from(digit)))
    }

    fn read(&self, at: u64, size: u64, most: u64) -> Option<Vec<u8>> {
        if size > most {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}

/// Returns the sections that are lists; `None` for what is no ELF file, or a broken one, which runs nowhere.
fn lists(file: &File) -> Option<Vec<(List, Vec<u8>)>> {
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let elf = Elf {
        file,
        is_64: head[4] == 2,
        is_little: head[5] == 1,
    };
    let word = if elf.is_64 { 8 } else { 4 };
    let (table, sizes) = if elf.is_64 {
        (0x28, 0x3a)
    } else {
        (0x20, 0x2e)
    };
    let table = elf.number(&head, table, word)?;
    let size = elf.number(&head, sizes, 2)?;
    let count = elf.number(&head, sizes + 2, 2)?;
    let names = elf.number(&head, sizes + 4, 2)?;
    if table == 0 || size < 40 || count == 0 {
        return None;
    }
    let bytes = elf.read(table, size.checked_mul(count)?, size * MAX_SECTIONS)?;
    let header = |index: u64| {
        let start = usize::try_from(index.checked_mul(size)?).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
    };
    // Where a section lies, and how long it is.
    let place = |header: &[u8]| {
        let at = if elf.is_64 { 0x18 } else { 0x10 };
        let size = elf.number(header, at + word, word)?;
        Some((elf.number(header, at, word)?, size))
    };
    let (at, length) = place(header(names)?)?;
    let names = elf.read(at, length, MAX_NAMES_BYTES)?;
    let mut found = Vec::new();
    for index in 0..count {
        let header = header(index)?;
        let start = usize::try_from(elf.number(header, 0, 4)?).ok()?;
        let name = names.get(start..).unwrap_or_default();
        let name = name.split(|&b| b == 0).next().unwrap_or_default();
        let list = match name {
            b".dep-v0" => List::Cargo,
            b".go.buildinfo" => List::Go,
            _ => continue,
        };
        let (at, length) = place(header)?;
        found.extend(elf.read(at, length, MAX_SECTION_BYTES).map(|it| (list, it)));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// An ELF file with the sections ``, `.dep-v0` and `.shstrtab`.
    fn elf(is_64: bool, is_little: bool, section: &[u8]) -> Vec<u8> {
        let names = b"\0.dep-v0\0.shstrtab\0";
        let number = |value: u64, width: usize| {
            let big = value.to_be_bytes();
            let mut bytes = big[8 - width..].to_vec();
            if is_little {
                bytes.reverse();
            }
            bytes
        };
        let word = if is_64 { 8 } else { 4 };
        let size: u64 = if is_64 { 64 } else { 40 };
        let (data, strings) = (64, 64 + section.len() as u64);
        let table = strings + names.len() as u64;
        let mut out = b"\x7fELF".to_vec();
        out.extend([1 + u8::from(is_64), 2 - u8::from(is_little)]);
        out.resize(if is_64 { 0x28 } else { 0x20 }, 0);
        out.extend(number(table, word));
        out.resize(if is_64 { 0x3a } else { 0x2e }, 0);
        for value in [size, 3, 2] {
            out.extend(number(value, 2));
        }
        out.resize(64, 0);
        out.extend(section);
        out.extend(names);
        for (name, at, length) in [
            (0, 0, 0),
            (1, data, section.len()),
            (9, strings, names.len()),
        ] {
            let start = out.len();
            out.extend(number(name, 4));
            out.resize(start + if is_64 { 0x18 } else { 0x10 }, 0);
            out.extend(number(at, word));
            out.extend(number(length as u64, word));
            out.resize(start + usize::try_from(size).expect("size"), 0);
        }
        out
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("write");
        file
    }

    #[test]
    fn sections_are_found() {
        for (is_64, is_little) in [(true, true), (true, false), (false, true), (false, false)] {
            let whole = elf(is_64, is_little, b"list");
            let found = lists(&file(&whole));
            assert_eq!(
                found,
                Some(vec![(List::Cargo, b"list".to_vec())]),
                "{is_64} {is_little}"
            );
            for length in 0..whole.len() {
                let cut = lists(&file(&whole[..length]));
                assert!(cut.is_none_or(|it| it.is_empty()), "{length}");
            }
        }
        assert_eq!(lists(&file(&[0xff; 100])), None);
        let mut wrong = elf(true, true, b"list");
        wrong[0x28..0x30].fill(0xff);
        assert_eq!(lists(&file(&wrong)), None);
    }
}
