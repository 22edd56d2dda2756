//! What the keys of a cache's steps were made from: for saying, on another machine, what a step that misses has else.
//!
//! One blob of the cache, which is fetched when a step misses that this machine knows no earlier record of. Values of
//! variables and of build args are in it as short digests: whoever may read a cache learns that one changed, not what it is.
//!
//! Pure: values in, bytes out, and back.

use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::cache::{Earlier, FileList, Part, Parts, Place, Reason, explain};
use crate::digest::{ContentDigest, Digest};

pub(super) const PARTS_TYPE: &str = "application/vnd.builder.cache.parts.v1+zstd";
/// Unpacked; some hundred bytes a file that a COPY takes.
const MAX_BYTES: u64 = 256 << 20;
pub(super) const MAX_PACKED_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Document {
    steps: Vec<StepParts>,
    /// In base64, each once.
    lists: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StepParts {
    stage: String,
    ordinal: usize,
    key: Digest,
    domain: String,
    fields: Vec<Part>,
    /// A name, and which of the lists.
    lists: Vec<(String, usize)>,
}

/// Packs the parts of some steps; `None` where that fails, or they are too many.
pub(super) fn pack<'a>(steps: impl Iterator<Item = &'a Earlier>) -> Option<Vec<u8>> {
    let mut lists: Vec<String> = Vec::new();
    let steps = steps.map(|Earlier { place, parts }| StepParts {
        stage: place.stage.clone(),
        ordinal: place.ordinal,
        key: place.key,
        domain: parts.domain.clone(),
        fields: parts.fields.iter().map(masked).collect(),
        lists: parts
            .lists
            .iter()
            .map(|(name, list)| {
                let text = STANDARD.encode(list.to_bytes());
                let at = lists.iter().position(|it| *it == text);
                let at = at.unwrap_or_else(|| {
                    lists.push(text);
                    lists.len() - 1
                });
                (name.clone(), at)
            })
            .collect(),
    });
    let steps = steps.collect();
    let text = serde_json::to_vec(&Document { steps, lists }).ok()?;
    let packed = zstd::encode_all(&text[..], 3).ok()?;
    let fits = text.len() as u64 <= MAX_BYTES && packed.len() as u64 <= MAX_PACKED_BYTES;
    fits.then_some(packed)
}

/// Reads what [`pack`] made; `None` where it is something else.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<Earlier>> {
    let mut text = Vec::new();
    let reader = zstd::Decoder::new(packed).ok()?;
    reader.take(MAX_BYTES + 1).read_to_end(&mut text).ok()?;
    let document: Document = match text.len() as u64 > MAX_BYTES {
        true => return None,
        false => serde_json::from_slice(&text).ok()?,
    };
    let lists = document.lists.iter().map(|text| {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Arc::new(FileList::from_bytes(bytes)?))
    });
    let lists: Vec<Arc<FileList>> = lists.collect::<Option<_>>()?;
    let steps = document.steps.into_iter().map(|step| {
        let named = step
            .lists
            .into_iter()
            .map(|(name, at)| Some((name, lists.get(at)?.clone())));
        Some(Earlier {
            parts: Parts {
                domain: step.domain,
                fields: step.fields,
                lists: named.collect::<Option<_>>()?,
            },
            place: Place {
                stage: step.stage,
                ordinal: step.ordinal,
                key: step.key,
                variant: String::new(),
            },
        })
    });
    steps.collect()
}

/// Whether a part's value stays on the machine.
fn is_secret(name: &str) -> bool {
    name.starts_with("variable ") || name.starts_with("build arg ")
}

fn masked(part: &Part) -> Part {
    let is_masked = part.value.starts_with(MASK) && part.value.len() == MASK.len() + MASK_DIGITS;
    let value = match is_secret(&part.name) && !is_masked {
        true => {
            let digest = ContentDigest::of(part.value.as_bytes()).to_string();
            let digits = digest.len().saturating_sub(MASK_DIGITS);
            format!("{MASK}{}", &digest[digits..])
        }
        false => part.value.clone(),
    };
    Part {
        name: part.name.clone(),
        value,
    }
}

const MASK: &str = "digest:";
/// Enough to tell two values from each other.
const MASK_DIGITS: usize = 12;

/// What a step has else than what a cache knows of it; `None` where nothing.
#[derive(Debug, Clone)]
pub(super) struct Masked(pub(super) Parts);

impl Masked {
    pub(super) fn of(parts: &Parts) -> Masked {
        Masked(Parts {
            domain: parts.domain.clone(),
            fields: parts.fields.iter().map(masked).collect(),
            lists: parts.lists.clone(),
        })
    }

    pub(super) fn explain(&self, before: &Parts) -> Option<Reason> {
        let mut reason = explain(before, &self.0)?;
        for change in &mut reason.changes {
            if is_secret(&change.name) {
                (change.old, change.new) = (None, None);
            }
        }
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::FileEntry;

    fn earlier(value: &str, path: &str) -> Earlier {
        let part = |name: &str, value: &str| Part {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let mut list = FileList::default();
        list.group(b"", true);
        list.push(&FileEntry {
            path: path.as_bytes(),
            kind: "file",
            ..FileEntry::default()
        });
        Earlier {
            place: Place {
                stage: "build".to_owned(),
                ordinal: 2,
                key: Digest::of(value.as_bytes()),
                variant: String::new(),
            },
            parts: Parts {
                domain: "run/2".to_owned(),
                fields: vec![part("command", "make"), part("build arg TOKEN", value)],
                lists: vec![("files".to_owned(), Arc::new(list))],
            },
        }
    }

    #[test]
    fn what_is_packed_reads_back_and_tells_no_values() {
        let steps = [earlier("hunter2", "a"), earlier("other", "a")];
        let packed = pack(steps.iter()).expect("packed");
        assert_eq!(Some(&packed), pack(steps.iter()).as_ref(), "the same bytes");
        let text = zstd::decode_all(&packed[..]).expect("zstd");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("make") && !text.contains("hunter2"), "{text}");
        let read = unpack(&packed).expect("read");
        assert_eq!(read[0].place, steps[0].place);
        assert_eq!(read[1].parts.lists, steps[1].parts.lists);
        // What came from a cache goes into the next one as it is.
        assert_eq!(pack(read.iter()), Some(packed.clone()));
        for (now, expected) in [
            (earlier("hunter2", "a"), None),
            (earlier("changed", "a"), Some("build arg TOKEN changed")),
            (earlier("hunter2", "b"), Some("b is new, a is gone")),
        ] {
            let found = Masked::of(&now.parts).explain(&read[0].parts);
            assert_eq!(found.map(|it| it.to_string()).as_deref(), expected);
        }
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end]).is_none(), "{end}");
        }
    }
}
