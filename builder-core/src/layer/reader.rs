//! Reads tars as other tools write them, one entry at a time.
//!
//! Understood: v7, ustar, PAX (`x`, `g`, Solaris `X`), GNU long names, base-256 numbers, sparse files (old GNU; PAX
//! 0.0, 0.1, 1.0), which read as plain files with their holes as zeros. Anything else is an error that names the
//! entry and where it stands. An archive may end without its zero blocks, but only between two entries.
//!
//! Names lose `.` components and needless slashes, nothing else: `..` is still there for the unpacker to refuse.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};

use base64::Engine as _;

use super::error::shown;
use super::pax;
use super::writer::BLOCK;
use super::{Entry, EntryKind, LayerError};

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

/// The current entry's data, as its reader sees it.
#[derive(Debug)]
enum Data {
    Plain,
    /// `map`: (start, length) of what is stored; the rest up to `size` is zeros.
    Sparse {
        map: VecDeque<(u64, u64)>,
        at: u64,
        size: u64,
    },
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

    /// Turns a header into an entry; `None` for one that is nothing in a tree.
    fn entry(&mut self, header: &[u8; BLOCK], ahead: Ahead) -> Result<Option<Entry>, LayerError> {
        let Ahead {
            records,
            long_name,
            long_link,
            pieces,
        } = ahead;
        let mut all = self.globals.clone();
        all.extend(records);
        // An empty value takes a record back; an attribute's may be empty.
        all.retain(|key, value| !value.is_empty() || key.starts_with(pax::XATTR));
        let name = all
            .get(&b"GNU.sparse.name"[..])
            .or_else(|| all.get(&b"path"[..]))
            .cloned()
            .or(long_name)
            .unwrap_or_else(|| raw_name(header));
        let link = all
            .get(&b"linkpath"[..])
            .cloned()
            .or(long_link)
            .unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        self.name.clone_from(&name);

        let number = |key: &str, field: &[u8]| match all.get(key.as_bytes()) {
            Some(text) => pax::number(text),
            None => field_number(field).and_then(|n| u64::try_from(n).ok()),
        };
        let bad = |this: &Self, why| this.malformed(why);
        let size = number("size", &header[124..136]).ok_or_else(|| bad(self, "bad size"))?;
        let id = |key, field: &[u8]| number(key, field).and_then(|n| u32::try_from(n).ok());
        let uid = id("uid", &header[108..116]).ok_or_else(|| bad(self, "bad user id"))?;
        let gid = id("gid", &header[116..124]).ok_or_else(|| bad(self, "bad group id"))?;
        let mtime = match all.get(&b"mtime"[..]) {
            Some(text) => pax::seconds(text),
            None => field_number(&header[136..148]).and_then(|n| i64::try_from(n).ok()),
        }
        .ok_or_else(|| bad(self, "bad time"))?;
        let mode = field_number(&header[100..108]).ok_or_else(|| bad(self, "bad mode"))?;
        let mode = (mode & 0o7777) as u32;
        let device = || {
            let part = |field| field_number(field).and_then(|n| u32::try_from(n).ok());
            part(&header[329..337])
                .zip(part(&header[337..345]))
                .ok_or_else(|| bad(self, "bad device number"))
        };
        if name.contains(&0) || link.contains(&0) {
            return Err(bad(self, "a name holds a NUL"));
        }

        let flag = match header[156] {
            b'0' | 0 | b'7' if name.ends_with(b"/") => b'5',
            flag => flag,
        };
        let mut stored = 0;
        let kind = match flag {
            b'0' | 0 | b'7' | b'S' => {
                stored = size;
                EntryKind::File { size }
            }
            b'1' => EntryKind::Hardlink {
                target: normal(&link),
            },
            b'2' => EntryKind::Symlink { target: link },
            b'3' => {
                let (major, minor) = device()?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' => {
                if header[156] != b'5' {
                    stored = size; // an old archive's: counted like a file
                }
                EntryKind::Directory
            }
            b'6' => EntryKind::Fifo,
            b'D' => {
                stored = size; // the names that an incremental dump lists
                EntryKind::Directory
            }
            b'V' => {
                self.begin(size)?;
                return Ok(None);
            }
            _ => return Err(bad(self, "unknown kind of entry")),
        };
        self.begin(stored)?;

        let mut entry = Entry {
            path: normal(&name),
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs: self.xattrs(&all)?,
        };
        if matches!(entry.kind, EntryKind::File { .. }) {
            let size = self.sparse(header, &all, &pieces, size)?;
            self.total = self.total.saturating_add(size);
            if self.total > self.options.limits.total_bytes {
                return Err(self.limit(LayerError::SIZE, self.options.limits.total_bytes));
            }
            entry.kind = EntryKind::File { size };
            if entry.path.is_empty() {
                return Err(self.malformed("a file without a name"));
            }
        }
        if self.options.whiteouts {
            return self.removal(entry);
        }
        Ok(Some(entry))
    }

    /// Turns `.wh.` names into removals. `.wh..wh.` names other than the opaque one are AUFS' own and nothing here.
    fn removal(&self, entry: Entry) -> Result<Option<Entry>, LayerError> {
        let cut = entry.path.iter().rposition(|b| *b == b'/');
        let parent = &entry.path[..cut.unwrap_or(0)];
        let last = &entry.path[cut.map_or(0, |i| i + 1)..];
        let Some(removed) = last.strip_prefix(b".wh.") else {
            return Ok(Some(entry));
        };
        if removed == b".wh..opq" {
            return Ok(Some(Entry::opaque_whiteout(parent)));
        }
        if removed.starts_with(b".wh.") {
            return Ok(None);
        }
        if matches!(removed, b"" | b"." | b"..") {
            return Err(self.malformed("a whiteout of no name"));
        }
        Ok(Some(Entry::whiteout(match parent {
            b"" => removed.to_vec(),
            _ => [parent, b"/", removed].concat(),
        })))
    }

    fn xattrs(
        &self,
        all: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LayerError> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in all {
            if let Some(name) = key.strip_prefix(pax::XATTR_BASE64) {
                let end = value.iter().position(|b| *b == b'=').unwrap_or(value.len());
                let value = base64::engine::general_purpose::STANDARD_NO_PAD
                    .decode(&value[..end])
                    .map_err(|_| self.malformed("bad base64 in an extended attribute"))?;
                xattrs.entry(name.to_vec()).or_insert(value);
            }
        }
        for (key, value) in all {
            if let Some(name) = key.strip_prefix(pax::XATTR) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        if xattrs
            .keys()
            .any(|name| name.is_empty() || name.contains(&0))
        {
            return Err(self.malformed("an extended attribute without a name"));
        }
        Ok(xattrs)
    }

    /// Reads the map of a sparse file, in whichever form it has, and returns the size that the file has.
    fn sparse(
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

    fn begin(&mut self, stored: u64) -> Result<(), LayerError> {
        if stored > u64::MAX - 2 * BLOCK as u64 {
            return Err(self.malformed("bad size"));
        }
        self.stored = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        self.data = Data::Plain;
        Ok(())
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

    fn pass_over(&mut self) -> Result<(), LayerError> {
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
    fn stored_data(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
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
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
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

    fn fill(&mut self) -> Result<bool, LayerError> {
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

/// Joins a path's components, without `.` and empty ones.
fn normal(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name
        .split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    parts.join(&b'/')
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Returns the name in the header itself; only POSIX headers have a prefix (GNU keeps times there).
pub(super) fn raw_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    if prefix.is_empty() || &header[257..263] != b"ustar\0" {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Returns a header field's number: octal, or base-256 with the first bit set.
pub(super) fn field_number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // Two's complement; the flag bit is not part of the number.
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let start: i128 = if negative { -1 } else { 0 };
        return std::iter::once(&first)
            .chain(&field[1..])
            .try_fold(start, |n, b| {
                let n = n.checked_mul(256)?.checked_add(i128::from(*b))?;
                (n.unsigned_abs() < 1 << 100).then_some(n)
            });
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0i128, |n, b| {
        matches!(b, b'0'..=b'7').then(|| n * 8 + i128::from(b - b'0'))
    })
}

/// Some old writers summed signed bytes.
pub(super) fn sum_is_right(header: &[u8; BLOCK]) -> bool {
    let Some(said) = field_number(&header[148..156]) else {
        return false;
    };
    let mut unsigned = 0i128;
    let mut signed = 0i128;
    for (i, byte) in header.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += i128::from(byte);
        signed += i128::from(byte.cast_signed());
    }
    said == unsigned || said == signed
}
