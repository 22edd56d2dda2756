//! A build context on this machine: a directory seen through its ignore file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rustix::fs::{FileType, Mode, OFlags};

use super::ignore::{Ignore, ParentMatch, Patterns};
use super::{ContextError, Lookup, Node, RootTree, Tree, Xattrs, parent_path};

/// An ignore file, read and understood.
#[derive(Debug, Clone)]
pub struct IgnoreFile {
    /// As it is named in messages: `.dockerignore`.
    pub name: String,
    pub patterns: Patterns,
}

/// Far more than any real one.
const MAX_IGNORE_BYTES: u64 = 16 << 20;

/// Looks for `<dockerfile>.dockerignore` beside the Dockerfile, then `.dockerignore` and `.containerignore` in the
/// context.
///
/// # Errors
/// Where one is there but cannot be read, or holds a malformed pattern.
pub fn find_ignore_file(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<Option<IgnoreFile>, ContextError> {
    let beside = dockerfile.and_then(|file| {
        let mut name = file.file_name()?.to_owned();
        name.push(".dockerignore");
        Some(file.with_file_name(name))
    });
    let candidates = beside
        .into_iter()
        .chain([".dockerignore", ".containerignore"].map(|name| context.join(name)));
    for path in candidates {
        if let Some(file) = read_ignore_file(&path)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn read_ignore_file(path: &Path) -> Result<Option<IgnoreFile>, ContextError> {
    let shown = path.display().to_string();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(ContextError::io(shown.as_bytes(), error)),
    };
    let failed = |error| ContextError::io(shown.as_bytes(), error);
    let kind = file.metadata().map_err(failed)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "directory"
        } else {
            "special file"
        };
        return Err(ContextError::NotAFile { path: shown, what });
    }
    let mut bytes = Vec::new();
    let size = file
        .take(MAX_IGNORE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)? as u64;
    if size > MAX_IGNORE_BYTES {
        let max_bytes = MAX_IGNORE_BYTES;
        return Err(ContextError::TooLarge {
            path: shown,
            max_bytes,
        });
    }
    let list = Ignore::read(&bytes);
    let patterns = Patterns::new(&list).map_err(|error| ContextError::Pattern {
        file: shown.clone(),
        reason: error.to_string(),
    })?;
    let name = path
        .file_name()
        .map_or(shown, |name| name.to_string_lossy().into_owned());
    Ok(Some(IgnoreFile { name, patterns }))
}

/// Opens a file of text for reading, without waiting for anybody to write it: a named pipe or a socket is an error. The
/// pipe of a shell's `<(…)` is no name of a pipe, and is read as it comes.
///
/// # Errors
/// Where it cannot be opened, or is no file.
pub fn open_text(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    match kind {
        FileType::RegularFile | FileType::CharacterDevice => Ok(file),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        FileType::Fifo => {
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            let name = rustix::fs::readlink(own, Vec::new())?;
            if !name.to_bytes().starts_with(b"pipe:") {
                return Err(io::Error::other("it is a named pipe, not a file"));
            }
            rustix::fs::fcntl_setfl(&file, OFlags::RDONLY)?;
            Ok(file)
        }
        _ => Err(io::Error::other("it is not a file")),
    }
}

/// The files of a context, listed once.
#[derive(Debug)]
pub struct LocalTree {
    disk: RootTree,
    root: Node,
    /// In byte order of whole paths' parts: parents before children.
    nodes: Nodes,
    /// What is on disk but left out, topmost only, in byte order.
    left_out: BTreeSet<Vec<u8>>,
    ignore: Option<IgnoreFile>,
    files: usize,
}

impl LocalTree {
    /// Walks `directory`, leaving out what `ignore` says, and the directory with the device and inode `leave_out`: the
    /// builder's own store is no source.
    ///
    /// # Errors
    /// Where `directory` is none, or something in it cannot be read.
    pub fn walk(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        place: &'static str,
        leave_out: Option<(u64, u64)>,
    ) -> Result<LocalTree, ContextError> {
        Self::walk_tree(directory, ignore, place, leave_out, false, &|| false)
    }

    /// As [`walk`](Self::walk), until `is_over` says that nobody wants it any more.
    ///
    /// # Errors
    /// As [`walk`](Self::walk); [`ContextError::Stopped`].
    pub fn walk_until(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        place: &'static str,
        leave_out: Option<(u64, u64)>,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<LocalTree, ContextError> {
        Self::walk_tree(directory, ignore, place, leave_out, false, is_over)
    }

    /// As [`walk`](Self::walk), with the owners that the files have: those of an archive count.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub fn walk_with_owners(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        place: &'static str,
    ) -> Result<LocalTree, ContextError> {
        Self::walk_tree(directory, ignore, place, None, true, &|| false)
    }

    fn walk_tree(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        place: &'static str,
        leave_out: Option<(u64, u64)>,
        owners: bool,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<LocalTree, ContextError> {
        let shown = directory.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOTDIR) => {
                return Err(ContextError::NotADirectory { path: shown });
            }
            Err(error) => return Err(ContextError::io(shown.as_bytes(), error)),
        };
        let disk = RootTree::new(fd, place);
        let disk = if owners { disk } else { disk.without_owners() };
        let root = disk
            .lookup(b"")?
            .ok_or(ContextError::NotADirectory { path: shown })?;
        let walk = Walk {
            disk: &disk,
            patterns: ignore.as_ref().map(|it| &it.patterns),
            leave_out,
            is_over,
        };
        let (nodes, left_out) = walk.all()?;
        let files = nodes.values().map(|nodes| nodes.len()).sum();
        Ok(LocalTree {
            disk,
            root,
            nodes,
            left_out,
            ignore,
            files,
        })
    }

    /// Returns what is on disk in the directory `path`, or below, but left out; of a directory only itself.
    pub fn left_out_below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let inside = move |it: &&Vec<u8>| {
            path.is_empty()
                || it
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(b"/"))
        };
        self.left_out.iter().filter(inside).map(Vec::as_slice)
    }

    /// Whether `path` is there, and not left out.
    pub fn has(&self, path: &[u8]) -> bool {
        path.is_empty() || self.listed(path).is_some()
    }

    /// Returns the first of what is at `path` and below that is not as it was listed: another, new, or gone. What somebody reads
    /// by itself, as a mounted directory, is what was listed only where this is `None` afterwards.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    pub fn changed_below(&self, path: &[u8]) -> Result<Option<Vec<u8>>, ContextError> {
        let top = (!path.is_empty()).then(|| self.disk.lookup(path));
        if let Some(now) = top.transpose()?
            && !same(self.listed(path), now.as_ref())
        {
            return Ok(Some(path.to_owned()));
        }
        let inside = |it: &&Vec<u8>| {
            let rest = it.strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
        };
        let directories: Vec<&Vec<u8>> = self.nodes.keys().filter(inside).collect();
        let changed = |directory: &&Vec<u8>| {
            let now = match self.disk.list(directory) {
                Ok(now) => now,
                Err(error) => return Some(Err(error)),
            };
            let mut now = now
                .iter()
                .filter(|node| !self.left_out.contains(&node.path))
                .peekable();
            for before in self.nodes[*directory].iter() {
                match now.next() {
                    Some(node) if same(Some(before), Some(node)) => {}
                    _ => return Some(Ok(before.path.clone())),
                }
            }
            now.next().map(|node| Ok(node.path.clone()))
        };
        let found = directories.par_iter().find_map_first(changed);
        found.transpose()
    }

    fn listed(&self, path: &[u8]) -> Option<&Node> {
        let siblings = self.nodes.get(parent_path(path))?;
        let found = siblings.binary_search_by(|node| node.path.as_slice().cmp(path));
        found.ok().map(|at| &siblings[at])
    }

    /// Returns how many files and directories there are.
    pub fn len(&self) -> usize {
        self.files
    }

    pub fn is_empty(&self) -> bool {
        self.files == 0
    }
}

/// Whether a path is as it was. A directory is what it holds, which is looked at by itself.
fn same(before: Option<&Node>, now: Option<&Node>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            let is_dir = before.kind.is_dir();
            before.kind == now.kind
                && before.mode == now.mode
                && (is_dir || before.stamp == now.stamp)
        }
        (before, now) => before.is_none() && now.is_none(),
    }
}

struct Walk<'a> {
    disk: &'a RootTree,
    patterns: Option<&'a Patterns>,
    leave_out: Option<(u64, u64)>,
    is_over: &'a (dyn Fn() -> bool + Sync),
}

/// What each directory holds.
type Nodes = BTreeMap<Vec<u8>, Arc<[Node]>>;

/// A directory that is still to be listed.
struct Ahead {
    path: Vec<u8>,
    state: ParentMatch,
    ignored: bool,
}

/// A directory's nodes.
struct Listed {
    path: Vec<u8>,
    nodes: Arc<[Node]>,
    inside: Vec<Ahead>,
    ignored_inside: BTreeSet<Vec<u8>>,
    left_out: Vec<Vec<u8>>,
    ignored: bool,
}

impl Walk<'_> {
    /// Lists all levels, one after the other: a tree may be deeper than a stack.
    fn all(&self) -> Result<(Nodes, BTreeSet<Vec<u8>>), ContextError> {
        let mut levels: Vec<Vec<Listed>> = Vec::new();
        let mut ahead = vec![Ahead {
            path: Vec::new(),
            state: ParentMatch::default(),
            ignored: false,
        }];
        while !ahead.is_empty() {
            let mut level: Vec<Listed> = ahead
                .into_par_iter()
                .map(|directory| self.directory(directory))
                .collect::<Result<_, ContextError>>()?;
            ahead = level
                .iter_mut()
                .flat_map(|listed| std::mem::take(&mut listed.inside))
                .collect();
            levels.push(level);
        }
        // An ignored directory is there only for what a `!` pattern keeps in it: the deepest are looked at first.
        let mut out = Nodes::new();
        let mut all_left_out = BTreeSet::new();
        for listed in levels.into_iter().rev().flatten() {
            let Listed {
                path,
                mut nodes,
                ignored,
                ignored_inside,
                mut left_out,
                inside: _,
            } = listed;
            if !ignored_inside.is_empty() {
                let is_kept = |node: &&Node| {
                    !ignored_inside.contains(&node.path) || out.contains_key(&node.path)
                };
                let gone = nodes.iter().filter(|node| !is_kept(node));
                left_out.extend(gone.map(|node| node.path.clone()));
                nodes = nodes.iter().filter(is_kept).cloned().collect();
            }
            // Of a directory that is not kept, only itself is told, by the one above.
            if !ignored || !nodes.is_empty() {
                out.insert(path, nodes);
                all_left_out.extend(left_out);
            }
        }
        Ok((out, all_left_out))
    }

    fn directory(&self, directory: Ahead) -> Result<Listed, ContextError> {
        if (self.is_over)() {
            return Err(ContextError::Stopped);
        }
        let Ahead {
            path,
            state: above,
            ignored,
        } = directory;
        let mut listed = Listed {
            nodes: Arc::default(),
            inside: Vec::new(),
            ignored_inside: BTreeSet::new(),
            left_out: Vec::new(),
            ignored,
            path,
        };
        let mut nodes = self.disk.list(&listed.path)?;
        nodes.retain_mut(|node| {
            let inode = (node.stamp.device, node.stamp.inode);
            let is_dir = node.kind.is_dir();
            if is_dir && self.leave_out == Some(inode) {
                listed.left_out.push(std::mem::take(&mut node.path));
                return false;
            }
            let (ignored, state, enter) = match self.patterns {
                None => (false, ParentMatch::default(), true),
                Some(patterns) => {
                    let (ignored, state) = patterns.matches_with_parent(&node.path, &above);
                    let enter = !ignored || is_dir && patterns.may_reinclude_below(&node.path);
                    (ignored, state, enter)
                }
            };
            if is_dir && enter {
                listed.inside.push(Ahead {
                    path: node.path.clone(),
                    state,
                    ignored,
                });
            }
            if is_dir && ignored {
                listed.ignored_inside.insert(node.path.clone());
            }
            let is_listed = !ignored || is_dir;
            if !is_listed {
                listed.left_out.push(std::mem::take(&mut node.path));
            }
            is_listed
        });
        // Shared from here on, and as long as it is: there may be very many.
        listed.nodes = Arc::from(nodes);
        Ok(listed)
    }
}

impl Lookup for LocalTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        Ok(self.listed(path).cloned())
    }
}

impl Tree for LocalTree {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        Ok(self.nodes.get(path).cloned().unwrap_or_default())
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        self.disk.open(node)
    }

    fn open_with_xattrs(&self, node: &Node) -> Result<(File, Xattrs), ContextError> {
        self.disk.open_with_xattrs(node)
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, ContextError> {
        self.disk.xattrs(node)
    }

    fn place(&self) -> &'static str {
        self.disk.place()
    }

    fn has_owners(&self) -> bool {
        self.disk.has_owners()
    }

    fn ignored_by(&self, path: &[u8]) -> Option<String> {
        let there = self.disk.lookup(path).ok().flatten().is_some();
        let listed = self.lookup(path).ok().flatten().is_some();
        (there && !listed).then(|| self.ignore.as_ref().map(|it| it.name.clone()))?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_walk_ends_when_nobody_waits_for_it() {
        let temp = tempfile::tempdir().expect("a directory");
        for dir in 0..50 {
            std::fs::create_dir(temp.path().join(dir.to_string())).expect("a directory");
        }
        let looks = AtomicUsize::new(0);
        let over_after = |looked: usize| {
            looks.store(0, Ordering::SeqCst);
            let is_over = || looks.fetch_add(1, Ordering::SeqCst) >= looked;
            LocalTree::walk_until(temp.path(), None, "a test", None, &is_over)
        };
        for looked in [0, 1, 20] {
            let stopped = over_after(looked);
            assert!(matches!(stopped, Err(ContextError::Stopped)), "{stopped:?}");
        }
        assert_eq!(over_after(51).map(|tree| tree.len()).ok(), Some(50));
    }
}
