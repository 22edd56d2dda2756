//! An entry's headers, as a [`Writer`](super::Writer) writes them.

use std::collections::BTreeMap;

use super::error::shown;
use super::pax;
use super::writer::BLOCK;
use super::{Entry, EntryKind, LayerError, WriterOptions};

/// Appends all headers of `entry`.
///
/// # Errors
/// [`LayerError::Unrepresentable`] for what a layer cannot carry.
pub(super) fn put_headers(
    entry: &Entry,
    options: WriterOptions,
    headers: &mut Vec<u8>,
) -> Result<(), LayerError> {
    let name = &name_of(entry)?[..];
    let unfit = |why| LayerError::Unrepresentable {
        path: shown(&entry.path),
        why,
    };
    let mut records = BTreeMap::new();
    let mut header = [0; BLOCK];
    let mut device = (0, 0);
    let (flag, link, size) = match &entry.kind {
        EntryKind::File { size } => (b'0', &[][..], *size),
        EntryKind::Whiteout | EntryKind::OpaqueWhiteout => (b'0', &[][..], 0),
        EntryKind::Hardlink { target } => (b'1', &target[..], 0),
        EntryKind::Symlink { target } => (b'2', &target[..], 0),
        EntryKind::CharDevice { major, minor } => {
            device = (*major, *minor);
            (b'3', &[][..], 0)
        }
        EntryKind::BlockDevice { major, minor } => {
            device = (*major, *minor);
            (b'4', &[][..], 0)
        }
        EntryKind::Directory => (b'5', &[][..], 0),
        EntryKind::Fifo => (b'6', &[][..], 0),
    };
    if link.contains(&0) {
        return Err(unfit("its link target holds a NUL"));
    }
    let removal = matches!(entry.kind, EntryKind::Whiteout | EntryKind::OpaqueWhiteout);
    let mtime = match options.clamp_mtime {
        _ if removal => 0,
        Some(latest) => entry.mtime.min(latest),
        None => entry.mtime,
    };
    let (mode, uid, gid) = match removal {
        true => (0, 0, 0),
        false => (entry.mode & 0o7777, entry.uid, entry.gid),
    };

    if !put_name(&mut header, name) {
        records.insert(b"path".to_vec(), name.to_vec());
        put_ascii(&mut header[..100], name);
    }
    if link.len() <= 100 && link.is_ascii() {
        header[157..157 + link.len()].copy_from_slice(link);
    } else {
        records.insert(b"linkpath".to_vec(), link.to_vec());
        put_ascii(&mut header[157..257], link);
    }
    let mut number = |field: std::ops::Range<usize>, value: i128, key: &str| {
        let largest = (1i128 << (3 * (field.len() - 1))) - 1;
        let fits = (0..=largest).contains(&value);
        if !fits {
            records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
        }
        let value = if fits { value } else { 0 };
        let width = field.len() - 1;
        let digits = format!("{value:0width$o}");
        header[field.start..field.end - 1].copy_from_slice(digits.as_bytes());
        fits
    };
    number(100..108, mode.into(), "mode");
    number(108..116, uid.into(), "uid");
    number(116..124, gid.into(), "gid");
    number(124..136, size.into(), "size");
    number(136..148, mtime.into(), "mtime");
    if !number(329..337, device.0.into(), "major") || !number(337..345, device.1.into(), "minor") {
        return Err(unfit("its device number does not fit"));
    }
    if !removal {
        for (key, value) in &entry.xattrs {
            if key.contains(&b'=') || key.contains(&0) {
                return Err(unfit("the name of an extended attribute holds `=`"));
            }
            records.insert([pax::XATTR, key].concat(), value.clone());
        }
    }
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");

    if !records.is_empty() {
        let start = headers.len();
        let mut data = Vec::new();
        pax::encode(&records, &mut data);
        headers.extend_from_slice(&pax_header(data.len()));
        headers.extend_from_slice(&data);
        headers.resize(start + (headers.len() - start).next_multiple_of(BLOCK), 0);
    }
    seal(&mut header);
    headers.extend_from_slice(&header);
    Ok(())
}

/// Returns the name in the tar.
fn name_of(entry: &Entry) -> Result<Vec<u8>, LayerError> {
    let unfit = |why| LayerError::Unrepresentable {
        path: shown(&entry.path),
        why,
    };
    if entry.path.contains(&0) {
        return Err(unfit("its name holds a NUL"));
    }
    let cut = entry
        .path
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |i| i + 1);
    let (parent, last) = entry.path.split_at(cut);
    Ok(match entry.kind {
        EntryKind::Whiteout if last.is_empty() => {
            return Err(unfit("the root cannot be removed"));
        }
        EntryKind::Whiteout => [parent, b".wh.", last].concat(),
        EntryKind::OpaqueWhiteout if entry.path.is_empty() => b".wh..wh..opq".to_vec(),
        EntryKind::OpaqueWhiteout => [&entry.path, &b"/.wh..wh..opq"[..]].concat(),
        _ if last.starts_with(b".wh.") => {
            return Err(unfit(
                "names that start with `.wh.` are whiteouts in a layer",
            ));
        }
        EntryKind::Directory if entry.path.is_empty() => b"./".to_vec(),
        _ if entry.path.is_empty() => return Err(unfit("the root must be a directory")),
        EntryKind::Directory => [&entry.path, &b"/"[..]].concat(),
        _ => entry.path.clone(),
    })
}

/// Puts a name into `name`, or `prefix` and `name`; returns whether it fits.
fn put_name(header: &mut [u8; BLOCK], name: &[u8]) -> bool {
    if !name.is_ascii() {
        return false;
    }
    if name.len() <= 100 {
        header[..name.len()].copy_from_slice(name);
        return true;
    }
    // The prefix ends before a slash; what follows it must not be empty.
    let cut = name[..name.len() - 1]
        .iter()
        .take(156)
        .rposition(|b| *b == b'/');
    match cut {
        Some(cut) if cut > 0 && name.len() - cut - 1 <= 100 => {
            header[..name.len() - cut - 1].copy_from_slice(&name[cut + 1..]);
            header[345..345 + cut].copy_from_slice(&name[..cut]);
            true
        }
        _ => false,
    }
}

/// What readers without PAX see of a name that is in the PAX header.
fn put_ascii(field: &mut [u8], name: &[u8]) {
    for (to, from) in field.iter_mut().zip(name) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}

fn pax_header(size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    header[..12].copy_from_slice(b"PaxHeaders.0");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'x';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[329..337].copy_from_slice(b"0000000\0");
    header[337..345].copy_from_slice(b"0000000\0");
    seal(&mut header);
    header
}

/// Puts the checksum, which is taken with its own field as spaces.
fn seal(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    header[154] = 0;
}
