//! RUN: a command, and what it may see and reach.

use super::super::ast::Run;
use super::super::error::nearest;
use super::super::syntax::Node;
use super::super::{ParseError, ParseErrorKind, Text};
use super::flags::Flags;
use super::{command, device, mount};

pub(super) const FLAGS: &[&str] = &["mount", "network", "security", "device"];

pub(super) fn read(node: &Node, flags: &Flags) -> Result<Run, ParseError> {
    let mounts = flags.list("mount");
    for text in &mounts {
        mount::check_unexpanded(&text.raw, text.span)?;
    }
    let devices = flags.list("device");
    for text in &devices {
        device::parse_device(text)?;
    }
    Ok(Run {
        command: command::read(node.json, &node.arguments),
        heredocs: node.heredocs.clone(),
        mounts,
        network: one_of(
            flags,
            "network",
            "network mode",
            &["default", "none", "host"],
        )?,
        security: one_of(flags, "security", "security mode", &["sandbox", "insecure"])?,
        devices,
    })
}

fn one_of(
    flags: &Flags,
    flag: &str,
    what: &'static str,
    allowed: &'static [&'static str],
) -> Result<Option<Text>, ParseError> {
    match flags.given(flag) {
        Some(text) if !allowed.contains(&text.raw.as_str()) => {
            let value = text.raw.clone();
            let near = nearest(&value, allowed);
            Err(ParseError::new(
                ParseErrorKind::NotOneOf {
                    what,
                    value,
                    allowed,
                    near,
                },
                text.span,
            ))
        }
        text => Ok(text.cloned()),
    }
}
