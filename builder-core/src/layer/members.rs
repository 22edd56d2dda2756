//! Compresses a tar as a row of members, in parallel, with bytes that do not depend on how many threads there are.
//!
//! Where the cuts are depends on the tar alone:
//! - a file of 1 MiB (`LARGE`) bytes or more: before its data, every `LARGE` bytes from its start, and after it;
//! - smaller entries share a member until it holds `LARGE` bytes; from a quarter of that on, it also ends before
//!   an entry whose name hashes to one of sixteen values, so that an inserted file moves the cuts of its neighbourhood only;
//! - headers that describe an entry (PAX, long names) stay with it;
//! - what is not a tar is cut every `LARGE` bytes.
//!
//! A member's bytes depend on its input, codec and level, so a [`MemberCache`] can answer for it; what an outline names and the
//! cache knows is passed over in the tar. The caller's thread reads, hashes and writes; scoped threads compress. Not rayon: the caller may itself be one of its workers, and would
//! then wait for work that has nobody left to do it. A tar of one member starts no thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Mutex, mpsc};

use sha2::Digest as _;

use super::LayerError;
use super::compression::Compression;
use super::cutter::{Cutter, Input, Skip, Whole};
use super::gzip_member::GzipEncoder;
use super::outline::Outlined;
use crate::digest::{ContentDigest, DiffId, Digest, DigestWriter};

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
    compress_outlined(&mut Whole(tar), std::iter::empty(), how, out, options)
}

/// [`compress_with`] for a tar whose first members, if not all, are `outlined` by whoever writes it.
///
/// # Errors
/// As [`compress`].
pub fn compress_outlined(
    tar: &mut dyn Skip,
    outlined: impl Iterator<Item = Outlined>,
    how: Compression,
    out: &mut dyn Write,
    options: CompressOptions<'_>,
) -> Result<LayerBlob, LayerError> {
    let mut out = DigestWriter::new(out);
    let mut cutter = Cutter::new(tar, !options.known);
    if how == Compression::None {
        while let Some(input) = cutter.next()? {
            put(&mut out, &input.bytes)?;
        }
    } else {
        // What is hashed is read.
        let outlined = options.known.then_some(outlined);
        row(&mut cutter, outlined, how, &mut out, options)?;
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
type Job = (Input, mpsc::SyncSender<io::Result<Member>>);

/// What comes next in the row.
enum Next {
    Input(Input),
    /// The cache had it.
    Known(Member),
}

/// Asks the cache for what is outlined; reads the rest.
struct Inputs<'a, 'c, 't, I> {
    cutter: &'c mut Cutter<'t>,
    outlined: Option<I>,
    how: Compression,
    cache: Option<&'a dyn MemberCache>,
}

impl<I: Iterator<Item = Outlined>> Inputs<'_, '_, '_, I> {
    fn next(&mut self) -> Result<Option<Next>, LayerError> {
        let member = match &mut self.outlined {
            Some(outlined) => outlined.next(),
            None => None,
        };
        let Some(Outlined { length, key }) = member else {
            self.outlined = None;
            return Ok(self.cutter.next()?.map(Next::Input));
        };
        if let (Some(cache), Some(key)) = (self.cache, key) {
            let key = coded(&key, self.how);
            if let Some(member) = cache.get(&key) {
                self.cutter.skip(length)?;
                return Ok(Some(Next::Known((Some(key), member))));
            }
        }
        let bytes = self.cutter.exactly(length)?;
        Ok(Some(Next::Input(Input::told(bytes, key))))
    }
}

fn row(
    cutter: &mut Cutter<'_>,
    outlined: Option<impl Iterator<Item = Outlined>>,
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
    let mut inputs = Inputs {
        cutter,
        outlined,
        how,
        cache: options.cache,
    };
    let first = match inputs.next()? {
        Some(first) => first,
        None => Next::Input(Input::default()),
    };
    let Some(second) = inputs.next()? else {
        let member = match first {
            Next::Known(member) => member,
            Next::Input(input) => Encoder::new(how, options.cache)
                .encode(&input)
                .map_err(failed)?,
        };
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
                let next = match ahead.pop_front() {
                    Some(next) => Some(next),
                    None => inputs.next()?,
                };
                let (done, result) = mpsc::sync_channel(1);
                match next {
                    None => break,
                    Some(Next::Known(member)) => _ = done.send(Ok(member)),
                    Some(Next::Input(input)) => {
                        if jobs.send((input, done)).is_err() {
                            break;
                        }
                    }
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

/// The key of a member's compressed form.
fn coded(input: &ContentDigest, how: Compression) -> ContentDigest {
    let (codec, level) = match how {
        Compression::None => (0, 0),
        Compression::Gzip(level) => (1, level),
        Compression::Zstd(level) => (2, level),
    };
    let mut hash = blake3::Hasher::new();
    hash.update(b"member/4");
    hash.update(&[codec, level]);
    hash.update(&input.0);
    ContentDigest(*hash.finalize().as_bytes())
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

    fn encode(&mut self, input: &Input) -> io::Result<Member> {
        let Some(cache) = self.cache else {
            return Ok((None, self.compress(&input.bytes)?));
        };
        // A key that was told was asked for already.
        let (key, asked) = match input.key {
            Some(key) => (key, true),
            None => (input.key(), false),
        };
        let key = coded(&key, self.how);
        let known = if asked { None } else { cache.get(&key) };
        let member = match known {
            Some(member) => member,
            None => self.compress(&input.bytes)?,
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
