//! Names of images: the entries of `index.json`.
//!
//! An entry of ours has the full name (`docker.io/library/app:1`) in both annotations that tools look at:
//! `org.opencontainers.image.ref.name`, so that `skopeo copy oci:<root>:docker.io/library/app:1` works, and
//! `io.containerd.image.name`. Every other entry is kept as it is, unknown fields included; one that
//! another tool wrote under a full name is found, and replaced, by that name.

use std::fs;

use serde_json::{Map, Value, json};

use super::error::at;
use super::{Lock, Store, StoreError};
use crate::digest::Digest;
use crate::image::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Reference};

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub reference: Reference,
    /// As it stands in the index, annotations included.
    pub descriptor: Descriptor,
}

impl Store {
    /// Makes `reference` stand for `descriptor`, whose content is in the store.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the content is not in the store; else what reading and writing say.
    pub fn tag(&self, reference: &Reference, descriptor: Descriptor) -> Result<(), StoreError> {
        let digest = descriptor.digest;
        if !self.blobs().has_sized(&digest, descriptor.size) {
            return Err(StoreError::NotFound { digest });
        }
        let name = reference.to_string();
        let entry = descriptor
            .annotate(ANNOTATION_REF_NAME, &name)
            .annotate(ANNOTATION_IMAGE_NAME, &name);
        // Strings and numbers: serialising them cannot fail.
        let entry = serde_json::to_value(entry).unwrap_or_default();
        self.edit(|manifests| {
            let mut named = manifests.iter().filter(|it| is_named(it, &name));
            if named.next() == Some(&entry) && named.next().is_none() {
                return false;
            }
            manifests.retain(|it| !is_named(it, &name));
            manifests.push(entry);
            true
        })?;
        Ok(())
    }

    /// Lists an image that has no name, so that it is found and nothing removes what it consists of.
    ///
    /// # Errors
    /// As [`tag`](Self::tag).
    pub fn keep(&self, descriptor: &Descriptor) -> Result<(), StoreError> {
        let digest = descriptor.digest;
        if !self.blobs().has_sized(&digest, descriptor.size) {
            return Err(StoreError::NotFound { digest });
        }
        let entry = serde_json::to_value(descriptor).unwrap_or_default();
        self.edit(|manifests| {
            let there = manifests.iter().any(|it| is_of(it, &digest));
            if !there {
                manifests.push(entry);
            }
            !there
        })?;
        Ok(())
    }

    /// Forgets the entries of an image that have no name; returns whether there was one.
    ///
    /// # Errors
    /// What reading and writing say.
    pub fn drop_nameless(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.edit(|manifests| {
            let before = manifests.len();
            manifests.retain(|it| !is_of(it, digest) || name_of(it).is_some());
            manifests.len() != before
        })
    }

    /// Lists the images that have no full name.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn nameless(&self) -> Result<Vec<Descriptor>, StoreError> {
        let index = self.read_index()?;
        Ok(manifests(&index)
            .iter()
            .filter(|entry| name_of(entry).is_none())
            .filter_map(|entry| serde_json::from_value(entry.clone()).ok())
            .collect())
    }

    /// Returns what `reference` stands for; `None` where it has no such name.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let name = reference.to_string();
        let index = self.read_index()?;
        Ok(manifests(&index)
            .iter()
            .find(|it| is_named(it, &name))
            .and_then(|it| serde_json::from_value(it.clone()).ok()))
    }

    /// Forgets a name; returns whether there was one. The content stays.
    ///
    /// # Errors
    /// What reading and writing say.
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        let name = reference.to_string();
        self.edit(|manifests| {
            let before = manifests.len();
            manifests.retain(|it| !is_named(it, &name));
            manifests.len() != before
        })
    }

    /// Lists every name, in order; entries that have no full name are left out.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn list(&self) -> Result<Vec<Tag>, StoreError> {
        let index = self.read_index()?;
        let mut tags: Vec<Tag> = manifests(&index)
            .iter()
            .filter_map(|entry| {
                Some(Tag {
                    reference: name_of(entry)?,
                    descriptor: serde_json::from_value(entry.clone()).ok()?,
                })
            })
            .collect();
        tags.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(tags)
    }

    /// Returns what every entry of the index names, those of other tools included, with what they call it.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn index_digests(&self) -> Result<Vec<(Digest, String)>, StoreError> {
        let index = self.read_index()?;
        let entries = manifests(&index).iter().filter_map(|entry| {
            let digest = entry.get("digest")?.as_str()?.parse().ok()?;
            let name = annotation(entry, ANNOTATION_REF_NAME).unwrap_or_default();
            Some((digest, name.to_owned()))
        });
        Ok(entries.collect())
    }

    /// Changes the list of manifests under the lock; writes it where `change` says so.
    fn edit(&self, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<bool, StoreError> {
        let _lock = Lock::exclusive(&self.root().join("locks/index"))?;
        let mut index = self.read_index()?;
        let Value::Array(list) = index.entry("manifests").or_insert_with(|| json!([])) else {
            return Err(self.damaged("`manifests` is not a list"));
        };
        let changed = change(list);
        if changed {
            let bytes = serde_json::to_vec(&index).unwrap_or_default();
            let path = self.root().join("index.json");
            self.inner.tmp.replace(&path, &bytes)?;
        }
        Ok(changed)
    }

    fn read_index(&self) -> Result<Map<String, Value>, StoreError> {
        let path = self.root().join("index.json");
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Index { path, source })
    }

    fn damaged(&self, why: &str) -> StoreError {
        StoreError::Index {
            path: self.root().join("index.json"),
            source: serde::de::Error::custom(why),
        }
    }
}

fn manifests(index: &Map<String, Value>) -> &[Value] {
    index
        .get("manifests")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn annotation<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get("annotations")?.get(key)?.as_str()
}

/// Returns an entry's full name.
fn name_of(entry: &Value) -> Option<Reference> {
    let name = [ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME]
        .iter()
        .find_map(|key| annotation(entry, key))?;
    let reference: Reference = name.parse().ok()?;
    (reference.to_string() == name).then_some(reference)
}

fn is_of(entry: &Value, digest: &Digest) -> bool {
    entry.get("digest").and_then(Value::as_str) == Some(&digest.to_string())
}

fn is_named(entry: &Value, name: &str) -> bool {
    annotation(entry, ANNOTATION_IMAGE_NAME) == Some(name)
        || annotation(entry, ANNOTATION_REF_NAME) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media_type;

    fn name(text: &str) -> Reference {
        text.parse().expect(text)
    }

    #[test]
    fn tags_come_and_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let put = |bytes: &[u8]| {
            store.blobs().put(bytes).expect("put");
            Descriptor::of(media_type::OCI_MANIFEST, bytes)
        };
        let (one, two) = (put(b"1"), put(b"2"));
        assert_eq!(store.resolve(&name("app")).expect("resolve"), None);
        store.tag(&name("app"), one.clone()).expect("tag");
        store.tag(&name("b.c/app:2"), one.clone()).expect("tag");
        store.tag(&name("app"), two.clone()).expect("tag again");
        let found = store.resolve(&name("app")).expect("resolve").expect("some");
        assert_eq!(found.digest, two.digest);
        let names: Vec<String> = store
            .list()
            .expect("list")
            .iter()
            .map(|tag| tag.reference.to_string())
            .collect();
        assert_eq!(names, ["b.c/app:2", "docker.io/library/app:latest"]);
        assert!(store.untag(&name("app")).expect("untag"));
        assert!(!store.untag(&name("app")).expect("untag twice"));
        let absent = Descriptor::of(media_type::OCI_MANIFEST, b"absent");
        assert!(matches!(
            store.tag(&name("x"), absent),
            Err(StoreError::NotFound { .. })
        ));
    }

    #[test]
    fn images_without_a_name_are_kept_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let digest = store.blobs().put(b"1").expect("put");
        let image = Descriptor::of(media_type::OCI_MANIFEST, b"1");
        store.keep(&image).expect("keep");
        store.keep(&image).expect("keep again");
        assert_eq!(store.nameless().expect("list").len(), 1);
        store.tag(&name("app"), image).expect("tag");
        assert!(store.drop_nameless(&digest).expect("drop"));
        assert!(!store.drop_nameless(&digest).expect("drop twice"));
        assert_eq!(store.nameless().expect("list"), []);
        assert_eq!(store.list().expect("list").len(), 1);
        let absent = Descriptor::of(media_type::OCI_MANIFEST, b"2");
        assert!(store.keep(&absent).is_err());
    }

    #[test]
    fn foreign_entries_stay() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let digest = store.blobs().put(b"1").expect("put");
        let foreign = json!({"mediaType": "x", "digest": "sha512:12", "size": 1, "odd": [1]});
        let theirs = json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": 1,
            "annotations": {"org.opencontainers.image.ref.name": "a.b/c:1"}
        });
        let index = json!({"schemaVersion": 2, "manifests": [foreign, theirs], "kept": true});
        fs::write(dir.path().join("index.json"), index.to_string()).expect("write");
        assert!(store.resolve(&name("a.b/c:1")).expect("resolve").is_some());
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, b"1");
        store.tag(&name("app"), descriptor).expect("tag");
        let index = store.read_index().expect("read");
        assert_eq!(manifests(&index)[0], foreign);
        assert_eq!(manifests(&index)[1], theirs);
        assert_eq!(index["kept"], json!(true));
        assert_eq!(store.list().expect("list").len(), 2);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let root = dir.path();
                scope.spawn(move || {
                    let store = Store::open(root).expect("open");
                    store.blobs().put(b"1").expect("put");
                    for i in 0..10 {
                        let name = name(&format!("app{thread}:{i}"));
                        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, b"1");
                        store.tag(&name, descriptor).expect("tag");
                    }
                });
            }
        });
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(store.list().expect("list").len(), 40);
    }
}
