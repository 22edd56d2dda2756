//! Digests: what content is called, and hashing while bytes pass by.
//!
//! [`Digest`] is the OCI digest (SHA-256 only; others are refused by name). [`DiffId`] and [`ChainId`]
//! wrap it so that the two cannot be mixed up. [`ContentDigest`] is ours, never leaves the machine, and
//! says what a tree or a file holds with times left out; it is BLAKE3, which is several times faster.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    #[error("digest algorithm `{0}` is not supported, only sha256")]
    Algorithm(String),
    #[error("`{0}` is not a sha256 digest (64 lower-case hexadecimal digits)")]
    Hex(String),
    #[error("`{0}` is not a digest: `algorithm:hex` is expected")]
    Form(String),
}

/// An OCI content digest (image-spec, descriptor.md, "Digests"). Always SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// Wraps a finished SHA-256.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// Returns the 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hexadecimal digits, without `sha256:`.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text
            .split_once(':')
            .ok_or_else(|| DigestError::Form(text.to_owned()))?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.to_owned()));
        }
        unhex(digits)
            .map(Digest)
            .ok_or_else(|| DigestError::Hex(text.to_owned()))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Digest of a layer's *uncompressed* tar (OCI image-spec, config.md, `rootfs.diff_ids`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl DiffId {
    /// Whether it is that of a tar without entries: two blocks of zeros.
    pub fn is_empty_layer(&self) -> bool {
        const EMPTY: [u8; 32] = [
            0x5f, 0x70, 0xbf, 0x18, 0xa0, 0x86, 0x00, 0x70, 0x16, 0xe9, 0x48, 0xb0, 0x4a, 0xed,
            0x3b, 0x82, 0x10, 0x3a, 0x36, 0xbe, 0xa4, 0x17, 0x55, 0xb6, 0xcd, 0xdf, 0xaf, 0x10,
            0xac, 0xe3, 0xc6, 0xef,
        ];
        self.0.as_bytes() == &EMPTY
    }
}

/// Digest naming a stack of layers, base first (OCI image-spec, config.md, "Layer ChainID").
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// Returns the chain of `layer` put on top of `parent` (`None`: the bottom layer).
    pub fn extend(parent: Option<ChainId>, layer: DiffId) -> ChainId {
        match parent {
            None => ChainId(layer.0),
            Some(parent) => ChainId(Digest::of(format!("{} {}", parent.0, layer.0).as_bytes())),
        }
    }

    /// Returns the chain of every prefix of `layers`, base first.
    pub fn stack(layers: &[DiffId]) -> Vec<ChainId> {
        let mut parent = None;
        layers
            .iter()
            .map(|layer| {
                let chain = ChainId::extend(parent, *layer);
                parent = Some(chain);
                chain
            })
            .collect()
    }
}

/// What a file or a tree holds, times left out. Internal: BLAKE3, never written into an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// Returns the content digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        ContentDigest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        unhex(text)
            .map(ContentDigest)
            .ok_or_else(|| DigestError::Hex(text.to_owned()))
    }
}

impl serde::Serialize for ContentDigest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ContentDigest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Hashes (SHA-256) and counts what passes through to `inner`.
#[derive(Debug)]
pub struct DigestWriter<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> DigestWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        DigestWriter {
            inner,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    /// Returns the inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest(self.hasher.finalize().into()), self.size)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_layer_is_two_blocks_of_zeros() {
        assert!(DiffId(Digest::of(&[0; 1024])).is_empty_layer());
        assert!(!DiffId(Digest::of(&[0; 1536])).is_empty_layer());
    }

    #[test]
    fn digests_read_back() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let long = "a".repeat(128);
        for (text, says) in [
            (format!("sha512:{long}"), "sha512"),
            ("sha256:12".to_owned(), "64"),
            (format!("sha256:{}", "A".repeat(64)), "lower-case"),
            ("latest".to_owned(), "algorithm:hex"),
        ] {
            let error = text.parse::<Digest>().expect_err(&text);
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_chain_of_one_is_its_layer() {
        let layer = DiffId(Digest::of(b"x"));
        assert_eq!(ChainId::stack(&[layer])[0].0, layer.0);
        let two = ChainId::stack(&[layer, layer])[1];
        assert_eq!(
            two.0,
            Digest::of(format!("{} {}", layer.0, layer.0).as_bytes())
        );
    }
}
