//! The archive's bytes: in blocks, as data that is stored, and passed over.

use std::io::{self, Read};

use super::sparse::Data;
use super::{BUFFER, Reader};
use crate::layer::LayerError;
use crate::layer::writer::BLOCK;

impl<R: Read> Reader<R> {
    pub(super) fn begin(&mut self, stored: u64) -> Result<(), LayerError> {
        if stored > u64::MAX - 2 * BLOCK as u64 {
            return Err(self.malformed("bad size"));
        }
        self.stored = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        self.data = Data::Plain;
        Ok(())
    }

    pub(super) fn pass_over(&mut self) -> Result<(), LayerError> {
        let mut left = self.stored + self.padding;
        while left > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(self.truncated());
            }
            let n = left.min((self.end - self.start) as u64);
            self.start += n as usize;
            self.offset += n;
            left -= n;
        }
        self.stored = 0;
        self.padding = 0;
        self.data = Data::Plain;
        Ok(())
    }

    /// Reads stored bytes; zero only where `into` is empty.
    pub(super) fn stored_data(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
        let want = (into.len() as u64).min(self.stored) as usize;
        let into = &mut into[..want];
        if want == 0 {
            return Ok(0);
        }
        let n = if self.start == self.end && want >= BUFFER {
            self.within_limit()?;
            loop {
                match self.inner.read(into) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    other => break other.map_err(LayerError::stream("read the layer"))?,
                }
            }
        } else {
            if self.start == self.end {
                self.fill()?;
            }
            let n = want.min(self.end - self.start);
            into[..n].copy_from_slice(&self.buffer[self.start..self.start + n]);
            self.start += n;
            n
        };
        if n == 0 {
            return Err(self.truncated());
        }
        self.offset += n as u64;
        self.stored -= n as u64;
        Ok(n)
    }

    /// Reads one block; `None` at the end of the archive.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if self.start == self.end && !self.fill()? {
                return match filled {
                    0 => Ok(None),
                    _ => Err(self.truncated()),
                };
            }
            let n = (BLOCK - filled).min(self.end - self.start);
            block[filled..filled + n].copy_from_slice(&self.buffer[self.start..self.start + n]);
            self.start += n;
            filled += n;
            self.offset += n as u64;
        }
        Ok(Some(block))
    }

    pub(super) fn fill(&mut self) -> Result<bool, LayerError> {
        self.within_limit()?;
        self.start = 0;
        self.end = 0;
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(n) => {
                    self.end = n;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LayerError::stream("read the layer")(e)),
            }
        }
    }

    /// What is passed over, or comes after the end, is counted as well.
    fn within_limit(&self) -> Result<(), LayerError> {
        let limit = self.options.limits.total_bytes;
        if self.offset > limit {
            return Err(self.limit(LayerError::SIZE, limit));
        }
        Ok(())
    }
}
