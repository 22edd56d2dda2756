//! The façade: a build from start to end, and each of its first steps alone.
//!
//! [`Build`] holds what a user asks for. [`Build::plan`] reads and plans, asking for base configs; [`Build::run`] also solves and
//! writes the outputs. [`Build::check`] says what is questionable,
//! [`Build::targets`] and [`Build::outline`] what can be asked for. Nothing is read from the environment: what the command line finds there comes in
//! through the setters.

mod annotations;
mod assemble;
mod attested;
mod base_images;
mod beside;
mod call;
mod check;
mod context;
mod debug;
mod deliver;
mod epoch;
mod error;
mod file;
mod inputs;
mod labelled;
mod last;
mod logs;
mod look;
mod metadata;
mod output;
mod planned;
mod prepare;
mod push;
mod remark;
mod request;
mod run;
mod share;
mod snapshots;
mod steps;

pub use annotations::{Annotation, AnnotationError, Level};
pub use call::Listing;
pub use check::Checked;
pub use context::{Context, NamedSource, NamedSourceError, Stream};
pub use debug::{Debug, DebugSession, Given};
pub use error::{BuildError, ChecksError, Located, WiderScanError};
pub use last::last_build;
pub use logs::{StepLog, StepState, last_logs};
pub use output::{Dest, Engine, ImageOptions, Output, Sink, Split};
pub use planned::Planned;
pub use request::Build;
pub use run::Image;
