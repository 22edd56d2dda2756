//! What a step may do beyond the usual, if whoever builds allows it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use super::devices::Devices;
use super::scheduler::located;
use super::{SolveError, SolveErrorKind};
use crate::plan::{Op, Plan, RunOp, SecurityMode};

/// One `--allow`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Entitlement {
    /// The host's network. It is every step's here, unless it asks for none: to allow it changes nothing.
    NetworkHost,
    /// `RUN --security=insecure`: all capabilities and system calls, nothing masked.
    SecurityInsecure,
    /// `RUN --device`: all devices, those of a kind (`vendor.com/class`), or one (`vendor.com/class=name`).
    Device(Option<String>),
}

/// An entitlement that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no entitlement: security.insecure, device[=NAME] and network.host are known")]
pub struct EntitlementError {
    pub text: String,
}

impl FromStr for Entitlement {
    type Err = EntitlementError;

    fn from_str(text: &str) -> Result<Self, EntitlementError> {
        match text {
            "network.host" => Ok(Entitlement::NetworkHost),
            "security.insecure" => Ok(Entitlement::SecurityInsecure),
            "device" => Ok(Entitlement::Device(None)),
            text => match text.strip_prefix("device=") {
                Some(name) if !name.is_empty() => Ok(Entitlement::Device(Some(name.to_owned()))),
                _ => Err(EntitlementError {
                    text: text.to_owned(),
                }),
            },
        }
    }
}

/// Finds a step that asks for what is not allowed, before anything runs.
pub(super) fn check(
    plan: &Plan,
    allowed: &BTreeSet<Entitlement>,
    device_dirs: &[PathBuf],
) -> Result<(), SolveError> {
    for vertex in &plan.vertices {
        let Op::Run(run) = &vertex.op else {
            continue;
        };
        let device = || match run.devices.is_empty() {
            true => None,
            false => missing_device(run, allowed, &Devices::read(device_dirs)),
        };
        if let Some((flag, needs)) = missing(run, allowed).or_else(device) {
            return Err(located(vertex, SolveErrorKind::NotAllowed { flag, needs }));
        }
    }
    Ok(())
}

/// The flag of the step, and the entitlement that it lacks.
fn missing(run: &RunOp, allowed: &BTreeSet<Entitlement>) -> Option<(String, String)> {
    if run.security == SecurityMode::Insecure && !allowed.contains(&Entitlement::SecurityInsecure) {
        return Some((
            "RUN --security=insecure".to_owned(),
            "security.insecure".to_owned(),
        ));
    }
    None
}

/// The same for devices; one that is not there gives a step nothing.
fn missing_device(
    run: &RunOp,
    allowed: &BTreeSet<Entitlement>,
    devices: &Devices,
) -> Option<(String, String)> {
    for device in &run.devices {
        let may = |full: &str| {
            let kind = full.split('=').next().unwrap_or_default();
            let names = [full, kind, device.name.as_str()];
            let by_name =
                |it: &&str| allowed.contains(&Entitlement::Device(Some((*it).to_owned())));
            allowed.contains(&Entitlement::Device(None)) || names.iter().any(by_name)
        };
        if let Some(full) = devices.find(&device.name).into_iter().find(|it| !may(it)) {
            return Some((
                format!("RUN --device={}", device.name),
                format!("device={full}"),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, expected) in [
            ("network.host", Some(Entitlement::NetworkHost)),
            ("security.insecure", Some(Entitlement::SecurityInsecure)),
            ("device", Some(Entitlement::Device(None))),
            (
                "device=a.com/b=c",
                Some(Entitlement::Device(Some("a.com/b=c".to_owned()))),
            ),
            ("device=", None),
            ("root", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
