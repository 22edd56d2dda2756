//! Places in the text.

/// Byte offsets into the Dockerfile's text, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// A word as written (after continuation lines are joined), not expanded, quotes kept, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Text {
    pub raw: String,
    pub span: Span,
}
