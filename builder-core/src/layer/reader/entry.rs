//! A header, and what the headers before it said, as an entry.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;

use super::{Ahead, Reader};
use crate::layer::header::{field_number, raw_name, until_nul};
use crate::layer::writer::BLOCK;
use crate::layer::{Entry, EntryKind, LayerError, pax};

impl<R: Read> Reader<R> {
    /// Turns a header into an entry; `None` for one that is nothing in a tree.
    pub(super) fn entry(
        &mut self,
        header: &[u8; BLOCK],
        ahead: Ahead,
    ) -> Result<Option<Entry>, LayerError> {
        let Ahead {
            records,
            long_name,
            long_link,
            pieces,
        } = ahead;
        let mut all = self.globals.clone();
        all.extend(records);
        // An empty value takes a record back; an attribute's may be empty.
        all.retain(|key, value| !value.is_empty() || key.starts_with(pax::XATTR));
        let name = all
            .get(&b"GNU.sparse.name"[..])
            .or_else(|| all.get(&b"path"[..]))
            .cloned()
            .or(long_name)
            .unwrap_or_else(|| raw_name(header));
        let link = all
            .get(&b"linkpath"[..])
            .cloned()
            .or(long_link)
            .unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        self.name.clone_from(&name);

        let number = |key: &str, field: &[u8]| match all.get(key.as_bytes()) {
            Some(text) => pax::number(text),
            None => field_number(field).and_then(|n| u64::try_from(n).ok()),
        };
        let bad = |this: &Self, why| this.malformed(why);
        let size = number("size", &header[124..136]).ok_or_else(|| bad(self, "bad size"))?;
        let id = |key, field: &[u8]| number(key, field).and_then(|n| u32::try_from(n).ok());
        let uid = id("uid", &header[108..116]).ok_or_else(|| bad(self, "bad user id"))?;
        let gid = id("gid", &header[116..124]).ok_or_else(|| bad(self, "bad group id"))?;
        let mtime = match all.get(&b"mtime"[..]) {
            Some(text) => pax::seconds(text),
            None => field_number(&header[136..148]).and_then(|n| i64::try_from(n).ok()),
        }
        .ok_or_else(|| bad(self, "bad time"))?;
        let mode = field_number(&header[100..108]).ok_or_else(|| bad(self, "bad mode"))?;
        let mode = (mode & 0o7777) as u32;
        let device = || {
            let part = |field| field_number(field).and_then(|n| u32::try_from(n).ok());
            part(&header[329..337])
                .zip(part(&header[337..345]))
                .ok_or_else(|| bad(self, "bad device number"))
        };
        if name.contains(&0) || link.contains(&0) {
            return Err(bad(self, "a name holds a NUL"));
        }

        let flag = match header[156] {
            b'0' | 0 | b'7' if name.ends_with(b"/") => b'5',
            flag => flag,
        };
        let mut stored = 0;
        let kind = match flag {
            b'0' | 0 | b'7' | b'S' => {
                stored = size;
                EntryKind::File { size }
            }
            b'1' => EntryKind::Hardlink {
                target: normal(&link),
            },
            b'2' => EntryKind::Symlink { target: link },
            b'3' => {
                let (major, minor) = device()?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' => {
                if header[156] != b'5' {
                    stored = size; // an old archive's: counted like a file
                }
                EntryKind::Directory
            }
            b'6' => EntryKind::Fifo,
            b'D' => {
                stored = size; // the names that an incremental dump lists
                EntryKind::Directory
            }
            b'V' => {
                self.begin(size)?;
                return Ok(None);
            }
            _ => return Err(bad(self, "unknown kind of entry")),
        };
        self.begin(stored)?;

        let mut entry = Entry {
            path: normal(&name),
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs: self.xattrs(&all)?,
        };
        if matches!(entry.kind, EntryKind::File { .. }) {
            let size = self.sparse(header, &all, &pieces, size)?;
            self.total = self.total.saturating_add(size);
            if self.total > self.options.limits.total_bytes {
                return Err(self.limit(LayerError::SIZE, self.options.limits.total_bytes));
            }
            entry.kind = EntryKind::File { size };
            if entry.path.is_empty() {
                return Err(self.malformed("a file without a name"));
            }
        }
        if self.options.whiteouts {
            return self.removal(entry);
        }
        Ok(Some(entry))
    }

    /// Turns `.wh.` names into removals. `.wh..wh.` names other than the opaque one are AUFS' own and nothing here.
    fn removal(&self, entry: Entry) -> Result<Option<Entry>, LayerError> {
        let cut = entry.path.iter().rposition(|b| *b == b'/');
        let parent = &entry.path[..cut.unwrap_or(0)];
        let last = &entry.path[cut.map_or(0, |i| i + 1)..];
        let Some(removed) = last.strip_prefix(b".wh.") else {
            return Ok(Some(entry));
        };
        if removed == b".wh..opq" {
            return Ok(Some(Entry::opaque_whiteout(parent)));
        }
        if removed.starts_with(b".wh.") {
            return Ok(None);
        }
        if matches!(removed, b"" | b"." | b"..") {
            return Err(self.malformed("a whiteout of no name"));
        }
        Ok(Some(Entry::whiteout(match parent {
            b"" => removed.to_vec(),
            _ => [parent, b"/", removed].concat(),
        })))
    }

    fn xattrs(
        &self,
        all: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LayerError> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in all {
            if let Some(name) = key.strip_prefix(pax::XATTR_BASE64) {
                let end = value.iter().position(|b| *b == b'=').unwrap_or(value.len());
                let value = base64::engine::general_purpose::STANDARD_NO_PAD
                    .decode(&value[..end])
                    .map_err(|_| self.malformed("bad base64 in an extended attribute"))?;
                xattrs.entry(name.to_vec()).or_insert(value);
            }
        }
        for (key, value) in all {
            if let Some(name) = key.strip_prefix(pax::XATTR) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        if xattrs
            .keys()
            .any(|name| name.is_empty() || name.contains(&0))
        {
            return Err(self.malformed("an extended attribute without a name"));
        }
        Ok(xattrs)
    }
}

/// Joins a path's components, without `.` and empty ones.
fn normal(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name
        .split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    parts.join(&b'/')
}
