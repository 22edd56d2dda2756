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
//! Pure. Not here: what is said, which the caller of [`Build::attestation`](crate::Build::attestation) decides.

mod statement;

pub use statement::{Attestation, Written, attach};
