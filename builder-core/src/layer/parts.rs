//! The parts of a tar that is about to be written, named by headers and files' digests, so that what an earlier tar has of
//! them is taken from there: its files are not opened, and what the new one starts with as the earlier did is not hashed.
//!
//! | a part                                  | is cut                               | and comes from                 |
//! |-----------------------------------------|--------------------------------------|--------------------------------|
//! | entries, each with less than 1 MiB      | as members are, see [`Outline`]      | an earlier tar, or the files   |
//! | a file of 1 MiB or more, with its headers | by itself                          | the file                       |
//!
//! Nothing of an earlier tar is believed: [`key_of`] is taken of every part that is read there, and a part that is not what it
//! was is written from the files. So a damaged store gives the same layer. A state of the hash is believed, see
//! `export::tar_index`, and only where all before it goes by the same names at the same places; the bytes themselves are compared
//! with those names as they are written, wherever they come from.

use std::ops::Range;

use sha2::Sha256;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use super::header::{field_number, sum_is_right};
use super::headers::put_headers;
use super::outline::{LARGE, MemberKey, Outline, ends_before};
use super::writer::BLOCK;
use super::{Entry, LayerError, WriterOptions};
use crate::digest::ContentDigest;

/// SHA-256 in the middle of its work.
#[derive(Debug, Clone)]
pub struct HashState(Sha256);

impl HashState {
    pub const BYTES: usize = size_of::<SerializedState<Sha256>>();

    /// `None` where `bytes` are no state.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(bytes).ok()?;
        Sha256::deserialize(&state).ok().map(HashState)
    }

    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(&self.0.serialize());
        bytes
    }

    pub(super) fn of(hash: &Sha256) -> Self {
        HashState(hash.clone())
    }

    pub(super) fn hash(self) -> Sha256 {
        self.0
    }
}

/// One part of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of what is written.
    pub entries: Range<usize>,
    pub offset: u64,
    pub length: u64,
    pub key: ContentDigest,
    /// One large file.
    pub is_large: bool,
}

/// A part as it was written: what it is, and how the hash of the tar stood after it.
#[derive(Debug, Clone)]
pub struct Marked {
    pub key: ContentDigest,
    pub length: u64,
    pub after: HashState,
}

/// Where an earlier tar has a part.
#[derive(Debug, Clone)]
pub struct Place {
    /// Which of them.
    pub tar: usize,
    pub offset: u64,
    pub length: u64,
    pub after: HashState,
}

/// Tars that were written before.
pub trait EarlierTars: Sync {
    fn find(&self, key: &ContentDigest) -> Option<Place>;
    /// Returns what lies there now, whatever it is.
    fn read(&self, place: &Place) -> Option<Vec<u8>>;
}

/// Cuts a tar of `entries`, with the digests of files where they are known, and tells `outline` of each; ends where one is not
/// known.
///
/// # Errors
/// [`LayerError::Unrepresentable`].
pub fn parts<'a>(
    entries: impl Iterator<Item = (&'a Entry, Option<ContentDigest>)>,
    options: WriterOptions,
    outline: &mut Outline,
) -> Result<Vec<Part>, LayerError> {
    let mut cuts = Cuts::default();
    let (mut parts, mut end, mut offset) = (Vec::new(), 0, 0);
    let mut add = |cut: Option<Cut>, end: usize| {
        let Some(cut) = cut else { return };
        let start = parts.last().map_or(0, |part: &Part| part.entries.end);
        parts.push(Part {
            entries: start..end,
            offset,
            length: cut.length,
            key: cut.key,
            is_large: cut.is_large,
        });
        offset += cut.length;
    };
    let mut headers = Vec::new();
    for (entry, content) in entries {
        let size = entry.size();
        let Some(content) = content.or_else(|| nothing(size)) else {
            break;
        };
        headers.clear();
        put_headers(entry, options, &mut headers)?;
        if headers.len() >= LARGE {
            break;
        }
        outline.entry(&headers, size, &content);
        add(cuts.before(&headers, size), end);
        cuts.entry(&headers, size, &content);
        end += 1;
    }
    add(cuts.cut(), end);
    Ok(parts)
}

/// What is in a file without any bytes.
fn nothing(size: u64) -> Option<ContentDigest> {
    (size == 0).then(|| ContentDigest::of(b""))
}

/// One part, cut off.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) length: u64,
    pub(super) key: ContentDigest,
    pub(super) is_large: bool,
}

/// Told of entries, tells of parts.
#[derive(Debug)]
pub(super) struct Cuts {
    length: u64,
    is_large: bool,
    key: MemberKey,
}

impl Default for Cuts {
    fn default() -> Self {
        Cuts {
            length: 0,
            is_large: false,
            key: MemberKey::new(true),
        }
    }
}

impl Cuts {
    /// Returns the part that ends before an entry, if one does.
    pub(super) fn before(&mut self, headers: &[u8], size: u64) -> Option<Cut> {
        let first = headers.first_chunk::<BLOCK>()?;
        let ends =
            self.is_large || size >= LARGE as u64 || ends_before(self.length as usize, first);
        if ends { self.cut() } else { None }
    }

    pub(super) fn entry(&mut self, headers: &[u8], size: u64, content: &ContentDigest) {
        self.key.bytes(headers);
        self.length += headers.len() as u64 + size.next_multiple_of(BLOCK as u64);
        self.is_large = size >= LARGE as u64;
        if size > 0 {
            self.key.file(content);
        }
    }

    /// Returns what has come together, if anything has.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        if self.length == 0 {
            return None;
        }
        let cut = Cut {
            length: self.length,
            key: self.key.finish(),
            is_large: self.is_large,
        };
        *self = Cuts::default();
        Some(cut)
    }
}

/// Names what `bytes` hold as [`parts`] names a part that is not large; `None` where they are no part.
pub fn key_of(bytes: &[u8]) -> Option<ContentDigest> {
    let mut key = MemberKey::new(true);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (header, after) = rest.split_first_chunk::<BLOCK>()?;
        let size = field_number(&header[124..136]).filter(|_| sum_is_right(header))?;
        let size = usize::try_from(size).ok()?;
        let (data, after) = after.split_at_checked(size.next_multiple_of(BLOCK))?;
        key.bytes(header);
        if header[156] == b'x' {
            key.bytes(data);
        } else if size > 0 {
            let (data, pad) = data.split_at(size);
            if pad.iter().any(|byte| *byte != 0) {
                return None;
            }
            key.file(&ContentDigest::of(data));
        }
        rest = after;
    }
    Some(key.finish())
}

/// Returns where each part is to be taken from, and how many of the first go by the same names, at the same places, as those that
/// one earlier tar starts with.
pub fn find(parts: &[Part], earlier: &dyn EarlierTars) -> (Vec<Option<Place>>, usize) {
    let found = parts.iter().map(|part| {
        let place = earlier.find(&part.key);
        place.filter(|place| place.length == part.length)
    });
    let places: Vec<Option<Place>> = found.collect();
    let mut tar = None;
    let same = places.iter().zip(parts).take_while(|(place, part)| {
        let Some(place) = place else { return false };
        *tar.get_or_insert(place.tar) == place.tar && place.offset == part.offset
    });
    let same = same.count();
    (places, same)
}
