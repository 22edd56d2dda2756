//! The yardstick of a cold COPY into a gzip layer: reads every file below a directory once, on all cores; compresses what
//! was read with the builder's codec, on all cores; hashes it once, on one. Prints the seconds of each and their sum.
//!
//! Nothing overlaps, and nothing is written.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use builder_core::layer::GzipEncoder;
use builder_core::layer::compression::GZIP_LEVEL;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Files are held in memory until so much has come together.
const BATCH_BYTES: u64 = 256 << 20;
const MEMBER_BYTES: usize = 1 << 20;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("which directory? cold_floor DIRECTORY"));
    };
    let mut files = Vec::new();
    let mut ahead = vec![PathBuf::from(root)];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                ahead.push(entry.path());
            } else if about.is_file() {
                files.push((entry.path(), about.len()));
            }
        }
    }
    files.sort();
    let mut spent = [Duration::ZERO; 3];
    let mut packed = 0;
    let mut hash = Sha256::new();
    let mut rest = &files[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let cut = rest.iter().take_while(|(_, size)| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(cut.count());
        rest = after;
        let mut timed = |phase: usize, since: Instant| spent[phase] += since.elapsed();
        let started = Instant::now();
        let read: Vec<Vec<u8>> = batch
            .par_iter()
            .map(|(path, _)| fs::read(path))
            .collect::<io::Result<_>>()?;
        timed(0, started);
        let whole = read.concat();
        drop(read);
        let started = Instant::now();
        packed += compress(&whole)?;
        timed(1, started);
        let started = Instant::now();
        hash.update(&whole);
        timed(2, started);
    }
    let [read, compressed, hashed] = spent.map(|it| it.as_secs_f64());
    let sum = read + compressed + hashed;
    let mut out = io::stdout();
    writeln!(
        out,
        "{sum:.3} read {read:.3} compress {compressed:.3} ({packed} bytes) hash {hashed:.3} ({:02x})",
        hash.finalize()[0]
    )
}

/// Returns the size of `bytes`, compressed in pieces on all cores.
fn compress(bytes: &[u8]) -> io::Result<u64> {
    let start = || GzipEncoder::new(GZIP_LEVEL);
    let sizes = bytes
        .par_chunks(MEMBER_BYTES)
        .map_init(start, |codec, piece| Ok(codec.encode(piece)?.len() as u64));
    sizes.try_reduce(|| 0, |a, b| Ok(a + b))
}
