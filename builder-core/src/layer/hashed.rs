//! A layer read and hashed at the same time.

use std::io::{self, Read};
use std::sync::{Arc, mpsc};

use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::digest::{DiffId, Digest};

/// Runs `work` on `tar` while another thread hashes what it reads; the blocks are shared, not copied.
///
/// # Errors
/// What `work` says.
pub fn hashed<T, E: From<LayerError>>(
    tar: &mut dyn Read,
    work: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<(T, DiffId), E> {
    let (blocks, read) = mpsc::sync_channel::<Block>(RING / 2);
    std::thread::scope(|scope| {
        let hash = scope.spawn(move || {
            let mut hash = Sha256::new();
            for (block, size) in read {
                hash.update(&block[..size]);
            }
            hash.finalize()
        });
        let mut tee = Tee {
            tar,
            blocks,
            ring: Vec::new(),
            next: 0,
            start: 0,
            end: 0,
        };
        let done = work(&mut tee);
        drop(tee);
        let hash = hash.join();
        let done = done?;
        let hash = hash.map_err(|_| {
            let error = io::Error::other("the hashing thread has ended early");
            LayerError::stream("hash the layer")(error)
        })?;
        Ok((done, DiffId(Digest::from_bytes(hash.into()))))
    })
}

const RING: usize = 8;
const BLOCK: usize = 256 * 1024;

type Block = (Arc<Vec<u8>>, usize);

/// Reads blocks, hands them to the hashing thread, and gives out their bytes.
struct Tee<'a> {
    tar: &'a mut dyn Read,
    blocks: mpsc::SyncSender<Block>,
    ring: Vec<Arc<Vec<u8>>>,
    next: usize,
    start: usize,
    end: usize,
}

impl Tee<'_> {
    fn fill(&mut self) -> io::Result<()> {
        if self.ring.len() < RING {
            self.ring.push(Arc::new(vec![0; BLOCK]));
            self.next = self.ring.len() - 1;
        } else {
            self.next = (self.next + 1) % RING;
        }
        let slot = &mut self.ring[self.next];
        if Arc::get_mut(slot).is_none() {
            *slot = Arc::new(vec![0; BLOCK]); // the hashing thread still has it
        }
        let Some(block) = Arc::get_mut(slot) else {
            return Ok(());
        };
        self.start = 0;
        self.end = 0;
        while self.end < BLOCK {
            match self.tar.read(&mut block[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // It fails only where the thread is gone, and then joining it tells.
        let _ = self.blocks.send((Arc::clone(slot), self.end));
        Ok(())
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            self.fill()?;
        }
        let n = into.len().min(self.end - self.start);
        if n > 0 {
            into[..n].copy_from_slice(&self.ring[self.next][self.start..self.start + n]);
            self.start += n;
        }
        Ok(n)
    }
}
