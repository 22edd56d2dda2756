//! Users and groups of an image, by its own `/etc/passwd` and `/etc/group`.

use std::io::Read;

use super::FileError;
use crate::context::{Follow, NodeKind, Tree, resolve};
use crate::layer::{Entry, EntryKind};

/// The two files, as far as they are there.
#[derive(Debug, Clone, Default)]
pub(in crate::solve) struct Accounts {
    passwd: String,
    group: String,
    /// One of them, or `/etc`, is reached through a symbolic link.
    linked: bool,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::solve) struct Account {
    pub(in crate::solve) uid: u32,
    pub(in crate::solve) gid: u32,
    pub(in crate::solve) groups: Vec<u32>,
    /// From the passwd file; `/` where it does not know the user.
    pub(in crate::solve) home: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Enough for any real file; more is not read.
const MAX_BYTES: u64 = 16 << 20;

impl Accounts {
    /// Reads the files of `root`; `None` has none.
    pub(in crate::solve) fn read(root: Option<&dyn Tree>) -> Accounts {
        let file = |path: &[u8]| root.and_then(|root| read(root, path)).unwrap_or_default();
        Accounts {
            passwd: file(b"etc/passwd"),
            group: file(b"etc/group"),
            linked: root.is_some_and(|root| {
                let is_link = |path: &[u8]| match root.lookup(path) {
                    Ok(node) => node.is_some_and(|it| matches!(it.kind, NodeKind::Symlink(_))),
                    Err(_) => true,
                };
                is_link(b"etc") || is_link(b"etc/passwd") || is_link(b"etc/group")
            }),
        }
    }

    /// Whether a layer with these entries may hold, hide or redirect the two files.
    pub(in crate::solve) fn may_change<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> bool {
        // By way of a link the files could be anywhere.
        let mut entries = entries.into_iter();
        entries.any(|entry| {
            self.linked
                || match entry.path.as_slice() {
                    b"etc" => entry.kind != EntryKind::Directory,
                    path => matches!(path, b"etc/passwd" | b"etc/group" | b""),
                }
        })
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or_default();
            Some(User {
                name,
                uid,
                gid,
                home,
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default();
            Some(Group { name, gid, members })
        })
    }

    /// Finds the owner that `--chown=spec` names. A number without a group is both user and group; a name brings its
    /// group; a name that the image does not know is root, as in BuildKit, and is told to `unknown`.
    pub(in crate::solve) fn owner(
        &self,
        spec: &str,
        unknown: &mut dyn FnMut(&str),
    ) -> Result<(u32, u32), FileError> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let (uid, gid) = if user.is_empty() {
            // `:group` alone: root owns, the group is as given.
            if group.is_none_or(str::is_empty) {
                let spec = spec.to_owned();
                return Err(FileError::Owner { spec });
            }
            (0, 0)
        } else if let Ok(uid) = user.parse() {
            (uid, uid)
        } else {
            match self.users().find(|it| it.name == user) {
                Some(known) => (known.uid, known.gid),
                None => {
                    unknown(user);
                    (0, 0)
                }
            }
        };
        let gid = match group {
            None | Some("") => gid,
            Some(group) => self.group_id(group).unwrap_or_else(|_| {
                unknown(group);
                gid
            }),
        };
        for id in [uid, gid] {
            if id == u32::MAX {
                return Err(FileError::NoId { id });
            }
        }
        Ok((uid, gid))
    }

    fn group_id(&self, group: &str) -> Result<u32, FileError> {
        if let Ok(gid) = group.parse() {
            return Ok(gid);
        }
        let known = self.groups().find(|it| it.name == group);
        known
            .map(|it| it.gid)
            .ok_or_else(|| FileError::UnknownGroup {
                name: group.to_owned(),
            })
    }

    /// Finds who `USER spec` is for a process, as runc does; an empty `spec` is root.
    pub(in crate::solve) fn account(&self, spec: &str) -> Result<Account, FileError> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|it| !it.is_empty())),
            None => (spec, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number: Option<u32> = user.parse().ok();
        let known = self
            .users()
            .find(|it| it.name == user || number.is_some_and(|number| it.uid == number));
        let (uid, gid, name, home) = match (&known, number) {
            (Some(it), _) => (it.uid, it.gid, it.name, it.home),
            (None, Some(uid)) => (uid, 0, "", ""),
            (None, None) => {
                return Err(FileError::UnknownUser {
                    name: user.to_owned(),
                });
            }
        };
        let home = if home.is_empty() { "/" } else { home }.to_owned();
        // Without a passwd file, root still has the home that everybody expects of it.
        let home = if known.is_none() && uid == 0 {
            "/root".to_owned()
        } else {
            home
        };
        if let Some(group) = group {
            return Ok(Account {
                uid,
                gid: self.group_id(group)?,
                groups: Vec::new(),
                home,
            });
        }
        let mut groups: Vec<u32> = self
            .groups()
            .filter(|it| !name.is_empty() && it.members.split(',').any(|member| member == name))
            .map(|it| it.gid)
            .collect();
        groups.dedup();
        Ok(Account {
            uid,
            gid,
            groups,
            home,
        })
    }
}

fn read(root: &dyn Tree, path: &[u8]) -> Option<String> {
    let node = resolve(root, path, Follow::Last).ok()??;
    if node.kind != NodeKind::File {
        return None;
    }
    let mut bytes = Vec::new();
    root.open(&node)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            linked: false,
            passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\nbroken\n"
                .to_owned(),
            group: "root:x:0:\nusers:x:100:\nwww:x:33:app,other\n".to_owned(),
        }
    }

    #[test]
    fn layers_that_may_change_the_accounts() {
        let link = || EntryKind::Symlink {
            target: b"x".to_vec(),
        };
        for (path, kind, linked, expected) in [
            ("f", EntryKind::File { size: 1 }, false, false),
            ("etc", EntryKind::Directory, false, false),
            ("etc/passwd-", EntryKind::File { size: 1 }, false, false),
            ("etc/passwd", EntryKind::File { size: 1 }, false, true),
            ("etc/group", EntryKind::Whiteout, false, true),
            ("etc", EntryKind::Whiteout, false, true),
            ("etc", link(), false, true),
            ("f", EntryKind::File { size: 1 }, true, true),
        ] {
            let known = Accounts {
                linked,
                ..accounts()
            };
            let mut entry = Entry::whiteout(path.as_bytes().to_vec());
            entry.kind = kind;
            assert_eq!(known.may_change([&entry]), expected, "{path}, {entry:?}");
        }
        assert!(!accounts().may_change([]), "a layer without entries");
    }

    #[test]
    fn owners() {
        for (spec, expected) in [
            ("app", Some((1000, 100))),
            ("app:www", Some((1000, 33))),
            ("1000", Some((1000, 1000))),
            ("5:6", Some((5, 6))),
            ("5:www", Some((5, 33))),
            ("app:", Some((1000, 100))),
            (":www", Some((0, 33))),
            ("", None),
        ] {
            let mut unknown = |name: &str| panic!("{name}");
            assert_eq!(
                accounts().owner(spec, &mut unknown).ok(),
                expected,
                "{spec}"
            );
        }
        for (spec, expected, names) in [
            ("nobody", (0, 0), vec!["nobody"]),
            ("app:none", (1000, 100), vec!["none"]),
        ] {
            let mut unknown = Vec::new();
            let owner = accounts().owner(spec, &mut |name| unknown.push(name.to_owned()));
            assert_eq!(owner.ok(), Some(expected), "{spec}");
            assert_eq!(unknown, names, "{spec}");
        }
    }

    #[test]
    fn processes() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![], "/root"),
            ("app", 1000, 100, vec![33], "/home/app"),
            ("1000", 1000, 100, vec![33], "/home/app"),
            ("app:www", 1000, 33, vec![], "/home/app"),
            ("77", 77, 0, vec![], "/"),
            ("77:5", 77, 5, vec![], "/"),
        ] {
            let account = accounts().account(spec).expect(spec);
            let found = (account.uid, account.gid, account.groups, account.home);
            assert_eq!(found, (uid, gid, groups, home.to_owned()), "{spec}");
        }
        assert!(accounts().account("nobody").is_err());
    }
}
