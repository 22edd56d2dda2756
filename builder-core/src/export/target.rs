//! The file that an archive goes to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A file that is being written. What is there already stays as it was until the new one is whole, which then has its owner and
/// its mode; a link is followed. A device, a pipe, or what a process has open (`/dev/stdout`) is written to as it is.
pub(super) enum Target {
    New { file: NamedTempFile, at: PathBuf },
    Through(File),
}

impl Target {
    pub(super) fn open(path: &Path) -> io::Result<Target> {
        let there = match fs::metadata(path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let at = followed(path)?;
        if there.as_ref().is_some_and(|it| !it.is_file()) || at.is_none() {
            return OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(path)
                .map(Target::Through);
        }
        let at = at.unwrap_or_default();
        let parent = match at.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".export-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent)?;
        if let Some(there) = there {
            // Only root can give a file away: what somebody else made is his own otherwise.
            let _ = fchown(file.as_file(), Some(there.uid()), Some(there.gid()));
            let mode = Permissions::from_mode(there.mode() & 0o777);
            file.as_file().set_permissions(mode)?;
        }
        Ok(Target::New { file, at })
    }

    pub(super) fn file(&mut self) -> &mut File {
        match self {
            Target::New { file, .. } => file.as_file_mut(),
            Target::Through(file) => file,
        }
    }

    /// All is written.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Target::New { file, at } => file.persist(at).map(drop).map_err(|error| error.error),
            Target::Through(_) => Ok(()),
        }
    }
}

/// Returns where the links at `path` lead, which need not be there; `None` for what a process has open.
fn followed(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        if at.starts_with("/proc") || at.starts_with("/dev/fd") {
            return Ok(None);
        }
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(Some(at)),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    fn put(path: &Path, text: &str) {
        let mut target = Target::open(path).expect("a target");
        target.file().write_all(text.as_bytes()).expect("written");
        target.finish().expect("finished");
    }

    #[test]
    fn a_file_is_replaced_and_what_it_is_stays() {
        let temp = tempfile::tempdir().expect("a directory");
        let at = |name: &str| temp.path().join(name);
        // A private file stays private, and what has it open keeps the old bytes.
        fs::write(at("private"), "old").expect("a file");
        fs::set_permissions(at("private"), Permissions::from_mode(0o600)).expect("chmod");
        let mut open = File::open(at("private")).expect("open");
        put(&at("private"), "new");
        let mode = fs::metadata(at("private")).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut old = String::new();
        open.read_to_string(&mut old).expect("read");
        assert_eq!(old, "old");
        // Links are followed, also to what is not there yet.
        fs::create_dir(at("dir")).expect("a directory");
        symlink("dir/far", at("near")).expect("a link");
        symlink(at("near"), at("link")).expect("a link");
        for text in ["one", "two"] {
            put(&at("link"), text);
            assert_eq!(fs::read_to_string(at("dir/far")).expect("there"), text);
        }
        assert!(at("link").is_symlink() && at("near").is_symlink());
        symlink("loop", at("loop")).expect("a link");
        assert!(Target::open(&at("loop")).is_err());
        // What is given up leaves no trace.
        drop(Target::open(&at("dir/new")).expect("a target"));
        assert_eq!(fs::read_dir(at("dir")).expect("list").count(), 1);
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        let temp = tempfile::tempdir().expect("a directory");
        let pipe = temp.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        let reader = pipe.clone();
        let reader = std::thread::spawn(move || fs::read_to_string(reader).expect("read"));
        put(&pipe, "through");
        assert_eq!(reader.join().expect("read"), "through");
        let kind = fs::symlink_metadata(&pipe).expect("there").file_type();
        assert!(kind.is_fifo());
        put(Path::new("/dev/null"), "gone");
        let kind = fs::symlink_metadata("/dev/null")
            .expect("there")
            .file_type();
        assert!(kind.is_char_device());
    }
}
