//! Reads tars as other tools write them, one entry at a time.
//!
//! Understood: v7, ustar, PAX (`x`, `g`, Solaris `X`), GNU long names, base-256 numbers, sparse files (old GNU; PAX
//! 0.0, 0.1, 1.0), which read as plain files with their holes as zeros. Anything else is an error that names the
//! entry and where it stands. An archive may end without its zero blocks, but only between two entries.
//!
//! Names lose `.` components and needless slashes, nothing else: `..` is still there for the unpacker to refuse.

mod entry;
mod input;
mod sparse;

use std::collections::BTreeMap;
use std::io::Read;

use super::error::shown;
use super::header::{field_number, raw_name, sum_is_right, until_nul};
use super::pax;
use super::writer::BLOCK;
use super::{Entry, LayerError};
use sparse::Data;

const BUFFER: usize = 128 * 1024;
const HEADERS: &str = "the size of its extended headers";

/// How much an archive may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all PAX headers and long names of one entry; global headers may have a sixteenth of it.
    pub pax_bytes: u64,
    pub entries: u64,
    /// Bytes of all files together, holes included, and of the whole archive.
    pub total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pax_bytes: 1 << 20,
            entries: 20_000_000,
            total_bytes: 1 << 40,
        }
    }
}

impl Limits {
    /// What an archive may always unpack to, unless told otherwise.
    pub const FREE_BYTES: u64 = 4 << 30;
    /// What it may unpack to beyond that: so many times its compressed size.
    pub const RATIO: u64 = 100;

    /// Returns the limits of an archive of `compressed` bytes: `total_bytes`, or what the defaults say.
    pub fn of_compressed(compressed: u64, total_bytes: Option<u64>) -> Self {
        let usual = Self::FREE_BYTES.max(compressed.saturating_mul(Self::RATIO));
        Limits {
            total_bytes: total_bytes.unwrap_or(usual),
            ..Limits::default()
        }
    }
}

/// How a tar is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// `.wh.` names are removals: true for layers, false for a user's archives.
    pub whiteouts: bool,
    pub limits: Limits,
}

/// Reads entries; as a [`Read`] it gives the data of the entry that came last.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    options: ReaderOptions,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the archive taken so far.
    offset: u64,
    name: Vec<u8>,
    /// Bytes stored for the current entry that have not been read, then its padding.
    stored: u64,
    padding: u64,
    data: Data,
    globals: BTreeMap<Vec<u8>, Vec<u8>>,
    global_bytes: u64,
    entries: u64,
    total: u64,
    over: bool,
}

/// What the headers before an entry's own said.
#[derive(Debug, Default)]
struct Ahead {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// `GNU.sparse.offset` and `numbytes` of format 0.0 repeat, so that they need their order.
    pieces: Vec<u64>,
}

impl<R: Read> Reader<R> {
    /// Returns a reader at the start of an uncompressed tar.
    pub fn new(inner: R, options: ReaderOptions) -> Self {
        Reader {
            inner,
            options,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            name: Vec::new(),
            stored: 0,
            padding: 0,
            data: Data::Plain,
            globals: BTreeMap::new(),
            global_bytes: 0,
            entries: 0,
            total: 0,
            over: false,
        }
    }

    /// Returns the next entry, `None` at the end. What is left of the last entry's data is passed over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not lend the data"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        loop {
            self.pass_over()?;
            if self.over {
                return Ok(None);
            }
            let mut ahead = Ahead::default();
            let Some(header) = self.own_header(&mut ahead)? else {
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > self.options.limits.entries {
                return Err(self.limit("the number of entries", self.options.limits.entries));
            }
            if let Some(entry) = self.entry(&header, ahead)? {
                return Ok(Some(entry));
            }
        }
    }

    /// Reads what follows the end of the archive, so that whoever hashes the stream has seen all of it.
    pub fn drain(&mut self) -> Result<(), LayerError> {
        self.offset += (self.end - self.start) as u64;
        while self.fill()? {
            self.offset += self.end as u64;
        }
        Ok(())
    }

    /// Reads headers up to one that is an entry of its own.
    fn own_header(&mut self, ahead: &mut Ahead) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut described = false;
        let mut bytes = 0;
        loop {
            self.name.clear();
            let Some(header) = self.block()? else {
                if described {
                    return Err(self.truncated());
                }
                self.over = true;
                return Ok(None);
            };
            if header.iter().all(|b| *b == 0) {
                if described {
                    return Err(self.malformed("the archive ends between a header and its entry"));
                }
                if let Some(second) = self.block()?
                    && second.iter().any(|b| *b != 0)
                {
                    return Err(self.malformed("a lone zero block"));
                }
                self.over = true;
                return Ok(None);
            }
            self.name = raw_name(&header);
            if !sum_is_right(&header) {
                return Err(self.malformed("bad header checksum"));
            }
            match header[156] {
                b'x' | b'X' => {
                    let data = self.special(&header, &mut bytes)?;
                    for (key, value) in pax::decode(&data).map_err(|why| self.malformed(why))? {
                        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                            let n = pax::number(value)
                                .ok_or_else(|| self.malformed("bad sparse map"))?;
                            ahead.pieces.push(n);
                        } else {
                            ahead.records.insert(key.to_vec(), value.to_vec());
                        }
                    }
                }
                b'g' => {
                    let data = self.special(&header, &mut bytes)?;
                    self.global_bytes += data.len() as u64;
                    // They stay, and are looked at for every entry.
                    let limit = self.options.limits.pax_bytes / 16;
                    if self.global_bytes > limit {
                        return Err(self.limit(HEADERS, limit));
                    }
                    for (key, value) in pax::decode(&data).map_err(|why| self.malformed(why))? {
                        if value.is_empty() {
                            self.globals.remove(key);
                        } else {
                            self.globals.insert(key.to_vec(), value.to_vec());
                        }
                    }
                }
                b'L' => {
                    ahead.long_name = Some(until_nul(&self.special(&header, &mut bytes)?).to_vec())
                }
                b'K' => {
                    ahead.long_link = Some(until_nul(&self.special(&header, &mut bytes)?).to_vec())
                }
                _ => return Ok(Some(header)),
            }
            described = header[156] != b'g';
        }
    }

    /// Reads the data of a header that describes the next one, after `before` bytes of others.
    fn special(&mut self, header: &[u8; BLOCK], before: &mut u64) -> Result<Vec<u8>, LayerError> {
        let size = field_number(&header[124..136])
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| self.malformed("bad size"))?;
        let limit = self.options.limits.pax_bytes;
        *before = before.saturating_add(size);
        if *before > limit {
            return Err(self.limit(HEADERS, limit));
        }
        self.begin(size)?;
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.stored_data(&mut data[filled..])?;
        }
        self.pass_over()?;
        Ok(data)
    }

    fn malformed(&self, why: &'static str) -> LayerError {
        LayerError::Malformed {
            path: shown(&self.name),
            offset: self.offset,
            why,
        }
    }

    fn truncated(&self) -> LayerError {
        LayerError::Truncated {
            path: shown(&self.name),
            offset: self.offset,
        }
    }

    fn limit(&self, what: &'static str, limit: u64) -> LayerError {
        LayerError::Limit {
            path: shown(&self.name),
            what,
            limit,
        }
    }
}
