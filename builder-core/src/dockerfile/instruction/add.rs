//! ADD: COPY's form, with sources from afar.

use super::super::ParseError;
use super::super::ast::Copy;
use super::super::syntax::Node;
use super::copy::places;
use super::flags::Flags;

pub(super) const FLAGS: &[&str] = &[
    "keep-git-dir",
    "checksum",
    "chown",
    "chmod",
    "link",
    "unpack",
    "exclude",
];

pub(super) fn read(node: &Node, flags: &Flags) -> Result<Copy, ParseError> {
    let mut copy = places("ADD", node)?;
    copy.chown = flags.text("chown");
    copy.chmod = flags.text("chmod");
    copy.link = flags.bool("link").unwrap_or(false);
    copy.exclude = flags.list("exclude");
    copy.checksum = flags.text("checksum");
    copy.keep_git_dir = flags.bool("keep-git-dir");
    copy.unpack = flags.bool("unpack");
    Ok(copy)
}
