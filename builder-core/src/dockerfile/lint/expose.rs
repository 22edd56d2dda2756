//! ExposeProtoCasing and ExposeInvalidFormat: `80/tcp`, and no address or host port.
//!
//! Words that hold variables are left to `plan`, which knows their values.

use super::super::ast::{Dockerfile, Kind};
use super::super::diagnostic::Diagnostic;
use super::{instructions, warning};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Diagnostic>) {
    for instruction in instructions(file) {
        let Kind::Expose(ports) = &instruction.kind else {
            continue;
        };
        for port in ports.iter().filter(|port| !port.raw.contains('$')) {
            let raw = &port.raw;
            if raw
                .split_once('/')
                .is_some_and(|(_, protocol)| protocol != protocol.to_ascii_lowercase())
            {
                let message =
                    format!("Defined protocol '{raw}' in EXPOSE instruction should be lowercase");
                out.push(warning("ExposeProtoCasing", message, port.span));
            }
            if raw.contains(':') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{raw}'"
                );
                out.push(warning("ExposeInvalidFormat", message, port.span));
            }
        }
    }
}
