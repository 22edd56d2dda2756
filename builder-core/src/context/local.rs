//! A build context on this machine: a directory seen through its ignore file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::ignore::{Ignore, ParentMatch, Patterns};
use super::{ContextError, Lookup, Node, RootTree, Tree, parent_path};

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

/// The files of a context, listed once.
#[derive(Debug)]
pub struct LocalTree {
    disk: RootTree,
    root: Node,
    /// In byte order of whole paths' parts: parents before children.
    nodes: BTreeMap<Vec<u8>, Vec<Node>>,
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
        Self::walk_tree(directory, ignore, place, leave_out, false)
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
        Self::walk_tree(directory, ignore, place, None, true)
    }

    fn walk_tree(
        directory: &Path,
        ignore: Option<IgnoreFile>,
        place: &'static str,
        leave_out: Option<(u64, u64)>,
        owners: bool,
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
        };
        let (mut nodes, mut left_out) = (BTreeMap::new(), BTreeSet::new());
        walk.directory(b"", &ParentMatch::default())?
            .flatten_into(&mut nodes, &mut left_out);
        let files = nodes.values().map(Vec::len).sum();
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

    /// Returns how many files and directories there are.
    pub fn len(&self) -> usize {
        self.files
    }

    pub fn is_empty(&self) -> bool {
        self.files == 0
    }
}

struct Walk<'a> {
    disk: &'a RootTree,
    patterns: Option<&'a Patterns>,
    leave_out: Option<(u64, u64)>,
}

/// A directory's nodes and those of its subdirectories.
struct Listed {
    path: Vec<u8>,
    nodes: Vec<Node>,
    left_out: Vec<Vec<u8>>,
    below: Vec<Listed>,
}

impl Listed {
    fn flatten_into(
        self,
        out: &mut BTreeMap<Vec<u8>, Vec<Node>>,
        left_out: &mut BTreeSet<Vec<u8>>,
    ) {
        for listed in self.below {
            listed.flatten_into(out, left_out);
        }
        left_out.extend(self.left_out);
        out.insert(self.path, self.nodes);
    }
}

impl Walk<'_> {
    fn directory(&self, path: &[u8], above: &ParentMatch) -> Result<Listed, ContextError> {
        let mut nodes = Vec::new();
        let mut inside = Vec::new();
        let mut left_out = Vec::new();
        for node in self.disk.children(path)? {
            let inode = (node.stamp.device, node.stamp.inode);
            if node.kind.is_dir() && self.leave_out == Some(inode) {
                left_out.push(node.path);
                continue;
            }
            let Some(patterns) = self.patterns else {
                if node.kind.is_dir() {
                    inside.push((node.path.clone(), ParentMatch::default(), false));
                }
                nodes.push(node);
                continue;
            };
            let (ignored, state) = patterns.matches_with_parent(&node.path, above);
            if node.kind.is_dir() && (!ignored || patterns.may_reinclude_below(&node.path)) {
                inside.push((node.path.clone(), state, ignored));
            }
            if !ignored || node.kind.is_dir() {
                nodes.push(node);
            } else {
                left_out.push(node.path);
            }
        }
        let below: Vec<(bool, Listed)> = inside
            .into_par_iter()
            .map(|(path, state, ignored)| Ok((ignored, self.directory(&path, &state)?)))
            .collect::<Result<_, ContextError>>()?;
        // An ignored directory is there only for what a `!` pattern keeps in it.
        if let Some(patterns) = self.patterns {
            nodes.retain(|node| {
                if !node.kind.is_dir() {
                    return true;
                }
                let (ignored, _) = patterns.matches_with_parent(&node.path, above);
                let kept = !ignored
                    || below
                        .iter()
                        .any(|(_, listed)| listed.path == node.path && !listed.nodes.is_empty());
                if !kept {
                    left_out.push(node.path.clone());
                }
                kept
            });
        }
        let below = below
            .into_iter()
            .filter(|(ignored, listed)| !ignored || !listed.nodes.is_empty())
            .map(|(_, listed)| listed)
            .collect();
        Ok(Listed {
            path: path.to_vec(),
            nodes,
            left_out,
            below,
        })
    }
}

impl Lookup for LocalTree {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        let Some(siblings) = self.nodes.get(parent_path(path)) else {
            return Ok(None);
        };
        let found = siblings.binary_search_by(|node| node.path.as_slice().cmp(path));
        Ok(found.ok().map(|at| siblings[at].clone()))
    }
}

impl Tree for LocalTree {
    fn children(&self, path: &[u8]) -> Result<Vec<Node>, ContextError> {
        Ok(self.nodes.get(path).cloned().unwrap_or_default())
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        self.disk.open(node)
    }

    fn xattrs(&self, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ContextError> {
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
