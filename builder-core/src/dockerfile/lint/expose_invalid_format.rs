//! ExposeInvalidFormat: a port, without an address or a port of the host.
//!
//! Words that hold variables are left out: their values may differ from build to build.
//!
//! Bad: `EXPOSE 127.0.0.1:80:80`. Good: `EXPOSE 80`.

use super::super::ast::{Dockerfile, Kind};
use super::{Finding, Rule, When, instructions};

pub(super) static RULE: Rule = Rule {
    name: "ExposeInvalidFormat",
    summary: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, _: &str, out: &mut Vec<Finding>) {
    for instruction in instructions(file) {
        let Kind::Expose(ports) = &instruction.kind else {
            continue;
        };
        for port in ports.iter().filter(|port| !port.raw.contains('$')) {
            let raw = &port.raw;
            if raw.contains(':') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{raw}'"
                );
                out.push(RULE.at(message, port.span));
            }
        }
    }
}
