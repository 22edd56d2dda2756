//! What a build learns of files, until it is written with what was remembered before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};

use super::Stamp;
use super::digests::Facts;
use super::remembered::{Reader, Remembered, merge, walk_order, write};

/// What a build learns: of few files by path, of many as they will be written.
#[derive(Debug, Default)]
pub(super) struct Learned {
    few: BTreeMap<Vec<u8>, (Stamp, Facts)>,
    /// The newest last.
    many: Vec<Remembered>,
    /// There is something that was not written yet.
    pub(super) is_new: bool,
}

/// Where each of so many has been looked in, they are made one.
const MOST: usize = 16;

impl Learned {
    pub(super) fn add(&mut self, path: &[u8], stamp: &Stamp, facts: &Facts) {
        let Facts {
            content, xattrs, ..
        } = facts;
        let facts = Facts {
            content: *content,
            xattrs: xattrs.clone(),
            bytes: None,
        };
        self.few.insert(path.to_vec(), (*stamp, facts));
        self.is_new = true;
    }

    pub(super) fn add_many(&mut self, many: Remembered) {
        if many.len() == 0 {
            return;
        }
        self.is_new = true;
        if self.many.last_mut().is_some_and(|it| it.append(&many)) {
            return;
        }
        self.many.push(many);
        if self.many.len() > MOST {
            let mut one = Remembered::default();
            let sources: Vec<&Remembered> = self.many.iter().rev().collect();
            let Ok(()) = merge::<Infallible>(&sources, |_, entry| {
                one.push_entry(entry);
                Ok(())
            });
            self.many = vec![one];
        }
    }

    /// Starts to look paths up.
    pub(super) fn reader(&self) -> LearnedReader<'_> {
        LearnedReader {
            few: &self.few,
            many: self.many.iter().rev().map(Remembered::reader).collect(),
        }
    }

    /// Writes all that was learned, with what was known `before`: see [`write`].
    pub(super) fn write(
        &self,
        before: &Remembered,
        present: &dyn Fn(&[u8]) -> bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut few: Vec<_> = self.few.iter().collect();
        few.sort_by(|(a, _), (b, _)| walk_order(a, b));
        let mut sorted = Remembered::default();
        for (path, (stamp, facts)) in few {
            sorted.push(path, stamp, facts);
        }
        let many = self.many.iter().rev();
        let sources: Vec<&Remembered> = [&sorted].into_iter().chain(many).chain([before]).collect();
        write(&sources, present, out)
    }
}

/// Looks up what was learned.
#[derive(Debug)]
pub(super) struct LearnedReader<'a> {
    few: &'a BTreeMap<Vec<u8>, (Stamp, Facts)>,
    many: Vec<Reader<'a>>,
}

impl LearnedReader<'_> {
    /// Returns the facts of the file at `path`, if they were learned with this `stamp`.
    pub(super) fn facts(&mut self, path: &[u8], stamp: &Stamp) -> Option<Facts> {
        if let Some((known, facts)) = self.few.get(path)
            && known == stamp
        {
            return Some(facts.clone());
        }
        self.many.iter_mut().find_map(|it| it.facts(path, stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::super::remembered::tests::{known, of, written};
    use super::*;

    #[test]
    fn what_is_learned_in_rows_is_as_if_it_were_learned_one_by_one() {
        let name = |group: u64, at: u64| format!("d{:02}/f{at:04}", 39 - group);
        let (mut rows, mut single) = (Learned::default(), Learned::default());
        for group in 0..40 {
            let mut row = Remembered::default();
            for at in 0..1000 {
                let (stamp, facts) = known(group * 1000 + at);
                let path = name(group, at);
                assert!(row.push(path.as_bytes(), &stamp, &facts));
                assert!(!row.push(b"a", &stamp, &facts), "not in order");
                single.add(path.as_bytes(), &stamp, &facts);
            }
            rows.add_many(row);
            assert!(rows.many.len() <= MOST);
        }
        // The newest counts.
        let (stamp, facts) = known(1);
        let mut row = Remembered::default();
        assert!(row.push(b"d00/f0000", &stamp, &facts));
        rows.add_many(row);
        single.add(b"d00/f0000", &stamp, &facts);
        let mut reader = rows.reader();
        assert_eq!(reader.facts(b"d00/f0000", &stamp), Some(facts));
        let (stamp, facts) = known(39_999);
        let last = name(39, 999);
        assert_eq!(reader.facts(last.as_bytes(), &stamp), Some(facts));
        let before = of(
            &[("b", 1), ("d00/f0000", 7), ("z", 3)],
            &Remembered::default(),
        );
        let before = Remembered::from_bytes(before).expect("whole");
        let bytes = written(&rows, &before);
        assert!(bytes == written(&single, &before));
        let all = Remembered::from_bytes(bytes).expect("whole");
        assert_eq!(all.len(), 40_002);
    }
}
