//! Extended attributes of one name in a directory, without following it.
//!
//! There is no `*at` call for them before Linux 6.13, so the name is reached through `/proc/self/fd`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const ROOM: usize = 4096;

fn path_of(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// Returns the attributes that belong to the tree: not what overlayfs keeps for itself, not SELinux labels.
pub(crate) fn all(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = path_of(dir, name);
    let list = |buffer: &mut [u8]| rustix::fs::llistxattr(&path, buffer);
    read(list, |key| value(&path, key))
}

/// The same of an open file or directory.
pub(crate) fn of_open(file: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = |buffer: &mut [u8]| rustix::fs::flistxattr(file, buffer);
    let value = |key: &[u8]| sized(|buffer| rustix::fs::fgetxattr(file, key, buffer));
    read(list, value)
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    value: impl Fn(&[u8]) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for key in names(list)? {
        if is_private(&key) {
            continue;
        }
        if let Some(value) = value(&key)? {
            let value = match &key[..] {
                b"security.capability" => without_root_id(value),
                _ => value,
            };
            found.insert(key, value);
        }
    }
    Ok(found)
}

/// Returns one attribute's value, `None` where it is not set.
pub(crate) fn get(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    value(&path_of(dir, name), key)
}

/// Sets an attribute.
pub(crate) fn set(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path_of(dir, name), key, value, XattrFlags::empty())
}

/// Removes an attribute.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<(), Errno> {
    rustix::fs::lremovexattr(path_of(dir, name), key)
}

/// Is this overlayfs' own or ours, or a label that belongs to the machine?
pub(crate) fn is_private(key: &[u8]) -> bool {
    key.starts_with(b"trusted.overlay.")
        || key.starts_with(b"user.overlay.")
        || key == b"security.selinux"
        || crate::owner::is_own(key)
}

/// Asks with room for what is usual. An empty buffer does not ask for the size: `rustix` answers 0 then.
fn names(list: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<Vec<u8>>> {
    let mut small = [0; 1024];
    let mut large = Vec::new();
    let list = match list(&mut small[..]) {
        Ok(n) => &small[..n],
        Err(Errno::OPNOTSUPP) => &[],
        Err(Errno::RANGE) => {
            large.resize(1 << 16, 0);
            let n = list(&mut large[..])?;
            &large[..n]
        }
        Err(e) => return Err(e.into()),
    };
    Ok(list
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn value(path: &[u8], key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    sized(|buffer| rustix::fs::lgetxattr(path, key, buffer))
}

fn sized(get: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; ROOM];
    loop {
        match get(&mut value[..]) {
            Ok(n) => {
                value.truncate(n);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if value.len() == ROOM => value.resize(1 << 16, 0),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Turns a capability of a user namespace (revision 3) into a plain one (revision 2), so that a layer is the same
/// whether root or an ordinary user built it.
fn without_root_id(mut value: Vec<u8>) -> Vec<u8> {
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_a_name_and_of_an_open_file_are_the_same() {
        use std::os::fd::AsFd;

        let dir = tempfile::tempdir().expect("temp dir");
        let file = std::fs::File::create(dir.path().join("f")).expect("create");
        let open = std::fs::File::open(dir.path()).expect("open");
        let long = vec![b'v'; 2000];
        let mut expected = BTreeMap::new();
        for (key, value) in [
            ("user.a", &b"1"[..]),
            ("user.long", &long),
            ("user.none", b""),
        ] {
            if set(open.as_fd(), b"f", key.as_bytes(), value).is_err() {
                #[expect(clippy::print_stderr, reason = "says what this test needs")]
                {
                    eprintln!("skipped: attributes: needs a file system that has them");
                }
                return;
            }
            expected.insert(key.as_bytes().to_vec(), value.to_vec());
        }
        assert_eq!(all(open.as_fd(), b"f").expect("read"), expected);
        assert_eq!(of_open(file.as_fd()).expect("read"), expected);
    }

    #[test]
    fn capabilities_lose_their_namespace() {
        let mut three = vec![1, 0, 0, 3];
        three.extend([7; 16]);
        three.extend(100_000u32.to_le_bytes());
        let mut two = vec![1, 0, 0, 2];
        two.extend([7; 16]);
        assert_eq!(without_root_id(three), two);
        assert_eq!(without_root_id(two.clone()), two);
    }
}
