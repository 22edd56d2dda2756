//! Sparse files: the map in each of its forms, and the data as its reader sees it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};

use super::Reader;
use crate::layer::header::field_number;
use crate::layer::writer::BLOCK;
use crate::layer::{LayerError, pax};

/// The current entry's data, as its reader sees it.
#[derive(Debug)]
pub(super) enum Data {
    Plain,
    /// `map`: (start, length) of what is stored; the rest up to `size` is zeros.
    Sparse {
        map: VecDeque<(u64, u64)>,
        at: u64,
        size: u64,
    },
}

impl<R: Read> Reader<R> {
    /// Reads the map of a sparse file, in whichever form it has, and returns the size that the file has.
    pub(super) fn sparse(
        &mut self,
        header: &[u8; BLOCK],
        all: &BTreeMap<Vec<u8>, Vec<u8>>,
        pieces: &[u64],
        plain: u64,
    ) -> Result<u64, LayerError> {
        let bad = "bad sparse map";
        let get = |key: &str| all.get(key.as_bytes()).and_then(|v| pax::number(v));
        let mut numbers = Vec::new();
        let size;
        if header[156] == b'S' {
            let field = |bytes: &[u8]| field_number(bytes).and_then(|n| u64::try_from(n).ok());
            size = field(&header[483..495]).ok_or_else(|| self.malformed(bad))?;
            let mut take = |area: &[u8]| {
                for pair in area.chunks_exact(24) {
                    if pair[0] == 0 {
                        break;
                    }
                    numbers.push(field(&pair[..12])?);
                    numbers.push(field(&pair[12..])?);
                }
                Some(())
            };
            take(&header[386..482]).ok_or_else(|| self.malformed(bad))?;
            let mut more = header[482] != 0;
            let mut read = 0u64;
            while more {
                read += BLOCK as u64;
                if read > self.options.limits.pax_bytes {
                    return Err(self.malformed(bad));
                }
                let block = self.block()?.ok_or_else(|| self.truncated())?;
                take(&block[..504]).ok_or_else(|| self.malformed(bad))?;
                more = block[504] != 0;
            }
        } else if get("GNU.sparse.major") == Some(1) {
            size = get("GNU.sparse.realsize").ok_or_else(|| self.malformed(bad))?;
            numbers = self.map_in_data()?;
        } else if let Some(real) = get("GNU.sparse.size") {
            size = real;
            match all.get(&b"GNU.sparse.map"[..]) {
                Some(map) => {
                    for text in map.split(|b| *b == b',').filter(|t| !t.is_empty()) {
                        numbers.push(pax::number(text).ok_or_else(|| self.malformed(bad))?);
                    }
                }
                None => numbers = pieces.to_vec(),
            }
        } else {
            return Ok(plain);
        }

        let mut map = VecDeque::new();
        let mut at = 0u64;
        let mut held = 0u64;
        for pair in numbers.chunks(2) {
            let [start, length] = *pair else {
                return Err(self.malformed(bad));
            };
            let end = start.checked_add(length).filter(|end| *end <= size);
            match end {
                Some(end) if start >= at => at = end,
                _ => return Err(self.malformed(bad)),
            }
            held += length;
            if length > 0 {
                map.push_back((start, length));
            }
        }
        if held > self.stored {
            return Err(self.malformed("sparse map and stored size contradict each other"));
        }
        self.data = Data::Sparse { map, at: 0, size };
        Ok(size)
    }

    /// Format 1.0: decimal numbers, a line each, padded to a block, before the data.
    fn map_in_data(&mut self) -> Result<Vec<u64>, LayerError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut line = Vec::new();
        let mut wanted = None;
        let mut read = 0u64;
        while wanted != Some(numbers.len() as u64) {
            read += BLOCK as u64;
            if self.stored < BLOCK as u64 || read > self.options.limits.pax_bytes {
                return Err(self.malformed("bad sparse map"));
            }
            let block = self.block()?.ok_or_else(|| self.truncated())?;
            self.stored -= BLOCK as u64;
            for byte in block {
                if wanted == Some(numbers.len() as u64) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let n = pax::number(&line).ok_or_else(|| self.malformed("bad sparse map"))?;
                line.clear();
                match wanted {
                    None => {
                        let count = n.checked_mul(2);
                        wanted = Some(count.ok_or_else(|| self.malformed("bad sparse map"))?);
                    }
                    Some(_) => numbers.push(n),
                }
            }
        }
        Ok(numbers)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Data::Sparse { map, at, size } = &mut self.data else {
            return Ok(self.stored_data(into)?);
        };
        let until = map.front().map_or(*size, |(start, _)| *start);
        if *at < until {
            let n = (into.len() as u64).min(until - *at) as usize;
            into[..n].fill(0);
            *at += n as u64;
            return Ok(n);
        }
        let Some((_, length)) = map.front().copied() else {
            return Ok(0);
        };
        let want = (into.len() as u64).min(length) as usize;
        let n = self.stored_data(&mut into[..want])?;
        if let Data::Sparse { map, at, .. } = &mut self.data {
            *at += n as u64;
            if let Some((start, length)) = map.front_mut() {
                *start += n as u64;
                *length -= n as u64;
                if *length == 0 {
                    map.pop_front();
                }
            }
        }
        Ok(n)
    }
}
