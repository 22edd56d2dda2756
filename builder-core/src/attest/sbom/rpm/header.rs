//! A package's header, as the databases have it: an index of tags, then the data that they lead to; numbers are big-endian.

use super::bytes::{big32, part};
use crate::attest::sbom::package::{Kind, Package};

const NAME: usize = 1000;
const VERSION: usize = 1001;
const RELEASE: usize = 1002;
const EPOCH: usize = 1003;
const VENDOR: usize = 1011;
const LICENSE: usize = 1014;
const URL: usize = 1020;
const ARCH: usize = 1022;
const SOURCE: usize = 1044;

const INT32: usize = 4;
const STRING: usize = 6;
const STRINGS: usize = 9;

const ENTRY: usize = 16;

struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

impl Header<'_> {
    /// Returns kind and place of a tag's data.
    fn find(&self, tag: usize) -> Option<(usize, usize)> {
        let entry = self.index.chunks_exact(ENTRY);
        let mut found = entry.filter(|it| big32(it, 0) == Some(tag));
        let entry = found.next()?;
        Some((big32(entry, 4)?, big32(entry, 8)?))
    }

    fn text(&self, tag: usize) -> Option<String> {
        let (STRING | STRINGS, at) = self.find(tag)? else {
            return None;
        };
        let text = self.data.get(at..)?.split(|&b| b == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn number(&self, tag: usize) -> Option<usize> {
        let (INT32, at) = self.find(tag)? else {
            return None;
        };
        big32(self.data, at)
    }
}

pub(super) fn package(bytes: &[u8], path: &str) -> Option<Package> {
    let (entries, size) = (big32(bytes, 0)?, big32(bytes, 4)?);
    let index = entries.checked_mul(ENTRY)?;
    let header = Header {
        index: part(bytes, 8, index)?,
        data: part(bytes, index.checked_add(8)?, size)?,
    };
    let (name, version) = (header.text(NAME)?, header.text(VERSION)?);
    let release = header.text(RELEASE)?;
    let version = match header.number(EPOCH) {
        Some(epoch) => format!("{epoch}:{version}-{release}"),
        None => format!("{version}-{release}"),
    };
    let mut package = Package::new(Kind::Rpm, &name, &version, path);
    package.architecture = header.text(ARCH).unwrap_or_default();
    package.supplier = header.text(VENDOR).unwrap_or_default();
    package.licenses = header.text(LICENSE).into_iter().collect();
    package.homepage = header.text(URL).unwrap_or_default();
    package.upstream = header.text(SOURCE).unwrap_or_default();
    Some(package)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header with these texts.
    pub(in super::super) fn made(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
        let mut index = Vec::new();
        let mut data = Vec::new();
        let mut entry = |tag: u32, kind: u32, at: usize| {
            for number in [tag, kind, u32::try_from(at).expect("small"), 1] {
                index.extend(number.to_be_bytes());
            }
        };
        for (tag, text) in texts {
            entry(*tag, 6, data.len());
            data.extend(text.as_bytes());
            data.push(0);
        }
        if let Some(epoch) = epoch {
            entry(1003, 4, data.len());
            data.extend(epoch.to_be_bytes());
        }
        let count = u32::try_from(index.len() / ENTRY).expect("small");
        let size = u32::try_from(data.len()).expect("small");
        [&count.to_be_bytes()[..], &size.to_be_bytes(), &index, &data].concat()
    }

    #[test]
    fn headers_are_read() {
        let texts = [
            (1000, "bash"),
            (1001, "5.2"),
            (1002, "1.fc40"),
            (1011, "Fedora Project"),
            (1014, "GPL-3.0-or-later"),
            (1022, "x86_64"),
        ];
        let whole = made(&texts, Some(2));
        let found = package(&whole, "x").expect("a package");
        assert_eq!(found.version, "2:5.2-1.fc40");
        assert_eq!(found.licenses, ["GPL-3.0-or-later"]);
        for length in 0..whole.len() {
            assert_eq!(package(&whole[..length], "x"), None, "{length}");
        }
        assert_eq!(package(&made(&texts[..2], None), "x"), None);
        assert_eq!(package(&[0xff; 64], "x"), None);
    }
}
