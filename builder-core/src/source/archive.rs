//! A tar from a user, as a directory.

use std::io::{BufReader, Read};
use std::path::Path;

use super::SourceError;
use crate::layer::compression::decompressor;
use crate::layer::{Reader, ReaderOptions, UnpackOptions, Unpacker};

/// What the first bytes of a stream say.
const BLOCK: usize = 512;

/// A stream that is an archive, or the text that it is instead.
pub enum Stream {
    Archive(Box<dyn Read + Send>),
    Other(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Archive(_) => "Archive",
            Stream::Other(_) => "Other",
        })
    }
}

/// Looks at the first bytes, as Docker does: a compressed stream is an archive, and so is what starts with a tar header.
///
/// # Errors
/// Where nothing can be read.
pub fn look(mut stream: Box<dyn Read + Send>) -> std::io::Result<Stream> {
    let mut head = Vec::with_capacity(BLOCK);
    (&mut stream).take(BLOCK as u64).read_to_end(&mut head)?;
    let is_archive = starts_archive(&head);
    let whole: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(head).chain(stream));
    Ok(if is_archive {
        Stream::Archive(whole)
    } else {
        Stream::Other(whole)
    })
}

/// Whether the first 512 bytes of a stream are those of an archive.
pub fn starts_archive(head: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [
        &[0x42, 0x5a, 0x68],
        &[0x1f, 0x8b, 0x08],
        &[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    if COMPRESSED.iter().any(|magic| head.starts_with(magic)) {
        return true;
    }
    if head.len() < BLOCK {
        return false;
    }
    if head.iter().all(|&byte| byte == 0) {
        // The end of an archive without entries.
        return true;
    }
    let mut reader = Reader::new(head, ReaderOptions::default());
    matches!(reader.next(), Ok(Some(_))) || &head[257..262] == b"ustar"
}

/// Unpacks `stream` into the directory `dest`; `name` is what errors call it. Owners are kept.
///
/// # Errors
/// An archive that is damaged, or holds a name that leads out.
pub fn unpack(stream: impl Read + Send, name: &str, dest: &Path) -> Result<(), SourceError> {
    let failed = |error| SourceError::Archive {
        name: name.to_owned(),
        source: Box::new(error),
    };
    let dir = std::fs::File::open(dest)
        .map_err(|error| SourceError::io(format!("open {}", dest.display()), error))?;
    let plain = decompressor(BufReader::new(stream))
        .map_err(|error| SourceError::io(format!("read {name}"), error))?;
    let mut reader = Reader::new(plain, ReaderOptions::default());
    let options = UnpackOptions {
        overlay: None,
        chown: None,
        remember: false,
    };
    use std::os::fd::AsFd;
    let mut unpacker = Unpacker::new(dir.as_fd(), options).map_err(failed)?;
    unpacker.unpack(&mut reader).map_err(failed)?;
    unpacker.finish().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(name: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o640);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, &b"x"[..]).expect("append");
        tar.into_inner().expect("tar")
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let plain = tar("a");
        for (bytes, expected) in [
            (&plain[..], true),
            (&[0; 1024], true),
            (b"\x1f\x8b\x08 and so on", true),
            (b"\x28\xb5\x2f\xfd and so on", true),
            (b"FROM scratch\n", false),
            (b"", false),
            (&[b'#'; 4096], false),
        ] {
            let stream = look(Box::new(std::io::Cursor::new(bytes.to_vec()))).expect("look");
            let (is_archive, mut rest) = match stream {
                Stream::Archive(rest) => (true, rest),
                Stream::Other(rest) => (false, rest),
            };
            let mut whole = Vec::new();
            rest.read_to_end(&mut whole).expect("read");
            assert_eq!((is_archive, &whole[..]), (expected, bytes));
        }
    }

    #[test]
    fn nothing_leaves_the_directory() {
        for name in ["../x", "a/../../x"] {
            let dir = tempfile::tempdir().expect("temp dir");
            let inner = dir.path().join("in");
            std::fs::create_dir(&inner).expect("mkdir");
            let result = unpack(&tar(name)[..], "x.tar", &inner);
            assert!(result.is_err(), "{name}");
            assert!(!dir.path().join("x").exists(), "{name}");
        }
    }
}
