//! Keys: hashes of named parts.

use std::fmt::Write;
use std::sync::Arc;

use crate::digest::{ContentDigest, Digest};

use super::FileList;

/// Between the name of a list of files and that of the named context that they are from.
pub const FROM: &str = " from context ";

/// One named thing that a key depends on, for explaining a miss.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// `command`, `variable PATH`, `the base image`.
    pub name: String,
    /// The value itself where it is short, else its digest.
    pub value: String,
}

/// All that a key was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// The word that the hasher was started with.
    pub domain: String,
    pub fields: Vec<Part>,
    /// Lists of files: a COPY's `files`, `mount /src`, `files from context other`.
    pub lists: Vec<(String, Arc<FileList>)>,
}

/// A finished key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub digest: Digest,
    pub parts: Parts,
}

/// Hashes fields, each with its name and length, so that no two sequences of fields run together.
#[derive(Debug)]
pub struct KeyHasher {
    hasher: blake3::Hasher,
    parts: Parts,
}

/// Longer values are kept as their digest.
const SHOWN_BYTES: usize = 4096;

impl KeyHasher {
    /// Starts a key of `domain`, a word and a version: `run/1`. A change of meaning is a new version.
    pub fn new(domain: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, domain.as_bytes());
        KeyHasher {
            hasher,
            parts: Parts {
                domain: domain.to_owned(),
                ..Parts::default()
            },
        }
    }

    /// Adds a field that a reason may name.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        let shown = match std::str::from_utf8(value) {
            Ok(text) if text.len() <= SHOWN_BYTES => text.to_owned(),
            _ => ContentDigest::of(value).to_string(),
        };
        self.field_shown(name, value, name, shown)
    }

    /// Adds a field that a reason calls by another name, or whose value it shows in another way.
    pub fn field_shown(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
        shown_name: &str,
        shown: String,
    ) -> &mut Self {
        feed(&mut self.hasher, name.as_bytes());
        feed(&mut self.hasher, value.as_ref());
        self.parts.fields.push(Part {
            name: shown_name.to_owned(),
            value: shown,
        });
        self
    }

    /// Adds a field that no reason names.
    pub fn field_untold(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        feed(&mut self.hasher, name.as_bytes());
        feed(&mut self.hasher, value.as_ref());
        self
    }

    /// Adds what a reason may name beside what the key is made of: where a field came from.
    pub fn told(&mut self, name: &str, shown: String) -> &mut Self {
        self.parts.fields.push(Part {
            name: name.to_owned(),
            value: shown,
        });
        self
    }

    /// Adds a list as one field; order counts.
    pub fn list<T: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut shown = String::new();
        let mut hasher = blake3::Hasher::new();
        for value in values {
            let value = value.as_ref();
            feed(&mut hasher, value);
            let _ = write!(shown, "{} ", String::from_utf8_lossy(value));
        }
        feed(&mut self.hasher, name.as_bytes());
        feed(&mut self.hasher, hasher.finalize().as_bytes());
        shown.pop();
        if shown.len() > SHOWN_BYTES {
            shown = ContentDigest::of(shown.as_bytes()).to_string();
        }
        self.parts.fields.push(Part {
            name: name.to_owned(),
            value: shown,
        });
        self
    }

    /// Adds files, whose list has `digest`.
    pub fn files(&mut self, name: &str, digest: &ContentDigest, list: Arc<FileList>) -> &mut Self {
        self.files_shown(name, digest, name, list)
    }

    /// As [`KeyHasher::files`]; `shown_name` may end in [`FROM`] and the name of a context.
    pub fn files_shown(
        &mut self,
        name: &str,
        digest: &ContentDigest,
        shown_name: &str,
        list: Arc<FileList>,
    ) -> &mut Self {
        feed(&mut self.hasher, name.as_bytes());
        feed(&mut self.hasher, &digest.0);
        self.parts.lists.push((shown_name.to_owned(), list));
        self
    }

    /// Returns the key.
    pub fn finish(self) -> Key {
        Key {
            digest: Digest::from_bytes(*self.hasher.finalize().as_bytes()),
            parts: self.parts,
        }
    }
}

fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &[(&str, &str)]) -> Digest {
        let mut hasher = KeyHasher::new("test/1");
        for (name, value) in fields {
            hasher.field(name, value);
        }
        hasher.finish().digest
    }

    #[test]
    fn fields_do_not_run_together() {
        assert_ne!(
            key(&[("a", "ab"), ("b", "c")]),
            key(&[("a", "a"), ("b", "bc")])
        );
        assert_ne!(key(&[("a", "")]), key(&[]));
        let list = |values: &[&str]| {
            let mut hasher = KeyHasher::new("test/1");
            hasher.list("l", values);
            hasher.finish().digest
        };
        assert_ne!(list(&["ab", "c"]), list(&["a", "bc"]));
        assert_ne!(
            KeyHasher::new("test/1").finish().digest,
            KeyHasher::new("test/2").finish().digest
        );
    }
}
