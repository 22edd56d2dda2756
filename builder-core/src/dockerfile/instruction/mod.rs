//! One file an instruction: a [`Node`]'s flags and arguments to its typed form.

mod add;
mod arg;
mod command;
mod copy;
pub mod device;
mod env;
mod expose;
mod flags;
mod from;
mod healthcheck;
pub mod mount;
mod onbuild;
mod run;
mod shell;
mod single;
mod volume;

use super::ast::{self, Kind};
use super::error::nearest;
use super::syntax::Node;
use super::{ParseError, ParseErrorKind};
use flags::Flags;

pub use device::{Device, parse_device};
pub use mount::{Mount, MountKind, Sharing, parse_mount};

/// What a node turned out to be.
pub(super) enum Read {
    From(ast::From),
    Kind(Kind),
}

/// Every instruction and its flags.
const INSTRUCTIONS: [(&str, &[&str]); 18] = [
    ("ADD", add::FLAGS),
    ("ARG", &[]),
    ("CMD", &[]),
    ("COPY", copy::FLAGS),
    ("ENTRYPOINT", &[]),
    ("ENV", &[]),
    ("EXPOSE", &[]),
    ("FROM", from::FLAGS),
    ("HEALTHCHECK", healthcheck::FLAGS),
    ("LABEL", &[]),
    ("MAINTAINER", &[]),
    ("ONBUILD", &[]),
    ("RUN", run::FLAGS),
    ("SHELL", &[]),
    ("STOPSIGNAL", &[]),
    ("USER", &[]),
    ("VOLUME", &[]),
    ("WORKDIR", &[]),
];

/// The instruction of that name (upper case).
pub(super) fn known(name: &str) -> Option<&'static str> {
    INSTRUCTIONS
        .iter()
        .map(|(known, _)| *known)
        .find(|known| *known == name)
}

/// Judges a node. `escape` is for the trigger of an ONBUILD.
pub(super) fn read(node: &Node, escape: char) -> Result<Read, ParseError> {
    let Some(name) = known(&node.name()) else {
        let names: Vec<_> = INSTRUCTIONS.iter().map(|(name, _)| *name).collect();
        let did_you_mean = nearest(&node.keyword.raw, &names);
        let name = node.keyword.raw.clone();
        return Err(ParseError::new(
            ParseErrorKind::UnknownInstruction { name, did_you_mean },
            node.keyword.span,
        ));
    };
    let known = INSTRUCTIONS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(&[][..], |(_, flags)| flags);
    let flags = Flags::read(name, known, &node.flags)?;
    Ok(Read::Kind(match name {
        "ADD" => Kind::Add(add::read(node, &flags)?),
        "ARG" => Kind::Arg(arg::read(node)?),
        "CMD" => Kind::Cmd(command::read(node.json, &node.arguments)),
        "COPY" => Kind::Copy(copy::read(node, &flags)?),
        "ENTRYPOINT" => Kind::Entrypoint(command::read(node.json, &node.arguments)),
        "ENV" => Kind::Env(env::read(name, node)?),
        "EXPOSE" => Kind::Expose(expose::read(node)?),
        "FROM" => return Ok(Read::From(from::read(node, &flags)?)),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::read(node, &flags)?),
        "LABEL" => Kind::Label(env::read(name, node)?),
        "MAINTAINER" => Kind::Maintainer(single::read(name, node)?),
        "ONBUILD" => Kind::Onbuild(Box::new(onbuild::read(node, escape)?)),
        "RUN" => Kind::Run(run::read(node, &flags)?),
        "SHELL" => Kind::Shell(shell::read(node)?),
        "STOPSIGNAL" => Kind::Stopsignal(single::read(name, node)?),
        "USER" => Kind::User(single::read(name, node)?),
        "VOLUME" => Kind::Volume(volume::read(node)?),
        _ => Kind::Workdir(single::read(name, node)?),
    }))
}

/// A mistake of the instruction as a whole: its span ends before the here-documents.
fn whole(node: &Node, kind: ParseErrorKind) -> ParseError {
    let last = node
        .arguments
        .last()
        .or(node.flags.last())
        .unwrap_or(&node.keyword);
    let span = super::Span {
        start: node.span.start,
        end: last.span.end.max(node.keyword.span.end),
    };
    ParseError::new(kind, span)
}
