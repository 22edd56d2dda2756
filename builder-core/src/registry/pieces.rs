//! How an upload is cut into requests, and whether it gets anywhere.
//!
//! The whole goes first. After a cut the blob goes in pieces, each on a connection of its own, that become smaller with
//! every further cut: a registry that forgets what it has of an unfinished piece (or the whole upload with it) has to be
//! brought some that come through.

/// An upload that got so much further than ever before was worth the attempt.
const BYTES_WORTH_IT: u64 = 64 << 10;
/// Each cut makes pieces so many times smaller.
const SHRINK: u64 = 8;
const LEAST_PIECE: u64 = 256 << 10;

/// What one upload has learned of its way.
#[derive(Debug)]
pub(super) struct Pieces {
    /// What goes with one request; all of it where nothing was cut.
    size: Option<u64>,
    first: u64,
    /// The most that was ever acknowledged, as far as it counted.
    best: u64,
}

impl Pieces {
    /// Pieces that begin with `first` bytes, once there are any.
    pub(super) fn new(first: u64) -> Self {
        Pieces {
            size: None,
            first: first.max(1),
            best: 0,
        }
    }

    /// A connection was cut.
    pub(super) fn cut(&mut self) {
        self.size = Some(match self.size {
            None => self.first,
            Some(size) => (size / SHRINK).max(LEAST_PIECE.min(self.first)),
        });
    }

    /// Whether each request takes a connection of its own: the one that is there may be cut before long.
    pub(super) fn apart(&self) -> bool {
        self.size.is_some()
    }

    /// The registry has `offset` bytes: says whether that is further than ever before.
    pub(super) fn acknowledged(&mut self, offset: u64) -> bool {
        let further = offset >= self.best + BYTES_WORTH_IT;
        if further {
            self.best = offset;
        }
        further
    }

    /// Returns the size of the next piece, of which at least `least` bytes are taken; `None`: all that is left, which ends it.
    pub(super) fn next(&self, left: u64, least: u64) -> Option<u64> {
        let size = self.size?.max(least);
        (left > size).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn pieces_shrink_with_every_cut() {
        for (first, cuts, left, least, expected) in [
            (8 * MIB, 0, 100 * MIB, 0, None),
            (8 * MIB, 1, 100 * MIB, 0, Some(8 * MIB)),
            (8 * MIB, 1, 8 * MIB, 0, None),
            (8 * MIB, 2, 100 * MIB, 0, Some(MIB)),
            (8 * MIB, 3, 100 * MIB, 0, Some(MIB / 4)),
            (8 * MIB, 9, 100 * MIB, 0, Some(MIB / 4)),
            (8 * MIB, 9, 100 * MIB, 5 * MIB, Some(5 * MIB)),
            (100, 9, 1000, 0, Some(100)),
            (0, 1, 1000, 0, Some(1)),
        ] {
            let mut pieces = Pieces::new(first);
            (0..cuts).for_each(|_| pieces.cut());
            let text = format!("{first} {cuts} {left} {least}");
            assert_eq!(pieces.next(left, least), expected, "{text}");
            assert_eq!(pieces.apart(), cuts > 0, "{text}");
        }
    }

    #[test]
    fn only_what_was_never_there_before_counts() {
        let mut pieces = Pieces::new(MIB);
        for (offset, expected) in [
            (0, false),
            (100, false),
            (MIB / 4, true),
            (MIB / 4 + 100, false),
            (0, false),
            (MIB / 4, false),
            (MIB / 2, true),
        ] {
            assert_eq!(pieces.acknowledged(offset), expected, "{offset}");
        }
    }
}
