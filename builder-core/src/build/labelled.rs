//! Events of one platform among several: steps are told apart by number and by name.

use std::sync::Arc;

use crate::progress::{Event, EventSink, VertexId};

/// Passes events on, vertices numbered from `first` and named `[linux/arm64 build 1/2] …`, as buildx names them.
pub(super) struct Labelled {
    inner: Arc<dyn EventSink>,
    label: String,
    first: u32,
}

impl Labelled {
    pub(super) fn new(inner: Arc<dyn EventSink>, label: String, first: usize) -> Self {
        Labelled {
            inner,
            label,
            first: u32::try_from(first).unwrap_or(u32::MAX),
        }
    }

    fn moved(&self, id: &mut VertexId) {
        id.0 = id.0.saturating_add(self.first);
    }

    fn name(&self, name: &str) -> String {
        match name.strip_prefix('[') {
            Some(rest) => format!("[{} {rest}", self.label),
            None => format!("[{}] {name}", self.label),
        }
    }
}

impl EventSink for Labelled {
    fn emit(&self, mut event: Event) {
        match &mut event {
            Event::Planned { vertices } => {
                for vertex in vertices {
                    self.moved(&mut vertex.id);
                    vertex.inputs.iter_mut().for_each(|id| self.moved(id));
                    vertex.name = self.name(&vertex.name);
                }
            }
            Event::Started { vertex }
            | Event::Cached { vertex }
            | Event::Found { vertex, .. }
            | Event::Missed { vertex, .. }
            | Event::Log { vertex, .. }
            | Event::Transfer { vertex, .. }
            | Event::Finished { vertex, .. }
            | Event::Warning {
                vertex: Some(vertex),
                ..
            } => self.moved(vertex),
            _ => {}
        }
        self.inner.emit(event);
    }
}
