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
//! - [`provenance`]: SLSA 1.0, in BuildKit's terms.
//! - [`sbom`]: SPDX 2.3, from what the package managers of an image have written down.
//!
//! Pure, but for [`sbom`], which reads a tree. Times and ids come in as arguments.
//!
//! Not here: when to attest.

mod statement;

pub use statement::{Attestation, Written, attach};
