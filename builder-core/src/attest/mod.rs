//! What is attested of an image, and how an index carries it.
//!
//! ```text
//! index ─▶ manifest (linux/amd64)
//!       └▶ manifest (unknown/unknown; `vnd.docker.reference.type: attestation-manifest`, and of which manifest)
//!            └▶ one layer a statement: in-toto, the predicate in it
//! ```
//!
//! This is the form that BuildKit writes and that Docker's tools, Kubernetes' and the registries' scanners read.
//! Referrers of OCI 1.1 (`subject`) come on top where they are asked for.
//!
//! - [`provenance`] says how an image was built: SLSA, in BuildKit's fields.
//! - [`sbom`] says which packages it has, from the databases that package managers leave in it: SPDX.
//!
//! Pure but for the reading of the tree that a bill of materials is about. Not here: what of it a build is asked for,
//! and which outputs take it (see `build`).

pub mod provenance;
mod purl;
pub mod sbom;
mod statement;

pub use statement::{Attestation, Written, attach, statement};
