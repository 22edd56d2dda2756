//! A target written as a layer: what an earlier layer has of it comes from there, the rest from the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use super::FileError;
use super::error::shown;
use super::target::{Data, Target, directory};
use crate::context::digests::read_whole;
use crate::context::{ContextError, parent_path};
use crate::digest::ContentDigest;
use crate::layer::parts::{self, EarlierTars, Marked, Part, Place};
use crate::layer::{
    Entry, EntryKind, LayerError, Outline, Writer, WriterOptions, Written, order, read_ahead,
};

/// Of layers with less than that, nothing is taken from earlier ones.
const LEAST_BYTES: u64 = 4 << 20;

/// A layer that has been written.
pub(in crate::solve) struct Layered<W> {
    pub(in crate::solve) out: W,
    pub(in crate::solve) written: Written,
    /// For those who write the next one; empty where it is not worth it.
    pub(in crate::solve) marks: Vec<Marked>,
}

/// What is written next.
enum Item {
    /// A part that an earlier tar has.
    Part(usize),
    /// An entry, and whether a part ends with it.
    Entry(usize, bool),
}

/// What was read of an item.
enum Ahead {
    /// `None` where the earlier tar has something else there.
    Part(Option<Vec<u8>>),
    File(Result<(Vec<u8>, ContentDigest), ContextError>),
}

/// What the tar will be, as far as that is known before it is written.
#[derive(Default)]
struct Known {
    parts: Vec<Part>,
    places: Vec<Option<Place>>,
    /// So many parts are those that one earlier tar starts with.
    same: usize,
}

impl Known {
    fn of(
        all: &[(Entry, Data)],
        options: WriterOptions,
        outline: &mut Outline,
        earlier: &dyn EarlierTars,
    ) -> Result<Self, LayerError> {
        let entries = all.iter().map(|(entry, data)| (entry, data.known()));
        let parts = parts::parts(entries, options, outline)?;
        let (places, same) = parts::find(&parts, earlier);
        Ok(Known {
            parts,
            places,
            same,
        })
    }

    /// How many of the entries are in parts.
    fn entries(&self) -> usize {
        self.parts.last().map_or(0, |part| part.entries.end)
    }

    fn items(&self, count: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for (nth, part) in self.parts.iter().enumerate() {
            match &self.places[nth] {
                Some(_) if !part.is_large => items.push(Item::Part(nth)),
                _ => {
                    let last = part.entries.end - 1;
                    let entries = part.entries.clone();
                    items.extend(entries.map(|at| Item::Entry(at, at == last)));
                }
            }
        }
        items.extend((self.entries()..count).map(|at| Item::Entry(at, false)));
        items
    }
}

impl Target {
    /// Writes all that was put, with the directories that lead there, as one layer. `earlier` is asked for tars that the store
    /// has, where the layer is large enough; `outline` is told of the entries.
    ///
    /// A file is not opened where it is in a part that an earlier tar has under the digest that the file is known to have: where
    /// it was changed since, with the same stamp or after the look at it, the layer has what it held then. That is what the
    /// step's key names, and what a step that is found would have.
    pub(in crate::solve) fn write<W: Write, E: EarlierTars>(
        self,
        out: W,
        mut outline: Outline,
        earlier: impl FnOnce() -> Option<E>,
        clamp_mtime: Option<i64>,
    ) -> Result<Layered<W>, FileError> {
        let all = self.entries()?;
        let options = WriterOptions { clamp_mtime };
        let bytes: u64 = all.iter().map(|(entry, _)| entry.size()).sum();
        let earlier = (bytes >= LEAST_BYTES).then(earlier).flatten();
        let known = match &earlier {
            Some(earlier) => Known::of(&all, options, &mut outline, earlier)?,
            None => Known::default(),
        };
        let mut writer = Writer::new(out, options);
        let same = known.places[..known.same].iter().flatten();
        writer.start_known(same.map(|place| place.after.clone()));
        let first_untold = known.entries();
        let mut outline = Some(outline).filter(|_| first_untold < all.len());

        let taken = |nth: usize| {
            let (earlier, place) = (earlier.as_ref()?, known.places[nth].as_ref()?);
            let bytes = earlier.read(place)?;
            (parts::key_of(&bytes)? == known.parts[nth].key).then_some(bytes)
        };
        let size = |item: &Item| match *item {
            Item::Part(nth) => known.parts[nth].length,
            Item::Entry(at, _) => match &all[at] {
                (entry, Data::Tree { .. }) => entry.size(),
                _ => 0,
            },
        };
        let read = |item: &Item| match *item {
            Item::Part(nth) => Ahead::Part(taken(nth)),
            Item::Entry(at, _) => Ahead::File(match &all[at].1 {
                Data::Tree { tree, node, .. } => read_whole(tree.as_ref(), node),
                _ => Ok((Vec::new(), ContentDigest::of(b""))),
            }),
        };
        let items = known.items(all.len());
        read_ahead(&items, size, read, |item, ahead| {
            let (at, ends) = match *item {
                Item::Part(nth) => {
                    let bytes = match ahead {
                        Some(Ahead::Part(bytes)) => bytes,
                        _ => taken(nth),
                    };
                    return write_part(&mut writer, &all, &known.parts[nth], bytes);
                }
                Item::Entry(at, ends) => (at, ends),
            };
            if at == first_untold
                && let Some(outline) = outline.take()
            {
                writer.outline(outline);
            }
            let (entry, data) = &all[at];
            match ahead {
                Some(Ahead::File(read)) => {
                    let (bytes, found) = read?;
                    if data.expected().is_some_and(|known| *known != found) {
                        let path = shown(&entry.path);
                        return Err(LayerError::Rewritten { path }.into());
                    }
                    writer.append_hashed(entry, &bytes, &found)?;
                }
                _ => append(&mut writer, entry, data)?,
            }
            if ends {
                writer.end_part()?;
            }
            Ok::<_, FileError>(())
        })?;
        let mut marks = writer.marks()?;
        if bytes < LEAST_BYTES {
            marks.clear();
        }
        let (out, written) = writer.finish()?;
        Ok(Layered {
            out,
            written,
            marks,
        })
    }

    /// Returns what was put, with the directories that lead there, in the order of the layer.
    fn entries(self) -> Result<Vec<(Entry, Data)>, FileError> {
        let mut parents: BTreeSet<Vec<u8>> = BTreeSet::new();
        for path in self.puts.keys() {
            let mut parent = parent_path(path);
            while !parent.is_empty()
                && !self.puts.contains_key(parent)
                && parents.insert(parent.to_vec())
            {
                parent = parent_path(parent);
            }
        }
        let mut all: Vec<(Entry, Data)> = Vec::with_capacity(self.puts.len() + parents.len());
        for path in parents {
            if let Some(below) = &self.below
                && let Some(node) = below.lookup(&path)?
            {
                let xattrs = below.xattrs(&node)?;
                all.push((directory(&node, xattrs), Data::None));
            }
        }
        all.extend(self.puts.into_values().map(|put| (put.entry, put.data)));
        all.sort_by(|(a, _), (b, _)| order(a, b));
        first_name_has_the_data(&mut all);
        Ok(all)
    }
}

/// Writes a part as it is in an earlier tar; without `bytes` from there, from its files.
fn write_part<W: Write>(
    writer: &mut Writer<W>,
    all: &[(Entry, Data)],
    part: &Part,
    bytes: Option<Vec<u8>>,
) -> Result<(), FileError> {
    let entries = &all[part.entries.clone()];
    match bytes {
        Some(bytes) => {
            let entries = entries.iter().map(|(entry, data)| (entry, data.known()));
            writer.append_part(&bytes, entries, part.key)?;
        }
        None => {
            for (entry, data) in entries {
                append(writer, entry, data)?;
            }
            writer.end_part()?;
        }
    }
    Ok(())
}

/// Writes one entry, reading its data now.
fn append<W: Write>(writer: &mut Writer<W>, entry: &Entry, data: &Data) -> Result<(), FileError> {
    match data {
        Data::None => writer.append(entry, &mut io::empty())?,
        Data::Bytes(bytes) => writer.append(entry, &mut &bytes[..])?,
        Data::Hashed { bytes, content } => writer.append_hashed(entry, bytes, content)?,
        Data::Tree {
            tree,
            node,
            content,
        } => {
            let mut file = tree.open(node)?;
            match content {
                Some(content) => writer.append_expected(entry, &mut file, content)?,
                None => writer.append(entry, &mut file)?,
            }
        }
        Data::Spool { file, offset } => {
            let mut piece = Piece {
                file,
                at: *offset,
                left: entry.size(),
            };
            writer.append(entry, &mut piece)?;
        }
    }
    Ok(())
}

/// In a layer a link comes after what it links to: of the names of a file, the first in order gets the data.
fn first_name_has_the_data(all: &mut [(Entry, Data)]) {
    let places: BTreeMap<Vec<u8>, usize> = all
        .iter()
        .enumerate()
        .map(|(at, (entry, _))| (entry.path.clone(), at))
        .collect();
    for at in 0..all.len() {
        let EntryKind::Hardlink { target } = &all[at].0.kind else {
            continue;
        };
        let Some(&holder) = places.get(target) else {
            continue;
        };
        if holder < at {
            // The data may have moved to an earlier name since.
            if let EntryKind::Hardlink { target } = all[holder].0.kind.clone() {
                all[at].0.kind = EntryKind::Hardlink { target };
            }
            continue;
        }
        let here = all[at].0.path.clone();
        let kind = std::mem::replace(
            &mut all[holder].0.kind,
            EntryKind::Hardlink { target: here },
        );
        all[at].0.kind = kind;
        let data = std::mem::replace(&mut all[holder].1, Data::None);
        all[at].1 = data;
    }
}

struct Piece<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let max = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.file.read_at(&mut buf[..max], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
