//! Compressed forms of a tar: told by their first bytes, read as streams, written as a row of members.
//!
//! | media type                    | written as                                        |
//! |-------------------------------|---------------------------------------------------|
//! | `...layer.v1.tar+gzip`        | gzip members, see `gzip_member`, level 5 unless told, or 2 where that loses little |
//! | `...layer.v1.tar+zstd`        | zstd frames                                        |
//! | `...layer.v1.tar`             | as it is                                           |
//!
//! Any gzip or zstd reader takes members in a row for one stream. Where they are cut is in `members`.

use std::io::{self, BufReader, Read};

pub use super::cutter::Skip;
pub use super::members::{
    CompressOptions, LayerBlob, MemberCache, compress, compress_outlined, compress_with,
};

/// OCI media type of an uncompressed layer.
pub const MEDIA_TYPE_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI media type of a gzip layer.
pub const MEDIA_TYPE_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI media type of a zstd layer.
pub const MEDIA_TYPE_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The level of gzip where the user names none. libdeflate's level 5 is within 3 % of `gzip -6`, in a quarter of its time
/// (bytes, and seconds of one core; another level that is named is libdeflate's of that number):
///
/// | what                    | `gzip -6`        | level 6         | level 5         | level 4         |
/// |-------------------------|-----------------:|----------------:|----------------:|----------------:|
/// | 60 MB, Python's library | 18,945,571  2.00 | 18,685,217 0.59 | 18,835,610 0.54 | 19,263,830 0.44 |
/// | 60 MB, ELF libraries    | 24,325,744  2.68 | 24,127,134 0.73 | 24,238,297 0.66 | 24,721,593 0.49 |
/// | 5 MB, Rust sources      | 999,923  0.11    | 1,003,212       | 1,015,315       | 1,036,563       |
/// | 40 MB, words            | 15,650,570  2.05 | 15,196,653 0.49 | 15,295,024 0.38 | 15,325,942 0.36 |
pub const GZIP_LEVEL: u8 = 5;
/// The level of zstd where the user names none: its own.
pub const ZSTD_LEVEL: u8 = 3;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    None,
    /// Level 1 to 12; 0 stores.
    Gzip(u8),
    /// Level 1 to 22.
    Zstd(u8),
}

impl Default for Compression {
    fn default() -> Self {
        Compression::Gzip(GZIP_LEVEL)
    }
}

impl Compression {
    /// Returns the OCI media type of a layer compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::None => MEDIA_TYPE_TAR,
            Compression::Gzip(_) => MEDIA_TYPE_GZIP,
            Compression::Zstd(_) => MEDIA_TYPE_ZSTD,
        }
    }
}

/// A compressed form that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    /// None of these: perhaps a plain tar.
    None,
}

/// Memory for one xz stream; `xz -9` needs 65 MiB. zstd has its own limit, a window of 128 MiB.
const XZ_BYTES: u64 = 256 << 20;

/// Tells the form by the first bytes; six are enough.
pub fn detect(start: &[u8]) -> Format {
    match start {
        [0x1f, 0x8b, ..] => Format::Gzip,
        // A frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        _ => Format::None,
    }
}

/// Returns a reader of what `inner` holds, decompressed when its first bytes say that it is compressed.
///
/// # Errors
/// Those of reading the first bytes. A stream that is cut short or damaged is an error of the reader returned.
pub fn decompressor<'a>(mut inner: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        match inner.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let format = detect(&start[..filled]);
    let whole = io::Cursor::new(start).take(filled as u64).chain(inner);
    let buffered = BufReader::with_capacity(128 * 1024, whole);
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        Format::Xz => Box::new(liblzma::bufread::XzDecoder::new_stream(
            buffered,
            liblzma::stream::Stream::new_stream_decoder(XZ_BYTES, liblzma::stream::CONCATENATED)?,
        )),
        Format::None => Box::new(buffered),
    })
}
