//! The digest of a large file, taken on all cores: each reads and hashes other pieces of it.
//!
//! BLAKE3 is a tree, so what comes out is the digest of the whole, as one thread would have it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use rayon::prelude::*;

use crate::digest::ContentDigest;

/// A power of two, as every subtree but the last one must be.
const PIECE: u64 = 1 << 20;
/// Smaller files are not worth it: there are others to hash beside them.
pub(super) const LEAST: u64 = 8 << 20;

/// Returns the digest of a file of `size` bytes, [`LEAST`] or more; `None` where it has more or less.
pub(super) fn hash_pieces(file: &File, size: u64) -> io::Result<Option<ContentDigest>> {
    let value = |buffer: &mut Vec<u8>, nth: u64| {
        let start = nth * PIECE;
        let length = (size - start).min(PIECE) as usize;
        buffer.resize(length, 0);
        file.read_exact_at(buffer, start)?;
        let mut hash = blake3::Hasher::new();
        hash.set_input_offset(start).update(buffer);
        Ok(hash.finalize_non_root())
    };
    let pieces = (0..size.div_ceil(PIECE)).into_par_iter();
    let values: io::Result<Vec<ChainingValue>> = pieces.map_init(Vec::new, value).collect();
    let values = match values {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        values => values?,
    };
    if file.read_at(&mut [0], size)? > 0 {
        return Ok(None);
    }
    let (left, right) = values.split_at(left(values.len()));
    let root = merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
    Ok(Some(ContentDigest(*root.as_bytes())))
}

fn merged(values: &[ChainingValue]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = values.split_at(left(values.len()));
    merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
}

/// The left subtree is the largest that is whole and leaves something to the right one.
fn left(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn pieces_come_to_the_digest_of_the_whole() {
        for size in [
            LEAST,
            LEAST + 1,
            9 * PIECE - 1,
            9 * PIECE,
            11 * PIECE + 1023,
            11 * PIECE + 1025,
            16 * PIECE,
            21 * PIECE + 77,
        ] {
            let byte = |at: u64| (at / 1000) as u8 ^ (at % 253) as u8;
            let bytes: Vec<u8> = (0..size).map(byte).collect();
            let mut file = tempfile::tempfile().expect("temp file");
            file.write_all(&bytes).expect("write");
            let hash = |size| hash_pieces(&file, size).expect("hash");
            assert_eq!(hash(size), Some(ContentDigest::of(&bytes)), "{size}");
            assert_eq!(hash(size + 1), None, "{size}, cut short");
            assert_eq!(hash(size - 1), None, "{size}, grown");
        }
    }
}
