//! A layer read, hashed and used at the same time: the work on it waits neither for what decompresses it nor for its digest.
//!
//! ```text
//! tar ──reading thread──▶ blocks ─┬─▶ hashing thread
//!                                 └─▶ the caller's thread: work
//! ```
//!
//! Blocks are shared, not copied, and few: who is ahead waits.

use std::io::{self, Read};
use std::sync::{Arc, mpsc};

use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::digest::{DiffId, Digest};

/// Runs `work` on `tar`, which it reads to its end, and returns what came of it and what was read.
///
/// # Errors
/// What `work` says, to which errors of `tar` are given in their place.
pub fn hashed<T, E: From<LayerError>>(
    tar: &mut (dyn Read + Send),
    work: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<(T, DiffId), E> {
    let (to_hash, hashing) = mpsc::sync_channel(RING / 2);
    let (to_work, working) = mpsc::sync_channel(RING / 2);
    std::thread::scope(|scope| {
        let hash = scope.spawn(move || {
            let mut hash = Sha256::new();
            for Block { bytes, size } in hashing {
                hash.update(&bytes[..size]);
            }
            hash.finalize()
        });
        let reader = scope.spawn(move || {
            let mut ring = Ring::default();
            loop {
                let block = match ring.fill(tar) {
                    Ok(block) if block.size == 0 => return,
                    Ok(block) => block,
                    Err(error) => {
                        let _ = to_work.send(Err(error)); // nobody waits where the work has failed
                        return;
                    }
                };
                // It fails only where the thread is gone, and then joining it tells.
                let _ = to_hash.send(block.clone());
                if to_work.send(Ok(block)).is_err() {
                    return;
                }
            }
        });
        let mut blocks = Blocks {
            working,
            block: Block::default(),
            start: 0,
        };
        let done = work(&mut blocks);
        drop(blocks);
        let ended = reader.join();
        let hash = hash.join();
        let done = done?;
        match (ended, hash) {
            (Ok(()), Ok(hash)) => Ok((done, DiffId(Digest::from_bytes(hash.into())))),
            _ => {
                let error = io::Error::other("a thread that reads or hashes has ended early");
                Err(LayerError::stream("hash the layer")(error).into())
            }
        }
    })
}

const RING: usize = 8;
const BLOCK: usize = 256 * 1024;

#[derive(Clone, Default)]
struct Block {
    bytes: Arc<Vec<u8>>,
    size: usize,
}

/// Blocks that are filled again when nobody has them any more.
#[derive(Default)]
struct Ring {
    blocks: Vec<Arc<Vec<u8>>>,
    next: usize,
}

impl Ring {
    /// Reads a block; a short one is the last, and an empty one comes after it.
    fn fill(&mut self, tar: &mut dyn Read) -> io::Result<Block> {
        if self.blocks.len() < RING {
            self.blocks.push(Arc::new(vec![0; BLOCK]));
            self.next = self.blocks.len() - 1;
        } else {
            self.next = (self.next + 1) % RING;
        }
        let slot = &mut self.blocks[self.next];
        if Arc::get_mut(slot).is_none() {
            *slot = Arc::new(vec![0; BLOCK]); // somebody still has it
        }
        let mut size = 0;
        if let Some(bytes) = Arc::get_mut(slot) {
            while size < BLOCK {
                match tar.read(&mut bytes[size..]) {
                    Ok(0) => break,
                    Ok(n) => size += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(Block {
            bytes: Arc::clone(slot),
            size,
        })
    }
}

/// Gives out the bytes of blocks as they come.
struct Blocks {
    working: mpsc::Receiver<io::Result<Block>>,
    block: Block,
    start: usize,
}

impl Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.block.size {
            // One that is filled again needs nobody else to have it.
            self.block = Block::default();
            self.start = 0;
            match self.working.recv() {
                Ok(block) => self.block = block?,
                Err(mpsc::RecvError) => return Ok(0),
            }
        }
        let n = into.len().min(self.block.size - self.start);
        into[..n].copy_from_slice(&self.block.bytes[self.start..self.start + n]);
        self.start += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes, a few at a time, and then an error, if it has one.
    struct Source {
        left: usize,
        error: Option<&'static str>,
    }

    impl Read for Source {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 {
                return self.error.map_or(Ok(0), |text| Err(io::Error::other(text)));
            }
            let n = into.len().min(self.left).min(7777);
            into[..n].fill(b'x');
            self.left -= n;
            Ok(n)
        }
    }

    fn all(tar: &mut dyn Read) -> Result<usize, LayerError> {
        let mut bytes = Vec::new();
        let read = tar.read_to_end(&mut bytes);
        read.map_err(LayerError::stream("read the tar"))
    }

    #[test]
    fn all_is_read_and_hashed() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 5] {
            let mut source = Source {
                left: size,
                error: None,
            };
            let (read, found) = hashed(&mut source, all).expect("no error");
            assert_eq!(read, size);
            assert_eq!(found, DiffId(Digest::of(&vec![b'x'; size])), "{size}");
        }
    }

    #[test]
    fn errors_of_either_side_come_out_and_end_it() {
        for size in [0, 1, BLOCK, 20 * BLOCK] {
            let error = Some("the line is cut");
            let outcome = hashed(&mut Source { left: size, error }, all);
            let text = format!("{:?}", outcome.expect_err("an error"));
            assert!(text.contains("the line is cut"), "{text}");
        }
        let mut endless = Source {
            left: usize::MAX,
            error: None,
        };
        let outcome = hashed(&mut endless, |tar| {
            let read = tar.read(&mut [0; 10]);
            let read = read.map_err(LayerError::stream("read the tar"))?;
            Err::<(), _>(LayerError::stream("use the tar")(io::Error::other(
                format!("enough after {read}"),
            )))
        });
        let text = format!("{:?}", outcome.expect_err("an error"));
        assert!(text.contains("enough after 10"), "{text}");
    }
}
