//! Which rung of the ladder this machine gives, why not a higher one, and what would allow it.

use std::path::Path;

use serde::Serialize;

use super::enter::{Standing, enter, may_chroot};
use super::error::{InitError, SandboxError};
use super::isolation::Rung;
use super::user_namespace::REFUSED;

/// A rung that is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missed {
    pub rung: Rung,
    pub why: String,
    /// What to do, where it is known.
    pub allow: Option<String>,
}

/// What was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// What `auto` takes.
    pub rung: Rung,
    pub reason: String,
    /// Further ones that can be asked for.
    pub others: Vec<Rung>,
    pub missed: Vec<Missed>,
}

/// Enters namespaces as a build would, and tells what came of it. `store` is a directory of the file system that the
/// store is on. To be called as [`enter`] is.
///
/// # Errors
/// As [`enter`] and [`Standing::settle`].
pub fn examine(store: &Path) -> Result<Diagnosis, DoctorError> {
    let chroot = may_chroot(); // within a namespace all of these rights are there
    let mut standing = enter()?;
    standing.settle(store)?;
    let Standing {
        rung,
        reason,
        mut missed,
        ..
    } = standing;
    let mut others = Vec::new();
    match rung {
        Rung::Overlay => others.extend([Rung::Copied, Rung::SingleId]),
        Rung::Copied => others.push(Rung::SingleId),
        _ => {}
    }
    match chroot {
        _ if rung == Rung::Chroot => {}
        Ok(_) => others.push(Rung::Chroot),
        Err(error) => missed.push(error.missed(Rung::Chroot)),
    }
    if rung != Rung::None {
        others.push(Rung::None);
    }
    Ok(Diagnosis {
        rung,
        reason,
        others,
        missed,
    })
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    #[error(transparent)]
    Enter(#[from] InitError),
    #[error(transparent)]
    Store(#[from] SandboxError),
}

const CONTAINER: &str = "in a container, give it `--privileged`, or `--security-opt seccomp=unconfined \
     --security-opt apparmor=unconfined --security-opt systempaths=unconfined`";

impl InitError {
    pub(super) fn missed(&self, rung: Rung) -> Missed {
        Missed {
            rung,
            why: self.to_string(),
            allow: self.allow(),
        }
    }

    /// Returns what would allow it.
    fn allow(&self) -> Option<String> {
        match self {
            Self::NoIdMapProgram { .. } => Some("install the package `uidmap`".to_owned()),
            Self::NoSubordinateIds {
                user,
                file,
                suggested_start,
            } => Some(format!(
                "as root: echo {user}:{suggested_start}:65536 >> {file}"
            )),
            Self::UserNamespacesForbidden { hint, .. } if *hint != REFUSED => {
                Some((*hint).to_owned())
            }
            Self::UserNamespacesForbidden { .. } => Some(CONTAINER.to_owned()),
            Self::ProcMasked { .. } => Some(CONTAINER.to_owned()),
            Self::NoNewPrivileges => Some(
                "start without no_new_privs (Kubernetes: `allowPrivilegeEscalation: true`)"
                    .to_owned(),
            ),
            Self::NoChroot => {
                Some("run as root, with the capabilities of a default container".to_owned())
            }
            _ => None,
        }
    }
}
