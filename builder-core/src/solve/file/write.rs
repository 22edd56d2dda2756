//! A target written as a layer: what an earlier layer has of it comes from there, the rest from the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use super::FileError;
use super::error::shown;
use super::target::{ByPath, Data, OfTree, Put, Target, directory};
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
        all: &[ByPath],
        options: WriterOptions,
        outline: &mut Outline,
        earlier: &dyn EarlierTars,
    ) -> Result<Self, LayerError> {
        let entries = all.iter().map(|it| (&it.0.entry, it.0.data.known()));
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
        let bytes: u64 = all.iter().map(|it| it.0.entry.size()).sum();
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
            Item::Entry(at, _) => match &*all[at].0 {
                Put {
                    entry,
                    data: Data::Tree(_),
                    ..
                } => entry.size(),
                _ => 0,
            },
        };
        let read = |item: &Item| match *item {
            Item::Part(nth) => Ahead::Part(taken(nth)),
            Item::Entry(at, _) => Ahead::File(match &all[at].0.data {
                Data::Tree(file) => read_whole(file.tree.as_ref(), &file.node),
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
            let Put { entry, data, .. } = &*all[at].0;
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
    fn entries(self) -> Result<Vec<ByPath>, FileError> {
        let mut parents: BTreeSet<Vec<u8>> = BTreeSet::new();
        for put in &self.puts {
            let mut parent = parent_path(put.path());
            while !parent.is_empty()
                && !self.puts.contains(parent)
                && parents.insert(parent.to_vec())
            {
                parent = parent_path(parent);
            }
        }
        let mut all: Vec<ByPath> = Vec::with_capacity(self.puts.len() + parents.len());
        for path in parents {
            if let Some(below) = &self.below
                && let Some(node) = below.lookup(&path)?
            {
                let xattrs = below.xattrs(&node)?;
                all.push(ByPath(Box::new(Put {
                    entry: directory(&node, xattrs),
                    data: Data::None,
                    hides: false,
                })));
            }
        }
        all.extend(self.puts);
        all.sort_by(|ByPath(a), ByPath(b)| order(&a.entry, &b.entry));
        first_name_has_the_data(&mut all);
        Ok(all)
    }
}

/// Writes a part as it is in an earlier tar; without `bytes` from there, from its files.
fn write_part<W: Write>(
    writer: &mut Writer<W>,
    all: &[ByPath],
    part: &Part,
    bytes: Option<Vec<u8>>,
) -> Result<(), FileError> {
    let entries = &all[part.entries.clone()];
    match bytes {
        Some(bytes) => {
            let entries = entries.iter().map(|it| (&it.0.entry, it.0.data.known()));
            writer.append_part(&bytes, entries, part.key)?;
        }
        None => {
            for it in entries {
                append(writer, &it.0.entry, &it.0.data)?;
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
        Data::Tree(of) => {
            let OfTree {
                tree,
                node,
                content,
            } = &**of;
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
fn first_name_has_the_data(all: &mut [ByPath]) {
    let target = |put: &Put| match &put.entry.kind {
        EntryKind::Hardlink { target } => Some(target.clone()),
        _ => None,
    };
    let wanted: BTreeSet<Vec<u8>> = all.iter().filter_map(|it| target(&it.0)).collect();
    if wanted.is_empty() {
        return;
    }
    let is_named = |put: &Put| target(put).is_some() || wanted.contains(&put.entry.path);
    let places: BTreeMap<Vec<u8>, usize> = all
        .iter()
        .enumerate()
        .filter(|(_, it)| is_named(&it.0))
        .map(|(at, it)| (it.path().to_vec(), at))
        .collect();
    for at in 0..all.len() {
        let EntryKind::Hardlink { target } = &all[at].0.entry.kind else {
            continue;
        };
        let Some(&holder) = places.get(target) else {
            continue;
        };
        if holder < at {
            // The data may have moved to an earlier name since.
            if let EntryKind::Hardlink { target } = all[holder].0.entry.kind.clone() {
                all[at].0.entry.kind = EntryKind::Hardlink { target };
            }
            continue;
        }
        let here = all[at].0.entry.path.clone();
        let kind = std::mem::replace(
            &mut all[holder].0.entry.kind,
            EntryKind::Hardlink { target: here },
        );
        all[at].0.entry.kind = kind;
        let data = std::mem::replace(&mut all[holder].0.data, Data::None);
        all[at].0.data = data;
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
