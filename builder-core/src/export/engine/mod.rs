//! Into an engine: `POST /images/load`, which Docker and Podman both take.
//!
//! Only the layers that the engine lacks are sent, where it is known to look for a layer before it opens a file of the
//! archive ([`held`] says which do). Should it refuse such an archive all the same, because an image went away in
//! between, the whole one follows. What each takes:
//!
//! - Docker: its own archive, every name in it.
//! - Podman: an OCI archive, in which there can be one name; the others are given by `POST /images/ID/tag`.
//!   (It would take Docker's archive, too, but open every file in it.)

mod held;
mod http;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::archive::{Destination, save_docker, save_oci};
use super::{ExportError, Finished, Selection};
use crate::digest::Digest;
use crate::image::{ImageConfig, Reference};
use crate::store::Blobs;
use held::Kind;
pub use http::Wire;

/// More than a config has.
const MAX_CONFIG: u64 = 16 << 20;

/// A question is answered at once; a large layer is unpacked for a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of what an engine says of a load.
const MAX_SAID: usize = 2000;
/// An engine says nothing while it unpacks.
const PATIENCE_OF_LOADS: Duration = Duration::from_secs(1800);

/// What a load came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the engine says.
    pub said: String,
    /// How many layers were sent.
    pub sent: usize,
    /// How many the image has.
    pub layers: usize,
}

/// Makes connections to an engine, one a request, on which no byte for so long is an error.
pub type Connect<'a> = &'a dyn Fn(Duration) -> io::Result<Box<dyn Wire>>;

/// Has the layers of an image in the store that stand above its so many lowest ones.
pub type Fetch<'a, E> = &'a dyn Fn(usize) -> Result<(), E>;

/// Loads `image` into the engine that `connect` leads to. Layers that are not in the store yet are asked of `fetch` once it is
/// known which of them the engine has.
///
/// # Errors
/// As [`docker_archive`](super::docker_archive); what the engine refuses; that of `fetch`.
pub fn load_into<E: From<ExportError>>(
    image: &Finished,
    blobs: &Blobs,
    connect: Connect<'_>,
    fetch: Fetch<'_, E>,
) -> Result<Loaded, E> {
    let engine = Engine { connect };
    let kind = held::kind(&engine.get("/version")?, &engine.get("/info")?);
    let layers = engine.layers(image, blobs)?;
    let held = match kind {
        Kind::Containerd => 0,
        Kind::Docker | Kind::Podman => engine.held(image, &layers)?,
    };
    fetch(held)?;
    let said = match engine.load(kind, image, held, blobs) {
        Err(ExportError::Engine { .. }) if held > 0 => {
            fetch(0)?;
            return Ok(Loaded {
                said: engine.load(kind, image, 0, blobs)?,
                sent: layers.len(),
                layers: layers.len(),
            });
        }
        said => said?,
    };
    Ok(Loaded {
        said,
        sent: layers.len() - held,
        layers: layers.len(),
    })
}

struct Engine<'a> {
    connect: Connect<'a>,
}

impl Engine<'_> {
    fn connect(&self, patience: Duration) -> Result<Box<dyn Wire>, ExportError> {
        (self.connect)(patience).map_err(ExportError::Connect)
    }

    /// Asks for a document; nothing where the engine has none, or does not know the question.
    fn get(&self, path: &str) -> Result<Value, ExportError> {
        let answer = http::ask(self.connect(PATIENCE)?.as_mut(), "GET", path)?;
        Ok(match answer.is_good() {
            true => serde_json::from_str(&answer.body).unwrap_or_default(),
            false => Value::Null,
        })
    }

    fn layers(
        &self,
        image: &Finished,
        blobs: &Blobs,
    ) -> Result<Vec<(crate::digest::DiffId, u64)>, ExportError> {
        let bytes = blobs.read(&image.config.digest, MAX_CONFIG)?;
        let config = ImageConfig::parse(&bytes).map_err(|source| ExportError::Config {
            digest: image.config.digest,
            source,
        })?;
        let sizes = image.layers.iter().map(|it| it.size);
        Ok(config.diff_ids.into_iter().zip(sizes).collect())
    }

    fn held(
        &self,
        image: &Finished,
        layers: &[(crate::digest::DiffId, u64)],
    ) -> Result<usize, ExportError> {
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        let list = self.get("/images/json")?;
        held::held(layers, held::questions(&names, &list), |path| {
            self.get(path)
        })
    }

    /// Sends the image without its `held` lowest layers.
    fn load(
        &self,
        kind: Kind,
        image: &Finished,
        held: usize,
        blobs: &Blobs,
    ) -> Result<String, ExportError> {
        let mut stream = self.connect(PATIENCE_OF_LOADS)?;
        let needed: BTreeSet<Digest> = image.layers[held..].iter().map(|it| it.digest).collect();
        let left_out = image.layers[..held].iter().map(|it| it.digest);
        let left_out = left_out.filter(|it| !needed.contains(it)).collect();
        let only_name = Finished {
            names: image.names.iter().take(1).cloned().collect(),
            ..image.clone()
        };
        let mut images = Selection::from(match kind {
            Kind::Podman => &only_name,
            Kind::Docker | Kind::Containerd => image,
        });
        images.leave_out(left_out);
        let write = |out: &mut dyn Write| {
            let mut out = out;
            match kind {
                Kind::Podman => save_oci(&images, blobs, Destination::Writer(&mut out)),
                Kind::Docker | Kind::Containerd => {
                    save_docker(&images, blobs, Destination::Writer(&mut out))
                }
            }
        };
        let answer = http::send(stream.as_mut(), "/images/load?quiet=1", write)?;
        let mut said = outcome(&answer)?;
        if kind == Kind::Podman {
            for name in image.names.iter().skip(1) {
                self.tag(image.config.digest, name)?;
                said = format!("{said}, {name}");
            }
        }
        Ok(said)
    }

    fn tag(&self, id: Digest, name: &Reference) -> Result<(), ExportError> {
        let (id, repository, tag) = (id.hex(), name.repository(), name.tag().unwrap_or("latest"));
        let path = format!("/images/{id}/tag?repo={repository}&tag={tag}");
        outcome(&http::ask(self.connect(PATIENCE)?.as_mut(), "POST", &path)?).map(drop)
    }
}

/// Returns what an answer says: lines of messages, one of which may be an error behind a good status.
fn outcome(answer: &http::Answer) -> Result<String, ExportError> {
    let (said, wrong) = messages(&answer.body);
    let said = said.chars().take(MAX_SAID).collect();
    match wrong {
        None if answer.is_good() => Ok(said),
        wrong => Err(ExportError::Engine {
            status: answer.status.clone(),
            message: wrong.unwrap_or(said),
        }),
    }
}

fn messages(text: &str) -> (String, Option<String>) {
    let mut said = Vec::new();
    let mut wrong = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let word = |key: &str| value[key].as_str().map(|it| it.trim().to_owned());
        if let Some(error) = word("error").or_else(|| word("message")) {
            wrong = Some(error);
        }
        said.push(word("stream").unwrap_or_else(|| line.trim().to_owned()));
    }
    (said.join("; "), wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        for (status, body, expected) in [
            ("200", "{\"stream\":\"Loaded: a:1\\n\"}", Ok("Loaded: a:1")),
            ("201", "", Ok("")),
            ("500", "{\"message\":\"no space\"}\n", Err("no space")),
            (
                "200",
                "{\"errorDetail\":{},\"error\":\"bad layer\"}\n",
                Err("bad layer"),
            ),
            ("", "", Err("")),
        ] {
            let answer = http::Answer {
                status: status.to_owned(),
                body: body.to_owned(),
            };
            match (outcome(&answer), expected) {
                (Ok(said), Ok(expected)) => assert_eq!(said, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected)),
                (other, _) => panic!("{body}: {other:?}"),
            }
        }
    }
}
