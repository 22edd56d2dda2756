//! What the members of a tar are, told by whoever writes it: where each is cut, and a key of what goes into it.
//!
//! A key is made from headers and files' digests, so a member that is known under its key is never read: neither from the
//! files, nor from the tar. Who has the tar alone comes to the same keys (see `members`).
//!
//! | a member that      | is named by BLAKE3 over                                                               |
//! |--------------------|---------------------------------------------------------------------------------------|
//! | starts at a header | `e`; its bytes, where for the data of a file there stand 1 and the digest of it, or 2 and the data itself where what pads it is not zero, or it is cut short |
//! | does not           | `r`; its bytes                                                                        |
//!
//! A header says how much data follows and whether it is a file's, so no two members read the same.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::header::raw_name;
use super::writer::BLOCK;
use crate::digest::ContentDigest;

pub(super) const LARGE: usize = 1 << 20;

/// Whether a member of so many bytes ends before `header`.
pub(super) fn ends_before(length: usize, header: &[u8; BLOCK]) -> bool {
    let marks_a_cut = || crc32fast::hash(&raw_name(header)).is_multiple_of(16);
    length >= LARGE || length >= LARGE / 4 && marks_a_cut()
}

/// One member of a tar that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlined {
    /// Bytes of the tar, after those of the member before.
    pub length: u64,
    /// `None`: to be had from the bytes alone.
    pub key: Option<ContentDigest>,
}

/// Names the input of a member.
#[derive(Debug)]
pub(super) struct MemberKey(Box<blake3::Hasher>);

impl MemberKey {
    pub(super) fn new(at_header: bool) -> Self {
        let mut hash = Box::new(blake3::Hasher::new());
        hash.update(if at_header { b"e" } else { b"r" });
        MemberKey(hash)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn file(&mut self, content: &ContentDigest) {
        self.0.update(&[1]);
        self.0.update(&content.0);
    }

    pub(super) fn odd_file(&mut self, bytes: &[u8]) {
        self.0.update(&[2]);
        self.0.update(bytes);
    }

    pub(super) fn finish(&self) -> ContentDigest {
        ContentDigest(*self.0.finalize().as_bytes())
    }
}

/// Told of every entry, in order; tells of every member but the last.
#[derive(Debug)]
pub struct Outline {
    to: Vec<Sender<Outlined>>,
    length: usize,
    key: MemberKey,
}

impl Default for Outline {
    fn default() -> Self {
        Outline {
            to: Vec::new(),
            length: 0,
            key: MemberKey::new(true),
        }
    }
}

impl Outline {
    /// Returns the members, as they come; where they end, the rest of the tar is to be looked at.
    pub fn follow(&mut self) -> Receiver<Outlined> {
        let (to, members) = channel();
        self.to.push(to);
        members
    }

    /// Takes in one entry: all of its headers, and what its data is.
    pub(super) fn entry(&mut self, headers: &[u8], size: u64, content: &ContentDigest) {
        let Some(first) = headers.first_chunk::<BLOCK>() else {
            return;
        };
        if headers.len() >= LARGE {
            // What describes the entry is cut itself: that is left to whoever looks.
            self.to.clear();
        }
        if self.to.is_empty() {
            return;
        }
        let starts = ends_before(self.length, first);
        if starts {
            self.cut();
        }
        self.key.bytes(headers);
        self.length += headers.len();
        let data = size.next_multiple_of(BLOCK as u64);
        if data >= LARGE as u64 {
            let mut left = data;
            if starts && headers.len() == BLOCK {
                // A header that starts a member is not one by itself.
                left -= (LARGE - BLOCK) as u64;
                let (length, key) = (LARGE as u64, None);
                self.tell(Outlined { length, key });
                self.key = MemberKey::new(true);
                self.length = 0;
            } else {
                self.cut();
            }
            while left > 0 {
                let length = left.min(LARGE as u64);
                self.tell(Outlined { length, key: None });
                left -= length;
            }
        } else if size > 0 {
            self.key.file(content);
            self.length += data as usize;
        }
    }

    fn cut(&mut self) {
        let member = Outlined {
            length: self.length as u64,
            key: Some(self.key.finish()),
        };
        self.tell(member);
        self.key = MemberKey::new(true);
        self.length = 0;
    }

    /// Whoever is gone does not follow any more.
    fn tell(&mut self, member: Outlined) {
        self.to.retain(|to| to.send(member).is_ok());
    }
}

#[cfg(test)]
#[path = "outline_tests.rs"]
mod tests;
