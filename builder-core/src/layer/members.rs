//! Compresses a tar as a row of members, in parallel, with bytes that do not depend on how many threads there are.
//!
//! Where the cuts are depends on the tar alone:
//! - a file of [`LARGE`] bytes or more: before its data, every [`LARGE`] bytes from its start, and after it;
//! - smaller entries share a member until it holds [`LARGE`] bytes; from a quarter of that on, it also ends before
//!   an entry whose name hashes to one of sixteen values, so that an inserted file moves the cuts of its neighbourhood only;
//! - headers that describe an entry (PAX, long names) stay with it;
//! - what is not a tar is cut every [`LARGE`] bytes.
//!
//! A member's bytes depend on its input, codec and level, so a [`MemberCache`] can answer for it. The caller's thread reads,
//! hashes and writes; scoped threads compress. Not rayon: the caller may itself be one of its workers, and would
//! then wait for work that has nobody left to do it. A tar of one member starts no thread.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Mutex, mpsc};

use sha2::{Digest as _, Sha256};

use super::LayerError;
use super::compression::Compression;
use super::gzip_member::GzipEncoder;
use super::header::{field_number, raw_name, sum_is_right};
use super::writer::BLOCK;
use crate::digest::{ContentDigest, DiffId, Digest, DigestWriter};

const LARGE: usize = 1 << 20;
/// Headers are read one by one, out of this.
const READ_BYTES: usize = 256 << 10;

/// Remembers compressed members. A key covers input, codec and level.
pub trait MemberCache: Send + Sync {
    /// Returns the compressed member kept under `key`, exactly as it was put.
    fn get(&self, key: &ContentDigest) -> Option<Vec<u8>>;
    /// Notes a member that stands at `offset` of the blob; called in order, for those that `get` gave too. May
    /// forget it: a cache is never asked to be complete.
    fn put(&self, key: &ContentDigest, member: &[u8], offset: u64);
}

/// How the work of compressing is done; never what comes out.
#[derive(Clone, Copy, Default)]
pub struct CompressOptions<'a> {
    /// Threads that compress; 0: one a core.
    pub threads: usize,
    pub cache: Option<&'a dyn MemberCache>,
    /// The caller knows what the tar is: it is not hashed, and [`LayerBlob::diff_id`] is `None`.
    pub known: bool,
}

impl std::fmt::Debug for CompressOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompressOptions")
            .field("threads", &self.threads)
            .field("cache", &self.cache.is_some())
            .field("known", &self.known)
            .finish()
    }
}

/// What a manifest and a config need to know of a compressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    pub media_type: &'static str,
    /// Digest of the tar that went in.
    pub diff_id: Option<DiffId>,
    /// Bytes of that tar.
    pub diff_size: u64,
}

/// Writes `tar` to `out`, compressed, and returns what a manifest needs.
///
/// Output depends on `tar` and `how` alone.
///
/// # Errors
/// The first read or write error; `out` then holds a partial blob, so drop it.
pub fn compress(
    tar: &mut dyn Read,
    how: Compression,
    out: &mut dyn Write,
) -> Result<LayerBlob, LayerError> {
    compress_with(tar, how, out, CompressOptions::default())
}

/// [`compress`], with a say in threads and a cache of members.
pub fn compress_with(
    tar: &mut dyn Read,
    how: Compression,
    out: &mut dyn Write,
    options: CompressOptions<'_>,
) -> Result<LayerBlob, LayerError> {
    let mut out = DigestWriter::new(out);
    let mut cutter = Cutter::new(tar, !options.known);
    if how == Compression::None {
        while let Some(member) = cutter.next()? {
            put(&mut out, &member)?;
        }
    } else {
        row(&mut cutter, how, &mut out, options)?;
    }
    let (_, digest, size) = out.finish();
    Ok(LayerBlob {
        digest,
        size,
        media_type: how.media_type(),
        diff_id: cutter
            .hash
            .map(|hash| DiffId(Digest::from_bytes(hash.finalize().into()))),
        diff_size: cutter.size,
    })
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), LayerError> {
    out.write_all(bytes)
        .map_err(LayerError::stream("write the compressed layer"))
}

/// A member's key, where there is a cache, and its bytes.
type Member = (Option<ContentDigest>, Vec<u8>);
type Job = (Vec<u8>, mpsc::SyncSender<io::Result<Member>>);

fn row(
    cutter: &mut Cutter<'_>,
    how: Compression,
    out: &mut impl Write,
    options: CompressOptions<'_>,
) -> Result<(), LayerError> {
    let failed = LayerError::stream("compress the layer");
    let mut offset = 0;
    let mut put = |out: &mut _, (key, member): Member| -> Result<(), LayerError> {
        put(out, &member)?;
        if let (Some(cache), Some(key)) = (options.cache, key) {
            cache.put(&key, &member, offset);
        }
        offset += member.len() as u64;
        Ok(())
    };
    let first = cutter.next()?.unwrap_or_default();
    let Some(second) = cutter.next()? else {
        let member = Encoder::new(how, options.cache)
            .encode(&first)
            .map_err(failed)?;
        return put(out, member);
    };
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let (jobs, taken) = mpsc::channel::<Job>();
    let taken = Mutex::new(taken);
    std::thread::scope(|scope| {
        let jobs = jobs; // dropped before the scope waits, on every way out
        for _ in 0..threads {
            scope.spawn(|| {
                let mut encoder = Encoder::new(how, options.cache);
                loop {
                    let job = match taken.lock() {
                        Ok(queue) => queue.recv(),
                        Err(_) => return,
                    };
                    let Ok((input, done)) = job else { return };
                    // Nobody waits where the caller has met an error.
                    let _ = done.send(encoder.encode(&input));
                }
            });
        }
        let mut waiting = VecDeque::new();
        let mut ahead = VecDeque::from([first, second]);
        loop {
            while waiting.len() < 2 * threads + 1 {
                let member = match ahead.pop_front() {
                    Some(member) => Some(member),
                    None => cutter.next()?,
                };
                let Some(member) = member else { break };
                let (done, result) = mpsc::sync_channel(1);
                if jobs.send((member, done)).is_err() {
                    break;
                }
                waiting.push_back(result);
            }
            let Some(result) = waiting.pop_front() else {
                return Ok(());
            };
            let member = result
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("a compressing thread has ended early")))
                .map_err(LayerError::stream("compress the layer"))?;
            put(out, member)?;
        }
    })
}

struct Encoder<'a> {
    how: Compression,
    codec: Codec,
    cache: Option<&'a dyn MemberCache>,
}

enum Codec {
    /// As they are.
    None,
    Gzip(GzipEncoder),
    Zstd(Option<zstd::bulk::Compressor<'static>>),
}

impl<'a> Encoder<'a> {
    fn new(how: Compression, cache: Option<&'a dyn MemberCache>) -> Self {
        let codec = match how {
            Compression::Zstd(level) => Codec::Zstd(zstd::bulk::Compressor::new(level.into()).ok()),
            Compression::Gzip(level) => Codec::Gzip(GzipEncoder::new(level)),
            Compression::None => Codec::None,
        };
        Encoder { how, codec, cache }
    }

    fn encode(&mut self, input: &[u8]) -> io::Result<Member> {
        let Some(cache) = self.cache else {
            return Ok((None, self.compress(input)?));
        };
        let mut hash = blake3::Hasher::new();
        let (codec, level) = match self.how {
            Compression::None => (0, 0),
            Compression::Gzip(level) => (1, level),
            Compression::Zstd(level) => (2, level),
        };
        hash.update(b"member/2");
        hash.update(&[codec, level]);
        hash.update(input);
        let key = ContentDigest(*hash.finalize().as_bytes());
        let member = match cache.get(&key) {
            Some(member) => member,
            None => self.compress(input)?,
        };
        Ok((Some(key), member))
    }

    fn compress(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        match &mut self.codec {
            Codec::Zstd(Some(zstd)) => zstd.compress(input),
            Codec::Zstd(None) => Err(io::Error::other("zstd refuses the level")),
            Codec::Gzip(gzip) => gzip.encode(input),
            Codec::None => Ok(input.to_vec()),
        }
    }
}

/// Reads the tar and cuts it into members.
struct Cutter<'a> {
    tar: BufReader<&'a mut dyn Read>,
    hash: Option<Sha256>,
    size: u64,
    state: State,
    /// A block that has been read but starts the next member.
    kept: Option<Vec<u8>>,
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
    fn new(tar: &'a mut dyn Read, hashed: bool) -> Self {
        Cutter {
            tar: BufReader::with_capacity(READ_BYTES, tar),
            hash: hashed.then(Sha256::new),
            size: 0,
            state: State::Header { described: false },
            kept: None,
        }
    }

    /// Returns the next member's input, `None` after the last.
    fn next(&mut self) -> Result<Option<Vec<u8>>, LayerError> {
        let mut member = Vec::with_capacity(LARGE + LARGE / 4);
        if let Some(block) = self.kept.take() {
            member.extend_from_slice(&block);
        }
        loop {
            match self.state {
                State::Plain => {
                    let room = LARGE.saturating_sub(member.len());
                    if room == 0 {
                        return Ok(Some(member));
                    }
                    if self.take(&mut member, room)? < room {
                        return Ok((!member.is_empty()).then_some(member));
                    }
                }
                State::Data { left, large, pax } => {
                    let room = match large {
                        true => LARGE.saturating_sub(member.len()),
                        false => usize::MAX,
                    };
                    let want = left.min(room as u64).min(4 * LARGE as u64) as usize;
                    let got = self.take(&mut member, want)?;
                    let left = left - got as u64;
                    self.state = match (got < want, left) {
                        (true, _) => State::Plain,
                        (false, 0) => State::Header { described: pax },
                        (false, _) => State::Data { left, large, pax },
                    };
                    if large && (left == 0 || member.len() >= LARGE) && !member.is_empty() {
                        return Ok(Some(member));
                    }
                }
                State::Header { described } => {
                    let start = member.len();
                    if self.take(&mut member, BLOCK)? < BLOCK {
                        self.state = State::Plain;
                        continue;
                    }
                    let mut header = [0; BLOCK];
                    header.copy_from_slice(&member[start..]);
                    let data = field_number(&header[124..136])
                        .and_then(|n| u64::try_from(n).ok())
                        .filter(|_| sum_is_right(&header))
                        .and_then(|n| n.checked_next_multiple_of(BLOCK as u64));
                    let Some(data) = data else {
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
                    let full = start >= LARGE || start >= LARGE / 4 && marks_a_cut(&header);
                    if full && !described {
                        self.kept = Some(member.split_off(start));
                        return Ok(Some(member));
                    }
                    if large {
                        return Ok(Some(member));
                    }
                }
            }
        }
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

fn marks_a_cut(header: &[u8; BLOCK]) -> bool {
    crc32fast::hash(&raw_name(header)).is_multiple_of(16)
}
