//! What must be done, and why: instructions to a graph of vertices, purely.
//!
//! [`step`] either returns a complete [`Plan`] or says which bases it must know first: planning needs the
//! configs of base images (ENV, USER, ONBUILD), but never fetches. An ONBUILD may ask for more, so the
//! caller goes round until nothing is missing.
//!
//! ```text
//! stages ──resolve──▶ bases known? ──no──▶ Step::NeedBases
//!                          └─yes─▶ lower each needed stage ──prune──▶ Step::Ready(Plan)
//! ```
//!
//! Promises: only what the target needs is in the plan; vertices stand after their inputs; equal inputs give
//! equal plans. What an instruction means follows BuildKit's Dockerfile frontend (image config and history
//! included); where its documentation says otherwise, its code wins: an ARG after an ENV of the same name
//! shadows it in RUN.
//!
//! Not here: paths of this machine, digests of files, time.

mod base;
mod early;
mod epoch;
mod error;
pub mod lint;
mod lower;
mod onbuild;
mod options;
mod outline;
mod ports;
mod scope;
mod stages;
mod text;
mod vertex;

pub use base::{Base, BaseInfo};
pub use early::takes_context;
pub use epoch::{EpochSource, epoch_source};
pub use error::{PlanError, PlanErrorKind};
pub use options::{NamedContext, PlanOptions};
pub use outline::{CacheUse, Need, Outline, PlanArg, Target, outline, targets};
pub use scope::HOSTNAME_ARG;
pub use stages::{Step, step};
pub use text::{to_json, to_text};
pub use vertex::{
    CopyOp, CopySource, Input, MkdirOp, Mode, MountOp, MountSource, NetworkMode, Op, Plan,
    PlanWarning, RunOp, SecurityMode, SourceTree, Vertex,
};
