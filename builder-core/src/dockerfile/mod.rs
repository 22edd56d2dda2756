//! What the author wrote, and where: Dockerfile text to [`Dockerfile`], purely.

pub mod ast;
mod span;

pub use span::{Span, Text};
