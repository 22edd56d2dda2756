//! What the author wrote, and where: Dockerfile text to [`Dockerfile`](ast::Dockerfile), purely.
//!
//! ```text
//! text ─directives,lexer─▶ logical lines ─heredoc,syntax─▶ nodes ─parser,instruction─▶ ast
//! ```
//!
//! The reference is BuildKit's Dockerfile frontend: what it reads, this reads in the same way, and what it
//! refuses is refused here with the place and a hint. Four departures, all towards a clear error or more room:
//! - flags that BuildKit skips without a look (on STOPSIGNAL and ARG) are refused as unknown;
//! - a here-document that COPY or ADD would silently lose (`COPY <<'a b' /x`) is refused;
//! - the trigger of an ONBUILD is read in full at once, not first when a child image is built;
//! - lines may be longer than 64 KiB, and flag values may hold more than ASCII.
//!
//! [`word`] expands `$variables` in one word; `plan` calls it with the scope that the word stands in.
//! Nothing here is looked up, expanded or read from disk.

mod span;

mod directives;
mod heredoc;
mod json;
mod lexer;
mod split;
pub mod syntax;

pub mod ast;
pub mod instruction;
mod parser;
mod print;
mod userinfo;

pub mod word;

pub mod diagnostic;
mod error;
pub mod lint;

pub(crate) use error::nearest;
pub use error::{ParseError, ParseErrorKind};
pub use parser::{parse, parse_instruction};
pub use span::{Span, Text};
pub use userinfo::without_userinfo;
