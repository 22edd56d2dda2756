//! Sources onto a destination.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::shown;
use super::target::{Data, Target};
use super::{FileError, archive, mode};
use crate::context::digests::Facts;
use crate::context::{
    Follow, Node, NodeKind, NodeRef, Selected, Tree, join_path, parent_path, resolve,
};
use crate::layer::{Entry, EntryKind};
use crate::plan::CopyOp;

/// One source of a COPY, looked up.
pub(in crate::solve) struct Source {
    pub(in crate::solve) data: SourceData,
}

pub(in crate::solve) enum SourceData {
    /// What a pattern found; `base` is the directory that `--parents` keeps paths relative to.
    Tree {
        tree: Arc<dyn Tree>,
        selected: Vec<Found>,
    },
    Inline {
        name: String,
        content: Vec<u8>,
    },
}

/// One selected path with all that is below it.
pub(in crate::solve) struct Found {
    pub(in crate::solve) selected: Selected,
    /// Below a directory, relative to it; for a file, empty.
    pub(in crate::solve) below: Vec<NodeRef>,
    /// What `selected` and `below` hold, in that order; in batches.
    pub(in crate::solve) facts: Vec<Vec<Facts>>,
    /// `--parents`: the directories between the pivot and the selected path, outermost first.
    pub(in crate::solve) parents: Vec<Node>,
}

impl Found {
    /// Returns the selected path and what is below.
    pub(in crate::solve) fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.selected.node).chain(self.below.iter().map(|node| &**node))
    }
}

/// Copies all of `sources` onto `target` as `op` says.
pub(in crate::solve) fn copy(
    target: &mut Target,
    op: &CopyOp,
    sources: Vec<Source>,
    owner: Option<(u32, u32)>,
    archives: archive::Archives<'_>,
) -> Result<(), FileError> {
    let mut copier = Copier {
        target,
        op,
        owner,
        archives,
    };
    for source in sources {
        match source.data {
            SourceData::Inline { name, content } => copier.inline(&name, &content)?,
            SourceData::Tree { tree, selected } => {
                for found in selected {
                    copier.found(&tree, found)?;
                }
            }
        }
    }
    Ok(())
}

/// Makes the directory of a WORKDIR.
pub(in crate::solve) fn make_directory(
    target: &mut Target,
    path: &str,
    owner: (u32, u32),
) -> Result<(), FileError> {
    target.make_directories(path.as_bytes(), owner)?;
    Ok(())
}

struct Copier<'t, 'o> {
    target: &'t mut Target,
    op: &'o CopyOp,
    owner: Option<(u32, u32)>,
    archives: archive::Archives<'o>,
}

impl Copier<'_, '_> {
    fn made_owner(&self) -> (u32, u32) {
        self.owner.unwrap_or((0, 0))
    }

    /// Makes what leads to the destination and returns where something called `name` goes, and whether a
    /// directory is there already.
    fn place(&mut self, name: Option<&[u8]>) -> Result<Vec<u8>, FileError> {
        let dest = self.op.dest.as_bytes();
        let owner = self.made_owner();
        if self.op.dest.ends_with('/') {
            let directory = self.target.make_directories(dest, owner)?;
            return Ok(match name {
                Some(name) => join_path(&directory, name),
                None => directory,
            });
        }
        let there = resolve(&*self.target, dest, Follow::Last)?;
        match (there, name) {
            (Some(node), Some(name)) if node.kind.is_dir() => Ok(join_path(&node.path, name)),
            (Some(node), None) if !node.kind.is_dir() => {
                Err(FileError::DirectoryOntoFile { path: shown(dest) })
            }
            (Some(node), _) if node.kind.is_dir() => Ok(node.path),
            // A file takes the place of what is there, of a link's target where there is a link.
            (Some(node), _) => Ok(node.path),
            (None, None) => self.target.make_directories(dest, owner),
            (None, Some(_)) => {
                let parent = self.target.make_directories(parent_path(dest), owner)?;
                let last = dest.rsplit(|&b| b == b'/').next().unwrap_or_default();
                Ok(join_path(&parent, last))
            }
        }
    }

    fn inline(&mut self, name: &str, content: &[u8]) -> Result<(), FileError> {
        // The file is called as the last part of the delimiter, wherever that seems to lead.
        let last = name
            .rsplit('/')
            .find(|part| !matches!(*part, "" | "." | ".."));
        let last = last.ok_or_else(|| FileError::HeredocName {
            name: name.to_owned(),
        })?;
        let path = self.place(Some(last.as_bytes()))?;
        self.refuse_directory(&path)?;
        let (uid, gid) = self.made_owner();
        let entry = Entry {
            path,
            kind: EntryKind::File {
                size: content.len() as u64,
            },
            mode: self.mode(0o644, false),
            uid,
            gid,
            mtime: self.target.now(),
            xattrs: BTreeMap::new(),
        };
        self.target.put(entry, Data::Bytes(content.into()))
    }

    /// What was found goes as it is put.
    fn found(&mut self, tree: &Arc<dyn Tree>, found: Found) -> Result<(), FileError> {
        let is_dir = found.selected.node.kind.is_dir();
        if self.op.unpack && found.selected.node.kind == NodeKind::File {
            let dest = self.op.dest.as_bytes();
            let unpack = archive::Unpack {
                archives: self.archives,
                made_owner: self.made_owner(),
            };
            if unpack.try_unpack(self.target, tree.as_ref(), &found.selected.node, dest)? {
                return Ok(());
            }
        }
        if self.op.parents {
            return self.with_parents(tree, found);
        }
        let Found {
            selected,
            below,
            facts,
            parents: _,
        } = found;
        let mut links = HashMap::new();
        let mut facts = facts.into_iter().flatten();
        let top = facts.next().unwrap_or_default();
        if !is_dir {
            let path = self.place(Some(&selected.name))?;
            let node = NodeRef::from(selected.node);
            return self.put(tree, node, path, top, &mut links);
        }
        let base = self.place(None)?;
        let skip = selected.node.path.len() + usize::from(!selected.node.path.is_empty());
        for (node, facts) in below.into_iter().zip(facts) {
            let relative = &node.path[skip..];
            let path = join_path(&base, relative);
            self.put(tree, node, path, facts, &mut links)?;
        }
        Ok(())
    }

    /// `--parents`: the path from the pivot is kept, with the directories' own modes and owners.
    fn with_parents(&mut self, tree: &Arc<dyn Tree>, found: Found) -> Result<(), FileError> {
        let Found {
            selected,
            below,
            facts,
            parents,
        } = found;
        let dest = self.op.dest.as_bytes();
        let base = self.target.make_directories(dest, self.made_owner())?;
        let skip = parents.first().map_or_else(
            || parent_path(&selected.node.path).len(),
            |first| parent_path(&first.path).len(),
        );
        let relative = |node: &Node| {
            let rest = &node.path[skip..];
            rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
        };
        let mut links = HashMap::new();
        for parent in parents {
            let path = join_path(&base, &relative(&parent));
            let facts = Facts {
                xattrs: tree.xattrs(&parent)?,
                ..Facts::default()
            };
            let parent = NodeRef::from(parent);
            self.put(tree, parent, path, facts, &mut links)?;
        }
        let top = NodeRef::from(selected.node);
        let nodes = std::iter::once(top).chain(below);
        for (node, facts) in nodes.zip(facts.into_iter().flatten()) {
            let relative = relative(&node);
            if relative.is_empty() {
                continue;
            }
            let path = join_path(&base, &relative);
            self.put(tree, node, path, facts, &mut links)?;
        }
        Ok(())
    }

    fn mode(&self, old: u32, is_dir: bool) -> u32 {
        match &self.op.chmod {
            Some(chmod) => mode::apply(chmod, old, is_dir),
            None => old,
        }
    }

    fn refuse_directory(&self, path: &[u8]) -> Result<(), FileError> {
        use crate::context::Lookup;
        match self.target.lookup(path)? {
            Some(node) if node.kind.is_dir() => {
                Err(FileError::FileOntoDirectory { path: shown(path) })
            }
            _ => Ok(()),
        }
    }

    fn put(
        &mut self,
        tree: &Arc<dyn Tree>,
        node: NodeRef,
        path: Vec<u8>,
        facts: Facts,
        links: &mut HashMap<(u64, u64), Vec<u8>>,
    ) -> Result<(), FileError> {
        use crate::context::Lookup;
        let mut data = Data::None;
        let Facts {
            content,
            xattrs,
            bytes,
        } = facts;
        let kind = match &node.kind {
            NodeKind::Directory => {
                if let Some(there) = self.target.lookup(&path)?
                    && !there.kind.is_dir()
                {
                    return Err(FileError::DirectoryOntoFile { path: shown(&path) });
                }
                EntryKind::Directory
            }
            NodeKind::File => {
                let inode = (node.stamp.device, node.stamp.inode);
                match links.get(&inode) {
                    Some(first) if node.links > 1 => EntryKind::Hardlink {
                        target: first.clone(),
                    },
                    _ => {
                        if node.links > 1 {
                            links.insert(inode, path.clone());
                        }
                        data = match (bytes, content) {
                            (Some(bytes), Some(content)) => Data::Hashed { bytes, content },
                            _ => Data::of_tree(tree.clone(), node.clone(), content),
                        };
                        EntryKind::File {
                            size: node.stamp.size,
                        }
                    }
                }
            }
            NodeKind::Symlink(target) => EntryKind::Symlink {
                target: target.clone(),
            },
            NodeKind::Fifo => EntryKind::Fifo,
            &NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            &NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            NodeKind::Socket => return Ok(()),
        };
        if kind != EntryKind::Directory {
            self.refuse_directory(&path)?;
        }
        let is_link = matches!(kind, EntryKind::Symlink { .. });
        let (uid, gid) = self.owner.unwrap_or((node.uid, node.gid));
        let entry = Entry {
            path,
            mode: if is_link {
                0o777
            } else {
                self.mode(node.mode, kind == EntryKind::Directory)
            },
            kind,
            uid,
            gid,
            mtime: node.mtime,
            xattrs,
        };
        self.target.put(entry, data)
    }
}
