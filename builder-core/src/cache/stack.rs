//! Stacks of layers, kept in pieces that records share: a record of the hundredth step does not name a hundred layers.
//!
//! ```text
//! steps/<key>       the topmost layers, eight at most, and the name of the piece below them
//! stacks/<digest>   eight layers, and the name of the piece below them
//! ```
//!
//! A piece is named by the digest of its bytes, so what a record stands on is never exchanged below it. Every eighth layer
//! from the base on begins a piece: equal stacks have the same ones, whoever writes them. A short stack has none, and its
//! record is one file as before; a longer one costs one file more for eight steps, not one for each.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Found, Layer, Written};
use crate::digest::Digest;
use crate::store::StoreError;

pub(super) const STACKS: &str = "stacks";

/// Layers of a piece. A record with so many fits into one block of a disk.
const PIECE: usize = 8;
/// Far more than a stack can have.
const MAX_PIECES: usize = 1 << 12;

/// Layers in the middle of a stack.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) digest: Digest,
    pub(super) layers: Vec<Layer>,
    pub(super) below: Option<Arc<Piece>>,
    /// All blobs, down to the base, were seen to be there, and stay.
    there: AtomicBool,
}

/// A stack, put together when it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) top: Vec<Layer>,
    pub(super) below: Option<Arc<Piece>>,
}

/// What a piece's file holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Words<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<Digest>,
    layers: Cow<'a, [Layer]>,
}

/// Keeps a piece under its name.
pub(super) type Write<'a> = &'a dyn Fn(&Digest, &[u8]) -> Result<(), StoreError>;

/// The pieces that a process has read or written.
#[derive(Debug, Default)]
pub(super) struct Pieces(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_digest: HashMap<Digest, Arc<Piece>>,
    /// By what is below, and the topmost layer: to find a piece without putting it into words.
    by_top: HashMap<(Option<Digest>, Digest), Arc<Piece>>,
}

impl Known {
    fn add(
        &mut self,
        digest: Digest,
        layers: Vec<Layer>,
        below: Option<Arc<Piece>>,
    ) -> Option<Arc<Piece>> {
        let top = layers.last()?.diff_id.0;
        let at = (below.as_ref().map(|it| it.digest), top);
        let piece = Arc::new(Piece {
            digest,
            layers,
            below,
            there: AtomicBool::new(false),
        });
        self.by_digest.insert(digest, piece.clone());
        self.by_top.insert(at, piece.clone());
        Some(piece)
    }
}

impl Pieces {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a piece with all that is below it; `None` where `read` has not all of it.
    pub(super) fn get(
        &self,
        digest: &Digest,
        read: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Option<Arc<Piece>> {
        let mut lacking: Vec<(Digest, Vec<Layer>)> = Vec::new();
        let mut wanted = Some(*digest);
        let mut piece = None;
        while let Some(digest) = wanted {
            piece = self.known().by_digest.get(&digest).cloned();
            if piece.is_some() {
                break;
            }
            let bytes = read(&digest).filter(|bytes| Digest::of(bytes) == digest)?;
            let Words { below, layers } = serde_json::from_slice(&bytes).ok()?;
            if lacking.len() == MAX_PIECES {
                return None;
            }
            lacking.push((digest, layers.into_owned()));
            wanted = below;
        }
        for (digest, layers) in lacking.into_iter().rev() {
            piece = Some(self.known().add(digest, layers, piece)?);
        }
        piece
    }

    /// Puts a record together; `None` where `read` has not all of it.
    pub(super) fn found(
        &self,
        written: Written<'_>,
        read: &dyn Fn(&Digest) -> Option<Vec<u8>>,
    ) -> Option<Found> {
        let Written {
            top,
            below,
            key,
            step,
        } = written;
        let below = match below {
            None => None,
            Some(below) => Some(self.get(&below, read)?),
        };
        let (top, step) = (top.into_owned(), step.into_owned());
        let stack = Stack { top, below };
        Some(Found { key, step, stack })
    }

    /// Cuts a stack, base first, into what a record holds and what is below that. Pieces that are not known yet go to `write`
    /// first.
    ///
    /// # Errors
    /// What `write` says.
    pub(super) fn cut<'a>(
        &self,
        layers: &'a [Layer],
        write: Write<'_>,
    ) -> Result<(Option<Digest>, &'a [Layer]), StoreError> {
        let failed = |source| StoreError::Record {
            kind: STACKS.to_owned(),
            source,
        };
        let mut below: Option<Arc<Piece>> = None;
        let mut rest = layers;
        while let Some((layers, above)) = rest.split_at_checked(PIECE)
            && let (Some(top), false) = (layers.last(), above.is_empty())
        {
            let name = below.as_ref().map(|it| it.digest);
            let known = self.known().by_top.get(&(name, top.diff_id.0)).cloned();
            below = match known.filter(|known| known.layers == layers) {
                Some(known) => Some(known),
                None => {
                    let bytes = serde_json::to_vec(&Words {
                        below: name,
                        layers: layers.into(),
                    });
                    let bytes = bytes.map_err(failed)?;
                    let digest = Digest::of(&bytes);
                    write(&digest, &bytes)?;
                    self.known().add(digest, layers.to_vec(), below)
                }
            };
            rest = above;
        }
        Ok((below.map(|it| it.digest), rest))
    }
}

impl Stack {
    /// Returns the pieces below, the topmost first.
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        std::iter::successors(self.below.as_deref(), |piece| piece.below.as_deref())
    }

    /// Returns the layers, base first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        let mut pieces: Vec<&Piece> = self.pieces().collect();
        pieces.reverse();
        let below = pieces.into_iter().flat_map(|piece| &piece.layers);
        below.chain(&self.top)
    }

    /// Whether `is_there` says so of every layer; of a shared piece it is asked until it does, once.
    pub(super) fn is_there(&self, is_there: &dyn Fn(&Layer) -> bool) -> bool {
        let mut seen = Vec::new();
        for piece in self.pieces() {
            if piece.there.load(Ordering::Relaxed) {
                break;
            }
            if !piece.layers.iter().all(is_there) {
                return false;
            }
            seen.push(piece);
        }
        for piece in seen {
            piece.there.store(true, Ordering::Relaxed);
        }
        self.top.iter().all(is_there)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::{ContentDigest, DiffId};
    use crate::image::Descriptor;

    fn stack(count: usize, salt: usize) -> Vec<Layer> {
        let layer = |at: usize| {
            // The last one differs.
            let salt = if at + 1 == count { salt } else { 0 };
            let bytes = format!("{at} {salt}");
            Layer {
                diff_id: DiffId(Digest::of(bytes.as_bytes())),
                blob: Descriptor::of("tar", bytes.as_bytes()),
                content: ContentDigest::of(bytes.as_bytes()),
                created: Some(1),
                clamped: None,
                origin: None,
            }
        };
        (0..count).map(layer).collect()
    }

    #[test]
    fn stacks_share_pieces_and_read_back() {
        let disk: RefCell<BTreeMap<Digest, Vec<u8>>> = RefCell::default();
        let write = |digest: &Digest, bytes: &[u8]| {
            let before = disk.borrow_mut().insert(*digest, bytes.to_vec());
            assert_eq!(before, None, "written twice");
            Ok(())
        };
        let read = |digest: &Digest| disk.borrow().get(digest).cloned();
        let writer = Pieces::default();
        for count in 0..100 {
            for salt in 0..2 {
                let layers = stack(count, salt);
                let (below, top) = writer.cut(&layers, &write).expect("cut");
                assert!(top.len() <= PIECE && top.is_empty() == layers.is_empty());
                for pieces in [&writer, &Pieces::default()] {
                    let below = below.map(|it| pieces.get(&it, &read).expect("read"));
                    let top = top.to_vec();
                    let again = Stack { top, below };
                    let again: Vec<Layer> = again.layers().cloned().collect();
                    assert_eq!(again, layers);
                }
            }
        }
        // 0 to 7, 8 to 15, …: each once, but for those whose last layer is another in one stack of two.
        assert_eq!(disk.borrow().len(), 99 / PIECE);

        let layers = stack(30, 0);
        let (below, _) = writer.cut(&layers, &write).expect("cut");
        let below = below.expect("a piece");
        let names: Vec<Digest> = disk.borrow().keys().copied().collect();
        for name in names {
            let whole = disk.borrow()[&name].clone();
            let needed = writer.get(&below, &read).is_some_and(|piece| {
                let mut all = std::iter::successors(Some(&*piece), |it| it.below.as_deref());
                all.any(|it| it.digest == name)
            });
            for length in [0, whole.len() - 1] {
                disk.borrow_mut().insert(name, whole[..length].to_vec());
                let torn = Pieces::default().get(&below, &read);
                assert_eq!(torn.is_none(), needed, "{name} of {length} bytes");
            }
            disk.borrow_mut().insert(name, whole);
        }
    }

    #[test]
    fn a_piece_counts_as_there_once_it_was() {
        let pieces = Pieces::default();
        let disk: RefCell<BTreeMap<Digest, Vec<u8>>> = RefCell::default();
        let write = |digest: &Digest, bytes: &[u8]| {
            disk.borrow_mut().insert(*digest, bytes.to_vec());
            Ok(())
        };
        let layers = stack(20, 0);
        let (below, top) = pieces.cut(&layers, &write).expect("cut");
        let below = below.and_then(|it| pieces.get(&it, &|_| None));
        let stack = Stack {
            top: top.to_vec(),
            below,
        };
        let asked = RefCell::new(0);
        let but = |missing: usize| {
            let (asked, missing) = (&asked, layers.get(missing));
            move |layer: &Layer| {
                *asked.borrow_mut() += 1;
                Some(layer) != missing
            }
        };
        for (missing, is_there) in [(0, false), (9, false), (19, false), (20, true)] {
            assert_eq!(stack.is_there(&but(missing)), is_there, "without {missing}");
        }
        *asked.borrow_mut() = 0;
        assert!(stack.is_there(&but(20)));
        assert_eq!(*asked.borrow(), top.len());
    }
}
