//! What not every rung of the ladder gives.

use super::isolation::Rung;
use super::spec::{MountSource, Network, Security, Spec};

/// What a step may ask for and does not get on every rung.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asks {
    pub network: Network,
    pub security: Security,
    pub shm_size: bool,
    pub tmpfs_size: bool,
    pub device: bool,
    /// Of `--ulimit locks=`.
    pub locks_limit: bool,
}

impl Asks {
    /// Says what is not to be had on this rung.
    #[must_use]
    pub fn lack(self, rung: Rung) -> Option<&'static str> {
        match rung {
            Rung::Chroot => self.needs_namespaces(),
            // `listener::processes` keeps there who a process is
            Rung::SingleId if self.locks_limit => Some(
                "--ulimit locks= cannot be had with one id, where that limit tells users apart: leave it out, Linux has \
                 not enforced it since 2.4",
            ),
            _ => None,
        }
    }

    fn needs_namespaces(self) -> Option<&'static str> {
        if self.network == Network::None {
            Some("RUN --network=none needs a network namespace, which is not permitted here")
        } else if self.security == Security::Insecure {
            Some("RUN --security=insecure gives rights that are not permitted here")
        } else if self.shm_size {
            Some("--shm-size needs a mount, which is not permitted here")
        } else if self.tmpfs_size {
            Some("`size` of a tmpfs needs a mount, which is not permitted here")
        } else if self.device {
            Some("RUN --device needs a mount, which is not permitted here")
        } else {
            None
        }
    }

    pub(super) fn of(spec: &Spec) -> Asks {
        let any = |is: fn(&MountSource) -> bool| spec.mounts.iter().any(|it| is(&it.source));
        Asks {
            network: spec.network,
            security: spec.security,
            shm_size: spec.limits.shm_bytes.is_some(),
            tmpfs_size: any(|it| {
                matches!(
                    it,
                    MountSource::Tmpfs {
                        size_bytes: Some(_),
                        ..
                    }
                )
            }),
            device: any(|it| matches!(it, MountSource::Host { .. })),
            locks_limit: spec.limits.limits_locks(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_is_named() {
        let none = Asks::default;
        for (asks, rung, expected) in [
            (none(), Rung::Chroot, None),
            (none(), Rung::SingleId, None),
            (
                Asks {
                    network: Network::None,
                    ..none()
                },
                Rung::Chroot,
                Some("--network=none"),
            ),
            (
                Asks {
                    security: Security::Insecure,
                    ..none()
                },
                Rung::Chroot,
                Some("--security=insecure"),
            ),
            (
                Asks {
                    shm_size: true,
                    ..none()
                },
                Rung::Chroot,
                Some("--shm-size"),
            ),
            (
                Asks {
                    shm_size: true,
                    ..none()
                },
                Rung::SingleId,
                None,
            ),
            (
                Asks {
                    tmpfs_size: true,
                    ..none()
                },
                Rung::Chroot,
                Some("tmpfs"),
            ),
            (
                Asks {
                    device: true,
                    ..none()
                },
                Rung::Chroot,
                Some("--device"),
            ),
            (
                Asks {
                    locks_limit: true,
                    ..none()
                },
                Rung::SingleId,
                Some("locks="),
            ),
            (
                Asks {
                    locks_limit: true,
                    ..none()
                },
                Rung::Chroot,
                None,
            ),
            (
                Asks {
                    locks_limit: true,
                    ..none()
                },
                Rung::Overlay,
                None,
            ),
        ] {
            let lack = asks.lack(rung);
            let right = match (lack, expected) {
                (Some(lack), Some(part)) => lack.contains(part),
                (lack, expected) => lack == expected,
            };
            assert!(right, "{asks:?} {rung:?}: {lack:?}");
        }
    }
}
