//! How do files from elsewhere come here?
//!
//! ```text
//! https://…/x.tar ──http──▶ blob ──archive──▶ directory        stdin, file.tar ──archive──▶ directory
//! https://….git#ref:dir ──git──▶ directory
//! ```
//!
//! - [`GitUrl`] reads what names a git repository (pure); [`git`] has the program `git` fetch it. A library that
//!   speaks git costs 121 crates; the program is what BuildKit runs too, and it is there where git is used.
//! - [`http`] downloads into the store. The server's ETag of a version is recorded, so that an unchanged address
//!   costs one question and no download.
//! - [`archive`] unpacks a tar, compressed or not, with the rules of the layer reader: nothing leaves the directory.
//!
//! Credentials (of an address, of secrets) are in no error, event or record, and in no command line.
//!
//! Not here: what the files are for.

pub mod archive;
mod error;
pub mod git;
mod git_url;
pub mod http;

pub use error::SourceError;
pub use git_url::{GitUrl, GitUrlError};

/// Returns `url` without the user and password that may be in it.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out() {
        for (url, expected) in [
            ("https://a/b", "https://a/b"),
            ("https://u:p@a/b@c", "https://a/b@c"),
            ("https://token@a:1", "https://a:1"),
            ("https://u:p@q@a/b", "https://a/b"),
            ("git@a:b", "git@a:b"),
            ("https://a?x=@b", "https://a?x=@b"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }
}
