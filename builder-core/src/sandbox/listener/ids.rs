//! The ids that a process believes it has, and how they change: as the kernel's own rules have it.

use rustix::io::Errno;

/// `-1` in a call: leave it.
const KEEP: u32 = u32::MAX;

/// Three ids of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Trio {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    /// Of files.
    pub(super) files: u32,
}

/// What a process believes to be; the default is root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ids {
    pub(super) user: Trio,
    pub(super) group: Trio,
    pub(super) groups: Vec<u32>,
}

/// A change that a process asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    User(Set),
    Group(Set),
    Groups(Vec<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// setuid, setgid
    One(u32),
    /// setreuid, setregid
    Two(u32, u32),
    /// setresuid, setresgid
    Three(u32, u32, u32),
    /// setfsuid, setfsgid: answers the old one, and never fails
    Files(u32),
}

impl Trio {
    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    fn change(&mut self, set: Set, is_root: bool) -> Result<i64, Errno> {
        let old = *self;
        let allowed = |id: u32| id == KEEP || is_root || old.has(id);
        let pick = |new: u32, old: u32| if new == KEEP { old } else { new };
        match set {
            Set::Files(id) => {
                if id == old.files || (id != KEEP && (is_root || old.has(id))) {
                    self.files = id;
                }
                return Ok(old.files.into());
            }
            Set::One(KEEP) => return Err(Errno::INVAL),
            Set::One(id) if is_root => {
                (self.real, self.effective, self.saved) = (id, id, id);
            }
            Set::One(id) if id == old.real || id == old.saved => self.effective = id,
            Set::One(_) => return Err(Errno::PERM),
            Set::Two(real, effective) => {
                let real_allowed =
                    real == KEEP || is_root || real == old.real || real == old.effective;
                if !real_allowed || !allowed(effective) {
                    return Err(Errno::PERM);
                }
                self.real = pick(real, old.real);
                self.effective = pick(effective, old.effective);
                if real != KEEP || (effective != KEEP && effective != old.real) {
                    self.saved = self.effective;
                }
            }
            Set::Three(real, effective, saved) => {
                if ![real, effective, saved].into_iter().all(allowed) {
                    return Err(Errno::PERM);
                }
                self.real = pick(real, old.real);
                self.effective = pick(effective, old.effective);
                self.saved = pick(saved, old.saved);
            }
        }
        self.files = self.effective;
        Ok(0)
    }
}

impl Ids {
    pub(super) fn is_root(&self) -> bool {
        *self == Ids::default()
    }

    /// Whether files that the process makes belong to root without more ado.
    pub(super) fn makes_as_root(&self) -> bool {
        (self.user.files, self.group.files) == (0, 0)
    }

    /// Changes them, and returns what the call answers.
    pub(super) fn change(&mut self, change: Change) -> Result<i64, Errno> {
        let is_root = self.user.effective == 0;
        match change {
            Change::User(set) => self.user.change(set, is_root),
            Change::Group(set) => self.group.change(set, is_root),
            Change::Groups(_) if !is_root => Err(Errno::PERM),
            Change::Groups(groups) => {
                self.groups = groups;
                Ok(0)
            }
        }
    }

    /// May the process give a file of `(uid, gid)` to the new owner? A user may give it to a group of their own.
    pub(super) fn may_give(&self, old: (u32, u32), new: (u32, u32)) -> bool {
        let own_group = new.1 == old.1 || new.1 == self.group.files || self.groups.contains(&new.1);
        self.user.files == 0 || (old.0 == self.user.files && new.0 == old.0 && own_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trio(real: u32, effective: u32, saved: u32) -> Trio {
        Trio {
            real,
            effective,
            saved,
            files: effective,
        }
    }

    #[test]
    fn ids_change_as_the_kernel_has_it() {
        let user = trio(1000, 1000, 1000);
        let temporary = trio(0, 1000, 0);
        let rows: &[(&str, Trio, Set, Result<Trio, Errno>)] = &[
            (
                "root becomes",
                trio(0, 0, 0),
                Set::One(5),
                Ok(trio(5, 5, 5)),
            ),
            ("a user stays", user, Set::One(0), Err(Errno::PERM)),
            ("back", temporary, Set::One(0), Ok(trio(0, 0, 0))),
            ("no id", user, Set::One(KEEP), Err(Errno::INVAL)),
            (
                "seteuid",
                trio(0, 0, 0),
                Set::Three(KEEP, 42, KEEP),
                Ok(trio(0, 42, 0)),
            ),
            (
                "seteuid back",
                trio(0, 42, 0),
                Set::Three(KEEP, 0, KEEP),
                Ok(trio(0, 0, 0)),
            ),
            (
                "apt",
                trio(0, 0, 0),
                Set::Three(42, 42, 42),
                Ok(trio(42, 42, 42)),
            ),
            (
                "apt looks",
                trio(42, 42, 42),
                Set::Three(KEEP, 0, KEEP),
                Err(Errno::PERM),
            ),
            ("setreuid", trio(0, 0, 0), Set::Two(7, 8), Ok(trio(7, 8, 8))),
            (
                "setreuid of a user",
                user,
                Set::Two(0, KEEP),
                Err(Errno::PERM),
            ),
        ];
        for (name, before, set, expected) in rows {
            let mut ids = Ids {
                user: *before,
                ..Ids::default()
            };
            let done = ids.change(Change::User(*set));
            assert_eq!(done.map(|_| ids.user), *expected, "{name}");
        }
    }

    #[test]
    fn a_user_gives_files_to_groups_of_their_own_only() {
        let mut ids = Ids {
            user: trio(5, 5, 5),
            group: trio(6, 6, 6),
            groups: vec![7],
        };
        for (old, new, expected) in [
            ((5, 6), (5, 7), true),
            ((5, 6), (5, 8), false),
            ((5, 6), (0, 6), false),
            ((0, 0), (5, 6), false),
        ] {
            assert_eq!(ids.may_give(old, new), expected, "{old:?} {new:?}");
        }
        ids = Ids::default();
        assert!(ids.may_give((5, 6), (8, 9)));
    }
}
