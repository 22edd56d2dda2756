//! Progress is data: the core emits events, others render them.

mod change;
mod event;
mod sink;

pub use change::Change;
pub use event::{Event, Outcome, Stream, VertexId, VertexInfo};
pub use sink::{EventSink, Null};
