//! Go's modules, as `go version -m` shows them: a text that the linker puts into each binary.

use super::package::{Kind, Package};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The text stands between two marks of this length.
const MARK: usize = 16;
/// Of the header, before the strings of Go 1.18 and later.
const HEAD: usize = 32;

/// Reads the section `.go.buildinfo`; none where the binary says nothing, as those of before Go 1.18 do here.
pub(super) fn modules(section: &[u8], path: &str) -> Vec<Package> {
    let Some(text) = text(section) else {
        return Vec::new();
    };
    let mut found: Vec<Package> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (word, name, version) = (fields.next(), fields.next(), fields.next());
        let (Some(word), Some(name), Some(version)) = (word, name, version) else {
            continue;
        };
        let package = Package::new(Kind::Golang, name, version, path);
        match word {
            // A program that was built from a directory has no version of its own.
            "mod" if version == "(devel)" => {}
            "mod" | "dep" => found.push(package),
            // In place of the one above.
            "=>" => {
                found.pop();
                found.push(package);
            }
            _ => {}
        }
    }
    found
}

fn text(section: &[u8]) -> Option<&str> {
    let rest = section.strip_prefix(MAGIC)?;
    let has_strings = rest.get(1)? & 2 != 0;
    if !has_strings {
        return None;
    }
    let (_, rest) = string(section.get(HEAD..)?)?;
    let (marked, _) = string(rest)?;
    let inner = marked.get(MARK..marked.len().checked_sub(MARK)?)?;
    std::str::from_utf8(inner).ok()
}

/// Splits off a string, its length (a varint) before it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut shift, mut at) = (0_usize, 0, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    let end = at.checked_add(length)?;
    Some((bytes.get(at..end)?, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([8, 2]);
        out.resize(HEAD, 0);
        out.extend([6]);
        out.extend(b"go1.23");
        let marked = [&[b'<'; MARK][..], text.as_bytes(), &[b'>'; MARK]].concat();
        let length = marked.len();
        out.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        out.extend(marked);
        out
    }

    #[test]
    fn modules_are_read() {
        let text = "path\tx/cmd\nmod\tx\t(devel)\t\ndep\ta.b/c\tv1.2.3\th1:x=\n\
            dep\told\tv1.0.0\n=>\tnew/fork\tv1.0.1\th1:y=\nbuild\tGOOS=linux\n";
        let whole = section(text);
        let found = modules(&whole, "x");
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_str(), it.version.as_str()))
            .collect();
        assert_eq!(told, [("a.b/c", "v1.2.3"), ("new/fork", "v1.0.1")]);
        for length in 0..whole.len() {
            assert_eq!(modules(&whole[..length], "x"), [], "{length}");
        }
        assert_eq!(modules(&[0xff; 400], "x"), []);
    }
}
