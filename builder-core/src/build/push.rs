//! A finished image on its way to registries.

use std::collections::BTreeMap;
use std::time::Instant;

use super::BuildError;
use super::output::Output;
use super::run::Image;
use crate::image::Reference;
use crate::progress::{Event, EventSink, Outcome, VertexId, VertexInfo};
use crate::registry::{Client, Contents, Progress, Push, known_origins, note_origin};
use crate::store::Store;

/// Refuses, before anything is built, a push without a name.
pub(super) fn check(outputs: &[Output], names: &[Reference]) -> Result<(), BuildError> {
    let nameless = outputs.iter().any(|output| match output {
        Output::Registry { image } => image.names.as_deref().unwrap_or(names).is_empty(),
        _ => false,
    });
    match nameless {
        true => Err(BuildError::PushWithoutName),
        false => Ok(()),
    }
}

/// Pushes what the outputs ask for, one name after the other. `first` is the number of the first step that this shows; returns that of the next.
pub(super) async fn push_all(
    outputs: &[Output],
    image: &Image,
    client: &Client,
    store: &Store,
    first: u32,
    events: &dyn EventSink,
) -> Result<u32, BuildError> {
    let mut step = first;
    for (output, finished) in outputs.iter().zip(&image.outputs) {
        let (Output::Registry { image }, Some(finished)) = (output, finished) else {
            continue;
        };
        for name in &finished.names {
            let top = finished.top().clone();
            let name = &match image.by_digest {
                true => name.at_digest(top.digest),
                false => name.clone(),
            };
            let records = store.records();
            let contents = Contents::read(&top, store.blobs());
            let failed = |source| BuildError::Push {
                name: name.familiar(),
                source: Box::new(source),
            };
            let parts = contents.map_err(failed)?.blobs;
            let known = parts
                .iter()
                .map(|it| (it.digest, known_origins(records, &it.digest)));
            let push = Push {
                reference: name.clone(),
                top,
                origins: known.collect::<BTreeMap<_, _>>(),
            };
            let shown = Shown::start(
                VertexId(step),
                format!("[push] {}", name.familiar()),
                events,
            );
            step += 1;
            let progress = Progress {
                events,
                vertex: shown.vertex,
            };
            let pushed = client.push(&push, store.blobs(), Some(progress)).await;
            shown.end(pushed.as_ref().err().map(ToString::to_string));
            let pushed = pushed.map_err(failed)?;
            note_origin(records, name, push.origins.keys())?;
            let pinned = name.with_digest(pushed.digest);
            events.emit(Event::Exported {
                what: format!("pushing {pinned}"),
            });
        }
    }
    Ok(step)
}

/// What is sent, as a step of the build.
pub(super) struct Shown<'a> {
    vertex: VertexId,
    events: &'a dyn EventSink,
    since: Instant,
}

impl<'a> Shown<'a> {
    pub(super) fn start(vertex: VertexId, name: String, events: &'a dyn EventSink) -> Self {
        let info = VertexInfo {
            id: vertex,
            name,
            line: None,
            inputs: Vec::new(),
        };
        events.emit(Event::Planned {
            vertices: vec![info],
        });
        events.emit(Event::Started { vertex });
        Shown {
            vertex,
            events,
            since: Instant::now(),
        }
    }

    pub(super) fn end(self, error: Option<String>) {
        let outcome = match error {
            None => Outcome::Done,
            Some(error) => Outcome::Failed { error },
        };
        self.events.emit(Event::Finished {
            vertex: self.vertex,
            took: self.since.elapsed(),
            outcome,
        });
    }
}
