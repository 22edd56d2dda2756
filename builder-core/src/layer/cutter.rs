//! Reads a tar and cuts it into members, where `members` says; or passes over what an outline has told of.

use std::io::{self, BufRead, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::LayerError;
use super::header::{field_number, sum_is_right};
use super::outline::{LARGE, MemberKey, ends_before};
use super::writer::BLOCK;
use crate::digest::ContentDigest;

/// Headers are read one by one, out of this.
const READ_BYTES: usize = 256 << 10;

/// A tar of which not all need be read.
pub trait Skip: Read {
    /// Passes over bytes that come next.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// All of it is read.
pub(super) struct Whole<'a>(pub(super) &'a mut dyn Read);

impl Read for Whole<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Skip for Whole<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())? {
            read if read == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What goes into a member.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// Where it is known already.
    pub(super) key: Option<ContentDigest>,
    /// It starts at a header.
    at_header: bool,
    /// Where the data of files starts, and how much there is, without what pads it.
    files: Vec<(usize, usize)>,
}

impl Input {
    /// What an outline has told of; without a key it is named by all of its bytes.
    pub(super) fn told(bytes: Vec<u8>, key: Option<ContentDigest>) -> Self {
        Input {
            bytes,
            key,
            ..Input::default()
        }
    }

    /// As an `Outline` makes it.
    pub(super) fn key(&self) -> ContentDigest {
        let mut key = MemberKey::new(self.at_header);
        let mut at = 0;
        for &(start, size) in &self.files {
            key.bytes(&self.bytes[at..start]);
            at = self.bytes.len().min(start + size.next_multiple_of(BLOCK));
            let (data, pad) = self.bytes[start..at].split_at(size.min(at - start));
            let is_whole = at == start + size.next_multiple_of(BLOCK);
            match is_whole && pad.iter().all(|b| *b == 0) {
                true => key.file(&ContentDigest::of(data)),
                false => key.odd_file(&self.bytes[start..at]),
            }
        }
        key.bytes(&self.bytes[at..]);
        key.finish()
    }
}

/// Reads the tar and cuts it into members.
pub(super) struct Cutter<'a> {
    tar: BufReader<&'a mut dyn Skip>,
    pub(super) hash: Option<Sha256>,
    pub(super) size: u64,
    state: State,
    /// What the next member starts with.
    kept: Option<Kept>,
}

/// A header that has been read but belongs to the next member, and of how many bytes the small file is that follows.
struct Kept {
    header: Vec<u8>,
    file: Option<usize>,
}

enum State {
    /// At a header; `described`: one for the same entry has gone before.
    Header { described: bool },
    /// In an entry's data, padding included.
    Data { left: u64, large: bool, pax: bool },
    /// Past the end, or not a tar.
    Plain,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(tar: &'a mut dyn Skip, hashed: bool) -> Self {
        Cutter {
            tar: BufReader::with_capacity(READ_BYTES, tar),
            hash: hashed.then(Sha256::new),
            size: 0,
            state: State::Header { described: false },
            kept: None,
        }
    }

    /// Returns the next member's input, `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Input>, LayerError> {
        let mut input = Input {
            at_header: self.kept.is_some() || matches!(self.state, State::Header { .. }),
            ..Input::default()
        };
        if let Some(Kept { header, file }) = self.kept.take() {
            input.bytes = header;
            input.files.extend(file.map(|size| (BLOCK, size)));
        }
        input.bytes.reserve(LARGE + LARGE / 4);
        Ok(self.fill(&mut input)?.then_some(input))
    }

    /// Adds to a member what belongs to it; false where there is nothing.
    fn fill(&mut self, input: &mut Input) -> Result<bool, LayerError> {
        let Input {
            bytes: member,
            files,
            ..
        } = input;
        loop {
            match self.state {
                State::Plain => {
                    let room = LARGE.saturating_sub(member.len());
                    if room == 0 {
                        return Ok(true);
                    }
                    if self.take(member, room)? < room {
                        return Ok(!member.is_empty());
                    }
                }
                State::Data { left, large, pax } => {
                    let room = match large {
                        true => LARGE.saturating_sub(member.len()),
                        false => usize::MAX,
                    };
                    let want = left.min(room as u64).min(4 * LARGE as u64) as usize;
                    let got = self.take(member, want)?;
                    let left = left - got as u64;
                    self.state = match (got < want, left) {
                        (true, _) => State::Plain,
                        (false, 0) => State::Header { described: pax },
                        (false, _) => State::Data { left, large, pax },
                    };
                    if large && (left == 0 || member.len() >= LARGE) && !member.is_empty() {
                        return Ok(true);
                    }
                }
                State::Header { described } => {
                    let start = member.len();
                    if self.take(member, BLOCK)? < BLOCK {
                        self.state = State::Plain;
                        continue;
                    }
                    let mut header = [0; BLOCK];
                    header.copy_from_slice(&member[start..]);
                    let size = field_number(&header[124..136])
                        .and_then(|n| u64::try_from(n).ok())
                        .filter(|_| sum_is_right(&header));
                    let data = size.and_then(|n| n.checked_next_multiple_of(BLOCK as u64));
                    let (Some(size), Some(data)) = (size, data) else {
                        self.state = State::Plain;
                        continue;
                    };
                    let pax = matches!(header[156], b'x' | b'L' | b'K');
                    let has_data = pax || matches!(header[156], b'0' | 0 | b'7' | b'g' | b'S');
                    let data = if has_data { data } else { 0 };
                    let large = data >= LARGE as u64;
                    self.state = match data {
                        0 => State::Header { described: pax },
                        left => State::Data { left, large, pax },
                    };
                    let is_small_file = data > 0 && !pax && !large;
                    let file = is_small_file.then_some(size as usize);
                    if !described && ends_before(start, &header) {
                        let header = member.split_off(start);
                        self.kept = Some(Kept { header, file });
                        return Ok(true);
                    }
                    files.extend(file.map(|size| (member.len(), size)));
                    if large {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Reads a member that the caller knows the length of.
    pub(super) fn exactly(&mut self, length: u64) -> Result<Vec<u8>, LayerError> {
        let mut member = Vec::with_capacity(length as usize);
        if self.take(&mut member, length as usize)? as u64 != length {
            let short = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(LayerError::stream("read the tar")(short));
        }
        Ok(member)
    }

    /// Passes over a member.
    pub(super) fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        let here = self.tar.buffer().len().min(length as usize);
        self.tar.consume(here);
        self.size += length;
        self.tar
            .get_mut()
            .skip(length - here as u64)
            .map_err(LayerError::stream("read the tar"))
    }

    /// Appends up to `want` bytes of the tar; fewer only at its end.
    fn take(&mut self, member: &mut Vec<u8>, want: usize) -> Result<usize, LayerError> {
        let start = member.len();
        let mut tar = (&mut self.tar).take(want as u64);
        tar.read_to_end(member)
            .map_err(LayerError::stream("read the tar"))?;
        let got = &member[start..];
        if let Some(hash) = &mut self.hash {
            hash.update(got);
        }
        self.size += got.len() as u64;
        Ok(got.len())
    }
}

/// Returns the length and the key of each member.
#[cfg(test)]
pub(super) fn members(tar: &mut dyn Read) -> Result<Vec<(u64, ContentDigest)>, LayerError> {
    let mut whole = Whole(tar);
    let mut cutter = Cutter::new(&mut whole, false);
    let mut found = Vec::new();
    while let Some(input) = cutter.next()? {
        found.push((input.bytes.len() as u64, input.key()));
    }
    Ok(found)
}
