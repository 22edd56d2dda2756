//! ExposeProtoCasing: `80/tcp`, not `80/TCP`.
//!
//! Words that hold variables are left out: their values may differ from build to build.
//!
//! Bad: `EXPOSE 80/TcP`. Good: `EXPOSE 80/tcp`.

use super::super::ast::{Dockerfile, Kind};
use super::{Finding, Rule, When, instructions};

pub(super) static RULE: Rule = Rule {
    name: "ExposeProtoCasing",
    summary: "Protocol in EXPOSE instruction should be lowercase",
    when: When::Always,
};

pub(super) fn check(file: &Dockerfile, text: &str, out: &mut Vec<Finding>) {
    for instruction in instructions(file) {
        let Kind::Expose(ports) = &instruction.kind else {
            continue;
        };
        for port in ports.iter().filter(|port| !port.raw.contains('$')) {
            let raw = &port.raw;
            let Some((number, protocol)) = raw.split_once('/') else {
                continue;
            };
            let lower = protocol.to_ascii_lowercase();
            if protocol != lower {
                let message =
                    format!("Defined protocol '{raw}' in EXPOSE instruction should be lowercase");
                let finding = RULE.at(message, port.span);
                out.push(finding.edit_word(text, port, format!("{number}/{lower}")));
            }
        }
    }
}
