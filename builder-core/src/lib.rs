//! Builds OCI images from Dockerfiles, in one process: no daemon, no root, no helper runtime.
//!
//! ```text
//! bytes ──parse──▶ instructions ──plan──▶ graph ──solve──▶ layers + config ──export──▶ image
//!       dockerfile/             plan/           solve/                      export/
//!         (pure)                (pure)        (effects)                    (effects)
//! ```
//!
//! | Room         | Its question                                   | May name                          |
//! |--------------|------------------------------------------------|-----------------------------------|
//! | `build`      | what does a user ask for? (the façade)         | all below                         |
//! | `images`     | what is done with images besides building?     | registry, export, layer, store, image, digest, progress |
//! | `solve`      | what runs now, what can be skipped?            | all below but export              |
//! | `share`      | how does a cache travel between machines?      | cache, registry, export, layer, store, image, digest, progress |
//! | `export`     | how does a result leave?                       | registry, context, layer, store, image, digest, progress |
//! | `source`     | how do files from elsewhere come here?         | registry, layer, store, image, digest |
//! | `attest`     | what is attested of an image?                  | plan, dockerfile, source, context, image, digest |
//! | `registry`   | how do blobs and manifests travel?             | image, digest, store, progress    |
//! | `cache`      | have we this result already?                   | store, image, digest, progress    |
//! | `snapshot`   | which tree is this, what changed in it?        | layer, owner, digest, sys         |
//! | `sandbox`    | how does one process run, shut in?             | owner, sys                        |
//! | `context`    | which input files, in which order?             | layer, digest, sys, progress      |
//! | `layer`      | tree to tar and back, byte for byte            | owner, digest, image, sys         |
//! | `store`      | bytes by digest                                | digest, image, sys                |
//! | `owner`      | whose is a file that the kernel gives to nobody else? | nothing                    |
//! | `plan`       | what must be done, and why? (pure)             | dockerfile, image, digest         |
//! | `dockerfile` | what did the author write, and where? (pure)   | nothing                           |
//! | `image`      | what do the OCI documents say? (pure)          | digest                            |
//! | `digest`, `sys`, `progress` | hashes, system calls, events    | nothing                           |
//!
//! `tests/it/layers.rs` holds this table against the code.
//!
//! Start reading at [`Build`], then [`solve`]. The core prints nothing and reads no environment variable.
//!
//! A program that runs steps calls [`sandbox::init`] first in `main`; see `examples/build.rs`.

pub mod attest;
pub mod build;
pub mod cache;
pub mod context;
pub mod digest;
pub mod dockerfile;
pub mod export;
pub mod image;
pub mod images;
pub mod layer;
mod owner;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod sandbox;
pub mod share;
pub mod snapshot;
pub mod solve;
pub mod source;
pub mod store;
mod sys;

pub use build::{Build, BuildError, Context, Image, NamedSource, Output, last_build};
